"""Forward kinematics and Jacobian of an arm: pure array-API functions with leading batch axes ``...``."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device

from hardware.descriptions.arm import ArmDescription
from hardware.single_kinematics import SingleChain
from policies import rotation
from policies.types import Array


@dataclass(frozen=True, eq=False)
class ArmKinematics:
    """Where the tool is and how joint motion moves it: what a Cartesian controller needs of an arm."""

    tool_position: Array
    """Shape (..., 3), m, base frame."""
    tool_orientation: Array
    """Shape (..., 4), wxyz, tool to base."""
    jacobian: Array
    """Shape (..., 6, n): tool twist (linear, angular) in the base frame per joint velocity."""


def tool_frame(description: ArmDescription) -> tuple[np.ndarray, np.ndarray]:
    """Tool point in the last link's frame: position (3,) and orientation (4,); the flange without a gripper."""
    position, orientation = description.flange_position, description.flange_orientation
    gripper = description.gripper
    if gripper is None:
        return position, orientation
    orientation = rotation.multiply(orientation, rotation.from_yaw(np.asarray(gripper.mount_yaw)))
    return position + rotation.rotate(orientation, np.array([0.0, 0.0, gripper.tool_offset])), orientation


def forward_kinematics(description: ArmDescription, q: Array) -> ArmKinematics:
    """Pose and Jacobian of the tool (of the flange where there is no gripper) at joint angles `q` (..., n) rad."""
    if isinstance(q, np.ndarray) and q.ndim == 1 and q.dtype == np.float64:
        return ArmKinematics(*_single(description).solve(q))
    xp = array_namespace(q)
    constants = _constants(description, xp, q.dtype, device(q))
    transforms = _chain(xp, constants, q)
    end = transforms[-1] @ constants.tool
    position = end[..., :3, 3]
    # Column k of a geometric Jacobian: (z × (p_tool - p_k), z) with z the axis of joint k in the base frame.
    frames = xp.stack([transform[..., :3, 2:] for transform in transforms], axis=-1)
    zx, zy, zz = (frames[..., i, 0, :] for i in range(3))
    rx, ry, rz = (position[..., i, None] - frames[..., i, 1, :] for i in range(3))
    jacobian = xp.stack([zy * rz - zz * ry, zz * rx - zx * rz, zx * ry - zy * rx, zx, zy, zz], axis=-2)
    return ArmKinematics(position, _to_quaternion(xp, end), jacobian)


def link_transforms(description: ArmDescription, q: Array) -> Array:
    """Homogeneous transforms (..., n, 4, 4) from the frames of links 1 to n to the base at angles `q` (..., n) rad."""
    xp = array_namespace(q)
    constants = _constants(description, xp, q.dtype, device(q))
    return xp.stack(_chain(xp, constants, q), axis=-3) @ constants.links


def joint_motions(description: ArmDescription, transforms: Array) -> Array:
    """How joints move what is behind them: (..., n, 3, 4) in the base frame, per rad.

    With A the k-th and a row of zeros below, dT/dq_k = A T for every transform T to the base that joint k moves.

    Args:
        description: The arm.
        transforms: `link_transforms` of the posture, (..., n, 4, 4).
    """
    xp = array_namespace(transforms)
    constants = _constants(description, xp, transforms.dtype, device(transforms))
    turns = xp.reshape((transforms @ constants.axes)[..., :3, 0] @ constants.skew, (*transforms.shape[:-2], 3, 3))
    return xp.concat([turns, -(turns @ transforms[..., :3, 3:])], axis=-1)


def link_frames(description: ArmDescription, q: Array) -> tuple[Array, Array]:
    """Positions (..., n + 1, 3) m and orientations (..., n + 1, 4) of all links, link 0 the base, in the base frame."""
    xp = array_namespace(q)
    links = link_transforms(description, q)
    base = xp.broadcast_to(xp.eye(4, dtype=q.dtype, device=device(q)), (*q.shape[:-1], 1, 4, 4))
    frames = xp.concat([base, links], axis=-3)
    return frames[..., :3, 3], _to_quaternion(xp, frames)


def _chain(xp: Any, constants: _Constants, q: Array) -> list[Array]:
    """Transforms (..., 4, 4) to the base from every link's frame, turned such that its z axis is the joint's."""
    n = q.shape[-1]
    # One product with all joints' sines and cosines is faster than many small ones, singly and in a batch.
    entries = xp.concat([xp.sin(q), xp.cos(q)], axis=-1) @ constants.turning + constants.fixed
    local = xp.reshape(entries, (*q.shape, 4, 4))
    transforms = [local[..., 0, :, :]]
    for joint in range(1, n):
        transforms.append(transforms[-1] @ local[..., joint, :, :])  # noqa: PERF401
    return transforms


