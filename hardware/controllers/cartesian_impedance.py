"""Cartesian impedance with reference limiting: the tool as a spring whose pull is bounded by construction.

    e_c = clip(e + (D / K) v_ref)                                  per axis and per sign, base frame
    tau = Jᵀ (K e_c - D J q̇) + nullspace                           gravity not included

- e is the pose error, target minus actual: position in m, and the rotation vector of the shortest way, in rad.
- The clip comes before the gain, so that the static force of an axis is at most K × clip, wherever the target is
  and whatever became of its sender (Luo et al., HIL-SERL, 2024). The feed-forward of the reference's velocity is
  inside the clip for the same reason: a moving reference is followed without lag, as by K e + D (v_ref - v), until
  the bound is reached. In free space the tool therefore moves at most at K × clip / D, beside nullspace motion.
- The transposed Jacobian keeps torques bounded at singularities: a lost direction just gets no force.
- The nullspace torque draws the arm to a posture. It is projected by I - Jᵀ (J Jᵀ + λ²)⁻¹ J, so that it makes no
  force at the tool; λ keeps the projector smooth where the arm is singular, its eigenvalues stay in [0, 1], and the
  posture error is clipped, so that this torque is bounded as well. Arms with 6 joints or fewer have no nullspace.

Array API, leading batch axes ``...``; no validation, since it runs at every controller tick.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from array_api_compat import array_namespace, device

from hardware.kinematics import ArmKinematics
from policies.types import Array


@dataclass(frozen=True, kw_only=True)
class ImpedanceGains:
    """Stiffness, damping and bounds of a Cartesian impedance; every per-axis value is in axes of the base frame."""

    translational_stiffness: tuple[float, float, float] = (2000.0, 2000.0, 2000.0)
    """N/m along base x, y, z; 0 lets an axis float."""
    rotational_stiffness: tuple[float, float, float] = (150.0, 150.0, 150.0)
    """N m/rad about base x, y, z."""
    damping_ratio: float = 1.0
    """Of each axis for the effective mass and inertia below: D = 2 × ratio × sqrt(K × mass)."""
    effective_mass: float = 2.0
    """kg. An arm's apparent mass is larger (Panda at home: 3 to 5 kg, 5 to 12 kg where the tool may not turn), so that
    slow modes keep a true damping ratio of about 0.4; more damping takes a larger part of the bounded force for
    itself: the tool moves freely at no more than K × clip / D."""
    effective_inertia: float = 0.2
    """kg m². Of a Panda at home: 0.1 to 0.6."""
    damping: tuple[float, float, float, float, float, float] | None = None
    """N s/m and N m s/rad; None: from the damping ratio. Give it where a stiffness is 0."""
    clip_lower: tuple[float, float, float, float, float, float] = (-0.025, -0.025, -0.025, -0.2, -0.2, -0.2)
    """m and rad, at most 0: bound of the error in the negative direction; times K it is the largest static force."""
    clip_upper: tuple[float, float, float, float, float, float] = (0.025, 0.025, 0.025, 0.2, 0.2, 0.2)
    """m and rad, at least 0."""
    nullspace_stiffness: float = 10.0
    """N m/rad, of every joint towards the posture."""
    nullspace_damping: float = 2.0
    """N m s/rad."""
    nullspace_clip: float = 0.5
    """rad, bound of the posture error of a joint."""
    nullspace_regularization: float = 0.005
    """λ of the projector, in units of the Jacobian's singular values (0.1 to 0.3 in good postures)."""

    def __post_init__(self) -> None:
        values = (*self.translational_stiffness, *self.rotational_stiffness, *(self.damping or ()))
        if not all(math.isfinite(v) and v >= 0.0 for v in values):
            raise ValueError(f"stiffness and damping are {values}; they must be finite and not negative")
        bounds = zip(self.clip_lower, self.clip_upper, strict=True)
        if not all(lower <= 0.0 <= upper for lower, upper in bounds):
            raise ValueError(
                f"the clip goes from {self.clip_lower} to {self.clip_upper}; lower bounds must be at most 0 and upper "
                "bounds at least 0"
            )
        if self.nullspace_regularization <= 0.0:
            raise ValueError(f"nullspace_regularization is {self.nullspace_regularization}; it must be positive")


@dataclass(frozen=True, kw_only=True, eq=False)
class ImpedanceArrays:
    """`ImpedanceGains` as arrays ready for the tick. Batch axes ``...`` may carry gains per environment."""

    stiffness: Array
    """Shape (..., 6)."""
    damping: Array
    """Shape (..., 6)."""
    lead: Array
    """Shape (..., 6), s: D / K, 0 where K is 0."""
    clip_lower: Array
    """Shape (..., 6), m and rad."""
    clip_upper: Array
    """Shape (..., 6), m and rad."""
    nullspace_stiffness: float
    """N m/rad."""
    nullspace_damping: float
    """N m s/rad."""
    nullspace_clip: float
    """rad."""
    regularization: Array
    """Shape (6, 6), λ² times the unit matrix."""


