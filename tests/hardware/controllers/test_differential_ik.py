"""Differential inverse kinematics: exactness, limits, singularities; poses solved from home."""

import numpy as np
import pytest
import torch

from hardware.controllers.differential_ik import DifferentialIkConfig, differential_ik, solve_pose
from hardware.controllers.joint_position import joint_limits
from hardware.kinematics import forward_kinematics

DT = 0.01


def tool_pose(kinematics):
    return np.concatenate([kinematics.tool_position, kinematics.tool_orientation], axis=-1)


def test_the_tool_moves_exactly_as_asked_where_nothing_stands_in_its_way(panda, postures):
    q = postures(100, spread=0.3)
    twist = np.random.default_rng(0).normal(size=(100, 6)) * 0.05
    kinematics = forward_kinematics(panda, q)
    qd = differential_ik(kinematics, q, twist, joint_limits(panda), DT, posture=panda.home)
    np.testing.assert_allclose((kinematics.jacobian @ qd[..., None])[..., 0], twist, atol=1e-9)


def test_the_nullspace_goes_to_the_posture_while_the_tool_rests(panda):
    q = panda.home + np.array([0.3, 0.1, -0.3, 0.1, 0.2, 0.0, 0.1])
    start = forward_kinematics(panda, q)
    distance = np.linalg.norm(panda.home - q)
    for _ in range(300):
        kinematics = forward_kinematics(panda, q)
        q = q + DT * differential_ik(kinematics, q, np.zeros(6), joint_limits(panda), DT, posture=panda.home)
    np.testing.assert_allclose(forward_kinematics(panda, q).tool_position, start.tool_position, atol=2e-3)
    assert np.linalg.norm(panda.home - q) < 0.9 * distance


def test_velocity_limits_slow_the_tool_without_turning_it_aside(panda, postures):
    q = postures(50, seed=1, spread=0.3)
    limits = joint_limits(panda)
    twist = np.random.default_rng(1).normal(size=(50, 6)) * 20.0
    kinematics = forward_kinematics(panda, q)
    # A damper that lets go: only velocities limit.
    config = DifferentialIkConfig(limit_gain=1e6)
    qd = differential_ik(kinematics, q, twist, limits, 1e-6, config=config)
    np.testing.assert_allclose(np.max(np.abs(qd) / limits.velocity, axis=-1), 1.0)
    moved = (kinematics.jacobian @ qd[..., None])[..., 0]
    cosine = np.sum(moved * twist, axis=-1) / np.linalg.norm(moved, axis=-1) / np.linalg.norm(twist, axis=-1)
    np.testing.assert_allclose(cosine, 1.0)


def test_position_limits_are_never_crossed_on_the_way_to_anywhere(panda):
    rng = np.random.default_rng(2)
    limits = joint_limits(panda)
    q = np.broadcast_to(panda.home, (40, 7))
    twist = rng.normal(size=(40, 6)) * [0.5, 0.5, 0.5, 1.0, 1.0, 1.0]
    for _ in range(400):
        qd = differential_ik(forward_kinematics(panda, q), q, twist, limits, DT, posture=panda.home)
        assert np.all(np.isfinite(qd))
        assert np.all(np.abs(qd) <= limits.velocity * (1.0 + 1e-12))
        q = q + DT * qd
        assert np.all(q >= limits.lower - 1e-12)
        assert np.all(q <= limits.upper + 1e-12)


def test_the_other_joints_take_over_from_one_at_its_limit(panda):
    limits = joint_limits(panda)
    q = panda.home.copy()
    twist = np.array([0.0, 0.05, 0.0, 0.0, 0.0, 0.0])
    kinematics = forward_kinematics(panda, q)
    free = differential_ik(kinematics, q, twist, limits, DT)
    joint = int(np.argmax(np.abs(free)))
    outwards = np.sign(free[joint])
    blocked = (limits.upper if outwards > 0 else limits.lower)[joint]
    q[joint] = blocked
    kinematics = forward_kinematics(panda, q)
    qd = differential_ik(kinematics, q, twist, limits, DT)
    assert outwards * qd[joint] <= 1e-12
    np.testing.assert_allclose(kinematics.jacobian @ qd, twist, atol=1e-6)


