"""An arm's messages: names decide, frames are checked, what does not fit is named."""

from xml.etree import ElementTree

import numpy as np
import pytest

pytest.importorskip("rclpy")

from sensor_msgs.msg import JointState  # noqa: E402

from hardware.descriptions import load_arm  # noqa: E402
from hardware.urdf import to_urdf  # noqa: E402
from policies.types import ArmState  # noqa: E402
from robot_rl.nodes import arm_messages  # noqa: E402
from robot_rl.nodes.messages import MessageError  # noqa: E402

JOINTS = ("a", "b", "c")
POSE = np.array([0.4, -0.1, 0.3, 0.1, 0.7, -0.5, 0.5])
POSE[3:] /= np.linalg.norm(POSE[3:])


def message(**changes):
    fields = {"name": ["c", "gripper", "a", "b"], "position": [3.0, 9.0, 1.0, 2.0], "velocity": [0.3, 9.0, 0.1, 0.2]}
    return JointState(**{**fields, **changes})


def test_values_belong_to_names_whatever_their_order():
    positions, velocities, torques, _ = arm_messages.joints_from_message(message(), JOINTS)
    np.testing.assert_array_equal(positions, [1.0, 2.0, 3.0])
    np.testing.assert_array_equal(velocities, [0.1, 0.2, 0.3])
    assert torques is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": ["c", "gripper", "a", "d"]}, "has no joint b; it has c, gripper, a, d"),
        ({"name": ["c", "a", "a", "b"]}, "has a more than once"),
        ({"position": [1.0, 2.0]}, "4 names but 2 values of position"),
        ({"position": []}, "no positions"),
        ({"position": [3.0, 9.0, float("nan"), 2.0]}, "position is not finite: a = nan"),
        ({"velocity": [float("inf"), 9.0, 0.1, 0.2]}, "velocity is not finite: c = inf"),
    ],
)
def test_what_cannot_be_used_is_named(changes, words):
    with pytest.raises(MessageError, match=words):
        arm_messages.joints_from_message(message(**changes), JOINTS)


def test_a_gripper_that_is_not_finite_is_not_the_arm():
    positions, *_ = arm_messages.joints_from_message(message(position=[3.0, float("nan"), 1.0, 2.0]), JOINTS)
    assert np.all(np.isfinite(positions))


@pytest.mark.parametrize("robot", ["panda", "ur5e"])
def test_joint_states_name_the_joints_of_the_urdf(robot):
    description = load_arm(robot)
    n = description.num_joints
    state = ArmState(
        joint_positions=np.linspace(0.0, 1.0, n),
        joint_velocities=np.zeros(n),
        tool_pose=POSE,
        tool_twist=np.zeros(6),
        gripper_width=np.asarray(0.06),
    )
    told = arm_messages.joint_state_message(state, description, 12.5)
    tree = ElementTree.fromstring(to_urdf(description))
    moving = [joint.get("name") for joint in tree.iter("joint") if joint.get("type") in ("revolute", "prismatic")]
    assert sorted(told.name) == sorted(moving)
    assert len(told.name) == len(told.position) == len(told.velocity)
    positions, _, _, stamp = arm_messages.joints_from_message(told, description.interface.actuators)
    np.testing.assert_allclose(positions, state.joint_positions)
    assert stamp == 12.5
    if description.gripper is not None:
        assert told.position[told.name.index("finger_left")] == pytest.approx(0.03)


def test_a_pose_comes_back_as_it_went():
    told = arm_messages.pose_message(POSE, 7.25)
    assert told.pose.orientation.w == pytest.approx(POSE[3])
    pose, stamp = arm_messages.pose_from_message(told)
    np.testing.assert_allclose(pose, POSE)
    assert stamp == 7.25
    told.header.frame_id = "map"
    with pytest.raises(MessageError, match="frame 'map', expected 'base'"):
        arm_messages.pose_from_message(told)


def test_a_twist_has_the_frame_that_it_says():
    for frame, meant in (("base", "base"), ("tool", "tool"), ("", "base")):
        twist, found, _ = arm_messages.twist_from_message(arm_messages.twist_message(np.arange(6.0), 1.0, frame))
        np.testing.assert_array_equal(twist, np.arange(6.0))
        assert found == meant
    with pytest.raises(MessageError, match="'camera'; expected 'base' or 'tool'"):
        arm_messages.twist_from_message(arm_messages.twist_message(np.zeros(6), 1.0, "camera"))
    with pytest.raises(MessageError, match="not finite"):
        arm_messages.twist_from_message(arm_messages.twist_message(np.full(6, np.nan), 1.0))
