"""Differential inverse kinematics: joint velocities for a tool twist, within limits and through singularities.

    q̇ = Jᵀ (J Jᵀ + λ² I)⁻¹ v + (I - Jᵀ (J Jᵀ + λ² I)⁻¹ J) q̇_posture

- Damping by numerical filtering (Nakamura and Hanafusa, 1986; Chiaverini, 1997): λ is 0 in good postures, so that the
  tool goes exactly where it should, and grows as λ² = λ_max² (1 - (σ / σ_0)²) once the Jacobian's smallest singular
  value σ falls below σ_0.
- Position limits by velocity dampers (Faverjon and Tournassoud, 1987): a joint may approach its limit only with
  `limit_gain` times the distance left. A joint that wants more is held at that bound and its share of the task is given
  to the other joints, as in the saturation in the null space of Flacco, De Luca, Khatib (2012).
- Velocity limits by scaling all joints alike, so that the tool slows down but keeps its direction.

Array API, leading batch axes ``...``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from array_api_compat import array_namespace, device

from hardware.controllers.cartesian_impedance import pose_error
from hardware.controllers.joint_position import JointLimits, joint_limits
from hardware.descriptions.arm import ArmDescription
from hardware.kinematics import ArmKinematics, forward_kinematics
from policies.types import Array


@dataclass(frozen=True, kw_only=True)
class DifferentialIkConfig:
    """Damping, dampers and posture."""

    max_damping: float = 0.05
    """λ at a singularity, in units of the Jacobian's singular values."""
    singular_region: float = 0.05
    """Smallest singular value below which damping begins; good postures have 0.1 to 0.3."""
    limit_gain: float = 10.0
    """1/s, largest velocity towards a position limit per rad of distance; at most 1 / dt is used."""
    posture_gain: float = 1.0
    """1/s, velocity in the nullspace per rad of distance from the posture."""
    passes: int = 3
    """How often joints that stand at a position limit are sorted out; 1: their share of the task is lost."""


_DEFAULT = DifferentialIkConfig()
_PRIMES = np.array([2.0, 3.0, 5.0, 7.0, 11.0, 13.0, 17.0, 19.0, 23.0])


def differential_ik(
    kinematics: ArmKinematics,
    q: Array,
    twist: Array,
    limits: JointLimits,
    dt: float,
    posture: Array | None = None,
    config: DifferentialIkConfig = _DEFAULT,
) -> Array:
    """Joint velocities that move the tool with a twist as well as limits and singularities allow.

    Args:
        kinematics: Of the tool, at `q`.
        q: Shape (..., n), rad.
        twist: Shape (..., 6), m/s and rad/s, base frame.
        limits: Of positions and velocities, as from `joint_limits`.
        dt: s for which the velocities will be held; no joint crosses its position limit within it.
        posture: Shape (..., n) or (n,), rad, where the nullspace draws the joints; None: nowhere.
        config: Damping, dampers and posture.

    Returns:
        Shape (..., n), rad/s.
    """
    lower, upper, velocity = (_as(value, q) for value in (limits.lower, limits.upper, limits.velocity))
    gain = min(config.limit_gain, 1.0 / dt)
    wanted = None if posture is None or q.shape[-1] <= 6 else config.posture_gain * (posture - q)
    return _solve(kinematics.jacobian, twist, wanted, gain * (lower - q), gain * (upper - q), velocity, config)


