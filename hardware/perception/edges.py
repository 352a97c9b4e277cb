"""Corners of a dark square from its edges.

`cornerSubPix` is made for the crossings of a chessboard; on the outer corner of a marker it settles a quarter of a
pixel inside, so that the marker seems smaller and further away (measured: -0.24 to -0.29 pixels along the diagonal).
Here every edge is found in profiles across it, a line is fitted to each side, and neighbours are intersected.
"""

from __future__ import annotations

import numpy as np

from policies.camera import CameraModel, distort, opencv

_REACH = 3.0
"""Pixels to either side of an edge that are looked at."""
_CELLS = 8.0
"""A marker's black border is at least a so-manieth of its side wide; profiles stay within it."""
_SAMPLES = 24
"""Profiles per side."""
_ENDS = 0.12
"""Share of a side at both ends that is left out: there the other edge is near."""
_FINENESS = 4
"""Samples per pixel along a profile."""


def refine_corners(gray: np.ndarray, corners: np.ndarray, camera: CameraModel | None = None) -> np.ndarray:
    """Corners (4, 2) pixels of a dark square on a light ground, from corners that are right to a pixel or two.

    Args:
        gray: Picture (H, W) uint8.
        corners: Shape (4, 2), in order around the square.
        camera: With it, sides are straight in the straightened picture, not in the distorted one.

    Returns:
        As given where the square is too small or an edge is not clear.
    """
    ends = np.roll(corners, -1, axis=0)
    along = ends - corners
    lengths = np.linalg.norm(along, axis=1)
    reach = min(_REACH, 0.8 * float(lengths.min()) / _CELLS)
    if reach < 1.5:
        return corners
    along = along / lengths[:, None]
    across = np.stack([along[:, 1], -along[:, 0]], axis=1)
    outward = np.sign(((corners - corners.mean(axis=0)) * across).sum(axis=1))
    if np.any(outward == 0.0):
        return corners
    across = across * outward[:, None]
    shares = np.linspace(_ENDS, 1.0 - _ENDS, _SAMPLES)
    offsets = np.linspace(-reach, reach, round(2.0 * reach * _FINENESS) + 1)
    centers = corners[:, None] + (shares[:, None] * lengths[:, None, None]) * along[:, None]  # (4, S, 2)
    edges = centers
    for _ in range(2):  # the second time around the first result, so that the window is centred
        positions, clear = _edge_positions(gray, edges, across, offsets)
        if np.any(clear.sum(axis=1) < _SAMPLES // 2):
            return corners
        edges = edges + positions[..., None] * across[:, None]
    straight = edges if camera is None else _straighten(edges, camera)
    lines = [_line(side[good]) for side, good in zip(straight, clear, strict=True)]
    found = np.stack([_crossing(lines[index - 1], lines[index]) for index in range(4)])
    if camera is not None:
        focal, center = np.array([camera.fx, camera.fy]), np.array([camera.cx, camera.cy])
        found = distort((found - center) / focal, camera.distortion) * focal + center
    # What moved further than profiles reach was not this corner.
    return found if np.all(np.linalg.norm(found - corners, axis=1) < 2.0 * reach) else corners


def _edge_positions(
    gray: np.ndarray, centers: np.ndarray, across: np.ndarray, offsets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where on each profile the edge is (4, S) pixels from its middle, and whether there is a clear one."""
    cv2 = opencv()
    places = centers[:, :, None] + offsets[:, None] * across[:, None, None]  # (4, S, K, 2)
    maps = places.astype(np.float32).reshape(4 * centers.shape[1], len(offsets), 2)
    values = cv2.remap(gray.astype(np.float32), maps, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    rise = np.diff(values.reshape(*centers.shape[:2], len(offsets)), axis=-1).clip(0.0, None)  # dark inside
    height = rise.sum(axis=-1)
    middle = 0.5 * (offsets[1:] + offsets[:-1])
    found = (rise * middle).sum(axis=-1) / np.maximum(height, 1e-9)
    clear = height > 0.4 * np.median(height)
    return np.where(clear, found, 0.0), clear & (height > 15.0)


def _straighten(points: np.ndarray, camera: CameraModel) -> np.ndarray:
    plane = camera.directions(points)[..., :2]
    return plane * [camera.fx, camera.fy] + [camera.cx, camera.cy]


def _line(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Point and normal of the line through points (K, 2), without those that are far off."""
    for _ in range(2):
        middle = points.mean(axis=0)
        normal = np.linalg.svd(points - middle, full_matrices=False)[2][1]
        away = np.abs((points - middle) @ normal)
        near = away <= max(0.1, 3.0 * float(np.median(away)))
        points = points[near]
    middle = points.mean(axis=0)
    return middle, np.linalg.svd(points - middle, full_matrices=False)[2][1]


def _crossing(first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    normals = np.stack([first[1], second[1]])
    return np.asarray(np.linalg.solve(normals, np.array([first[1] @ first[0], second[1] @ second[0]])))
