"""Poses, small changes of them and their covariance."""

import numpy as np
from scipy.spatial.transform import Rotation

from hardware.perception import poses
from hardware.perception.pose_buffer import PoseBuffer

RNG = np.random.default_rng(0)


def random_pose():
    return poses.from_vectors(RNG.uniform(-2.0, 2.0, 3), RNG.uniform(-1.0, 1.0, 3))


def test_quaternions_agree_with_scipy_also_at_half_turns():
    turns = [Rotation.random(rng=RNG) for _ in range(50)]
    turns += [Rotation.from_rotvec(np.pi * np.eye(3)[i]) for i in range(3)] + [Rotation.identity()]
    matrices = np.stack([turn.as_matrix() for turn in turns])
    found = poses.quaternions_of(matrices)
    for turn, (w, x, y, z) in zip(turns, found, strict=True):
        assert (Rotation.from_quat([x, y, z, w]) * turn.inv()).magnitude() < 1e-7
    assert np.all(found[:, 0] >= 0.0)


def test_poses_and_matrices_are_inverses_of_each_other():
    matrix = random_pose()
    np.testing.assert_allclose(poses.to_matrix(poses.to_pose(matrix)), matrix, atol=1e-12)
    np.testing.assert_allclose(poses.inverse(matrix) @ matrix, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(poses.inverse(matrix), np.linalg.inv(matrix), atol=1e-12)


def test_changes_are_undone_by_their_difference():
    begin, end = random_pose(), random_pose()
    np.testing.assert_allclose(poses.changed(begin, poses.change_between(begin, end)), end, atol=1e-9)


def test_covariances_compose_as_samples_do():
    first, second = random_pose(), random_pose()
    draws = 1500

    def spread(scale):
        factor = scale * RNG.standard_normal((6, 6))
        return factor @ factor.T

    one, two = spread(1e-3), spread(2e-3)
    steps = [
        poses.change_between(first @ second, poses.changed(first, x) @ poses.changed(second, y))
        for x, y in zip(
            RNG.multivariate_normal(np.zeros(6), one, draws),
            RNG.multivariate_normal(np.zeros(6), two, draws),
            strict=True,
        )
    ]
    expected, found = poses.composed_covariance(first, second, one, two), np.cov(np.array(steps).T)
    scale = np.sqrt(np.diag(expected))
    assert np.abs((found - expected) / np.outer(scale, scale)).max() < 0.15


def test_the_buffer_interpolates_and_refuses_what_is_far():
    buffer = PoseBuffer(gap=0.02)
    begin, end = random_pose(), random_pose()
    assert buffer.at(1.0) is None
    assert buffer.add(1.0, begin) == ""
    assert buffer.add(1.05, end) == ""
    half = buffer.at(1.025)
    np.testing.assert_allclose(poses.change_between(begin, half), 0.5 * poses.change_between(begin, end), atol=1e-9)
    np.testing.assert_array_equal(buffer.at(1.06), end)
    assert buffer.at(1.08) is None and buffer.at(0.97) is None
    assert buffer.add(3.0, begin) == ""
    assert buffer.at(2.0) is None  # there is one on either side, but far
    assert "does not advance" in buffer.add(2.9, end)
    assert "not finite" in buffer.add(4.0, np.full((4, 4), np.nan))
    assert buffer.add(0.5, end) == ""  # the clock was set back
    np.testing.assert_array_equal(buffer.at(0.5), end)
