"""Where an arm's tool shall be, as a managed node: what comes on the topic `setpoint`, and a simulated task's own goal.

The newest of both counts: a task gives its goal when an episode begins. `~/goal` says which one holds.
It also brings the poses of objects that a policy observes, from the topics of whatever sees them, e.g. of `markers`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped

from hardware.realtime.seqlock import SlotError
from policies.types import ArmSetpoint
from robot_rl.nodes import arm_messages, messages, qos
from robot_rl.nodes.arm_face import ArmFace, ArmFaceConfig
from robot_rl.nodes.parameters import parameter
from robot_rl.nodes.publishers import FirstPublisher, source_of
from robot_rl.nodes.running import StartError, run


@dataclass(frozen=True, kw_only=True)
class SetpointConfig(ArmFaceConfig):
    """Parameters of the node."""

    rate: float = parameter(20.0, "Hz at which a simulated task's goal is looked at.", low=1.0, high=100.0)
    objects: list[str] = parameter(
        [""], "Objects that a policy observes, each as name=topic of PoseWithCovarianceStamped, frame of the base."
    )
    max_age: float = parameter(1.0, "s: an older message of setpoint is refused.", low=0.05, high=60.0)


class SetpointNode(ArmFace):
    """See the module."""

    part = "setpoint"
    needs_message_info = True

    def __init__(self) -> None:
        super().__init__("setpoint", SetpointConfig)
        self._goal_out = qos.publisher(self, PoseStamped, "~/goal", qos.STATUS)
        callback = self.when_active_with_info(self._on_setpoint)
        qos.subscription(self, PoseStamped, "setpoint", callback, qos.COMMAND_READER)
        self._seen: dict[str, tuple[np.ndarray, float]] = {}
        for text in filter(None, self.settings.objects):
            name, equals, topic = text.partition("=")
            if not (name and equals and topic):
                raise StartError(f"parameter objects: {text!r} is not of the form name=topic")
            seen = self.when_active(partial(self._on_object, name))
            qos.subscription(self, PoseWithCovarianceStamped, topic, seen, qos.SENSOR_READER)

    def configure(self) -> None:
        """Forget what was said before."""
        super().configure()
        self.period = 1.0 / self.settings.rate
        self._first = FirstPublisher(release=1.0)
        self._pose: np.ndarray | None = None
        self._of_task: np.ndarray | None = None
        self._source = ""
        self._refusal, self._refused = "", 0

    def work(self) -> None:
        """Pass on the goal of a task whenever it is another one."""
        planes = self.planes
        goal = None if planes is None else planes.simulation().get("goal")
        if goal is not None and (self._of_task is None or not np.array_equal(goal, self._of_task)):
            self._of_task = goal
            self._give(goal, "task")

    def _give(self, pose: np.ndarray, source: str) -> None:
        planes = self.planes
        assert planes is not None
        planes.send_setpoint(ArmSetpoint(tool_pose=pose))
        self._pose, self._source = pose, source
        self._goal_out.publish(arm_messages.pose_message(pose, self.now(), self.base_frame))

    def describe(self) -> tuple[bytes, str, Mapping[str, Any]]:
        """Whether there is a goal."""
        values = {
            "source": self._source,
            "goal": "" if self._pose is None else ", ".join(f"{value:.3f}" for value in self._pose),
            "objects": ", ".join(self._seen),
            "last refused": self._refusal,
            "refused": self._refused,
        }
        if self._pose is None:
            return DiagnosticStatus.OK, "no goal yet", values
        return DiagnosticStatus.OK, f"goal of the {self._source}", values

    def _on_object(self, name: str, message: PoseWithCovarianceStamped) -> None:
        planes = self.planes
        try:
            pose, stamp = arm_messages.pose_from_message(
                PoseStamped(header=message.header, pose=message.pose.pose), self.base_frame
            )
            self._seen[name] = (pose, self.to_monotonic(stamp))
            if planes is not None:
                poses = {key: value for key, (value, _) in self._seen.items()}
                planes.send_objects(poses, {key: at for key, (_, at) in self._seen.items()})
        except (messages.MessageError, SlotError, ValueError) as error:
            self._note(f"object {name}: {error}")

    def _note(self, refusal: str) -> None:
        self._refusal, self._refused = refusal, self._refused + 1
        self.get_logger().warning(f"refused: {refusal}", throttle_duration_sec=1.0)

    def _on_setpoint(self, message: PoseStamped, info: Mapping) -> None:
        planes, now = self.planes, time.monotonic()
        refusal = "there is no supervisor yet" if planes is None else self._first.refusal(source_of(info), now)
        if not refusal:
            try:
                pose, stamp = arm_messages.pose_from_message(message, self.base_frame)
                age = self.now() - stamp
                if not -0.1 <= age <= self.settings.max_age:
                    raise messages.MessageError(f"it is {age:.2f} s old (limit {self.settings.max_age:g} s)")
                self._give(pose, "topic")
            except (messages.MessageError, SlotError) as error:
                refusal = str(error)
        if refusal:
            self._note(f"setpoint: {refusal}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node."""
    return run(SetpointNode, argv)
