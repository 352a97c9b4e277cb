"""Joint-space dynamics of an arm: pure array-API functions with leading batch axes ``...``.

The recursive Newton-Euler and the composite-rigid-body algorithm of Featherstone, "Rigid Body Dynamics
Algorithms" (2008), chapters 5.3 and 6.2, with every spatial vector (angular, linear) in the base frame and taken
at its origin. An arm has no branches, so that both recursions are cumulative sums along the chain, and nothing is
transformed on the way.

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
from hardware.kinematics import link_transforms, tool_frame
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
    moment = _to_tip(xp, bodies.masses[..., None] * centers) + payload[..., None] * tool
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
    frames = link_transforms(description, q)
    bodies = _bodies(description, xp, q.dtype, device(q))
    axes, centers = _axes_and_centers(bodies, frames)
    motion = _motion_axes(xp, axes, frames)
    inertia = _spatial_inertias(xp, bodies, centers, frames)
    step = motion * qd[..., None]
    velocity = xp.cumulative_sum(step, axis=-2)
    # The base's acceleration against gravity stands for gravity on every link.
    zero = (0.0, 0.0, 0.0)
    base = xp.asarray([*zero, *(-value for value in gravity)], dtype=q.dtype, device=device(q))
    acceleration = xp.cumulative_sum(_cross_motion(xp, velocity, step), axis=-2) + base
    momentum = (inertia @ velocity[..., None])[..., 0]
    force = (inertia @ acceleration[..., None])[..., 0] + _cross_force(xp, velocity, momentum)
    return xp.sum(motion * _to_tip(xp, force), axis=-1)


def mass_matrix(description: ArmDescription, q: Array) -> Array:
    """Joint-space inertia (..., n, n) kg m² at joint angles `q` (..., n) rad, with the drives' `armature`."""
    xp = array_namespace(q)
    bodies = _bodies(description, xp, q.dtype, device(q))
    frames = link_transforms(description, q)
    axes, centers = _axes_and_centers(bodies, frames)
    motion = _motion_axes(xp, axes, frames)
    composite = _to_tip(xp, _spatial_inertias(xp, bodies, centers, frames), axis=-3)
    # Row i: the force on everything from link i to the tip per acceleration of joint i, seen by joints j ≤ i.
    forces = (composite @ motion[..., None])[..., 0]
    lower = xp.tril(forces @ xp.matrix_transpose(motion))
    return lower + xp.matrix_transpose(xp.tril(lower, k=-1)) + bodies.armature


@dataclass(frozen=True, eq=False)
class _Bodies:
    """Constants of the links, the gripper lumped into the last one."""

    masses: Array
    """Shape (n,), kg."""
    inertias: Array
    """Shape (n, 3, 3), kg m², about the centre of mass, link frame."""
    axes_and_centers: Array
    """Shape (n, 4, 2), homogeneous columns, link frame: the joint's axis, the link's centre of mass in m."""
    tool: Array
    """Shape (4,), homogeneous position of the tool in the last link's frame."""
    armature: Array
    """Shape (n, n), kg m², diagonal."""


@functools.lru_cache(maxsize=64)
def _bodies(description: ArmDescription, xp: Any, dtype: Any, where: Any) -> _Bodies:
    masses, centers = description.link_masses.copy(), description.link_centers.copy()
    inertias = description.link_inertias.copy()
    if description.gripper is not None:
        parts = [(masses[-1], centers[-1], inertias[-1]), *_gripper_parts(description, description.gripper)]
        masses[-1], centers[-1], inertias[-1] = _lump(parts)
    tool = np.append(tool_frame(description)[0], 1.0)
    columns = np.zeros((description.num_joints, 4, 2))
    columns[:, :3, 0], columns[:, :3, 1], columns[:, 3, 1] = description.joint_axes, centers, 1.0
    arrays = (masses, inertias, columns, tool, np.diag(description.armature))
    return _Bodies(*(xp.asarray(array, dtype=dtype, device=where) for array in arrays))


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


def _motion_axes(xp: Any, axes: Array, frames: Array) -> Array:
    """Spatial velocity (..., n, 6) at the base's origin per joint velocity."""
    return xp.concat([axes, _cross(xp, frames[..., :3, 3], axes)], axis=-1)


def _spatial_inertias(xp: Any, bodies: _Bodies, centers: Array, frames: Array) -> Array:
    """Spatial inertia (..., n, 6, 6) of every link about the base's origin (Featherstone, equation 2.63)."""
    turns = frames[..., :3, :3]
    about_center = turns @ bodies.inertias @ xp.matrix_transpose(turns)
    moment = _skew(xp, bodies.masses[..., None] * centers)
    masses = bodies.masses[..., None, None]
    about_origin = about_center + moment @ xp.matrix_transpose(moment) / masses
    mass = xp.broadcast_to(masses * xp.eye(3, dtype=frames.dtype, device=device(frames)), moment.shape)
    top = xp.concat([about_origin, moment], axis=-1)
    return xp.concat([top, xp.concat([xp.matrix_transpose(moment), mass], axis=-1)], axis=-2)


def _to_tip(xp: Any, values: Array, axis: int = -2) -> Array:
    """Sum over each link and all that follow it."""
    return xp.flip(xp.cumulative_sum(xp.flip(values, axis=axis), axis=axis), axis=axis)


def _cross(xp: Any, a: Array, b: Array) -> Array:
    """Cross product over the last axis; NumPy's own takes twice as long on few vectors."""
    ax, ay, az = (a[..., i] for i in range(3))
    bx, by, bz = (b[..., i] for i in range(3))
    return xp.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=-1)


def _skew(xp: Any, vector: Array) -> Array:
    """Matrix (..., 3, 3) of the cross product with `vector` (..., 3)."""
    x, y, z = (vector[..., i] for i in range(3))
    zero = xp.zeros_like(x)
    entries = xp.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1)
    return xp.reshape(entries, (*vector.shape, 3))


def _cross_motion(xp: Any, velocity: Array, motion: Array) -> Array:
    """Rate of change of spatial motions that move with `velocity` (equation 2.31)."""
    w, v = velocity[..., :3], velocity[..., 3:]
    angular = _cross(xp, w, motion[..., :3])
    return xp.concat([angular, _cross(xp, w, motion[..., 3:]) + _cross(xp, v, motion[..., :3])], axis=-1)


def _cross_force(xp: Any, velocity: Array, force: Array) -> Array:
    """Rate of change of spatial forces that move with `velocity` (equation 2.32)."""
    w, v = velocity[..., :3], velocity[..., 3:]
    moment = _cross(xp, w, force[..., :3]) + _cross(xp, v, force[..., 3:])
    return xp.concat([moment, _cross(xp, w, force[..., 3:])], axis=-1)
