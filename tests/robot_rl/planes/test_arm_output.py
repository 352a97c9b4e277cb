"""Commands on robots that take joint positions only, and holding without a jump on those that take torques."""

import dataclasses

import numpy as np
import pytest

from hardware.controllers.arm import ArmControllerConfig
from hardware.descriptions import load_arm
from hardware.drivers.driver import ArmSample, Capabilities, DriverError
from hardware.kinematics import forward_kinematics
from policies.types import CartesianTwist, JointPositions, JointTorques
from robot_rl.planes.arm_output import PositionOutput, TorqueOutput, make_output

UR5E, PANDA = load_arm("ur5e"), load_arm("panda")


def sample(q, qd=None):
    still = np.zeros_like(q) if qd is None else qd
    return ArmSample(stamp=0.0, joint_positions=q, joint_velocities=still, gripper_width=0.04)


def capabilities(*commands):
    return Capabilities(
        name="some",
        kind="arm",
        actuators=UR5E.interface.actuators,
        commands=commands,
        signals=(),
        rate_hz=500.0,
        realtime=True,
        simulated=False,
        watchdog_s=0.02,
    )


def test_the_output_is_what_the_driver_takes():
    config = ArmControllerConfig()
    assert isinstance(make_output(UR5E, capabilities("JointPositions", "JointTorques"), config), TorqueOutput)
    assert isinstance(make_output(UR5E, capabilities("JointPositions"), config), PositionOutput)
    with pytest.raises(DriverError, match="takes CartesianTwist; the control process gives"):
        make_output(UR5E, capabilities("CartesianTwist"), config)


def test_a_twist_moves_a_position_robot_by_twist_times_period_without_jumps():
    output, q, dt = PositionOutput(UR5E, ArmControllerConfig()), UR5E.home.copy(), 0.002
    kinematics = forward_kinematics(UR5E, q)
    output.hold(sample(q), kinematics)
    assert output.step(sample(q), kinematics, dt).values == pytest.approx(q, abs=1e-9)
    begin, sent = kinematics.tool_position.copy(), []
    for tick in range(500):  # a robot that follows at once
        kinematics = forward_kinematics(UR5E, q)
        if tick % 50 == 0:
            twist = CartesianTwist(values=np.array([0, 0.1, 0.05, 0, 0, 0]), frame="base", gripper=1.0)
            output.follow(twist, sample(q), kinematics, 0.1)
        q = output.step(sample(q), kinematics, dt).values
        sent.append(q)
    moved = forward_kinematics(UR5E, q).tool_position - begin
    assert moved == pytest.approx([0.0, 0.1, 0.05], abs=0.01)
    assert np.abs(np.diff(sent, axis=0)).max() / dt < 1.0
    end = output.target_pose[:3].copy()
    for _ in range(200):
        q = output.step(sample(q), forward_kinematics(UR5E, q), dt).values
    assert forward_kinematics(UR5E, q).tool_position == pytest.approx(end, abs=1e-3)


def test_joint_targets_of_a_position_robot_are_reached_within_the_limits():
    output, q, dt = PositionOutput(UR5E, ArmControllerConfig()), UR5E.home.copy(), 0.002
    kinematics = forward_kinematics(UR5E, q)
    output.hold(sample(q), kinematics)
    goal = q + 0.2
    output.follow(JointPositions(values=goal, gripper=1.0), sample(q), kinematics, 0.1)
    path = [output.step(sample(q), kinematics, dt).values for _ in range(1500)]
    assert path[-1] == pytest.approx(goal, abs=1e-3)
    limits = np.array([high for _, high in UR5E.interface.limits["acceleration"]])
    assert (np.abs(np.diff(path, n=2, axis=0)) / dt**2 <= 1.001 * limits).all()
    with pytest.raises(TypeError, match="joint torques for a robot"):
        output.follow(JointTorques(values=np.zeros(6), gripper=1.0), sample(q), kinematics, 0.1)


def test_holding_goes_on_from_the_torques_of_before_and_keeps_the_grip():
    output, q = TorqueOutput(PANDA, ArmControllerConfig()), PANDA.home.copy()
    kinematics = forward_kinematics(PANDA, q)
    output.hold(sample(q), kinematics)
    closing = CartesianTwist(values=np.array([0.3, 0, 0, 0, 0, 0]), frame="base", gripper=-1.0)
    output.follow(closing, sample(q), kinematics, 0.1)
    for _ in range(200):
        before = output.step(sample(q), kinematics, 0.002)
    assert before.gripper == pytest.approx(-1.0)
    moved = dataclasses.replace(sample(q), gripper_width=0.03)  # an object between the fingers
    output.hold(moved, kinematics)
    after = output.step(moved, kinematics, 0.002)
    rate = np.array([high for _, high in PANDA.interface.limits["torque_rate"]])
    assert (np.abs(after.values - before.values) <= 0.002 * rate + 1e-9).all()
    assert np.abs(before.values).max() > 5.0  # it would have been a jump
    assert after.gripper == pytest.approx(-1.0)