def impedance_arrays(
    gains: ImpedanceGains, like: Array, stiffness: Array = 1.0, damping: Array = 1.0
) -> ImpedanceArrays:
    """Gains as arrays of the kind, type and device of `like`.

    Args:
        gains: The gains.
        like: Any array of the controller's kind.
        stiffness: Factor (...) on the stiffness, e.g. one per environment; the damping stays.
        damping: Factor (...) on the damping.
    """
    xp = array_namespace(like)
    k = np.array([*gains.translational_stiffness, *gains.rotational_stiffness])
    if gains.damping is None:
        d = 2.0 * gains.damping_ratio * np.sqrt(k * np.array([gains.effective_mass, gains.effective_inertia]).repeat(3))
    else:
        d = np.array(gains.damping)
    k = np.asarray(stiffness, dtype=np.float64)[..., None] * k
    d = np.asarray(damping, dtype=np.float64)[..., None] * d
    lead = np.divide(d, k, out=np.zeros(np.broadcast_shapes(k.shape, d.shape)), where=k > 0.0)

    def array(value: object) -> Array:
        return xp.asarray(np.asarray(value), dtype=like.dtype, device=device(like))

    return ImpedanceArrays(
        stiffness=array(k),
        damping=array(d),
        lead=array(lead),
        clip_lower=array(gains.clip_lower),
        clip_upper=array(gains.clip_upper),
        nullspace_stiffness=gains.nullspace_stiffness,
        nullspace_damping=gains.nullspace_damping,
        nullspace_clip=gains.nullspace_clip,
        regularization=array(gains.nullspace_regularization**2 * np.eye(6)),
    )


def pose_error(target: Array, position: Array, orientation: Array) -> Array:
    """Way from an actual pose to a target.

    Args:
        target: Shape (..., 7), position m and unit quaternion wxyz.
        position: Shape (..., 3), m.
        orientation: Shape (..., 4), unit quaternion wxyz.

    Returns:
        Shape (..., 6): difference in m, and rotation vector in rad (length at most pi) that takes the actual
        orientation to the target's, both in the frame in which the poses are given.
    """
    xp = array_namespace(target)
    tw, tx, ty, tz = target[..., 3], target[..., 4], target[..., 5], target[..., 6]
    qw, qx, qy, qz = orientation[..., 0], orientation[..., 1], orientation[..., 2], orientation[..., 3]
    w = tw * qw + tx * qx + ty * qy + tz * qz
    x = tx * qw - tw * qx - ty * qz + tz * qy
    y = ty * qw - tw * qy - tz * qx + tx * qz
    z = tz * qw - tw * qz - tx * qy + ty * qx
    # atan of the ratio, not atan2: a negative w stands for the long way round and yields the short one. The tiny
    # numbers keep both ratios finite at no rotation and at half a turn.
    sine = xp.sqrt(x * x + y * y + z * z + 1e-30)
    scale = 2.0 * xp.atan(sine / (w + 1e-30)) / sine
    difference = target[..., :3] - position
    return xp.concat([difference, xp.stack([x * scale, y * scale, z * scale], axis=-1)], axis=-1)


def cartesian_impedance(
    kinematics: ArmKinematics,
    q: Array,
    qd: Array,
    target_pose: Array,
    target_twist: Array | None,
    gains: ImpedanceGains | ImpedanceArrays,
    posture: Array,
) -> Array:
    """Joint torques that pull the tool to a pose, gravity not included.

    Args:
        kinematics: Of the tool, at `q`.
        q: Shape (..., n), rad.
        qd: Shape (..., n), rad/s.
        target_pose: Shape (..., 7), position m and unit quaternion wxyz, base frame.
        target_twist: Shape (..., 6), m/s and rad/s, base frame: how the target moves; None: it rests.
        gains: Gains; `impedance_arrays` made once spare their conversion at every tick.
        posture: Shape (..., n) or (n,), rad, where the nullspace draws the joints.

    Returns:
        Shape (..., n), N m, not yet saturated.
    """
    if isinstance(gains, ImpedanceGains):
        gains = impedance_arrays(gains, q)
    xp = array_namespace(q)
    jacobian = kinematics.jacobian
    transposed = xp.matrix_transpose(jacobian)
    error = pose_error(target_pose, kinematics.tool_position, kinematics.tool_orientation)
    if target_twist is not None:
        error = error + gains.lead * target_twist
    # minimum and maximum cost half of `clip`.
    error = xp.minimum(xp.maximum(error, gains.clip_lower), gains.clip_upper)
    if q.shape[-1] <= 6:
        twist = (jacobian @ qd[..., None])[..., 0]
        return (transposed @ (gains.stiffness * error - gains.damping * twist)[..., None])[..., 0]
    away = xp.clip(posture - q, -gains.nullspace_clip, gains.nullspace_clip)
    wanted = gains.nullspace_stiffness * away - gains.nullspace_damping * qd
    both = jacobian @ xp.stack([qd, wanted], axis=-1)
    wrench = gains.stiffness * error - gains.damping * both[..., 0]
    # What the nullspace torque would do at the tool is taken out by the same transposed Jacobian.
    undo = xp.linalg.solve(jacobian @ transposed + gains.regularization, both[..., 1:])
    return wanted + (transposed @ (wrench[..., None] - undo))[..., 0]


def saturate(torques: Array, previous: Array, torque_limit: Array, torque_rate_limit: Array, dt: float) -> Array:
    """Bound the change of torques first, then the torques themselves, so that the torque limit always holds.

    The change holds too wherever `previous` is within the torque limit.

    Args:
        torques: Shape (..., n), N m.
        previous: Shape (..., n), N m, what this function returned at the tick before.
        torque_limit: Shape (n,), N m, positive.
        torque_rate_limit: Shape (n,), N m/s, positive; may be infinite.
        dt: s since the tick before.
    """
    xp = array_namespace(torques)
    step = torque_rate_limit * dt
    torques = xp.minimum(xp.maximum(torques, previous - step), previous + step)
    return xp.minimum(xp.maximum(torques, -torque_limit), torque_limit)
