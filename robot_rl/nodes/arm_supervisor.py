"""The face of an arm's control process: starts it, says what it does, passes on what people ask of it.

The safety state is the control process's, and so is every decision. This node may die: the control process ends with
it and stops the arm by the driver's own means. It may hang: the control process misses its sign of life and holds.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseStamped, TwistStamped, WrenchStamped
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, Float64, String
from std_srvs.srv import SetBool, Trigger

import policies
from hardware.drivers.registry import DRIVERS
from hardware.urdf import to_urdf
from policies.types import CartesianTwist
from robot_rl.nodes import arm_messages, messages, qos
from robot_rl.nodes.arm_face import ArmFace, ArmFaceConfig, PlaneProcess
from robot_rl.nodes.parameters import parameter
from robot_rl.nodes.publishers import FirstPublisher, source_of
from robot_rl.nodes.running import NodeError, run
from robot_rl.planes.client import PlanesClient, Request, Status
from robot_rl.planes.settings import ControlConfig, arm_controller, arm_envelope

_LEVELS = {"idle": DiagnosticStatus.OK, "armed": DiagnosticStatus.OK, "active": DiagnosticStatus.OK}
_STILL = 0.5
"""s without a word of the control process after which it stands still."""
_ANSWER = 0.25
"""s to wait for its answer to a request: it answers within two of its ticks, and the sign of life must go on."""
_CLOCK = 1.0
"""s between attempts to arm by `auto_arm`."""
_BEHIND_MEMORY = ("sim", "ros2_control")
"""Drivers that are told where the memory is."""


@dataclass(frozen=True, kw_only=True)
class SupervisorConfig(ArmFaceConfig):
    """Parameters of the node."""

    policy: str = parameter("", "Policy bundle whose envelope and rate are enforced: a folder, a zoo name, or empty.")
    driver: str = parameter("sim", "What drives the arm, as hardware.drivers.registry knows it.")
    driver_settings: list[str] = parameter([""], "The driver's settings, each as name=value, e.g. host=192.168.1.10.")
    auto_arm: bool = parameter(False, "Arm once as soon as possible; only with driver:=sim.")
    control_rate: float = parameter(500.0, "Hz of the control loop; a slower driver sets its own.", low=10.0, high=1e3)
    state_rate: float = parameter(50.0, "Hz of joint_states and the other states.", low=1.0, high=200.0)
    twist_period: float = parameter(0.05, "s between two messages of command/twist.", low=0.005, high=0.15)
    face_timeout: float = parameter(
        0.5, "s without a sign of life of this node after which an active arm holds.", low=0.1, high=5.0
    )


class SupervisorNode(ArmFace):
    """See the module."""

    part = "supervisor"
    needs_message_info = True

    def __init__(self) -> None:
        super().__init__("supervisor", SupervisorConfig)
        self._status: tuple[str, str] | None = None
        self._urdf = qos.publisher(self, String, "robot_description", qos.STATUS)
        self._status_out = qos.publisher(self, String, "supervisor/status", qos.STATUS)
        self._joints = self.create_lifecycle_publisher(JointState, "joint_states", qos.SENSOR_PUBLISHER)
        self._tool = self.create_lifecycle_publisher(PoseStamped, "tool_pose", qos.SENSOR_PUBLISHER)
        self._target = self.create_lifecycle_publisher(PoseStamped, "target_pose", qos.SENSOR_PUBLISHER)
        self._wrench = self.create_lifecycle_publisher(WrenchStamped, "wrench", qos.SENSOR_PUBLISHER)
        self._width = self.create_lifecycle_publisher(Float64, "gripper", qos.SENSOR_PUBLISHER)
        qos.subscription(self, TwistStamped, "command/twist", self._on_twist, qos.COMMAND_READER)
        qos.subscription(self, Float64, "command/gripper", self._on_gripper, qos.COMMAND_READER)
        qos.subscription(self, Bool, "estop", self._on_estop_message, qos.STATUS_READER)
        self.create_service(SetBool, "arm", lambda q, r: self._answer(r, "arm" if q.data else "disarm"))
        self.create_service(Trigger, "disarm", lambda _, r: self._answer(r, "disarm"))
        self.create_service(Trigger, "recover", lambda _, r: self._answer(r, "recover"))
        self.create_service(Trigger, "estop", lambda _, r: self._answer(r, "estop"))

    # The life cycle

    def configure(self) -> None:
        """Check all that can be checked without the robot, take the memory, and tell what the robot looks like."""
        super().configure()
        config = self.settings
        if config.driver not in DRIVERS:
            raise ValueError(f"parameter driver is {config.driver!r}; choose from {', '.join(DRIVERS)}")
        if config.auto_arm and config.driver != "sim":
            raise ValueError(
                f"auto_arm is for the simulator only, but driver is {config.driver!r}; call the service arm"
            )
        self.period = 1.0 / config.state_rate
        self._control = control_config(config, self.interface)
        self._first = FirstPublisher(release=0.5)
        self._refusal, self._refused = "", 0
        self._gripper = np.nan
        self._sequence = 0
        self._to_auto_arm, self._next_try = config.auto_arm, 0.0
        self._started_at = 0.0
        self.slots.claim()
        # Under ros2_control both have their own publishers already.
        self._is_only_one = config.driver != "ros2_control"
        if self._is_only_one:
            self._urdf.publish(String(data=to_urdf(self.description)))

    def activate(self) -> None:
        """Start the control process: the arm is idle then, with brakes."""
        settings = dict(self._control.driver_settings)
        if self._control.driver in _BEHIND_MEMORY:
            settings = {"folder": str(self.slots.path), "timeout": "60", **settings}
        self._started_at = time.monotonic()
        self._say("starting", "the control process starts", False, self.now())
        control = ControlConfig(**{**vars(self._control), "folder": str(self.slots.path), "driver_settings": settings})
        self.child = PlaneProcess("control", control)

    def deactivate(self) -> None:
        """Stop the arm and end the control process."""
        super().deactivate()
        if self._status is not None and self._status[0] != "inactive":
            self._say("inactive", "the supervisor is not active; the arm is stopped", False, self.now())

    def cleanup(self) -> None:
        """Free the memory."""
        self._detach()
        if slots := getattr(self, "slots", None):
            slots.release()

    # While active

    def work(self) -> None:
        """Give a sign of life, and tell what is new."""
        planes = self.planes
        if planes is None or self.child is None:
            raise NodeError(f"the arm's memory {self.slots.path} was removed")
        planes.beat()
        self.child.check()
        reading = planes.state()
        if reading is not None and reading.sequence != self._sequence:
            self._sequence = reading.sequence
            stamp, state = self.to_ros(reading.stamp), reading.state
            if self._is_only_one:
                self._joints.publish(arm_messages.joint_state_message(state, self.description, stamp))
            self._tool.publish(arm_messages.pose_message(state.tool_pose, stamp, self.base_frame))
            self._target.publish(arm_messages.pose_message(reading.target_pose, stamp, self.base_frame))
            self._width.publish(Float64(data=float(state.gripper_width)))
            if state.wrench is not None:
                self._wrench.publish(arm_messages.wrench_message(state.wrench, stamp, self.tool_frame))
        if (status := self._newest_status(planes)) is not None:
            self.child.runs = True
            if (status.mode, status.cause) != self._status:
                self._say(status.mode, status.cause, status.latched, self.to_ros(status.since))
            self._let_policy(planes, status)
            if self._to_auto_arm and time.monotonic() >= self._next_try:
                self._next_try = time.monotonic() + _CLOCK
                self._try_to_arm(planes)

    def _newest_status(self, planes: PlanesClient) -> Status | None:
        """The status of the control process that this node has started, not of an earlier one."""
        status = planes.status()
        return status if status is not None and status.stamp > self._started_at else None

    def _say(self, mode: str, cause: str, latched: bool, stamp: float) -> None:
        before, self._status = self._status, (mode, cause)
        status = messages.SupervisorStatus(mode=mode, cause=cause, latched=latched, stamp=stamp)
        self._status_out.publish(messages.status_message(status))
        if (before is None or before[0] != mode) and mode != "inactive":
            text = f"{mode}: {cause}" if cause else mode
            # Two places: rclpy's logger allows one severity per line of code.
            if mode in {"holding", "fault", "stopped"}:
                self.get_logger().error(text)
            else:
                self.get_logger().info(text)

    def _let_policy(self, planes: PlanesClient, status: Status) -> None:
        """The policy computes while the arm is armed, from a fresh memory on each time."""
        wanted = status.mode in {"armed", "active", "holding"}
        if wanted and not self._policy_lets:
            planes.activate_policy()
        elif not wanted and self._policy_lets:
            planes.deactivate_policy()
        self._policy_lets = wanted

    _policy_lets = False

    def _try_to_arm(self, planes: PlanesClient) -> None:
        if self.settings.policy and not planes.policy().get("ready", False):
            return  # the clock of a simulated task runs as soon as the arm is armed
        granted, why = planes.ask("arm", _ANSWER)
        if granted:
            self._to_auto_arm = False
            self.get_logger().warning(f"armed by auto_arm: {why}")
        else:
            self.get_logger().info(f"auto_arm waits: {why}", throttle_duration_sec=5.0)

    # What others ask

    def _answer(self, response: Any, request: Request) -> Any:
        planes = self.planes if self.active else None
        if planes is None:
            response.success, response.message = False, "the supervisor is not active: activate it first"
            return response
        if request != "arm":
            self._to_auto_arm = False
        response.success, response.message = planes.ask(request, _ANSWER)
        return response

    def _on_estop_message(self, message: Bool) -> None:
        if message.data and self.active and (planes := self.planes) is not None:
            self._to_auto_arm = False
            planes.request("estop")

    def _on_gripper(self, message: Float64) -> None:
        """Kept for the next twist: -1 closed, 1 open."""
        if np.isfinite(message.data):
            self._gripper = float(np.clip(message.data, -1.0, 1.0))

    def _on_twist(self, message: TwistStamped, info: Mapping) -> None:
        planes = self.planes if self.active else None
        if planes is None:
            return
        refusal = self._first.refusal(source_of(info), time.monotonic())
        if not refusal:
            try:
                twist, frame, stamp = arm_messages.twist_from_message(message, self.base_frame, self.tool_frame)
                self._send_twist(planes, twist, frame, self.to_monotonic(stamp))
            except messages.MessageError as error:
                refusal = str(error)
        if refusal:
            self._refusal, self._refused = refusal, self._refused + 1
            self.get_logger().warning(f"command/twist refused: {refusal}", throttle_duration_sec=1.0)

    def _send_twist(self, planes: PlanesClient, twist: np.ndarray, frame: Any, stamp: float) -> None:
        if np.isnan(self._gripper):  # nobody has moved it yet: as wide as it is
            reading, gripper = planes.state(), self.description.gripper
            known = reading is not None and gripper is not None and gripper.max_width > 0.0
            share = float(reading.state.gripper_width) / gripper.max_width if known else 1.0  # type: ignore[union-attr]
            self._gripper = float(np.clip(2.0 * share - 1.0, -1.0, 1.0))
        command = CartesianTwist(values=twist, frame=frame, gripper=np.asarray(self._gripper))
        planes.send_twist(command, self.settings.twist_period, held=True, stamp=stamp)

    # Diagnostics

    def describe(self) -> tuple[bytes, str, Mapping[str, Any]]:
        """The safety state, the loop's timing, and every counter of the safety layer."""
        planes = self.planes
        status = None if planes is None else self._newest_status(planes)
        if planes is None or status is None:
            return DiagnosticStatus.WARN, "the control process starts", {}
        age = time.monotonic() - status.stamp
        if age > _STILL:
            return DiagnosticStatus.STALE, f"the control process has said nothing for {age:.1f} s", {}
        histograms = {f"timing.control_{name}": found.to_chart() for name, found in planes.histograms().items()}
        values = {
            "mode": status.mode,
            "cause": status.cause,
            "follows": status.follow,
            "command of": status.command_source,
            "state age": status.state_age,
            "command age": status.command_age,
            "driver": self.settings.driver,
            "driver fault": status.driver_fault,
            "interventions": status.interventions,
            "newest intervention": status.explanation,
            "ticks": status.ticks,
            "lost periods": status.lost_periods,
            "real time": status.realtime,
            "last refused twist": self._refusal,
            "twists refused": self._refused,
            "skipped periods": self.schedule.skipped,
            **{f"report.{name}": value for name, value in planes.report().items()},
            **histograms,
        }
        level = _LEVELS.get(status.mode, DiagnosticStatus.ERROR if status.mode == "fault" else DiagnosticStatus.WARN)
        return level, f"{status.mode}: {status.cause}" if status.cause else status.mode, values


def control_config(config: SupervisorConfig, robot: policies.RobotInterface) -> ControlConfig:
    """What the control process is told, but for the memory's place.

    Raises:
        ValueError: The bundle does not fit the robot, or a setting is no name=value.
    """
    settings = {}
    for text in config.driver_settings:
        name, equals, value = text.partition("=")
        if text and not equals:
            raise ValueError(f"parameter driver_settings: {text!r} is not of the form name=value")
        if text:
            settings[name.strip()] = value.strip()
    common: dict[str, Any] = {
        "robot": config.robot,
        "driver": config.driver,
        "driver_settings": settings,
        "rate_hz": config.control_rate,
        "face_timeout": config.face_timeout,
    }
    if not config.policy:
        return ControlConfig(**common, policy_rate_hz=1.0 / config.twist_period)
    manifest = policies.load(config.policy, robot=robot).manifest
    return ControlConfig(
        **common,
        policy_rate_hz=manifest.control_rate_hz,
        envelope=arm_envelope(manifest),
        controller=arm_controller(manifest),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node."""
    return run(SupervisorNode, argv)
