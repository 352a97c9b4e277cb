"""Poses of square markers in the camera's frame, with their uncertainty and their twin.

A marker's frame has its origin in the middle, x to the right and y up as it is printed, z out of the paper. A flat
square seen from far is nearly the same picture from two tilts (Schweighofer and Pinz 2006): both poses are refined,
and the second is kept beside the first with its probability. The covariance is that of the corners' noise through the
Jacobian of the projection, J: (Jᵀ J)⁻¹ σ².
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hardware.perception import poses
from hardware.perception.boards import Family, marker_detector
from hardware.perception.edges import refine_corners
from policies import rotation
from policies.camera import CameraModel, opencv


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """A marker in a picture."""

    number: int
    """Its id."""
    corners: np.ndarray
    """Shape (4, 2) pixels, column and row: clockwise from the upper left as it is printed."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MarkerPose:
    """Where a marker is."""

    matrix: np.ndarray
    """Shape (4, 4): camera_T_marker, the likelier of the two."""
    covariance: np.ndarray
    """Shape (6, 6): of a small change of it, see `hardware.perception.poses`, from the corners' noise alone."""
    residual: float
    """Pixels, root mean square over the corners' coordinates."""
    twin: np.ndarray | None
    """Shape (4, 4): the other pose that shows nearly the same picture; None where there is none."""
    twin_probability: float
    """That the twin is the true one, 0 to 0.5."""
    twin_angle: float
    """rad, between the two."""

    def is_ambiguous(self, probability: float = 0.01, angle: float = math.radians(5.0)) -> bool:
        """Whether another pose, turned by more than `angle`, cannot be excluded."""
        return self.twin_probability > probability and self.twin_angle > angle

    @property
    def whole_covariance(self) -> np.ndarray:
        """Covariance (6, 6) that allows for the twin: the second moment of both about the likelier one."""
        if self.twin is None:
            return self.covariance
        step = poses.change_between(self.matrix, self.twin)
        return self.covariance + self.twin_probability * np.outer(step, step)


def find_markers(image: np.ndarray, family: Family, camera: CameraModel | None = None) -> list[Seen]:
    """The markers of a family in a picture (H, W, 3) or (H, W) uint8, in the order of their numbers.

    With the calibrated `camera`, corners are found as if its lens were straight; without, a lens that bends much costs
    a tenth of a pixel.
    """
    cv2 = opencv()
    gray = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    corners, numbers, _ = marker_detector(family).detectMarkers(gray)
    if numbers is None:
        return []
    found = [
        Seen(number=int(number), corners=refine_corners(gray, np.asarray(four, dtype=float).reshape(4, 2), camera))
        for number, four in zip(np.asarray(numbers).ravel(), corners, strict=True)
    ]
    return sorted(found, key=lambda seen: seen.number)


def marker_corners(side: float) -> np.ndarray:
    """Corners (4, 3) m in the marker's frame, in the order in which they are found."""
    half = 0.5 * side
    return np.array([[-half, half, 0.0], [half, half, 0.0], [half, -half, 0.0], [-half, -half, 0.0]])


def locate_marker(corners: np.ndarray, side: float, camera: CameraModel, noise: float = 0.15) -> MarkerPose | None:
    """The pose of a marker.

    Args:
        corners: Shape (4, 2) pixels, as `find_markers` gives them.
        side: m, of the black square: measure it on the print.
        camera: Calibrated; its own pose is not used.
        noise: Pixels, standard deviation of a corner's column and row.

    Returns:
        None if no pose shows such corners, as for a marker behind the camera.
    """
    cv2 = opencv()
    points = marker_corners(side)
    count, turns, shifts, _ = cv2.solvePnPGeneric(
        points, corners.reshape(4, 1, 2), camera.matrix, np.array(camera.distortion), flags=cv2.SOLVEPNP_IPPE_SQUARE
    )
    found = []
    for turn, shift in zip(turns[:count], shifts[:count], strict=True):
        if not (np.all(np.isfinite(turn)) and np.all(np.isfinite(shift))):
            continue
        matrix, covariance, square = refine(poses.from_vectors(turn, shift), points, corners, camera)
        if np.all(np.isfinite(matrix)) and np.all(np.isfinite(covariance)) and matrix[2, 3] > 0.0:
            found.append((square, matrix, covariance * noise**2))
    if not found:
        return None
    found.sort(key=lambda entry: entry[0])
    square, matrix, covariance = found[0]
    twin, probability, angle = None, 0.0, 0.0
    if len(found) > 1:
        angle = poses.angle_of(matrix[:3, :3].T @ found[1][1][:3, :3])
        if angle > 1e-3:  # else both led to the same pose
            twin = found[1][1]
            odds = math.exp(-0.5 * (found[1][0] - square) / noise**2)
            probability = odds / (1.0 + odds)
    return MarkerPose(
        matrix=matrix,
        covariance=covariance,
        residual=math.sqrt(square / corners.size),
        twin=twin,
        twin_probability=probability,
        twin_angle=angle if twin is not None else 0.0,
    )


def refine(
    start: np.ndarray, points: np.ndarray, pixels: np.ndarray, camera: CameraModel, steps: int = 20
) -> tuple[np.ndarray, np.ndarray, float]:
    """The pose (4, 4) near `start` that shows points (K, 3) best at pixels (K, 2), by Levenberg and Marquardt.

    Returns:
        The pose; its covariance (6, 6) for noise of one pixel; the sum of squared residuals in pixels².
    """
    pose, damping = start, 1e-4
    residual, jacobian = _residual(pose, points, pixels, camera)
    square = float(residual @ residual)
    for _ in range(steps):
        normal, gradient = jacobian.T @ jacobian, jacobian.T @ residual
        step = np.linalg.solve(normal + damping * np.diag(np.diag(normal)), gradient)
        tried = poses.changed(pose, step)
        residual_, jacobian_ = _residual(tried, points, pixels, camera)
        square_ = float(residual_ @ residual_)
        if not square_ < square:
            damping *= 10.0
            if damping > 1e4:
                break
            continue
        small = square - square_ < 1e-12 * (1.0 + square)
        pose, residual, jacobian, square, damping = tried, residual_, jacobian_, square_, 0.1 * damping
        if small:
            break
    return pose, np.linalg.pinv(jacobian.T @ jacobian, hermitian=True), square


def _residual(
    pose: np.ndarray, points: np.ndarray, pixels: np.ndarray, camera: CameraModel
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels that are missing (2 K,), and what a small change of the pose adds to the projection (2 K, 6)."""
    cv2 = opencv()
    arms = points @ pose[:3, :3].T
    zero = np.zeros(3)
    shown, derivatives = cv2.projectPoints(arms + pose[:3, 3], zero, zero, camera.matrix, np.array(camera.distortion))
    by_point = derivatives[:, 3:6].reshape(-1, 2, 3)  # by a shift of every point in the camera's frame
    by_turn = -by_point @ rotation.skew(arms)
    jacobian = np.concatenate([by_point, by_turn], axis=-1).reshape(-1, 6)
    return (pixels - shown.reshape(-1, 2)).ravel(), jacobian
