"""A policy for a quadrotor as a managed node: the face of the policy process.

Configuring loads the bundle and checks it against the robot; activating starts inference in a process of its own, which
commands from then on, so that the supervisor may arm; deactivating ends it, and the supervisor holds the position, then
brings the vehicle down. Set-points come in here.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import MultiDOFJointTrajectory

from hardware.realtime.seqlock import SlotError
from robot_rl.flight_policy import load_flight_policy
from robot_rl.nodes import messages, qos
from robot_rl.nodes.managed import Values
from robot_rl.nodes.parameters import parameter
from robot_rl.nodes.plane_face import PlaneProcess
from robot_rl.nodes.publishers import FirstPublisher, source_of
from robot_rl.nodes.quadrotor_face import QuadrotorFace, QuadrotorFaceConfig
from robot_rl.nodes.running import run
from robot_rl.planes.quadrotor_client import QuadrotorClient
from robot_rl.planes.quadrotor_settings import QuadrotorPolicyConfig


@dataclass(frozen=True, kw_only=True)
class PolicyConfig(QuadrotorFaceConfig):
    """Parameters of the node."""

    policy: str = parameter(
        "quadrotor-track", "Policy bundle: a folder, or a name in the zoo; or a controller: geometric, pid."
    )
    setpoint_timeout: float = parameter(
        0.5, "s without set-points after which the vehicle stands still at the last one.", low=0.05, high=60.0
    )
    world_frame: str = parameter(messages.ODOM_FRAME, "Frame that poses must be given in.")
    body_frame: str = parameter(messages.BODY_FRAME, "Frame that twists must be given in.")


class PolicyNode(QuadrotorFace):
    """See the module: no decision about flying is made here."""

    part = "policy"
    period = 0.01
    needs_message_info = True

    def __init__(self) -> None:
        super().__init__("policy", PolicyConfig)
        self._forget()
        self._actions = qos.publisher(self, Float64MultiArray, "policy/action", qos.SENSOR_PUBLISHER)
        setpoint = self.when_active_with_info(self._on_setpoint)
        qos.subscription(self, MultiDOFJointTrajectory, "setpoint", setpoint, qos.COMMAND_READER)

    def _forget(self) -> None:
        self._first = FirstPublisher()
        self._refusal, self._refused = "", 0
        self._heard = -1.0
        self._action = 0

    # The life cycle

    def configure(self) -> None:
        """Load the bundle, replay its stored actions, and check it against the robot's description."""
        super().configure()
        name = self.settings.policy
        manifest = load_flight_policy(name, self.interface, self.settings.robot).manifest
        rate = manifest.control_rate_hz
        self.get_logger().info(f"policy {name} (task {manifest.task}) for {self.interface.name} at {rate:g} Hz")

    def activate(self) -> None:
        """Begin: the process starts as soon as there is memory."""
        self._forget()

    # While active

    def work(self) -> None:
        """Start the process once there is memory, end with it when it dies; tell its actions."""
        planes = self.planes
        if planes is None:
            return
        if self.child is None:
            config = self.settings
            self.child = PlaneProcess(
                "policy",
                QuadrotorPolicyConfig(
                    module=self.module,
                    folder=str(self.slots.path),
                    robot=config.robot,
                    policy=config.policy,
                    max_setpoint_age=config.setpoint_timeout,
                ),
            )
        self.child.runs = bool(planes.policy())
        self.child.check()
        action = planes.action()
        if action is not None and action[0] != self._action:
            self._action = action[0]
            self._actions.publish(messages.action_message(action[1]))
        if 0.0 < self._heard < time.monotonic() - self.settings.setpoint_timeout:
            self._heard = -1.0
            self.get_logger().warning("set-points have stopped: the vehicle stands still at the last one")

    module = "quadrotor_policy"
    """The process, as `python -m robot_rl.planes` knows it."""

    def _on_setpoint(self, message: MultiDOFJointTrajectory, info: Mapping) -> None:
        planes = self.planes
        if planes is None:
            return
        refusal = self._first.refusal(source_of(info), time.monotonic())
        if not refusal:
            try:
                setpoint, stamp = messages.setpoint_from_trajectory(
                    message, self.settings.world_frame, self.settings.body_frame
                )
                planes.send_setpoint(setpoint, self.to_monotonic(stamp))
                self._heard = time.monotonic()
            except (messages.MessageError, SlotError) as error:
                refusal = str(error)
        if refusal:
            self._refusal, self._refused = refusal, self._refused + 1
            self.get_logger().warning(f"set-point refused: {refusal}", throttle_duration_sec=1.0)

    # Diagnostics

    def describe(self) -> tuple[bytes, str, Values]:
        """Whether it commands, and why not."""
        planes = self.planes
        policy = {} if planes is None else planes.policy()
        if planes is None or not policy:
            return DiagnosticStatus.WARN, "waits for the supervisor" if planes is None else "the policy loads", {}
        values = partial(self._values, planes, policy)
        if reason := str(policy["reason"]):
            return DiagnosticStatus.WARN, f"no command: {reason}", values
        return DiagnosticStatus.OK, "commanding", values

    def _values(self, planes: QuadrotorClient, policy: Mapping[str, Any]) -> Mapping[str, Any]:
        values: dict[str, Any] = {
            "policy": self.settings.policy,
            "control rate": policy["rate_hz"],
            **{name: policy[name] for name in ("ticks", "commands", "resets", "realtime")},
            "lost periods": policy["lost_periods"],
            "last refused set-point": self._refusal,
            "set-points refused": self._refused,
            "skipped periods": self.schedule.skipped,
        }
        if "inference" in (histograms := planes.histograms()):
            values["timing.policy_step"] = histograms["inference"].to_chart()
        return values


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node."""
    return run(PolicyNode, argv)
