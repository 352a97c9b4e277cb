"""Commands on robots that take joint positions only, and holding without a jump on those that take torques."""

import dataclasses

import numpy as np
import pytest

from hardware.controllers.arm_config import ArmControllerConfig
from hardware.descriptions import load_arm
from hardware.drivers.driver import ArmSample, Capabilities, DriverError
from hardware.kinematics import forward_kinematics
from hardware.safety.arm import blended
from hardware.safety.arm_envelope import ArmEnvelope, joint_envelope
from hardware.safety.arm_filter import ArmFilter
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


@pytest.mark.parametrize(("rate", "lag"), [(100.0, 0.0), (100.0, 0.08), (500.0, 0.08)])
@pytest.mark.parametrize("name", ["panda", "ur5e", "xarm7"])
def test_a_constant_twist_moves_the_tool_as_fast_as_it_says_and_the_filter_has_nothing_to_do(name, rate, lag):
    description, dt = load_arm(name), 1.0 / rate
    output, last = PositionOutput(description, ArmControllerConfig()), ArmFilter(description, rate_hz=rate)
    q = description.home.copy()
    last.reset(sample(q))
    output.hold(sample(q), forward_kinematics(description, q))
    tools = []
    for tick in range(round(3.1 * rate) + 1):
        measured, kinematics = sample(q), forward_kinematics(description, q)
        tools.append(kinematics.tool_position)
        if tick % round(0.1 * rate) == 0:
            twist = CartesianTwist(values=np.array([0.03, 0.04, 0, 0, 0, 0]), frame="base", gripper=1.0)
            output.follow(blended(twist, min(1.0, tick * dt / 0.5), q), measured, kinematics, 0.1)
        sent = last.apply(output.step(measured, kinematics, dt), measured, 0.0)
        q = q + (sent.command.values - q) * (min(1.0, dt / lag) if lag else 1.0)  # a robot that follows late
    moved = tools[round(3.1 * rate)] - tools[round(0.6 * rate)]
    assert np.linalg.norm(moved) == pytest.approx(0.125, rel=0.05)
    assert moved == pytest.approx([0.075, 0.1, 0.0], abs=0.004)
    assert not any(last.interventions.values()), last.explain


@pytest.mark.parametrize("rate", [100.0, 500.0])
@pytest.mark.parametrize("name", ["panda", "ur5e", "xarm7"])
def test_large_steps_and_sudden_holds_stay_within_velocity_acceleration_and_jerk(name, rate):
    description, dt = load_arm(name), 1.0 / rate
    limits = joint_envelope(description, ArmEnvelope())
    output, last = PositionOutput(description, ArmControllerConfig()), ArmFilter(description, rate_hz=rate)
    q = description.home.copy()
    last.reset(sample(q))
    output.hold(sample(q), forward_kinematics(description, q))
    fast = CartesianTwist(values=np.array([0.0, 1.0, 0.5, 0, 0, 2.0]), frame="base", gripper=1.0)
    sent = [q, q, q]
    for tick in range(round(2.0 * rate)):
        measured, kinematics = sample(q), forward_kinematics(description, q)
        if tick == 0:
            output.follow(JointPositions(values=q + 0.4, gripper=1.0), measured, kinematics, 0.1)
        elif tick in (round(0.5 * rate), round(0.6 * rate), round(0.7 * rate)):
            output.follow(fast, measured, kinematics, 0.1)
        elif tick == round(0.75 * rate):
            output.hold(measured, kinematics)
        q = last.apply(output.step(measured, kinematics, dt), measured, 0.0).command.values
        sent.append(q)
    velocity = np.diff(sent, axis=0) / dt
    acceleration = np.diff(velocity, axis=0) / dt
    assert (np.abs(velocity) <= limits.velocity * (1 + 1e-5)).all()
    assert (np.abs(acceleration) <= limits.acceleration * (1 + 1e-5)).all()
    assert (np.abs(np.diff(acceleration, axis=0)) / dt <= limits.jerk * (1 + 1e-5)).all()
    assert np.abs(velocity).max() > 0.3
    assert np.abs(velocity[-1]).max() < 1e-6  # it holds
    assert not any(last.interventions.values()), last.explain


def test_a_position_robot_that_is_blocked_is_not_left_behind():
    output, q, dt = PositionOutput(UR5E, ArmControllerConfig()), UR5E.home.copy(), 0.01
    kinematics = forward_kinematics(UR5E, q)
    output.hold(sample(q), kinematics)
    for tick in range(1000):
        if tick % 10 == 0:
            twist = CartesianTwist(values=np.array([0, 0.2, 0, 0, 0, 0]), frame="base", gripper=1.0)
            output.follow(twist, sample(q), kinematics, 0.1)
        ahead = output.step(sample(q), kinematics, dt).values - q
    assert 0.05 < np.abs(ahead).max() < 0.4


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
