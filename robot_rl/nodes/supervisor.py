"""The supervisor as a node: the only publisher of `motor_commands`, and who arms, disarms and recovers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from nav_msgs.msg import Odometry
from sensor_msgs.msg import Imu, JointState
from std_msgs.msg import Bool, String
from std_srvs.srv import SetBool, Trigger

from hardware.controllers.geometric import GeometricConfig
from hardware.descriptions import load_quadrotor
from hardware.realtime.histogram import Histogram
from hardware.safety.quadrotor import QuadrotorSupervisor, SupervisorConfig, SupervisorOutput
from hardware.safety.quadrotor_fallback import FallbackConfig
from policies.types import MotorSpeeds
from robot_rl.flight_policy import load_flight_policy
from robot_rl.nodes import messages, parameters, qos
from robot_rl.nodes.parameters import parameter
from robot_rl.nodes.publishers import source_of
from robot_rl.nodes.running import Face, StartError, run

_LEVELS = {"active": DiagnosticStatus.OK, "disarmed": DiagnosticStatus.OK, "fault": DiagnosticStatus.ERROR}


@dataclass(frozen=True, kw_only=True)
class NodeConfig:
    """Parameters of the node."""

    policy: str = parameter(
        "quadrotor-track", "Policy whose envelope is enforced: a bundle's folder, a zoo name, or geometric, pid."
    )
    robot: str = parameter("crazyflie", "Robot description: a name, or the path of a YAML file.")
    driver: str = parameter("none", "What drives the motors.", choices=("sim", "none"))
    auto_arm: bool = parameter(False, "Arm once as soon as possible; only with driver:=sim.")
    fallback: str = parameter(
        "simple", "What holds the position while the policy does not answer.", choices=("simple", "geometric")
    )
    ground_height: float = parameter(0.0, "m, z of the vehicle standing on the ground.", low=-1000.0, high=9000.0)
    world_frame: str = parameter(messages.ODOM_FRAME, "Frame that poses must be given in.")
    body_frame: str = parameter(messages.BODY_FRAME, "Frame that twists must be given in.")


class SupervisorNode(Face):
    """Thin face on `QuadrotorSupervisor`: relays at once what it lets through, and says why it does not."""

    needs_message_info = True
    priority = 20

    def __init__(self) -> None:
        super().__init__("supervisor")
        self.config = config = parameters.read(self, NodeConfig)
        if config.auto_arm and config.driver != "sim":
            raise StartError(
                f"auto_arm is for the simulator only, but driver is {config.driver!r}; call the service arm"
            )
        description = load_quadrotor(config.robot)
        self.interface = description.interface
        manifest = load_flight_policy(config.policy, self.interface, config.robot).manifest
        self.period = 1.0 / manifest.control_rate_hz
        self.core = QuadrotorSupervisor(
            description,
            manifest.envelope,
            manifest.control_rate_hz,
            SupervisorConfig(
                ground_height=config.ground_height,
                fallback=FallbackConfig(geometric=GeometricConfig() if config.fallback == "geometric" else None),
            ),
        )
        self._to_auto_arm = config.auto_arm
        self._refusals = {"odom": "", "imu": "", "command": ""}
        self._counts = dict.fromkeys(self._refusals, 0)
        self._relay = Histogram()
        self._last_output = -1e9
        self._status: tuple[str, str, bool] | None = None
        self._next_report = 0.0
        self._make_topics()
        self.get_logger().info(
            f"supervising {self.interface.name} at {manifest.control_rate_hz:g} Hz inside {manifest.envelope}"
        )

    def _make_topics(self) -> None:
        self._motors = qos.publisher(self, JointState, "motor_commands", qos.command_publisher(self.period))
        self._status_out = qos.publisher(self, String, "supervisor/status", qos.STATUS)
        self._diagnostics = qos.publisher(self, DiagnosticArray, "/diagnostics", qos.SENSOR_PUBLISHER)
        qos.subscription(self, JointState, "policy/motor_commands", self._on_command, qos.COMMAND_READER)
        qos.subscription(self, Odometry, "odom", self._on_odometry, qos.SENSOR_READER)
        qos.subscription(self, Imu, "imu", self._on_imu, qos.SENSOR_READER)
        qos.subscription(self, Bool, "estop", self._on_estop_message, qos.STATUS_READER)
        self.create_service(SetBool, "arm", self._on_arm)
        self.create_service(Trigger, "disarm", lambda _, r: self._answer(r, *self.core.disarm(self.now())))
        self.create_service(Trigger, "recover", lambda _, r: self._answer(r, *self.core.recover(self.now())))
        self.create_service(Trigger, "estop", self._on_estop)

    def tick(self) -> None:
        """The failsafe's clock: speaks to the motors whenever the policy has not done so in time."""
        if self._to_auto_arm and not self.core.arming_blockers(self.now()):
            self._to_auto_arm = False
            self.get_logger().warning(f"armed by auto_arm: {self.core.arm(self.now())[1]}")
        if time.monotonic() - self._last_output >= 0.9 * self.period:
            self._output()
        if time.monotonic() >= self._next_report:
            self._report()

    def close(self) -> None:
        """Motors off: who ends the supervisor ends the flight."""
        self.core.disarm(self.now())
        for _ in range(3):  # the readers may be busy; the first one counts
            self._output()

    def _output(self) -> SupervisorOutput:
        now = self.now()
        output = self.core.tick(now)
        self._motors.publish(
            messages.joint_state_from_motor_speeds(MotorSpeeds(output.motor_speeds), self.interface.actuators, now)
        )
        self._last_output = time.monotonic()
        status = (output.mode, output.cause, output.latched)
        if status != self._status:
            self._announce(status, now)
        return output

    def _announce(self, status: tuple[str, str, bool], now: float) -> None:
        mode, cause, latched = status
        before = self._status[0] if self._status else ""
        if before == "disarmed":
            self.schedule.lateness, self._relay = (
                Histogram(),
                Histogram(),
            )  # of this flight, not of the start-up
        self._status = status
        self._status_out.publish(
            messages.status_message(messages.SupervisorStatus(mode=mode, cause=cause, latched=latched, stamp=now))
        )
        if mode != before:
            text = f"{mode}: {cause}" if cause else mode
            # Two places: rclpy's logger allows one severity per line of code.
            if mode in {"active", "disarmed"}:
                self.get_logger().info(text)
            else:
                self.get_logger().error(text)
            self._report()

    def _on_command(self, message: JointState, info: Mapping) -> None:
        begin = time.perf_counter()
        try:
            # The core judges the values itself, so that the cause of a fault can name them.
            command, stamp = messages.motor_speeds_from_joint_state(message, self.interface.actuators, finite=False)
            refusal = self.core.observe_command(command.values, stamp, self.now(), source_of(info))
        except messages.MessageError as error:
            refusal = str(error)
        self._note("command", refusal)
        if not refusal:
            self._output()
            self._relay.record(time.perf_counter() - begin)

    def _on_odometry(self, message: Odometry) -> None:
        try:
            state, stamp = messages.state_from_odometry(message, self.config.world_frame, self.config.body_frame)
            self._note("odom", self.core.observe_state(state, stamp, self.now()))
        except messages.MessageError as error:
            self._note("odom", str(error))

    def _on_imu(self, message: Imu) -> None:
        try:
            orientation, rates, stamp = messages.attitude_from_imu(message, self.config.body_frame)
            self._note("imu", self.core.observe_attitude(orientation, rates, stamp, self.now()))
        except messages.MessageError as error:
            self._note("imu", str(error))

    def _on_arm(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        action = self.core.arm if request.data else self.core.disarm
        return self._answer(response, *action(self.now()))

    def _on_estop(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self.core.estop(self.now())
        return self._answer(response, True, "emergency stop: motors off; call recover, then arm")

    def _on_estop_message(self, message: Bool) -> None:
        if message.data:
            self.core.estop(self.now())
            self._output()

    def _answer(self, response: SetBool.Response, success: bool, text: str) -> SetBool.Response:
        self._output()
        response.success, response.message = success, text
        return response

    def _note(self, what: str, refusal: str) -> None:
        if refusal:
            self._refusals[what] = refusal
            self._counts[what] += 1
            self.get_logger().warning(f"{what} refused: {refusal}", throttle_duration_sec=1.0)

    def _report(self) -> None:
        self._next_report = time.monotonic() + 1.0
        now = self.now()
        mode, cause, latched = self._status or (self.core.mode, "", False)
        blockers = self.core.arming_blockers(now) if mode == "disarmed" else ()
        values = {
            "mode": mode,
            "cause": cause,
            "latched": latched,
            "arming": f"refused: {'; '.join(blockers)}" if blockers else "possible",
            "skipped periods": self.schedule.skipped,
            "timing.supervisor_lateness": self.schedule.lateness.to_chart(),
            "timing.supervisor_relay": self._relay.to_chart(),
            **{f"last refused {what}": text for what, text in self._refusals.items()},
            **{f"{what} refused": count for what, count in self._counts.items()},
            **self.core.counters,
        }
        level = _LEVELS.get(mode, DiagnosticStatus.WARN)
        summary = f"{mode}: {cause}" if cause else mode
        name = f"{self.get_fully_qualified_name()}: supervisor"
        self._diagnostics.publish(messages.diagnostics_message(name, self.interface.name, level, summary, values, now))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node."""
    return run(SupervisorNode, argv)
