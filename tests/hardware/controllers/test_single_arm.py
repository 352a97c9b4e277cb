"""The quick path of one arm gives the torques of the batch, whatever it is told."""

import numpy as np
import pytest

from hardware.controllers.arm import ArmController
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
