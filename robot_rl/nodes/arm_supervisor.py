"""The supervisor's node of an arm: `SupervisorFace` with the arm's measurements and teleoperation."""

from __future__ import annotations

import dataclasses
import importlib.util
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped, TwistStamped, WrenchStamped
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, String

import policies
from hardware.urdf import to_urdf
from policies.types import CartesianTwist
from robot_rl.nodes import arm_messages, messages, qos
from robot_rl.nodes.arm_face import ArmFace, ArmFaceConfig
from robot_rl.nodes.parameters import parameter, settings_of
from robot_rl.nodes.publishers import FirstPublisher, source_of
from robot_rl.nodes.running import run
from robot_rl.nodes.supervisor_face import SupervisorFace
from robot_rl.planes.client import PlanesClient
from robot_rl.planes.settings import ControlConfig, arm_controller, arm_envelope

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
    barrier: bool = parameter(
        False, "Keep distances by the smallest change of a motion (control barriers); needs the package daqp."
    )
    face_timeout: float = parameter(
        0.5, "s without a sign of life of this node after which an active arm holds.", low=0.1, high=5.0
    )


class SupervisorNode(SupervisorFace[PlanesClient], ArmFace):
    """See the module."""

    needs_message_info = True
    inactive_cause = "the supervisor is not active; the arm is stopped"

    def __init__(self) -> None:
        super().__init__("supervisor", SupervisorConfig)
        self._urdf = qos.publisher(self, String, "robot_description", qos.STATUS)
        self._joints = self.create_lifecycle_publisher(JointState, "joint_states", qos.SENSOR_PUBLISHER)
        self._tool = self.create_lifecycle_publisher(PoseStamped, "tool_pose", qos.SENSOR_PUBLISHER)
        self._target = self.create_lifecycle_publisher(PoseStamped, "target_pose", qos.SENSOR_PUBLISHER)
        self._wrench = self.create_lifecycle_publisher(WrenchStamped, "wrench", qos.SENSOR_PUBLISHER)
        self._width = self.create_lifecycle_publisher(Float64, "gripper", qos.SENSOR_PUBLISHER)
        qos.subscription(self, TwistStamped, "command/twist", self._on_twist, qos.COMMAND_READER)
        qos.subscription(self, Float64, "command/gripper", self._on_gripper, qos.COMMAND_READER)

    # The life cycle

    def configure(self) -> None:
        """Check all that can be checked without the robot, take the memory, and tell what the robot looks like."""
        super().configure()
        config = self.settings
        self.period = 1.0 / config.state_rate
        self._control = control_config(config, self.interface)
        self._first = FirstPublisher(release=0.5)
        self._refusal, self._refused = "", 0
        self._gripper = np.nan
        self._sequence = 0
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
        self.start_control(dataclasses.replace(self._control, folder=str(self.slots.path), driver_settings=settings))

    # While active

    def work(self) -> None:
        """Give a sign of life, and tell what is new."""
        planes = self.attend()
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
        self.tell_status(planes)

    def ready_to_arm(self, planes: PlanesClient) -> bool:
        """Not before the policy is: the clock of a simulated task runs as soon as the arm is armed."""
        return not self.settings.policy or bool(planes.policy().get("ready", False))

    def details(self) -> Mapping[str, Any]:
        """Of teleoperation."""
        return {"last refused twist": self._refusal, "twists refused": self._refused}

    # What a person asks

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


def control_config(config: SupervisorConfig, robot: policies.RobotInterface) -> ControlConfig:
    """What the control process is told, but for the memory's place.

    Raises:
        ValueError: The bundle does not fit the robot, a setting is no name=value, or a package is missing.
    """
    if config.barrier and importlib.util.find_spec("daqp") is None:
        raise ValueError("parameter barrier needs the package 'daqp'; install it: pip install 'robot_rl[arm]'")
    common: dict[str, Any] = {
        "robot": config.robot,
        "driver": config.driver,
        "driver_settings": settings_of(config.driver_settings),
        "rate_hz": config.control_rate,
        "barrier": config.barrier,
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
