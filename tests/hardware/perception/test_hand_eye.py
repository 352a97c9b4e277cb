"""Hand-eye calibration: the truth comes back, bad samples are found, the stated uncertainty is that of the errors."""

import dataclasses
import math

import numpy as np
import pytest
from scipy.stats import f

cv2 = pytest.importorskip("cv2")

from hardware.perception import hand_eye, poses  # noqa: E402
from hardware.perception.hand_eye import Sample  # noqa: E402

CAMERA = poses.from_vectors([0.1, -0.2, 1.5], [0.05, -0.03, 0.08])
BOARD = poses.from_vectors([3.0, 0.1, 0.4], [0.5, 0.1, 0.02])
NOISE = (0.0005, math.radians(0.05))


def samples_of(arm_views, rng, count=20, mounting="eye-in-hand", noise=NOISE, turn=0.6):
    found = []
    for index, (tool, board) in enumerate(arm_views(CAMERA, BOARD, count, rng, mounting, turn)):
        error = rng.standard_normal(6) * np.repeat(noise, 3)
        found.append(Sample(name=f"view{index}", tool=tool, board=poses.changed(board, error)))
    return found


def off(found, truth=CAMERA):
    change = poses.change_between(truth, found)
    return 1e3 * np.linalg.norm(change[:3]), math.degrees(np.linalg.norm(change[3:]))


@pytest.mark.parametrize("mounting", ["eye-in-hand", "eye-to-hand"])
def test_the_camera_is_found_within_a_millimetre_and_a_tenth_of_a_degree(arm_views, mounting):
    rng = np.random.default_rng(0)
    found = hand_eye.calibrate(samples_of(arm_views, rng, mounting=mounting), mounting, rng)
    mm, degrees = off(found.camera)
    assert mm < 1.0 and degrees < 0.1
    assert max(off(found.board, BOARD)[0], off(found.board, BOARD)[1] * 10.0) < 1.5
    assert hand_eye.shortcomings(found) == []
    assert set(found.methods) >= {"Tsai", "Park", "Horaud", "Daniilidis", "Shah", "Li"}
    assert all(off(x)[0] < 5.0 and off(x)[1] < 0.5 for x, _, _ in found.methods.values())
    # Nothing that was seen fits better than what minimizes just that, and what was not seen fits worse.
    assert found.residual[0] <= min(m for _, m, _ in found.methods.values()) * 1.02
    assert np.all(found.held_out[found.kept].mean(axis=0) > found.residuals[found.kept].mean(axis=0))


def test_without_noise_it_is_exact(arm_views):
    rng = np.random.default_rng(1)
    found = hand_eye.calibrate(samples_of(arm_views, rng, noise=(0.0, 0.0)), "eye-in-hand", rng)
    np.testing.assert_allclose(found.camera, CAMERA, atol=1e-8)
    assert found.residual[0] < 1e-8


def test_bad_samples_are_rejected_and_nothing_else(arm_views):
    rng = np.random.default_rng(2)
    samples = samples_of(arm_views, rng, count=24)
    spoilt = (3, 9, 10, 17, 20)
    for index in spoilt:
        step = rng.uniform(-1.0, 1.0, 6) * [0.05, 0.05, 0.05, 0.3, 0.3, 0.3]
        samples[index] = dataclasses.replace(samples[index], tool=poses.changed(samples[index].tool, step))
    found = hand_eye.calibrate(samples, "eye-in-hand", rng)
    assert set(np.flatnonzero(~found.kept)) >= set(spoilt)
    assert (~found.kept).sum() <= len(spoilt) + 1
    mm, degrees = off(found.camera)
    assert mm < 1.0 and degrees < 0.1


def test_the_stated_uncertainty_is_that_of_the_errors(arm_views):
    """Normalized squared errors of 30 calibrations are distributed as Hotelling's T² of 20 samples says."""
    rng = np.random.default_rng(3)
    squares = []
    for _ in range(30):
        found = hand_eye.calibrate(samples_of(arm_views, rng, count=20), "eye-in-hand", rng, threshold=6.0)
        change = poses.change_between(CAMERA, found.camera)
        squares.append(change @ np.linalg.solve(found.covariance, change))
    # 19 degrees of freedom, 6 dimensions: T² is 6 · 19 / 14 · F(6, 14).
    shares = f.cdf(np.array(squares) * 14.0 / (6.0 * 19.0), 6, 14)
    # Shares of a right distribution are uniform; the bounds of the median of 30 are those of 99.9 %.
    assert 0.22 < np.median(shares) < 0.78
    assert (shares > 0.99).sum() <= 4 and (shares < 0.01).sum() <= 4


def turned(rng, count, second):
    """Samples whose tool turns about one axis, and by `second` rad about another."""
    samples = []
    for index in range(count):
        turn = [0.0, rng.uniform(-second, second), rng.uniform(-0.7, 0.7)]
        tool = poses.from_vectors(turn, rng.uniform(-0.1, 0.1, 3))
        board = poses.changed(poses.inverse(tool @ CAMERA) @ BOARD, rng.standard_normal(6) * np.repeat(NOISE, 3))
        samples.append(Sample(name=str(index), tool=tool, board=board))
    return samples


def test_turns_about_one_axis_and_too_few_samples_are_not_good_enough(arm_views):
    rng = np.random.default_rng(4)
    with pytest.raises(ValueError, match="about a second axis, less than"):
        hand_eye.calibrate(turned(rng, 15, 0.0), "eye-in-hand", rng)
    reasons = hand_eye.shortcomings(hand_eye.calibrate(turned(rng, 15, 0.1), "eye-in-hand", rng))
    assert any("about a second axis" in reason for reason in reasons)
    few = hand_eye.calibrate(samples_of(arm_views, rng, count=6), "eye-in-hand", rng)
    assert "6 samples are left, fewer than 8" in hand_eye.shortcomings(few)[0]
    with pytest.raises(ValueError, match="there are 3 samples"):
        hand_eye.calibrate(samples_of(arm_views, rng, count=3), "eye-in-hand", rng)


def test_wrong_pairs_are_not_good_enough(arm_views):
    rng = np.random.default_rng(5)
    samples = samples_of(arm_views, rng, count=16)
    boards = [sample.board for sample in samples]
    mixed = [dataclasses.replace(s, board=boards[index - 1]) for index, s in enumerate(samples)]
    assert hand_eye.shortcomings(hand_eye.calibrate(mixed, "eye-in-hand", rng))
    with_the_wrong_mounting = hand_eye.calibrate(samples, "eye-to-hand", rng)
    assert hand_eye.shortcomings(with_the_wrong_mounting)
