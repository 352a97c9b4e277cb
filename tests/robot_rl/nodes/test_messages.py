import math

import numpy as np
import pytest

pytest.importorskip("rclpy")

from nav_msgs.msg import Odometry
from sensor_msgs.msg import Imu, JointState
from std_msgs.msg import String
from trajectory_msgs.msg import MultiDOFJointTrajectory

from policies import rotation
from policies.types import MotorSpeeds, QuadrotorSetpoint, QuadrotorState
from robot_rl.nodes import messages

ROTORS = ("front_right", "back_right", "back_left", "front_left")


def random_state(seed: int) -> QuadrotorState:
    rng = np.random.default_rng(seed)
    return QuadrotorState(
        position=rng.normal(size=3),
        orientation=rotation.normalize(rng.normal(size=4)),
        linear_velocity=rng.normal(size=3),
        angular_velocity=rng.normal(size=3),
    )


@pytest.mark.parametrize("seed", range(5))
def test_odometry_keeps_the_state(seed):
    state = random_state(seed)
    back, stamp = messages.state_from_odometry(messages.odometry_from_state(state, 1234.5678))
    assert stamp == pytest.approx(1234.5678, abs=1e-9)
    for name in ("position", "orientation", "linear_velocity", "angular_velocity"):
        np.testing.assert_allclose(getattr(back, name), getattr(state, name), atol=1e-12, err_msg=name)


def test_odometry_twist_is_in_the_body_frame():
    """Yawed a quarter left and flying along world y is flying straight ahead."""
    orientation = rotation.from_yaw(np.array(math.pi / 2))
    state = QuadrotorState(np.zeros(3), orientation, np.array([0.0, 2.0, 0.0]), np.zeros(3))
    twist = messages.odometry_from_state(state, 0.0).twist.twist.linear
    assert (twist.x, twist.y, twist.z) == pytest.approx((2.0, 0.0, 0.0))


def test_quaternion_order_at_the_edge():
    message = messages.odometry_from_state(random_state(0), 0.0)
    w, x, y, z = random_state(0).orientation
    there = message.pose.pose.orientation
    assert (there.x, there.y, there.z, there.w) == pytest.approx((x, y, z, w))


@pytest.mark.parametrize(("frame", "child"), [("map", "base_link"), ("odom", "base_link_frd"), ("", "")])
def test_odometry_in_other_frames_is_refused(frame, child):
    message = messages.odometry_from_state(random_state(0), 0.0)
    message.header.frame_id, message.child_frame_id = frame, child
    with pytest.raises(messages.MessageError, match="expected 'odom'"):
        messages.state_from_odometry(message)


def test_quaternion_that_is_none_is_refused():
    with pytest.raises(messages.MessageError, match="length 0, expected 1"):
        message = Odometry()
        message.header.frame_id, message.child_frame_id = "odom", "base_link"
        message.pose.pose.orientation.w = 0.0
        messages.state_from_odometry(message)


def test_non_finite_odometry_reaches_whoever_judges_it():
    message = messages.odometry_from_state(random_state(0), 0.0)
    message.pose.pose.orientation.x = math.nan
    message.pose.pose.position.y = math.inf
    state, _ = messages.state_from_odometry(message)
    assert not np.all(np.isfinite(state.orientation))
    assert math.isinf(state.position[1])


def test_setpoint_keeps_everything():
    setpoint = QuadrotorSetpoint(
        np.array([1.0, 2.0, 3.0]), np.array([0.1, 0.2, 0.3]), np.array([4.0, 5.0, 6.0]), np.array(2.5)
    )
    back, stamp = messages.setpoint_from_trajectory(messages.trajectory_from_setpoint(setpoint, 7.25))
    assert stamp == 7.25
    for name in ("position", "velocity", "acceleration", "yaw"):
        np.testing.assert_allclose(getattr(back, name), getattr(setpoint, name), atol=1e-12, err_msg=name)