def solve_pose(
    description: ArmDescription,
    target_pose: Array,
    q0: Array,
    iterations: int = 100,
    restart_after: int = 20,
    tolerance: float = 1e-6,
    max_step: float = 0.4,
    config: DifferentialIkConfig = _DEFAULT,
) -> tuple[Array, Array]:
    """Joint positions that bring the tool to a pose: `differential_ik` iterated from `q0`.

    A local search that ends after about ten iterations. Rows that end elsewhere (a pose that takes another branch of
    elbow or wrist, or lies across a joint limit) start again from fixed points halfway between `q0` and the range of
    the joints. Every row takes the same path alone and in a batch.

    Args:
        description: The arm.
        target_pose: Shape (..., 7), position m and unit quaternion wxyz, base frame.
        q0: Shape (..., n), rad, where the search starts.
        iterations: At most this many, all starts together.
        restart_after: Iterations of one start; `iterations` for only the start at `q0`.
        tolerance: m and rad; the search of a row ends when both errors are below.
        max_step: rad, longest way of a joint in one iteration.
        config: Damping; its gains do not apply.

    Returns:
        Joint positions (..., n) rad, within the position limits less 0.01 rad, and the residual (..., 2): distance of
        the tool in m and angle in rad, of the best that was found. Look at it: only there does an unreachable pose
        show.
    """
    xp = array_namespace(q0)
    limits = joint_limits(description)
    lower, upper = _as(limits.lower, q0), _as(limits.upper, q0)
    shape = np.broadcast_shapes(tuple(q0.shape[:-1]), tuple(target_pose.shape[:-1]))
    start = xp.broadcast_to(xp.minimum(xp.maximum(q0, lower), upper), (*shape, q0.shape[-1]))
    q = best = start
    least = xp.full((*shape, 2), float("inf"), dtype=q0.dtype, device=device(q0))
    step = max_step * xp.ones_like(lower)
    for iteration in range(iterations + 1):
        kinematics = forward_kinematics(description, q)
        error = pose_error(target_pose, kinematics.tool_position, kinematics.tool_orientation)
        residual = xp.stack([_norm(error[..., :3]), _norm(error[..., 3:])], axis=-1)
        better = (xp.sum(residual, axis=-1) < xp.sum(least, axis=-1))[..., None]
        best, least = xp.where(better, q, best), xp.where(better, residual, least)
        if iteration == iterations or not bool(xp.any(least > tolerance)):
            break
        if iteration > 0 and iteration % restart_after == 0:
            # Fractions of the multiples of these roots fill the cube of joint ranges evenly.
            share = _as(np.sqrt(_PRIMES[: q0.shape[-1]]) * (iteration // restart_after) % 1.0, q0)
            q = 0.5 * (start + lower + (upper - lower) * share)
        else:
            q = q + _solve(kinematics.jacobian, error, None, lower - q, upper - q, step, config)
    return best, least


def _solve(
    jacobian: Array,
    twist: Array,
    wanted: Array | None,
    lower: Array,
    upper: Array,
    velocity: Array,
    config: DifferentialIkConfig,
) -> Array:
    """Joint velocities within [`lower`, `upper`] (..., n) by redistribution and within ±`velocity` by scaling."""
    xp = array_namespace(jacobian)
    free = xp.ones_like(lower)
    held = xp.zeros_like(lower)
    for _ in range(config.passes):
        active = jacobian * free[..., None, :]
        rest = twist - (jacobian @ held[..., None])[..., 0]
        task = rest if wanted is None else rest - (active @ wanted[..., None])[..., 0]
        moved = (xp.matrix_transpose(active) @ _damped_solve(active, task, config)[..., None])[..., 0]
        qd = held + (moved if wanted is None else moved + free * wanted)
        allowed = xp.minimum(xp.maximum(qd, lower), upper)
        # What goes too far is held at its bound for the passes to come.
        free = xp.where(qd == allowed, free, xp.zeros_like(free))
        held = xp.where(free == 0.0, allowed, xp.zeros_like(held))
        qd = allowed
    excess = xp.max(xp.abs(qd) / velocity, axis=-1, keepdims=True)
    return qd / xp.maximum(excess, xp.ones_like(excess))


def _damped_solve(jacobian: Array, task: Array, config: DifferentialIkConfig) -> Array:
    """(J Jᵀ + λ² I)⁻¹ task, with λ by the distance from singularity."""
    xp = array_namespace(jacobian)
    square = jacobian @ xp.matrix_transpose(jacobian)
    # Eigenvalues of one row that is no number would raise for the batch; the task keeps that row's result no number.
    square = xp.where(xp.isfinite(square), square, xp.zeros_like(square))
    smallest = xp.clip(xp.linalg.eigvalsh(square)[..., 0], 0.0, None)
    share = xp.clip(1.0 - smallest / config.singular_region**2, 0.0, None)
    damping = config.max_damping**2 * share[..., None, None]
    unit = xp.eye(6, dtype=square.dtype, device=device(square))
    return xp.linalg.solve(square + damping * unit, task[..., None])[..., 0]


def _norm(vector: Array) -> Array:
    xp = array_namespace(vector)
    return xp.sqrt(xp.sum(vector * vector, axis=-1))


def _as(value: np.ndarray, like: Array) -> Array:
    return array_namespace(like).asarray(value, dtype=like.dtype, device=device(like))
