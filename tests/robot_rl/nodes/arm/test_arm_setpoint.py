"""The set-point node alone, with the test as supervisor: what it lets into the arm's memory."""

import os
import time

import numpy as np
import pytest

pytest.importorskip("rclpy")

from arm_probe import ArmProbe  # noqa: E402
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped  # noqa: E402

from hardware.realtime.seqlock import SlotFolder  # noqa: E402
from robot_rl.nodes import arm_messages, qos  # noqa: E402
from robot_rl.planes import records  # noqa: E402
from robot_rl.planes.client import PlanesClient  # noqa: E402

POSE = np.array([0.5, 0.1, 0.2, 0.0, 1.0, 0.0, 0.0])
PLACE = np.array([0.6, -0.1, 0.02, 1.0, 0.0, 0.0, 0.0])


@pytest.fixture
def memory(domain, processes):
    """(probe, the memory's client) with the node running."""
    probe = ArmProbe(domain, f"goal{os.getpid()}")
    code = (
        f"import sys; sys.argv += ['-r', '__ns:=/{probe.namespace}']; "
        "from robot_rl.nodes.process import start; sys.exit(start('arm_setpoint'))"
    )
    with SlotFolder(f"{probe.namespace}.panda") as slots:
        processes.start("arm_setpoint", "objects:=[cube=seen/cube]", code=code)
        client = PlanesClient(slots.path, 7)
        probe.wait(lambda: probe.diagnostics.get("setpoint"), 60.0, "setpoint node")
        yield probe, client
        client.close()
        assert processes.end() == {"arm_setpoint": 0}
    probe.close()


def refusal(probe, words):
    return probe.wait(lambda: words in probe.diagnostics["setpoint"][2]["last refused"], 5.0, words)


def given(client):
    reading = client.read("setpoint")
    return None if reading is None else records.to_setpoint(reading.record).tool_pose


def test_the_first_publisher_s_fresh_pose_in_the_base_s_frame(memory):
    probe, client = memory
    first, second = (probe.node.create_publisher(PoseStamped, "setpoint", qos.STATUS_READER) for _ in range(2))
    probe.wait(lambda: first.get_subscription_count() and second.get_subscription_count(), 10.0, "subscription")
    first.publish(arm_messages.pose_message(POSE, time.time() - 10.0))
    refusal(probe, "10.0")
    assert given(client) is None
    first.publish(arm_messages.pose_message(POSE, time.time(), "camera"))
    refusal(probe, "'camera', expected 'base'")
    assert given(client) is None
    first.publish(arm_messages.pose_message(POSE, time.time()))
    probe.wait(lambda: given(client) is not None, 5.0, "set-point")
    np.testing.assert_allclose(given(client), POSE, atol=1e-6)
    second.publish(arm_messages.pose_message(PLACE, time.time()))
    refusal(probe, "second one")
    np.testing.assert_allclose(given(client), POSE, atol=1e-6)


def test_objects_have_the_stamp_of_their_measurement(memory):
    probe, client = memory
    publisher = probe.node.create_publisher(PoseWithCovarianceStamped, "seen/cube", 1)
    probe.wait(publisher.get_subscription_count, 10.0, "subscription")
    stamped = arm_messages.pose_message(PLACE, time.time() - 0.2)
    message = PoseWithCovarianceStamped(header=stamped.header)
    message.pose.pose = stamped.pose
    before = time.monotonic() - 0.2
    publisher.publish(message)
    probe.wait(lambda: client.objects()[0], 5.0, "object")
    poses, stamps = client.objects()
    np.testing.assert_allclose(poses["cube"], PLACE, atol=1e-9)
    assert stamps["cube"] == pytest.approx(before, abs=0.1)
    message.header.frame_id = "camera"
    publisher.publish(message)
    refusal(probe, "object cube: pose has frame 'camera'")
