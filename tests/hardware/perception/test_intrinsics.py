"""Intrinsic calibration: the truth comes back within the stated deviations, and one-sided data are not good enough."""

import dataclasses

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2")

from hardware.perception import intrinsics, poses  # noqa: E402
from hardware.perception.boards import Board, Sighting, find_board  # noqa: E402
from hardware.perception.rendering import board_plate, render  # noqa: E402
from policies.camera import read_camera_model, write_camera_model  # noqa: E402

BOARD = Board()
NAMES = ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2")


def values_of(camera):
    return np.array([camera.fx, camera.fy, camera.cx, camera.cy, *camera.distortion[:4]])


def sightings(camera, views, rng, noise):
    """What a perfect detector with noise would see of the board."""
    found = []
    for index, pose in enumerate(views):
        pixels = camera.project(BOARD.corners @ pose[:3, :3].T + pose[:3, 3])
        inside = np.all((pixels > 3.0) & (pixels < np.array([camera.width, camera.height]) - 4.0), axis=1)
        pixels = pixels[inside] + noise * rng.standard_normal((inside.sum(), 2))
        found.append((f"view{index}", Sighting(indices=np.flatnonzero(inside), pixels=pixels)))
    return found


def test_rendered_boards_give_the_camera_back(webcam, board_views, tmp_path):
    rng = np.random.default_rng(0)
    seen = []
    for index, pose in enumerate(board_views(webcam, BOARD, 12, rng)):
        sighting = find_board(BOARD, render(webcam, [board_plate(BOARD, pose)], rng))
        assert sighting is not None
        truth = webcam.project(BOARD.corners[sighting.indices] @ pose[:3, :3].T + pose[:3, 3])
        assert np.sqrt(((sighting.pixels - truth) ** 2).mean()) < 0.2
        seen.append((f"view{index}", sighting))
    found = intrinsics.calibrate(BOARD, seen, (480, 640), name="webcam")
    assert intrinsics.shortcomings(found) == []
    assert found.rms < 0.2
    assert found.camera.fx == pytest.approx(webcam.fx, rel=0.004)
    assert found.camera.fy == pytest.approx(webcam.fy, rel=0.004)
    assert (found.camera.cx, found.camera.cy) == pytest.approx((webcam.cx, webcam.cy), abs=2.0)
    np.testing.assert_allclose(found.camera.distortion, webcam.distortion, atol=0.01)
    write_camera_model(tmp_path / "camera.yaml", found.camera)
    assert read_camera_model(tmp_path / "camera.yaml") == found.camera


def test_stated_deviations_are_those_of_the_errors(webcam, board_views):
    """Over 30 calibrations, each parameter's normalized error has mean square near 1, and none is biased."""
    rng = np.random.default_rng(1)
    normalized = []
    for _ in range(30):
        views = board_views(webcam, BOARD, 12, rng)
        found = intrinsics.calibrate(BOARD, sightings(webcam, views, rng, 0.2), (480, 640))
        deviations = np.array([found.deviations[name] for name in NAMES])
        normalized.append((values_of(found.camera) - values_of(webcam)) / deviations)
        assert found.rms == pytest.approx(0.2 * np.sqrt(2.0), rel=0.1)
    normalized = np.array(normalized)
    assert np.all(np.abs(normalized.mean(axis=0)) < 4.0 / np.sqrt(30))
    # 99.9 % of chi-square with 30 degrees of freedom over 30: 0.39 to 2.0.
    square = (normalized**2).mean(axis=0)
    assert np.all((square > 0.39) & (square < 2.0))


def test_a_picture_that_does_not_fit_is_left_out(webcam, board_views):
    rng = np.random.default_rng(2)
    seen = sightings(webcam, board_views(webcam, BOARD, 14, rng), rng, 0.1)
    name, sighting = seen[5]
    seen[5] = (
        name,
        dataclasses.replace(sighting, pixels=sighting.pixels + rng.normal(0.0, 4.0, sighting.pixels.shape)),
    )
    found = intrinsics.calibrate(BOARD, seen, (480, 640))
    assert found.dropped == ("view5",)
    assert found.camera.fx == pytest.approx(webcam.fx, rel=0.003)


def test_one_sided_data_are_not_good_enough(webcam, board_views):
    rng = np.random.default_rng(3)

    def reasons(views):
        return intrinsics.shortcomings(intrinsics.calibrate(BOARD, sightings(webcam, views, rng, 0.1), (480, 640)))

    flat = reasons(board_views(webcam, BOARD, 14, rng, tilt=0.03))
    assert any("tilted by more than 15° in 0 pictures" in reason for reason in flat)
    assert "fewer than 10" in reasons(board_views(webcam, BOARD, 6, rng))[0]
    far = [pose @ np.eye(4) for pose in board_views(webcam, BOARD, 14, rng, distance=(1.1, 1.2))]
    for pose in far:
        pose[:2, 3] = 0.15 * pose[:2, 3] - [0.13, 0.09]
    assert any("of the picture, less than 60 %" in reason for reason in reasons(far))
    one_way = []
    for pose in board_views(webcam, BOARD, 14, rng, tilt=0.0):
        turn = poses.from_vectors([rng.choice([-0.5, 0.5]), 0.0, 0.0], np.zeros(3))
        one_way.append(pose @ turn)
    assert any("about its weaker axis" in reason for reason in reasons(one_way))
    with pytest.raises(ValueError, match="found in 2 pictures"):
        intrinsics.calibrate(BOARD, sightings(webcam, one_way[:2], rng, 0.1), (480, 640))


def test_the_middle_of_a_board_is_located_with_its_covariance(webcam, board_views):
    rng = np.random.default_rng(4)
    middle = np.eye(4)
    middle[:2, 3] = 0.5 * np.array(BOARD.size)
    squares = []
    for pose in board_views(webcam, BOARD, 40, rng):
        ((_, sighting),) = sightings(webcam, [pose], rng, 0.2)
        located = intrinsics.locate_board(BOARD, sighting, webcam)
        assert located is not None
        change = poses.change_between(pose @ middle, located[0])
        assert np.linalg.norm(change[:3]) < 0.003
        squares.append(change @ np.linalg.solve(located[1], change))
    assert 4.0 < np.mean(squares) < 9.0
    line = Sighting(indices=np.arange(8), pixels=sighting.pixels[:8])
    assert intrinsics.locate_board(BOARD, line, webcam) is None
