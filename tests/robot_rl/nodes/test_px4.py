"""What the node `px4` makes of messages, without px4_msgs: things with the same fields stand in for them."""

import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest

from policies import rotation
from robot_rl.nodes.messages import MessageError
from robot_rl.nodes.px4 import motion_of, raised_flags, topic_name


def odometry(**changes):
    """Facing east, 1 m north, 2 m east and 3 m up of the origin, moving north, turning right."""
    half = np.sqrt(0.5)
    fields = {
        "timestamp": 2_000_900, "timestamp_sample": 2_000_000, "pose_frame": 1, "velocity_frame": 1,
        "position": [1.0, 2.0, -3.0], "q": [half, 0.0, 0.0, half], "velocity": [0.5, 0.0, 0.0],
        "angular_velocity": [0.1, 0.2, 0.3],
    }  # fmt: skip
    return SimpleNamespace(**{**fields, **changes})


def test_north_east_down_becomes_east_north_up():
    motion = motion_of(odometry())
    assert motion.stamp == 2.0
    np.testing.assert_allclose(motion.position, [2.0, 1.0, 3.0])
    np.testing.assert_allclose(motion.linear_velocity, [0.0, 0.5, 0.0])
    np.testing.assert_allclose(motion.angular_velocity, [0.1, -0.2, -0.3])
    forward = rotation.rotate(motion.orientation, np.array([1.0, 0.0, 0.0]))
    np.testing.assert_allclose(forward, [1.0, 0.0, 0.0], atol=1e-12)  # east
    left = rotation.rotate(motion.orientation, np.array([0.0, 1.0, 0.0]))
    np.testing.assert_allclose(left, [0.0, 1.0, 0.0], atol=1e-12)  # north


def test_a_quaternion_is_normalized_and_a_missing_sample_time_replaced():
    motion = motion_of(odometry(q=[1.02, 0.0, 0.0, 0.0], timestamp_sample=0))
    assert np.linalg.norm(motion.orientation) == pytest.approx(1.0) and motion.stamp == pytest.approx(2.0009)


@pytest.mark.parametrize("name", ["position", "velocity"])
def test_what_is_not_known_is_no_position(name):
    motion = motion_of(odometry(**{name: [np.nan, 0.0, 0.0]}))
    assert motion.position is None and motion.linear_velocity is None and motion.orientation is not None


@pytest.mark.parametrize(("changes", "words"), [
    ({"pose_frame": 2}, "not north-east-down: pose_frame 2, velocity_frame 1"),
    ({"velocity_frame": 3}, "velocity_frame 3"),
    ({"q": [np.nan, 0.0, 0.0, 0.0]}, "no attitude"),
    ({"q": [0.0, 0.0, 0.0, 0.0]}, "no attitude"),
    ({"angular_velocity": [0.0, np.nan, 0.0]}, "no attitude"),
])  # fmt: skip
def test_what_cannot_be_used_is_refused(changes, words):
    with pytest.raises(MessageError, match=words):
        motion_of(odometry(**changes))


@pytest.mark.parametrize(("prefix", "version", "name"), [
    ("", 0, "fmu/out/vehicle_status"),
    ("", 1, "fmu/out/vehicle_status_v1"),
    ("/", None, "/fmu/out/vehicle_status"),
    ("/uav_1", 4, "/uav_1/fmu/out/vehicle_status_v4"),
    ("uav_1/", None, "uav_1/fmu/out/vehicle_status"),
])  # fmt: skip
def test_topics_are_named_with_the_version_of_their_message(prefix, version, name):
    kind = SimpleNamespace() if version is None else SimpleNamespace(MESSAGE_VERSION=version)
    assert topic_name(prefix, "out", "vehicle_status", kind) == name


def test_flags_in_words():
    message = SimpleNamespace(local_position_invalid=True, battery_unhealthy=False, battery_warning=3)
    kinds = {"local_position_invalid": "boolean", "battery_unhealthy": "boolean", "battery_warning": "uint8"}
    message.get_fields_and_field_types = lambda: kinds
    assert raised_flags(message) == ["local position invalid"]


@pytest.mark.skipif(importlib.util.find_spec("px4_msgs") is not None, reason="px4_msgs is installed")
def test_without_the_messages_it_is_one_sentence(processes):
    process = processes.start("px4", "hover_throttle:=0.5")
    assert process.wait(60.0) == 1
    log = processes.log("px4")
    assert "driver px4 needs the ROS 2 package px4_msgs of your PX4's version" in log and "Traceback" not in log


def test_without_a_hover_throttle_it_is_one_sentence(processes):
    process = processes.start("px4", name="without")
    assert process.wait(60.0) == 1
    log = processes.log("without")
    assert "parameter hover_throttle has to be given" in log and "MPC_THR_HOVER" in log and "Traceback" not in log