@dataclass(frozen=True, eq=False)
class _Constants:
    """What of the kinematics does not depend on the joint angles."""

    turning: Array
    """Shape (2 n, 16 n): the flat local transforms' share of every joint's sine, then of its cosine."""
    fixed: Array
    """Shape (16 n,): the share that does not turn."""
    links: Array
    """Shape (n, 4, 4), from the links' frames to the frames whose z axis is the joint's."""
    tool: Array
    """Shape (4, 4), from the tool to the last of the latter."""
    axes: Array
    """Shape (n, 4, 1), the joints' axes in the links' frames, homogeneous directions."""
    skew: Array
    """Shape (3, 9): from a vector to the flat matrix of the cross product with it."""


@functools.lru_cache(maxsize=64)
def _constants(description: ArmDescription, xp: Any, dtype: Any, where: Any) -> _Constants:
    if not xp.isdtype(dtype, "real floating"):
        raise TypeError(f"joint angles of {description.interface.name!r} are {dtype}; give floating-point numbers")
    n = description.num_joints
    turning, fixed, links = np.zeros((2, n, n, 4, 4)), np.zeros((n, 4, 4)), np.zeros((n, 4, 4))
    before = np.eye(4)
    for k in range(n):
        joint = _transform(description.joint_positions[k], description.joint_orientations[k])
        axis = _transform(np.zeros(3), _turn_to(description.joint_axes[k]))
        x, y, z, origin = np.eye(4)
        local = before.T @ joint @ axis
        # A turn about z: cosine on x xᵀ + y yᵀ, sine on y xᵀ - x yᵀ, the rest stays.
        turning[0, k, k] = local @ (np.outer(y, x) - np.outer(x, y))
        turning[1, k, k] = local @ (np.outer(x, x) + np.outer(y, y))
        fixed[k] = local @ (np.outer(z, z) + np.outer(origin, origin))
        links[k] = axis.T
        before = axis
    tool = before.T @ _transform(*tool_frame(description))
    axes = np.append(description.joint_axes, np.zeros((n, 1)), axis=1)[..., None]
    skew = np.array([np.cross(axis, np.eye(3)).T for axis in np.eye(3)]).reshape(3, 9)
    arrays = (turning.reshape(2 * n, 16 * n), fixed.reshape(-1), links, tool, axes, skew)
    return _Constants(*(xp.asarray(array, dtype=dtype, device=where) for array in arrays))


@functools.lru_cache(maxsize=64)
def _single(description: ArmDescription) -> SingleChain:
    constants = _constants(description, np, np.dtype(np.float64), None)
    at_zero = np.repeat([0.0, 1.0], description.num_joints) @ constants.turning + constants.fixed
    return SingleChain(at_zero.reshape(-1, 4, 4), constants.tool)


def _transform(position: np.ndarray, orientation: np.ndarray) -> np.ndarray:
    transform = np.eye(4)
    transform[:3, :3] = rotation.to_matrix(orientation)
    transform[:3, 3] = position
    return transform


def _turn_to(axis: np.ndarray) -> np.ndarray:
    """A quaternion that turns z to the unit vector `axis`."""
    if axis[2] < -0.999:  # half a turn about x; the sum below would vanish
        return rotation.multiply(_turn_to(-axis), np.array([0.0, 1.0, 0.0, 0.0]))
    return rotation.normalize(np.array([1.0 + axis[2], -axis[1], axis[0], 0.0]))


def _to_quaternion(xp: Any, transform: Array) -> Array:
    """Quaternion wxyz (..., 4) of transforms (..., 4, 4), with its largest component positive.

    The entries of 4 q qᵀ are sums of the transform's entries; its row with the largest diagonal never vanishes.
    """
    products, unit = _quaternion_products(xp, transform.dtype, device(transform))
    flat = xp.reshape(transform, (*transform.shape[:-2], 16)) @ products
    largest = unit[xp.argmax(flat[..., ::5], axis=-1)]
    row = (largest[..., None, :] @ xp.reshape(flat, (*flat.shape[:-1], 4, 4)))[..., 0, :]
    return row / xp.sqrt(xp.sum(row * row, axis=-1, keepdims=True))


@functools.lru_cache(maxsize=16)
def _quaternion_products(xp: Any, dtype: Any, where: Any) -> tuple[Array, Array]:
    """Map (16, 16) from a flat homogeneous transform to flat 4 q qᵀ, and the unit matrix (4, 4)."""
    # Entry (r, c) of the transform adds `sign` to entry (i, k) of 4 q qᵀ; (3, 3) is the homogeneous 1.
    terms = [(i, i, 3, 3, 1.0) for i in range(4)]
    terms += [(i, i, k, k, 1.0 if i in (0, k + 1) else -1.0) for i in range(4) for k in range(3)]
    for a, b, c in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        terms += [(0, a + 1, c, b, 1.0), (0, a + 1, b, c, -1.0), (b + 1, c + 1, b, c, 1.0), (b + 1, c + 1, c, b, 1.0)]
    products = np.zeros((4, 4, 4, 4))
    for i, k, row, column, sign in terms:
        products[row, column, i, k] = products[row, column, k, i] = sign
    return (
        xp.asarray(products.reshape(16, 16), dtype=dtype, device=where),
        xp.asarray(np.eye(4), dtype=dtype, device=where),
    )
