"""Poses as (..., 7) xyz + wxyz and as matrices (..., 4, 4), and small changes of them.

`a_T_b` is the pose of frame b in frame a: it takes coordinates in b to coordinates in a. A small change of a pose is
(dx, dy, dz, rx, ry, rz) in m and rad: a shift, and a turn about the axes of frame **a** through the origin of b. That
is how ROS means the covariance of a pose.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from policies import rotation


def to_matrix(pose: Sequence[float] | np.ndarray) -> np.ndarray:
    """Matrices (..., 4, 4) of poses (..., 7)."""
    pose = np.asarray(pose, dtype=float)
    found = np.zeros((*pose.shape[:-1], 4, 4))
    found[..., :3, :3] = rotation.to_matrix(rotation.normalize(pose[..., 3:]))
    found[..., :3, 3] = pose[..., :3]
    found[..., 3, 3] = 1.0
    return found


def to_pose(matrix: np.ndarray) -> np.ndarray:
    """Poses (..., 7) of matrices (..., 4, 4)."""
    return np.concatenate([matrix[..., :3, 3], quaternions_of(matrix[..., :3, :3])], axis=-1)


def quaternions_of(turns: np.ndarray) -> np.ndarray:
    """Unit quaternions (..., 4) wxyz, w at least 0, of rotations (..., 3, 3)."""
    # Every row of the outer product of a quaternion with itself is that quaternion: take the longest one.
    m = turns
    diagonal = np.stack([m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]], axis=-1)
    signs = np.array([[1.0, 1.0, 1.0], [1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]])
    squares = 1.0 + diagonal @ signs.T
    outer = np.empty((*m.shape[:-2], 4, 4))
    outer[..., range(4), range(4)] = squares
    for (row, column), value in {
        (0, 1): m[..., 2, 1] - m[..., 1, 2],
        (0, 2): m[..., 0, 2] - m[..., 2, 0],
        (0, 3): m[..., 1, 0] - m[..., 0, 1],
        (1, 2): m[..., 0, 1] + m[..., 1, 0],
        (1, 3): m[..., 0, 2] + m[..., 2, 0],
        (2, 3): m[..., 1, 2] + m[..., 2, 1],
    }.items():
        outer[..., row, column] = outer[..., column, row] = value
    longest = squares.argmax(axis=-1)
    found = np.take_along_axis(outer, longest[..., None, None], axis=-2)[..., 0, :]
    found = found / np.linalg.norm(found, axis=-1, keepdims=True)
    return np.where(found[..., :1] < 0.0, -found, found)


def from_vectors(turn: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Matrix (4, 4) of a rotation vector (3,) rad and a translation (3,) m, as OpenCV gives them."""
    found = np.eye(4)
    found[:3, :3] = rotation.to_matrix(rotation.from_rotation_vector(np.asarray(turn, dtype=float).reshape(3)))
    found[:3, 3] = np.asarray(shift, dtype=float).reshape(3)
    return found


def inverse(matrix: np.ndarray) -> np.ndarray:
    """Inverse of rigid motions (..., 4, 4)."""
    found = np.zeros_like(matrix)
    found[..., :3, :3] = np.swapaxes(matrix[..., :3, :3], -1, -2)
    found[..., :3, 3] = -np.einsum("...ij,...j->...i", found[..., :3, :3], matrix[..., :3, 3])
    found[..., 3, 3] = 1.0
    return found


def changed(matrix: np.ndarray, change: np.ndarray) -> np.ndarray:
    """A pose (4, 4) after a small change (6,)."""
    found = matrix.copy()
    found[:3, :3] = rotation.to_matrix(rotation.from_rotation_vector(change[3:])) @ matrix[:3, :3]
    found[:3, 3] += change[:3]
    return found


def change_between(begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The changes (..., 6) that take poses `begin` (..., 4, 4) to `end`."""
    turn = end[..., :3, :3] @ np.swapaxes(begin[..., :3, :3], -1, -2)
    shift = end[..., :3, 3] - begin[..., :3, 3]
    return np.concatenate([shift, rotation.to_rotation_vector(quaternions_of(turn))], axis=-1)


def composed_covariance(
    first: np.ndarray, second: np.ndarray, first_covariance: np.ndarray, second_covariance: np.ndarray
) -> np.ndarray:
    """Covariance (6, 6) of the pose a_T_c = a_T_b b_T_c, whose factors err independently of each other.

    Args:
        first: a_T_b, (4, 4).
        second: b_T_c, (4, 4).
        first_covariance: Of a_T_b, (6, 6).
        second_covariance: Of b_T_c, (6, 6).
    """
    turn = first[:3, :3]
    from_first, from_second = np.eye(6), np.zeros((6, 6))
    # A turn of b swings c, which is away from it.
    from_first[:3, 3:] = -rotation.skew(turn @ second[:3, 3])
    from_second[:3, :3] = from_second[3:, 3:] = turn
    return from_first @ first_covariance @ from_first.T + from_second @ second_covariance @ from_second.T


def angle_of(matrix: np.ndarray) -> float:
    """Angle in rad of a rotation (3, 3)."""
    return float(np.linalg.norm(rotation.to_rotation_vector(quaternions_of(matrix))))


def mean_rotation(matrices: np.ndarray) -> np.ndarray:
    """The rotation (3, 3) nearest to rotations (N, 3, 3) in the mean square of their matrices' differences."""
    left, _, right = np.linalg.svd(matrices.sum(axis=0))
    return left @ np.diag([1.0, 1.0, np.linalg.det(left @ right)]) @ right