def test_setpoint_without_derivatives_stands_still():
    still = QuadrotorSetpoint(np.ones(3), np.ones(3), np.ones(3), np.array(0.0))
    message = messages.trajectory_from_setpoint(still, 0.0)
    message.points[0].velocities = []
    message.points[0].accelerations = []
    setpoint, _ = messages.setpoint_from_trajectory(message)
    assert not setpoint.velocity.any() and not setpoint.acceleration.any()


def test_setpoint_of_something_else_is_refused():
    good = messages.trajectory_from_setpoint(
        QuadrotorSetpoint(np.zeros(3), np.zeros(3), np.zeros(3), np.array(0.0)), 0.0
    )
    empty = MultiDOFJointTrajectory(joint_names=["base_link"], header=good.header)
    other = MultiDOFJointTrajectory(joint_names=["arm"], header=good.header, points=good.points)
    with pytest.raises(messages.MessageError, match="0 points"):
        messages.setpoint_from_trajectory(empty)
    with pytest.raises(messages.MessageError, match="arm"):
        messages.setpoint_from_trajectory(other)
    good.header.frame_id = "map"
    with pytest.raises(messages.MessageError, match="'map'"):
        messages.setpoint_from_trajectory(good)


def test_motor_command_belongs_to_names_not_to_places():
    command = MotorSpeeds(np.array([1.0, 2.0, 3.0, 4.0]))
    message = messages.joint_state_from_motor_speeds(command, ROTORS, 3.5)
    mixed = JointState(name=message.name[::-1], velocity=list(message.velocity)[::-1], header=message.header)
    for candidate in (message, mixed):
        back, stamp = messages.motor_speeds_from_joint_state(candidate, ROTORS)
        np.testing.assert_array_equal(back.values, command.values)
        assert stamp == 3.5


@pytest.mark.parametrize(
    ("names", "values", "complaint"),
    [
        (ROTORS[:3], [1.0] * 3, "missing rotors front_left"),
        ((*ROTORS, "tail"), [1.0] * 5, "unknown rotors tail"),
        (("m1", "m2", "m3", "m4"), [1.0] * 4, "unknown rotors m1, m2, m3, m4"),
        ((*ROTORS[:3], "back_left"), [1.0] * 4, "missing rotors front_left"),
        ((*ROTORS, "back_left"), [1.0] * 5, "repeated rotors back_left"),
        (ROTORS, [1.0] * 3, "4 names but 3 velocities"),
        (ROTORS, [1.0, math.nan, 1.0, math.inf], "back_right = nan, front_left = inf"),
    ],
)
def test_wrong_motor_commands_are_refused_by_name(names, values, complaint):
    with pytest.raises(messages.MessageError, match=complaint):
        messages.motor_speeds_from_joint_state(JointState(name=list(names), velocity=values), ROTORS)


@pytest.mark.parametrize("seconds", [0.0, 1e-9, 12.999999999, 1795172681.033288])
def test_stamps(seconds):
    assert messages.to_seconds(messages.to_stamp(seconds)) == pytest.approx(seconds, abs=3e-7)


def test_imu():
    orientation, rates = rotation.from_yaw(np.array(0.3)), np.array([0.1, 0.2, 0.3])
    message = messages.imu_message(orientation, rates, np.array([0.0, 0.0, 9.81]), 5.0)
    there, turning, stamp = messages.attitude_from_imu(message)
    np.testing.assert_allclose(there, orientation)
    np.testing.assert_allclose(turning, rates)
    assert stamp == 5.0
    assert message.linear_acceleration.z == 9.81 and message.linear_acceleration_covariance[0] == 0.0
    assert messages.imu_message(orientation, rates, None, 5.0).linear_acceleration_covariance[0] == -1.0
    unoriented = Imu(header=message.header)
    unoriented.orientation_covariance[0] = -1.0
    with pytest.raises(messages.MessageError, match="no orientation"):
        messages.attitude_from_imu(unoriented)


def test_status():
    status = messages.SupervisorStatus(mode="holding", cause="policy output is old", latched=False, stamp=1.0)
    assert messages.status_from_message(messages.status_message(status)) == status
    with pytest.raises(messages.MessageError, match="cannot be read"):
        messages.status_from_message(String(data="{}"))
