"""A policy bundle as a node: state and set-point in, motor command out, at the bundle's control rate."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from nav_msgs.msg import Odometry
from rclpy.publisher import Publisher
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String
from trajectory_msgs.msg import MultiDOFJointTrajectory

from hardware.descriptions import load_description
from hardware.realtime.histogram import Histogram
from policies.types import QuadrotorSetpoint
from robot_rl.control import PolicyRunner
from robot_rl.flight_policy import load_flight_policy
from robot_rl.nodes import messages, qos
from robot_rl.nodes.managed import Managed, ManagedConfig, Values
from robot_rl.nodes.parameters import parameter
from robot_rl.nodes.running import run


@dataclass(frozen=True, kw_only=True)
class PolicyConfig(ManagedConfig):
    """Parameters of the node."""

    policy: str = parameter(
        "quadrotor-track", "Policy bundle: a folder, or a name in the zoo; or a controller: geometric, pid."
    )
    robot: str = parameter("crazyflie", "Robot description: a name, or the path of a YAML file.")
    setpoint_timeout: float = parameter(
        0.5, "s without set-points after which the vehicle stands still at the last one.", low=0.05, high=60.0
    )
    world_frame: str = parameter(messages.ODOM_FRAME, "Frame that poses must be given in.")
    body_frame: str = parameter(messages.BODY_FRAME, "Frame that twists must be given in.")


class PolicyNode(Managed):
    """Thin face on `PolicyRunner`: no decision about flying is made here."""

    part = "policy"
    priority = 10

    def __init__(self) -> None:
        super().__init__("policy", PolicyConfig)
        self.config = self.settings
        self._mode = ""
        self._commands: Publisher | None = None
        self._forget()
        when = self.when_active
        self._actions = qos.publisher(self, Float64MultiArray, "policy/action", qos.SENSOR_PUBLISHER)
        qos.subscription(self, Odometry, "odom", when(self._on_odometry), qos.SENSOR_READER)
        qos.subscription(self, MultiDOFJointTrajectory, "setpoint", when(self._on_setpoint), qos.COMMAND_READER)
        qos.subscription(self, String, "supervisor/status", self._on_status, qos.STATUS)

    def _forget(self) -> None:
        self._setpoint: QuadrotorSetpoint | None = None
        self._setpoint_time = 0.0
        self._refusal = ""
        self._silence = ""
        self._work = Histogram()

    # The life cycle

    def configure(self) -> None:
        """Load the bundle, replay its stored actions, and check it against the robot's description."""
        config = self.config
        self.interface = load_description(config.robot).interface
        self.hardware_id = self.interface.name
        bundle = load_flight_policy(config.policy, self.interface, config.robot)
        self.runner = PolicyRunner(bundle)
        self.set_period(1.0 / bundle.manifest.control_rate_hz)
        self._commands = qos.publisher(self, JointState, "policy/motor_commands", qos.command_publisher(self.period))
        self.get_logger().info(
            f"policy {config.policy} (task {bundle.manifest.task}) for {self.interface.name} "
            f"at {bundle.manifest.control_rate_hz:g} Hz"
        )

    def activate(self) -> None:
        """Begin to command, from a fresh memory."""
        self._forget()
        self.runner.activate(self.now())

    def deactivate(self) -> None:
        """Command nothing: the supervisor holds the position, and then brings the vehicle down."""
        if hasattr(self, "runner"):
            self.runner.deactivate()

    def cleanup(self) -> None:
        """Let go of what `configure` made."""
        if self._commands is not None:
            self.destroy_publisher(self._commands)
            self._commands = None

    # While active

    def work(self) -> None:
        """One control period."""
        assert self._commands is not None
        begin = time.perf_counter()
        now = self.now()
        self._stand_still(now)
        output = self.runner.tick(now)
        if output.command is not None:
            self._commands.publish(
                messages.joint_state_from_motor_speeds(output.command, self.interface.actuators, output.stamp)
            )
        if output.action is not None:
            self._actions.publish(messages.action_message(output.action))
        self._work.record(time.perf_counter() - begin)
        self._silence = output.reason if output.command is None else ""

    def _on_odometry(self, message: Odometry) -> None:
        try:
            state, stamp = messages.state_from_odometry(message, self.config.world_frame, self.config.body_frame)
            self._note(self.runner.observe_state(state, stamp, self.now()))
        except messages.MessageError as error:
            self._note(str(error))

    def _on_setpoint(self, message: MultiDOFJointTrajectory) -> None:
        try:
            setpoint, stamp = messages.setpoint_from_trajectory(
                message, self.config.world_frame, self.config.body_frame
            )
            self._take_setpoint(setpoint, stamp)
        except messages.MessageError as error:
            self._note(str(error))

    def _take_setpoint(self, setpoint: QuadrotorSetpoint, stamp: float) -> None:
        now = self.now()
        refusal = self.runner.observe_setpoint(setpoint, stamp, now)
        if not refusal:
            self._setpoint, self._setpoint_time = setpoint, now
        self._note(refusal)

    def _stand_still(self, now: float) -> None:
        """Whoever moved the set-point has fallen silent: stay at the last one, chase no velocity."""
        if self._setpoint is not None and now - self._setpoint_time > self.config.setpoint_timeout:
            still = np.zeros(3)
            self.runner.observe_setpoint(replace(self._setpoint, velocity=still, acceleration=still), now, now)
            self._setpoint = None
            self.get_logger().warning("set-points have stopped: standing still at the last one")

    def _on_status(self, message: String) -> None:
        """Start with fresh memory whenever the supervisor hands the robot over."""
        mode = messages.status_from_message(message).mode
        if self.active and mode == "active" and self._mode != "active":
            self.runner.activate(self.now())
            self.schedule.lateness, self._work = (
                Histogram(),
                Histogram(),
            )  # of this flight, not of the start-up
        self._mode = mode

    def _note(self, refusal: str) -> None:
        if refusal:
            self._refusal = refusal
            self.get_logger().warning(f"input refused: {refusal}", throttle_duration_sec=1.0)

    def describe(self) -> tuple[bytes, str, Values]:
        """Whether it commands, and why not."""
        if self._silence:
            return DiagnosticStatus.WARN, f"no command: {self._silence}", self._values
        return DiagnosticStatus.OK, "commanding", self._values

    def _values(self) -> Mapping[str, Any]:
        return {
            "policy": self.config.policy,
            "control rate": 1.0 / self.period,
            "last refused input": self._refusal,
            "skipped periods": self.schedule.skipped,
            "timing.policy_lateness": self.schedule.lateness.to_chart(),
            "timing.policy_step": self._work.to_chart(),
            **self.runner.diagnostics(),
        }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node."""
    return run(PolicyNode, argv)
