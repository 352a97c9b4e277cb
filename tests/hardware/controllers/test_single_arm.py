"""The quick path of one arm gives the torques of the batch, whatever it is told."""

import numpy as np
import pytest

from hardware.controllers.arm import ArmController
from hardware.controllers.arm_config import ArmControllerConfig
from hardware.controllers.single_arm import solve_spd
from hardware.descriptions import load_arm
from hardware.kinematics import forward_kinematics
from policies.types import CartesianTwist, JointPositions


@pytest.mark.parametrize("robot", ["panda", "ur5e"])
def test_one_arm_and_a_batch_agree_along_commands_of_every_kind(robot):
    description = load_arm(robot)
    rng = np.random.default_rng(0)
    n = description.num_joints
    q = description.home + 0.1 * rng.normal(size=n)
    one, many = ArmController(description, None, (1,)), ArmController(description, None, (3,))
    for controller, count in ((one, 1), (many, 3)):
        joints = np.tile(q, (count, 1))
        controller.reset(forward_kinematics(description, joints), joints)
    for period in range(8):
        values = rng.normal(size=6) * [0.2, 0.2, 0.2, 1.0, 1.0, 1.0]
        values[rng.integers(6)] = 0.0
        targets = q + 0.1 * rng.normal(size=n)
        if period == 5:
            for controller in (one, many):
                controller.use("precise")
                controller.scale_gains(0.8, 1.2)
        for controller, count in ((one, 1), (many, 3)):
            joints = np.tile(q, (count, 1))
            open_ = np.ones(count)
            command = (
                JointPositions(np.tile(targets, (count, 1)), open_)
                if period == 3
                else CartesianTwist(np.tile(values, (count, 1)), "tool" if period == 2 else "base", open_)
            )
            controller.command(command, forward_kinematics(description, joints), joints, 0.1)
        for _ in range(60):
            q = q + 0.003 * rng.normal(size=n)
            qd = 0.3 * rng.normal(size=n)
            torques = [
                controller.torques(
                    forward_kinematics(description, np.tile(q, (count, 1))),
                    np.tile(q, (count, 1)),
                    np.tile(qd, (count, 1)),
                    0.002,
                )
                for controller, count in ((one, 1), (many, 3))
            ]
            np.testing.assert_allclose(torques[0][0], torques[1][0], atol=1e-10)


def test_state_goes_over_to_another_controller():
    description = load_arm("panda")
    q = description.home[None]
    kinematics = forward_kinematics(description, q)
    first, second = (ArmController(description, None, (1,)) for _ in range(2))
    for controller in (first, second):
        controller.reset(kinematics, q)
    first.command(CartesianTwist(np.full((1, 6), 0.1), "base", np.zeros(1)), kinematics, q, 0.1)
    for _ in range(20):
        first.torques(kinematics, q, 0.1 * q, 0.002)
    second.load_state(first.state())
    for _ in range(60):
        expected = first.torques(kinematics, q, 0.1 * q, 0.002)
        assert np.array_equal(second.torques(kinematics, q, 0.1 * q, 0.002), expected)


def test_one_arm_and_a_batch_agree_on_targets_bounds_grippers_and_what_is_refused():
    description = load_arm("panda")
    tool = forward_kinematics(description, description.home).tool_position
    config = ArmControllerConfig(
        workspace_lower=tuple(tool - [0.01, 1.0, 0.005]),
        workspace_upper=tuple(tool + [0.01, 0.002, 1.0]),
        slow_speed=0.05,
        slow_lower=tuple(tool - [1.0, 0.0, 1.0]),
    )
    rng = np.random.default_rng(1)
    one, many = ArmController(description, config, (1,)), ArmController(description, config, (2,))
    for controller, count in ((one, 1), (many, 2)):
        joints = np.tile(description.home, (count, 1))
        controller.reset(forward_kinematics(description, joints), joints)
    bounded = slowed = 0
    for period in range(12):
        q = description.home + 0.02 * rng.normal(size=7)
        values = rng.uniform(-0.3, 0.3, 6) * (rng.random(6) < 0.6)
        if period == 4:
            values[2] = np.nan
        gripper = (-1.0, 0.3, np.nan, 2.0)[period % 4]
        for controller, count in ((one, 1), (many, 2)):
            joints = np.tile(q, (count, 1))
            command = CartesianTwist(
                np.tile(values, (count, 1)), "tool" if period % 3 else "base", np.full(count, gripper)
            )
            refused = controller.command(command, forward_kinematics(description, joints), joints, 0.1)
            assert refused.shape == (count,)
            assert refused.all() == (period == 4)
        np.testing.assert_allclose(one.target_pose[0], many.target_pose[0], atol=1e-12)
        bounded += bool((one.target_pose[0, :3] >= config.workspace_upper).any())
        way = np.linalg.norm(one.state()["_way"])
        slowed += bool(way < 0.99 * 0.1 * np.linalg.norm(values[:3]))
        for _ in range(7):
            widths = []
            for controller, count in ((one, 1), (many, 2)):
                joints = np.tile(q, (count, 1))
                controller.torques(forward_kinematics(description, joints), joints, 0.1 * joints, 0.002)
                widths.append(controller.gripper_width(0.002))
            assert widths[0].shape == (1,)
            assert widths[0][0] == pytest.approx(widths[1][0], abs=1e-15)
        if period == 6:  # reading the state in between changes nothing
            states = one.state(), many.state()
            for name in ("_start", "_end", "_way", "_turn", "_twist", "_share", "_previous"):
                np.testing.assert_allclose(states[0][name][0], states[1][name][0], atol=1e-10, err_msg=name)
    assert bounded, "no target came to the workspace's bound: the test says nothing of it"
    assert slowed, "no target was in the slow zone: the test says nothing of it"


def test_the_written_out_solution_is_numpy_s_down_to_singular_postures():
    rng = np.random.default_rng(0)
    for size in np.geomspace(1e-4, 1.0, 40):
        jacobian = rng.normal(size=(6, 7))
        jacobian[rng.integers(6)] *= size
        matrix, right = jacobian @ jacobian.T, rng.normal(size=6)
        expected = np.linalg.solve(matrix + 2.5e-5 * np.eye(6), right)
        solved = solve_spd(matrix.tolist(), 2.5e-5, right.tolist())
        np.testing.assert_allclose(solved, expected, rtol=1e-8, atol=1e-9 * np.abs(expected).max())
