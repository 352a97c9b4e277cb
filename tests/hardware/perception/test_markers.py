"""Markers: found where they are, with a covariance that is right, and never sure of one of two poses that are alike."""

import math

import numpy as np
import pytest
from scipy.stats import chi2

cv2 = pytest.importorskip("cv2")

from hardware.perception import poses  # noqa: E402
from hardware.perception.edges import refine_corners  # noqa: E402
from hardware.perception.markers import find_markers, locate_marker, marker_corners  # noqa: E402
from hardware.perception.rendering import marker_plate, render  # noqa: E402

SIDE = 0.05
FAMILIES = ("4x4_50", "apriltag_36h11")


def shown(camera, matrix):
    return camera.project(marker_corners(SIDE) @ matrix[:3, :3].T + matrix[:3, 3])


def test_rendered_markers_are_located(webcam, marker_at):
    rng = np.random.default_rng(1)
    away, squares = [], []
    for index in range(12):
        truth = marker_at(webcam, rng.uniform([90, 90], [550, 390]), rng.uniform(0.2, 0.6), rng.uniform(-0.8, 0.8, 3))
        family = FAMILIES[index % 2]
        image = render(webcam, [marker_plate(family, 3 + index, SIDE, truth)], rng, blur=0.7)
        (seen,) = find_markers(image, family, webcam)
        assert seen.number == 3 + index
        away.append(seen.corners - shown(webcam, truth))
        found = locate_marker(seen.corners, SIDE, webcam, noise=0.1)
        change = poses.change_between(truth, found.matrix)
        squares.append(change @ np.linalg.solve(found.covariance, change))
        assert np.linalg.norm(change[:3]) < 0.002
        assert math.degrees(np.linalg.norm(change[3:])) < 1.5
    assert np.abs(np.concatenate(away)).mean() < 0.05
    # 0.1 pixel of noise is more than these pictures have: the covariance must not be too small.
    assert np.mean(squares) < 6.0


def test_corners_have_no_bias_where_opencvs_refinement_has_one(webcam, marker_at):
    rng = np.random.default_rng(2)
    parameters = cv2.aruco.DetectorParameters()
    parameters.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_SUBPIX
    dictionary = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_4X4_50)
    detector = cv2.aruco.ArucoDetector(dictionary, parameters)
    theirs, ours = [], []
    for _ in range(8):
        truth = marker_at(
            webcam, rng.uniform([150, 150], [490, 330]), rng.uniform(0.25, 0.5), rng.uniform(-0.6, 0.6, 3)
        )
        image = render(webcam, [marker_plate("4x4_50", 7, SIDE, truth)], rng, blur=0.7)
        given = np.asarray(detector.detectMarkers(image)[0][0], float).reshape(4, 2)
        corners = shown(webcam, truth)
        outward = corners - corners.mean(axis=0)
        outward /= np.linalg.norm(outward, axis=1, keepdims=True)
        theirs.append(((given - corners) * outward).sum(axis=1))
        ours.append(((refine_corners(image, given, webcam) - corners) * outward).sum(axis=1))
    assert np.mean(theirs) < -0.15
    assert abs(np.mean(ours)) < 0.03
    assert np.std(ours) < 0.06


def test_the_covariance_is_that_of_the_errors(webcam, marker_at):
    """Mean normalized squared error over 300 draws within the 99.8 % bounds of chi-square, whole and by direction."""
    rng = np.random.default_rng(3)
    noise, draws = 0.2, 300
    squares, parts = [], []
    for index in range(draws):
        tilt = rng.uniform(0.4, 0.9) * np.array([math.cos(index), math.sin(index), 0.0])
        truth = marker_at(webcam, rng.uniform([120, 120], [520, 360]), rng.uniform(0.15, 0.3), tilt)
        found = locate_marker(shown(webcam, truth) + noise * rng.standard_normal((4, 2)), SIDE, webcam, noise)
        change = poses.change_between(truth, found.matrix)
        squares.append(change @ np.linalg.solve(found.covariance, change))
        parts.append(change**2 / np.diag(found.covariance))
    low, high = chi2.ppf([0.001, 0.999], 6 * draws) / draws
    assert low < np.mean(squares) < high
    low, high = chi2.ppf([0.0005, 0.9995], draws) / draws
    assert np.all((low < np.mean(parts, axis=0)) & (np.mean(parts, axis=0) < high))


def test_of_two_poses_that_look_alike_neither_is_taken_for_sure(webcam, marker_at):
    """Far away the tilt's sign is a guess: whenever it is wrong, it was flagged, and its probability is honest."""
    rng = np.random.default_rng(4)
    noise, wrong, flagged, expected = 0.3, 0, 0, 0.0
    squares = []
    draws = 300
    for index in range(draws):
        tilt = 0.35 * np.array([math.cos(index), math.sin(index), 0.0])
        truth = marker_at(webcam, [400.0, 200.0], 1.2, tilt)
        found = locate_marker(shown(webcam, truth) + noise * rng.standard_normal((4, 2)), SIDE, webcam, noise)
        change = poses.change_between(truth, found.matrix)
        other = math.inf if found.twin is None else np.linalg.norm(poses.change_between(truth, found.twin)[3:])
        is_wrong = np.linalg.norm(change[3:]) > other
        wrong += is_wrong
        flagged += found.is_ambiguous()
        expected += found.twin_probability
        if is_wrong and found.twin_angle > math.radians(5.0):
            assert found.is_ambiguous()
        squares.append(change[3:] @ np.linalg.solve(found.whole_covariance[3:, 3:], change[3:]))
    assert wrong > 0.1 * draws  # the case is hard indeed
    assert flagged > 0.8 * draws
    assert expected == pytest.approx(wrong, abs=4.0 * math.sqrt(0.25 * draws))
    # Not Gaussian, but no error is beyond what the covariance allows for.
    assert np.mean(np.array(squares) < chi2.ppf(0.999, 3)) > 0.95


def test_near_and_tilted_there_is_no_doubt(webcam, marker_at):
    truth = marker_at(webcam, [330.0, 250.0], 0.2, [0.6, 0.2, 0.1])
    found = locate_marker(shown(webcam, truth), SIDE, webcam)
    assert not found.is_ambiguous()
    assert found.twin_probability < 1e-6
    np.testing.assert_allclose(found.matrix, truth, atol=1e-6)
    assert found.residual < 1e-5


def test_pictures_without_markers_have_none(webcam):
    rng = np.random.default_rng(5)
    assert find_markers(rng.integers(0, 256, (480, 640), dtype=np.uint8), "apriltag_36h11", webcam) == []
    assert find_markers(np.zeros((480, 640, 3), np.uint8), "4x4_50") == []


def test_edges_that_are_not_clear_leave_the_corners_as_they_were():
    square = np.array([[10.0, 10.0], [60.0, 10.0], [60.0, 60.0], [10.0, 60.0]])
    assert refine_corners(np.full((80, 80), 128, np.uint8), square) is square
    small = 10.0 + 0.2 * (square - 10.0)
    assert refine_corners(np.full((80, 80), 128, np.uint8), small) is small
