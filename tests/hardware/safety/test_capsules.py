"""Distances: known ones, and against a dense search."""

import numpy as np
import pytest

from hardware.safety.capsules import between_segments, to_boxes

UNIT = (np.zeros((1, 3)), np.ones((1, 3)))


def segment(start, end):
    return np.array([start], float), np.array([end], float)


@pytest.mark.parametrize(
    ("first", "second", "distance"),
    [
        (((0, 0, 0), (1, 0, 0)), ((0, 1, 0), (1, 1, 0)), 1.0),  # parallel
        (((0, 0, 0), (1, 0, 0)), ((0.5, -1, 2), (0.5, 1, 2)), 2.0),  # crossing
        (((0, 0, 0), (1, 0, 0)), ((3, 0, 0), (4, 0, 0)), 2.0),  # one behind the other
        (((0, 0, 0), (0, 0, 0)), ((0, 3, 4), (0, 3, 4)), 5.0),  # points
        (((0, 0, 0), (1, 0, 0)), ((0.5, 1, 0), (0.5, -1, 0)), 0.0),  # touching
        (((0, 0, 0), (0, 0, 0)), ((-1, 2, 0), (1, 2, 0)), 2.0),  # a point and a segment
    ],
)
def test_known_distances_between_segments(first, second, distance):
    on_first, on_second = between_segments(*segment(*first), *segment(*second))
    assert np.linalg.norm(on_first - on_second) == pytest.approx(distance, abs=1e-9)


def test_segments_against_a_dense_search():
    rng = np.random.default_rng(0)
    ends = rng.normal(size=(4, 200, 3))
    on_first, on_second = between_segments(*ends)
    found = np.linalg.norm(on_first - on_second, axis=1)
    share = np.linspace(0.0, 1.0, 201)[:, None, None]
    first, second = (a + share * (b - a) for a, b in ((ends[0], ends[1]), (ends[2], ends[3])))
    searched = np.min(np.linalg.norm(first[:, None] - second[None], axis=-1), axis=(0, 1))
    assert np.all(found <= searched + 1e-9)
    assert np.max(searched - found) < 0.03  # what the grid cannot resolve


@pytest.mark.parametrize(
    ("start", "end", "distance", "direction"),
    [
        ((2.0, 0.5, 0.5), (3.0, 0.5, 0.5), 1.0, (1, 0, 0)),
        ((0.2, 0.8, 1.5), (0.8, 0.2, 1.5), 0.5, (0, 0, 1)),
        ((-1.0, 0.4, 0.5), (2.0, 0.4, 0.5), -0.4, (0, -1, 0)),  # goes through
        ((0.9, 0.5, 0.5), (0.9, 0.5, 0.5), -0.1, (1, 0, 0)),  # a point inside
    ],
)
def test_known_distances_to_a_box(start, end, distance, direction):
    found, _, normal = to_boxes(*segment(start, end), *UNIT)
    assert found[0] == pytest.approx(distance, abs=1e-9)
    assert normal[0] == pytest.approx(direction, abs=1e-9)


def test_boxes_against_a_dense_search():
    rng = np.random.default_rng(1)
    start, end = rng.uniform(-2.0, 3.0, (2, 300, 3))
    lower, upper = np.broadcast_to(0.0, (300, 3)), np.broadcast_to([1.0, 0.5, 2.0], (300, 3))
    found, point, normal = to_boxes(start, end, lower, upper)
    along = start + np.linspace(0.0, 1.0, 2001)[:, None, None] * (end - start)
    outside = np.maximum(along - upper, 0.0) - np.maximum(lower - along, 0.0)
    searched = np.min(np.linalg.norm(outside, axis=-1), axis=0)
    apart = searched > 1e-2
    assert np.sum(apart) > 100
    assert found[apart] == pytest.approx(searched[apart], abs=3e-3)
    assert np.all(found[apart] <= searched[apart] + 1e-9)
    assert np.all(found[searched == 0.0] < 0.0)
    assert np.linalg.norm(normal, axis=1) == pytest.approx(1.0)
