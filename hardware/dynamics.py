"""Joint-space dynamics of an arm: pure array-API functions with leading batch axes ``...``.

Lagrange's equations in homogeneous coordinates (Uicker 1965; Murray, Li and Sastry, "A Mathematical Introduction to
Robotic Manipulation", 1994, chapter 4). A body's mass, centre and inertia are one symmetric (4, 4) matrix P, the
integral of x xᵀ over its mass with x = (position, 1); a joint's motion is the matrix A with dT = A T dq for every frame
T behind it. With N = T P Tᵀ in the base frame the inertia is M_jk = <A_j, A_k Σ N>, the sum over all links behind both
joints. An arm has no branches, so that all sums are cumulative ones along the chain, and few products of many small
matrices remain: on one arm the calls take the time, not the numbers.

The gripper's palm and fingers, half open, count as part of the last link. Damping and Coulomb friction are not
included: they are the drive's, `description.joint_damping` and `joint_friction`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device

from hardware.descriptions.arm import ArmDescription, GripperDescription
from hardware.kinematics import joint_motions, link_transforms, tool_frame
from policies import rotation
from policies.types import Array

GRAVITY = (0.0, 0.0, -9.81)
"""m/s², base frame, of an arm that stands upright."""


def gravity_torques(
    description: ArmDescription, q: Array, payload_mass: Array | float = 0.0, gravity: Sequence[float] = GRAVITY
) -> Array:
    """Torques (..., n) N m that hold the arm still.

    Args:
        description: The arm.
        q: Joint angles (..., n), rad.
        payload_mass: (...), kg, held as a point at the tool frame's origin.
        gravity: (3,), m/s², base frame; give yours for an arm on a wall or on a slope.
    """
    xp = array_namespace(q)
    bodies = _bodies(description, xp, q.dtype, device(q))
    frames = link_transforms(description, q)
    axes, centers = _axes_and_centers(bodies, frames)
    payload = xp.asarray(payload_mass, dtype=q.dtype, device=device(q))[..., None]
    tool = (frames[..., -1, :3, :] @ bodies.tool)[..., None, :]
    # Mass and mass times centre of everything from each link to the tip.
    mass = xp.flip(xp.cumulative_sum(xp.flip(bodies.masses))) + payload
    moment = bodies.lower.T @ (bodies.masses[..., None] * centers) + payload[..., None] * tool
    arm = moment - mass[..., None] * frames[..., :3, 3]
    down = xp.asarray(gravity, dtype=q.dtype, device=device(q))
    return -xp.sum(_cross(xp, axes, arm) * down, axis=-1)


def bias_torques(description: ArmDescription, q: Array, qd: Array, gravity: Sequence[float] = GRAVITY) -> Array:
    """Torques (..., n) N m of Coriolis, centrifugal and gravitational forces: what keeps `qd` as it is.

    Args:
        description: The arm.
        q: Joint angles (..., n), rad.
        qd: Joint velocities (..., n), rad/s.
        gravity: (3,), m/s², base frame.
    """
    xp = array_namespace(q, qd)
    bodies = _bodies(description, xp, q.dtype, device(q))
    frames = link_transforms(description, q)
    motions = joint_motions(description, frames)
    step = motions * qd[..., None, None]
    # Twice differentiated, T is (dV + V V) T, where V is the sum of the motions so far, and dV that of their changes
    # as they are carried along.
    velocity = _from_base(bodies, step)
    square = velocity[..., :3] @ velocity
    carried = velocity[..., :3] @ step - step[..., :3] @ velocity
    acceleration = _from_base(bodies, carried) + square
    # The base's acceleration against gravity stands for gravity on every link.
    if any(gravity):
        base = xp.asarray([[0.0, 0.0, 0.0, -value] for value in gravity], dtype=q.dtype, device=device(q))
        acceleration = acceleration + base
    force = _to_tip(bodies, acceleration @ _masses(bodies, frames))
    return xp.sum(motions * force, axis=(-2, -1))


def mass_matrix(description: ArmDescription, q: Array) -> Array:
    """Joint-space inertia (..., n, n) kg m² at joint angles `q` (..., n) rad, with the drives' `armature`."""
    xp = array_namespace(q)
    bodies = _bodies(description, xp, q.dtype, device(q))
    frames = link_transforms(description, q)
    motions = joint_motions(description, frames)
    # Row i: the momentum of everything from link i to the tip per velocity of joint i, seen by joints j ≤ i.
    momenta = _flat(xp, motions @ _to_tip(bodies, _masses(bodies, frames)))
    lower = (momenta @ xp.matrix_transpose(_flat(xp, motions))) * bodies.lower
    return lower + xp.matrix_transpose(lower) * bodies.below + bodies.armature


@dataclass(frozen=True, eq=False)
class _Bodies:
    """Constants of the links, the gripper lumped into the last one."""

    masses: Array
    """Shape (n,), kg."""
    spread: Array
    """Shape (n, 4, 4): integral of x xᵀ over each link's mass, x = (position in the link's frame in m, 1)."""
    axes_and_centers: Array
    """Shape (n, 4, 2), homogeneous columns, link frame: the joint's axis, the link's centre of mass in m."""
    tool: Array
    """Shape (4,), homogeneous position of the tool in the last link's frame."""
    armature: Array
    """Shape (n, n), kg m², diagonal."""
    lower: Array
    """Shape (n, n), ones on and below the diagonal: sums along the chain as a product."""
    below: Array
    """Shape (n, n), ones above the diagonal only."""


