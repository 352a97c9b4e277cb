"""Focal length, optical axis and distortion of a camera from pictures of a board, and whether they can be trusted.

Zhang 2000, by OpenCV. What makes a calibration wrong while its residual is small is one-sided data: a board that is
never tilted leaves the focal length and the distance to each other, and corners of the picture that no board has
reached leave the distortion there to the polynomial. Both are therefore measured and limited.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hardware.perception import poses
from hardware.perception.boards import Board, Sighting
from hardware.perception.markers import refine
from policies.camera import CameraModel, opencv

CELLS = (6, 8)
"""Rows and columns of the grid in which coverage is counted."""
_NAMES = ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2", "k3")


@dataclass(frozen=True, kw_only=True)
class IntrinsicLimits:
    """What a calibration has to reach to be accepted."""

    views: int = 10
    """Pictures in which the board is found."""
    coverage: float = 0.6
    """Share of 8 x 6 cells of the picture in which a corner was seen."""
    tilted_views: int = 5
    """Pictures in which the board is tilted by more than `tilt`."""
    tilt: float = 15.0
    """Degrees between the board's normal and the optical axis."""
    tilt_spread: float = 5.0
    """Degrees, standard deviation of the tilt about its weaker axis: the board has to lean to the side and back."""
    rms: float = 1.0
    """Pixels, root mean square of the distance between found and projected corners."""
    focal_deviation: float = 0.005
    """Standard deviation of the focal length, as a share of it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ViewFit:
    """How well one picture fits."""

    name: str
    """Of the picture."""
    rms: float
    """Pixels, root mean square distance of its corners."""
    tilt: float
    """Degrees between the board's normal and the optical axis."""
    pose: np.ndarray
    """Shape (4, 4): camera_T_board."""
    pixels: np.ndarray
    """Shape (K, 2): where the corners were found."""
    residuals: np.ndarray
    """Shape (K, 2) pixels: found less projected."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Intrinsics:
    """A calibration."""

    camera: CameraModel
    """Without a pose."""
    deviations: dict[str, float]
    """Standard deviation of fx, fy, cx, cy (pixels), k1, k2, p1, p2, k3, from the residuals; 0 where it was fixed."""
    rms: float
    """Pixels, root mean square distance of all corners."""
    views: tuple[ViewFit, ...]
    """Those that were used."""
    dropped: tuple[str, ...]
    """Names of pictures that fitted far worse than the others."""
    cells: np.ndarray
    """Shape `CELLS` int: corners seen in each."""

    @property
    def coverage(self) -> float:
        """Share of cells in which a corner was seen."""
        return float((self.cells > 0).mean())

    @property
    def tilt_spread(self) -> float:
        """Degrees, standard deviation of the tilt about its weaker axis."""
        across = np.array([view.pose[:2, 2] for view in self.views])
        return math.degrees(math.sqrt(max(0.0, float(np.linalg.eigvalsh(np.cov(across.T))[0]))))


def calibrate(
    board: Board,
    sightings: Sequence[tuple[str, Sighting]],
    size: tuple[int, int],
    *,
    name: str = "camera",
    radial: int = 2,
    drop: float = 3.0,
) -> Intrinsics:
    """Calibrate a camera.

    Args:
        board: What was seen.
        sightings: Name and sighting of each picture, at least 3.
        size: (H, W) of the pictures.
        name: Of the camera.
        radial: 1 to 3 coefficients of the radial distortion; ROS takes 2.
        drop: Pictures whose residual is so many times the median, and over half a pixel, are left out.

    Raises:
        ValueError: There are too few pictures, or no camera fits them.
    """
    if len(sightings) < 3:
        raise ValueError(
            f"the board was found in {len(sightings)} pictures; a calibration needs 3, a good one 15 or more"
        )
    if radial not in (1, 2, 3):
        raise ValueError(f"radial is {radial}; expected 1, 2 or 3 coefficients")
    found = _solve(board, sightings, size, name, radial)
    limit = max(0.5, drop * float(np.median([view.rms for view in found.views])))
    bad = tuple(view.name for view in found.views if view.rms > limit)
    if bad and len(sightings) - len(bad) >= 3:
        kept = [entry for entry in sightings if entry[0] not in bad]
        found = dataclasses.replace(_solve(board, kept, size, name, radial), dropped=bad)
    return found


def shortcomings(found: Intrinsics, limits: IntrinsicLimits | None = None) -> list[str]:
    """Why a calibration is not good enough, each with what to do; empty if it is."""
    limits = limits or IntrinsicLimits()
    tilted = sum(view.tilt > limits.tilt for view in found.views)
    focal = max(found.deviations["fx"] / found.camera.fx, found.deviations["fy"] / found.camera.fy)
    checks = (
        (
            len(found.views) >= limits.views,
            f"the board was found in {len(found.views)} pictures, fewer than {limits.views}: take more",
        ),
        (
            tilted >= limits.tilted_views,
            f"the board is tilted by more than {limits.tilt:g}° in {tilted} pictures, fewer than "
            f"{limits.tilted_views}: tilt it by 20° to 45°, or focal length and distance cannot be told apart",
        ),
        (
            found.tilt_spread >= limits.tilt_spread,
            f"the tilt varies by {found.tilt_spread:.1f}° about its weaker axis, less than {limits.tilt_spread:g}°: "
            "tilt the board to the left and right as well as up and down",
        ),
        (
            found.coverage >= limits.coverage,
            f"corners were seen in {100.0 * found.coverage:.0f} % of the picture, less than "
            f"{100.0 * limits.coverage:.0f} %: move the board out to the edges and corners",
        ),
        (
            found.rms <= limits.rms,
            f"corners are {found.rms:.2f} pixels off, more than {limits.rms:g}: is the board flat, sharp, and of the "
            "stated squares?",
        ),
        (
            focal <= limits.focal_deviation,
            f"the focal length is uncertain by {100.0 * focal:.2f} %, more than {100.0 * limits.focal_deviation:g} %: "
            "take more pictures with the board near and tilted",
        ),
    )
    return [reason for good, reason in checks if not good]


def locate_board(board: Board, sighting: Sighting, camera: CameraModel) -> tuple[np.ndarray, np.ndarray, float] | None:
    """Where the middle of a board is, its axes as the board's.

    Returns:
        camera_T_middle (4, 4); its covariance (6, 6) from the residuals; the root mean square distance of the corners
        in pixels. None if the corners lie in a line, or no pose fits.
    """
    cv2 = opencv()
    points = board.corners[sighting.indices] - np.array([*(0.5 * np.array(board.size)), 0.0])
    spread = np.linalg.svd(points[:, :2] - points[:, :2].mean(axis=0), compute_uv=False)
    if len(points) < 6 or spread[1] < 0.5 * board.square:
        return None
    count, turns, shifts, _ = cv2.solvePnPGeneric(
        points, sighting.pixels.reshape(-1, 1, 2), camera.matrix, np.array(camera.distortion), flags=cv2.SOLVEPNP_IPPE
    )
    tried = [
        refine(poses.from_vectors(turn, shift), points, sighting.pixels, camera)
        for turn, shift in zip(turns[:count], shifts[:count], strict=True)
        if np.all(np.isfinite(turn)) and np.all(np.isfinite(shift))
    ]
    if not tried:
        return None
    pose, covariance, square = min(tried, key=lambda entry: entry[2])
    if not (np.all(np.isfinite(pose)) and pose[2, 3] > 0.0):
        return None
    variance = square / max(1, 2 * len(points) - 6)
    return pose, covariance * variance, math.sqrt(square / len(points))


def _solve(
    board: Board, sightings: Sequence[tuple[str, Sighting]], size: tuple[int, int], name: str, radial: int
) -> Intrinsics:
    cv2 = opencv()
    height, width = size
    points = [board.corners[seen.indices].astype(np.float32) for _, seen in sightings]
    pixels = [seen.pixels.astype(np.float32) for _, seen in sightings]
    flags = sum((0, cv2.CALIB_FIX_K2 | cv2.CALIB_FIX_K3, cv2.CALIB_FIX_K3, 0)[radial : radial + 1])
    try:
        rms, matrix, bent, turns, shifts, deviations, _, _ = cv2.calibrateCameraExtended(
            points, pixels, (width, height), None, None, flags=flags
        )
    except cv2.error as error:
        raise ValueError(f"no camera fits the pictures ({error.err or error}); is the board as stated?") from error
    if not (np.all(np.isfinite(matrix)) and np.all(np.isfinite(bent)) and matrix[0, 0] > 0.0 and matrix[1, 1] > 0.0):
        raise ValueError("no camera fits the pictures; is the board as stated, and tilted in some of them?")
    k1, k2, p1, p2, k3 = (float(value) for value in np.ravel(bent)[:5])
    camera = CameraModel(
        name=name,
        width=width,
        height=height,
        fx=float(matrix[0, 0]),
        fy=float(matrix[1, 1]),
        cx=float(matrix[0, 2]),
        cy=float(matrix[1, 2]),
        distortion=(k1, k2, p1, p2, k3),
    )
    views = []
    for (picture, seen), turn, shift in zip(sightings, turns, shifts, strict=True):
        shown = cv2.projectPoints(board.corners[seen.indices], turn, shift, matrix, bent)[0].reshape(-1, 2)
        pose, residuals = poses.from_vectors(turn, shift), seen.pixels - shown
        views.append(
            ViewFit(
                name=picture,
                rms=float(np.sqrt((residuals**2).sum(axis=1).mean())),
                tilt=math.degrees(math.acos(min(1.0, abs(float(pose[2, 2]))))),
                pose=pose,
                pixels=seen.pixels,
                residuals=residuals,
            )
        )
    every = np.concatenate([view.pixels for view in views])
    rows = np.clip(every[:, 1] / height * CELLS[0], 0, CELLS[0] - 1).astype(int)
    columns = np.clip(every[:, 0] / width * CELLS[1], 0, CELLS[1] - 1).astype(int)
    cells = np.zeros(CELLS, dtype=int)
    np.add.at(cells, (rows, columns), 1)
    return Intrinsics(
        camera=camera,
        deviations=dict(zip(_NAMES, np.ravel(deviations)[: len(_NAMES)].tolist(), strict=True)),
        rms=float(rms),
        views=tuple(views),
        dropped=(),
        cells=cells,
    )