def test_velocities_stay_bounded_and_turn_smoothly_into_a_singularity(panda):
    """The arm is stretched by pulling the tool away from the base, further than it reaches."""
    limits = joint_limits(panda)
    q, before = panda.home, np.zeros(7)
    reach, change = [], []
    for _ in range(900):
        kinematics = forward_kinematics(panda, q)
        qd = differential_ik(kinematics, q, np.array([0.2, 0.0, 0.0, 0.0, 0.0, 0.0]), limits, DT, posture=panda.home)
        change.append(np.abs(qd - before).max())
        q, before = q + DT * qd, qd
        reach.append(kinematics.tool_position[0])
    assert reach[-1] > 0.75
    assert np.all(np.isfinite(q))
    assert np.abs(before).max() < 0.5
    assert max(change[1:]) < 0.5


def test_poses_around_home_are_solved_in_a_batch_as_alone(panda, postures):
    goal = tool_pose(forward_kinematics(panda, postures(200, seed=3, spread=0.5)))
    q, residual = solve_pose(panda, goal, np.broadcast_to(panda.home, (200, 7)))
    assert residual.max() < 1e-4
    reached = forward_kinematics(panda, q)
    assert np.abs(reached.tool_position - goal[:, :3]).max() < 1e-4
    assert np.abs(np.abs(np.sum(reached.tool_orientation * goal[:, 3:], axis=-1)) - 1.0).max() < 1e-8
    limits = joint_limits(panda)
    assert np.all((q >= limits.lower) & (q <= limits.upper))
    # Alone a search may end an iteration earlier: equal within what the tolerance leaves.
    np.testing.assert_allclose(solve_pose(panda, goal[7], panda.home)[0], q[7], atol=1e-4)


def test_far_poses_are_mostly_solved_and_restarts_help(panda, postures):
    goal = tool_pose(forward_kinematics(panda, postures(150, seed=4, spread=1.0)))
    solved = [
        np.mean(solve_pose(panda, goal, panda.home, restart_after=after)[1].max(axis=-1) < 1e-4) for after in (20, 100)
    ]
    assert solved[0] >= 0.98
    assert solved[0] > solved[1]


def test_an_unreachable_pose_shows_in_the_residual(panda):
    goal = tool_pose(forward_kinematics(panda, panda.home))
    goal[0] = 1.5
    q, residual = solve_pose(panda, goal, panda.home)
    assert residual[0] > 0.3
    assert np.all(np.isfinite(q))


def test_numpy_equals_torch(panda, postures):
    q = postures(20, seed=5)
    twist = np.random.default_rng(5).normal(size=(20, 6))
    limits = joint_limits(panda)
    ours = differential_ik(forward_kinematics(panda, q), q, twist, limits, DT, posture=panda.home)
    tensor = torch.from_numpy(q)
    theirs = differential_ik(
        forward_kinematics(panda, tensor), tensor, torch.from_numpy(twist), limits, DT, torch.from_numpy(panda.home)
    )
    np.testing.assert_allclose(theirs.numpy(), ours, atol=1e-9)
    goal = tool_pose(forward_kinematics(panda, q))
    solved, residual = solve_pose(panda, torch.from_numpy(goal), torch.from_numpy(panda.home))
    assert tuple(solved.shape) == (20, 7)
    assert residual.max() < 1e-4


@pytest.mark.parametrize("row", [0, 1])
def test_a_row_that_is_no_number_leaves_the_other_alone(panda, row):
    goal = np.broadcast_to(tool_pose(forward_kinematics(panda, panda.home + 0.1)), (2, 7)).copy()
    goal[row] = np.nan
    _, residual = solve_pose(panda, goal, panda.home, iterations=30)
    assert residual[1 - row].max() < 1e-5
    assert not residual[row].max() < 1e9