@functools.lru_cache(maxsize=64)
def _bodies(description: ArmDescription, xp: Any, dtype: Any, where: Any) -> _Bodies:
    masses, centers, inertias = lumped_links(description)
    n = description.num_joints
    places = np.append(centers, np.ones((n, 1)), axis=1)
    spread = masses[:, None, None] * places[:, :, None] * places[:, None, :]
    # An inertia is tr(S) 1 - S of what is spread about the centre, S.
    spread[:, :3, :3] += 0.5 * np.trace(inertias, axis1=1, axis2=2)[:, None, None] * np.eye(3) - inertias
    tool = np.append(tool_frame(description)[0], 1.0)
    columns = np.zeros((n, 4, 2))
    columns[:, :3, 0], columns[:, :3, 1], columns[:, 3, 1] = description.joint_axes, centers, 1.0
    triangle = np.tri(n)
    arrays = (masses, spread, columns, tool, np.diag(description.armature), triangle, triangle.T - np.eye(n))
    return _Bodies(*(xp.asarray(array, dtype=dtype, device=where) for array in arrays))


def lumped_links(description: ArmDescription) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mass (n,) kg, centre (n, 3) m and inertia about it (n, 3, 3) kg m² of links 1 to n, in their frames."""
    masses, centers = description.link_masses.copy(), description.link_centers.copy()
    inertias = description.link_inertias.copy()
    if description.gripper is not None:
        parts = [(masses[-1], centers[-1], inertias[-1]), *_gripper_parts(description, description.gripper)]
        masses[-1], centers[-1], inertias[-1] = _lump(parts)
    return masses, centers, inertias


def _gripper_parts(
    description: ArmDescription, gripper: GripperDescription
) -> list[tuple[float, np.ndarray, np.ndarray]]:
    """Mass, centre and inertia of palm and fingers in the last link's frame."""
    sx, sy, sz = gripper.finger_size
    finger = gripper.finger_mass / 3.0 * np.diag([sy * sy + sz * sz, sx * sx + sz * sz, sx * sx + sy * sy])
    side, height = gripper.max_width / 4.0 + sy, gripper.finger_root + sz
    parts = [(gripper.mass, gripper.center_of_mass, gripper.inertia)]
    parts += [(gripper.finger_mass, np.array([0.0, sign * side, height]), finger) for sign in (1.0, -1.0)]
    turn = rotation.multiply(description.flange_orientation, rotation.from_yaw(np.asarray(gripper.mount_yaw)))
    matrix = rotation.to_matrix(turn)
    return [(mass, description.flange_position + matrix @ c, matrix @ inertia @ matrix.T) for mass, c, inertia in parts]


def _lump(parts: list[tuple[float, np.ndarray, np.ndarray]]) -> tuple[float, np.ndarray, np.ndarray]:
    """One body of several that move together (parallel-axis theorem)."""
    total = float(sum(mass for mass, _, _ in parts))
    center = np.sum([mass * c for mass, c, _ in parts], axis=0) / total
    offsets = [c - center for _, c, _ in parts]
    inertias = [i + m * (o @ o * np.eye(3) - np.outer(o, o)) for (m, _, i), o in zip(parts, offsets, strict=True)]
    return total, center, np.sum(inertias, axis=0)


def _axes_and_centers(bodies: _Bodies, frames: Array) -> tuple[Array, Array]:
    """Joint axes and links' centres of mass, each (..., n, 3), in the base frame."""
    placed = frames @ bodies.axes_and_centers
    return placed[..., :3, 0], placed[..., :3, 1]


def _masses(bodies: _Bodies, frames: Array) -> Array:
    """`_Bodies.spread` (..., n, 4, 4) with positions in the base frame."""
    xp = array_namespace(frames)
    return frames @ bodies.spread @ xp.matrix_transpose(frames)


def _from_base(bodies: _Bodies, values: Array) -> Array:
    """Sum (..., n, r, c) over each joint and all before it."""
    return _summed(bodies.lower, values)


def _to_tip(bodies: _Bodies, values: Array) -> Array:
    """Sum (..., n, r, c) over each link and all that follow it."""
    return _summed(bodies.lower.T, values)


def _summed(triangle: Array, values: Array) -> Array:
    # As a product: NumPy's cumulative sums take longer on few numbers.
    xp = array_namespace(values)
    return xp.reshape(triangle @ _flat(xp, values), values.shape)


def _flat(xp: Any, values: Array) -> Array:
    """Matrices (..., n, r, c) as rows (..., n, r c)."""
    return xp.reshape(values, (*values.shape[:-2], values.shape[-2] * values.shape[-1]))


def _cross(xp: Any, a: Array, b: Array) -> Array:
    """Cross product over the last axis; NumPy's own takes twice as long on few vectors."""
    ax, ay, az = (a[..., i] for i in range(3))
    bx, by, bz = (b[..., i] for i in range(3))
    return xp.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=-1)
