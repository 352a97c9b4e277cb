"""What a robot with two cameras publishes, for the measurement of the recorder: `robot_rl.bench.recording_node`.

`python -m robot_rl.nodes.eight_streams SECONDS` publishes and says how much; with `--record` it asks a recorder to
begin and to end around it. Lines on standard output: `publishing`, then one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped, TwistStamped, WrenchStamped
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import CompressedImage, JointState
from std_srvs.srv import SetBool, Trigger

from robot_rl.bench.recording_streams import CAMERA_RATE, CAMERAS, NAMES, RATE, picture
from robot_rl.nodes.process import die_with_parent
from robot_rl.nodes.raw_streams import unrecorded
from robot_rl.nodes.transport import without_shared_memory
from robot_rl.recording import messages, pictures
from robot_rl.recording.types import serialize, set_stamp

_PATIENCE = 60.0
"""s to wait for the recorder."""


class Robot:
    """The publishers, with a message of each to send again and again."""

    def __init__(self, node: Node) -> None:
        """Make them; with 10 messages at hand, as ROS has it, so that none is lost before it has left this process."""
        six, pose = np.linspace(0.1, 0.6, 6), messages.pose([0.4, 0.1, 0.3], [1.0, 0.0, 0.0, 0.0])
        joints = messages.joint_state(NAMES, np.zeros(7), np.zeros(7), np.zeros(7))
        self.node = node
        self.counts: Counter[str] = Counter()
        self._out: dict[str, tuple[Publisher, bytearray]] = {}
        self._make("joint_states", JointState, joints)
        self._make("wrench", WrenchStamped, messages.wrench(six))
        self._make("tool_pose", PoseStamped, pose)
        self._make("commands", TwistStamped, messages.twist(six))
        self._make("setpoint", PoseStamped, pose)
        words = messages.diagnostics("arm", 0, "ok", {"rate": RATE})
        self._make("diagnostics", DiagnosticArray, words)
        image = messages.compressed_image(*pictures.pack(picture(), "jpeg"))
        for camera in CAMERAS:
            self._make(f"camera/{camera}/compressed", CompressedImage, image)

    def _make(self, topic: str, kind: type, message: Any) -> None:
        self._out[topic] = (self.node.create_publisher(kind, topic, 10), serialize(message))

    def send(self, topic: str) -> None:
        """Publish the next message of a topic."""
        publisher, data = self._out[topic]
        set_stamp(data, time.time_ns())
        publisher.publish(bytes(data))
        self.counts[topic] += 1

    def publish(self, seconds: float) -> None:
        """All eight at their rates; a tick that is missed stays so."""
        shots = {camera: number / len(CAMERAS) / CAMERA_RATE for number, camera in enumerate(CAMERAS)}
        begin = time.monotonic()
        tick = 0
        while tick < seconds * RATE:
            wait = begin + tick / RATE - time.monotonic()
            if wait > 0.0:
                time.sleep(wait)
            for topic in ("joint_states", "wrench", "tool_pose", "commands"):
                self.send(topic)
            if tick % 10 == 0:
                self.send("setpoint")
            if tick % round(RATE) == 0:
                self.send("diagnostics")
            for camera, due in shots.items():
                if tick / RATE >= due:
                    self.send(f"camera/{camera}/compressed")
                    shots[camera] += 1.0 / CAMERA_RATE
            tick = max(tick + 1, int((time.monotonic() - begin) * RATE))

    def topics(self) -> list[str]:
        """Names of all eight."""
        return list(self._out)


def main() -> int:
    """Publish, recorded or not."""
    parser = argparse.ArgumentParser()
    parser.add_argument("seconds", type=float)
    parser.add_argument("--record", action="store_true")
    arguments = parser.parse_args(remove_ros_args(sys.argv)[1:])
    die_with_parent()
    without_shared_memory()
    rclpy.init(args=sys.argv)
    node = rclpy.create_node("robot")
    robot = Robot(node)
    if arguments.record:
        _wait("the recorder reads every topic", lambda: not unrecorded(node, robot.topics()))
        time.sleep(1.0)  # what both sides know of each other settles
        _ask(node, SetBool, "record", SetBool.Request(data=True))
    print("publishing", flush=True)
    robot.publish(arguments.seconds)
    if arguments.record:
        time.sleep(1.0)  # what is under way arrives
        _ask(node, Trigger, "record/success", Trigger.Request())
    print(json.dumps(dict(sorted(robot.counts.items()))), flush=True)
    node.destroy_node()
    rclpy.try_shutdown()
    return 0


def _wait(what: str, found: Callable[[], bool]) -> None:
    end = time.monotonic() + _PATIENCE
    while not found():
        if time.monotonic() > end:
            raise SystemExit(f"waited {_PATIENCE:g} s and not yet: {what}")
        time.sleep(0.05)


def _ask(node: Node, kind: Any, name: str, request: Any) -> None:
    client = node.create_client(kind, name)
    if not client.wait_for_service(_PATIENCE):
        raise SystemExit(f"there is no service {name} after {_PATIENCE:g} s")
    future = client.call_async(request)
    rclpy.spin_until_future_complete(node, future, timeout_sec=_PATIENCE)
    answer = future.result()
    if answer is None or not answer.success:
        raise SystemExit(f"the recorder did not {name}: {answer.message if answer else 'no answer'}")


if __name__ == "__main__":
    sys.exit(main())
