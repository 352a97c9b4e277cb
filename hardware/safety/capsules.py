"""Distances between segments, and between segments and boxes: vectorised over rows, numpy."""

from __future__ import annotations

import numpy as np

_TINY = 1e-12


def between_segments(
    start_a: np.ndarray, end_a: np.ndarray, start_b: np.ndarray, end_b: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Closest points of pairs of segments (Ericson, "Real-Time Collision Detection", 2005, section 5.1.9).

    Args:
        start_a: Shape (m, 3); a segment may be a point.
        end_a: Shape (m, 3).
        start_b: Shape (m, 3).
        end_b: Shape (m, 3).

    Returns:
        Point on a (m, 3), point on b (m, 3).
    """
    way_a, way_b, offset = end_a - start_a, end_b - start_b, start_a - start_b
    a, e = _dot(way_a, way_a) + _TINY, _dot(way_b, way_b) + _TINY
    b, c, f = _dot(way_a, way_b), _dot(way_a, offset), _dot(way_b, offset)
    # Parallel segments have no single closest pair: the first try is then 0, what follows finds one of them.
    determinant = a * e - b * b
    s = np.minimum(np.maximum((b * f - c * e) / np.maximum(determinant, 1e-9 * a * e), 0.0), 1.0)
    t = np.minimum(np.maximum((b * s + f) / e, 0.0), 1.0)
    s = np.minimum(np.maximum((b * t - c) / a, 0.0), 1.0)
    return start_a + s[:, None] * way_a, start_b + t[:, None] * way_b


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    products: np.ndarray = np.einsum("ij,ij->i", a, b)
    return products


def to_boxes(
    start: np.ndarray, end: np.ndarray, lower: np.ndarray, upper: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signed distance of segments to boxes along the axes; negative where a segment enters its box.

    The squared distance along a segment is convex, its slope piecewise linear with kinks where the segment crosses a
    plane of a face: the zero of the slope lies between two kinks, and there it is found exactly.

    Args:
        start: Shape (m, 3).
        end: Shape (m, 3).
        lower: Shape (m, 3).
        upper: Shape (m, 3).

    Returns:
        Distance (m,), the segment's point (m, 3), and the direction (m, 3) in which the distance grows.
    """
    way = end - start
    safe = np.where(np.abs(way) > _TINY, way, _TINY)
    kinks = np.concatenate([(lower - start) / safe, (upper - start) / safe], axis=1)
    count = len(start)
    kinks = np.concatenate([np.zeros((count, 1)), np.clip(kinks, 0.0, 1.0), np.ones((count, 1))], axis=1)
    kinks.sort(axis=1)
    points = start[:, None] + kinks[..., None] * way[:, None]
    outside = np.maximum(points - upper[:, None], 0.0) - np.maximum(lower[:, None] - points, 0.0)
    slope = np.sum(outside * way[:, None], axis=-1)
    # The last kink before the slope turns positive; a slope that never does has its least at the end.
    rows = np.arange(count)
    before = np.maximum(np.sum(slope <= 0.0, axis=1) - 1, 0)
    after = np.minimum(before + 1, kinks.shape[1] - 1)
    low, high = slope[rows, before], slope[rows, after]
    part = np.where(high > low, np.clip(-low / np.maximum(high - low, _TINY), 0.0, 1.0), 0.0)
    # Where the slope is zero over a stretch the segment is inside: its middle is deepest.
    inside = np.abs(slope) <= _TINY
    first, last = np.argmax(inside, axis=1), inside.shape[1] - 1 - np.argmax(inside[:, ::-1], axis=1)
    place = kinks[rows, before] + part * (kinks[rows, after] - kinks[rows, before])
    place = np.where(inside.any(axis=1), 0.5 * (kinks[rows, first] + kinks[rows, last]), place)
    point = start + place[:, None] * way
    distance, direction = _signed(point, lower, upper)
    return distance, point, direction


def _signed(point: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Signed distance (m,) of points to boxes, and the direction (m, 3) in which it grows."""
    outside = np.maximum(point - upper, 0.0) - np.maximum(lower - point, 0.0)
    distance = np.sqrt(np.sum(outside * outside, axis=1))
    faces = np.concatenate([point - upper, lower - point], axis=1)
    nearest = np.argmax(faces, axis=1)
    rows = np.arange(len(point))
    normal = np.zeros_like(point)
    normal[rows, nearest % 3] = np.where(nearest < 3, 1.0, -1.0)
    out = distance > 0.0
    direction = np.where(out[:, None], outside / np.maximum(distance, _TINY)[:, None], normal)
    return np.where(out, distance, faces[rows, nearest]), direction
