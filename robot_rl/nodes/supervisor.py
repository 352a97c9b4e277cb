"""The supervisor as a node: the only publisher of `motor_commands`, and who arms, disarms and recovers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from nav_msgs.msg import Odometry
from rclpy.publisher import Publisher
from sensor_msgs.msg import Imu, JointState
from std_msgs.msg import Bool, String
from std_srvs.srv import SetBool, Trigger

from hardware.controllers.geometric import GeometricConfig
from hardware.descriptions import load_quadrotor
from hardware.drivers.quadrotor import QUADROTOR_DRIVERS
from hardware.realtime.histogram import Histogram
from hardware.safety.arm_envelope import Rule
from hardware.safety.quadrotor import QuadrotorSupervisor
from hardware.safety.quadrotor_config import SupervisorConfig, SupervisorOutput
from hardware.safety.quadrotor_fallback import FallbackConfig
from policies.types import MotorSpeeds
from robot_rl.flight_policy import load_flight_policy
from robot_rl.nodes import messages, qos
from robot_rl.nodes.managed import Managed, ManagedConfig, Values
from robot_rl.nodes.parameters import parameter
from robot_rl.nodes.publishers import source_of
from robot_rl.nodes.raw_streams import unrecorded
from robot_rl.nodes.running import StartError, run
from robot_rl.nodes.vehicle_link import VehicleLink

_TO_RECORD = ("odom", "motor_commands", "setpoint/phase", "supervisor/status")
"""What a record of a flight is read from."""
_LEVELS = {"active": DiagnosticStatus.OK, "disarmed": DiagnosticStatus.OK, "fault": DiagnosticStatus.ERROR}


@dataclass(frozen=True, kw_only=True)
class SupervisorNodeConfig(ManagedConfig):
    """Parameters of the node."""

    policy: str = parameter(
        "quadrotor-track", "Policy whose envelope is enforced: a bundle's folder, a zoo name, or geometric, pid."
    )
    robot: str = parameter("crazyflie", "Robot description: a name, or the path of a YAML file.")
    driver: str = parameter(
        "none",
        "What drives the motors: a simulated vehicle; none, one that you start and arm yourself; or the driver of the "
        "node vehicle, which is asked to arm.",
        choices=("sim", "none", *QUADROTOR_DRIVERS),
    )
    auto_arm: bool = parameter(False, "Arm once as soon as possible; only with driver:=sim.")
    record: str = parameter(
        "", "Folder to which a recorder records the flight: auto_arm waits until it reads; empty: nothing is recorded."
    )
    fallback: str = parameter(
        "simple", "What holds the position while the policy does not answer.", choices=("simple", "geometric")
    )
    rules: list[str] = parameter(
        [""], "Rules in signal temporal logic beside the bundle's: `name: formula`, or `name: formula -> brake`."
    )
    ground_height: float = parameter(0.0, "m, z of the vehicle standing on the ground.", low=-1000.0, high=9000.0)
    world_frame: str = parameter(messages.ODOM_FRAME, "Frame that poses must be given in.")
    body_frame: str = parameter(messages.BODY_FRAME, "Frame that twists must be given in.")


class SupervisorNode(Managed):
    """Thin face on `QuadrotorSupervisor`: relays at once what it lets through, and says why it does not."""

    part = "supervisor"
    needs_message_info = True
    priority = 20

    def __init__(self) -> None:
        super().__init__("supervisor", SupervisorNodeConfig)
        self.config = config = self.settings
        if config.auto_arm and config.driver != "sim":
            raise StartError(
                f"auto_arm is for the simulator only, but driver is {config.driver!r}; call the service arm"
            )
        self._status_out = qos.publisher(self, String, "supervisor/status", qos.STATUS)
        self._motors: Publisher | None = None
        # A vehicle with a safety of its own: it has to be asked to arm, and may stop following at any time.
        self.link = VehicleLink(self) if config.driver not in ("sim", "none") else None
        self._forget()
        when = self.when_active
        command = self.when_active_with_info(self._on_command)
        qos.subscription(self, JointState, "policy/motor_commands", command, qos.COMMAND_READER)
        qos.subscription(self, Odometry, "odom", when(self._on_odometry), qos.SENSOR_READER)
        qos.subscription(self, Imu, "imu", when(self._on_imu), qos.SENSOR_READER)
        qos.subscription(self, Bool, "estop", when(self._on_estop_message), qos.STATUS_READER)
        self.create_service(SetBool, "arm", lambda q, r: self._serve(r, self._arm if q.data else self._disarm))
        self.create_service(Trigger, "disarm", lambda _, r: self._serve(r, self._disarm))
        self.create_service(Trigger, "recover", lambda _, r: self._serve(r, lambda: self.core.recover(self.now())))
        self.create_service(Trigger, "estop", lambda _, r: self._serve(r, self._stop))

    def _forget(self) -> None:
        self._to_auto_arm, self._silent = self.config.auto_arm, True
        self._refusals = {"odom": "", "imu": "", "command": ""}
        self._counts = dict.fromkeys(self._refusals, 0)
        self._relay = Histogram()
        self._last_output = -1e9
        self._status: tuple[str, str, bool] | None = None
        self._vehicle_says, self._untold = "", False

    # The life cycle

    def configure(self) -> None:
        """Load the bundle's envelope, and check the bundle against the robot."""
        config = self.config
        description = load_quadrotor(config.robot)
        self.interface = description.interface
        self.hardware_id = self.interface.name
        manifest = load_flight_policy(config.policy, self.interface, config.robot).manifest
        self.set_period(1.0 / manifest.control_rate_hz)
        rules = tuple(read_rule(text) for text in config.rules if text)
        self._make_core = lambda: QuadrotorSupervisor(
            description,
            manifest.envelope,
            manifest.control_rate_hz,
            SupervisorConfig(
                ground_height=config.ground_height,
                rules=rules,
                fallback=FallbackConfig(geometric=GeometricConfig() if config.fallback == "geometric" else None),
            ),
        )
        self._make_core()  # a rule that cannot be read is refused now, and not in flight
        self._motors = qos.publisher(self, JointState, "motor_commands", qos.command_publisher(self.period))
        self.get_logger().info(
            f"supervising {self.interface.name} at {manifest.control_rate_hz:g} Hz inside {manifest.envelope}"
        )

    def activate(self) -> None:
        """Watch, disarmed."""
        self._forget()
        self.core = self._make_core()

    def deactivate(self) -> None:
        """Motors off on the ground; in the air silence, upon which the vehicle comes down by itself."""
        if self._status is None:
            return
        flying = self._is_flying and self._airborne
        if flying:
            self.get_logger().warning("ends in flight: the vehicle's own watchdog has to bring it down")
        self._disarm()
        self._silent = flying
        for _ in range(3):  # the readers may be busy; the first one counts
            self._output()
        self._status = None

    def cleanup(self) -> None:
        """Let go of what `configure` made."""
        if self._motors is not None:
            self.destroy_publisher(self._motors)
            self._motors = None

    # While active

    def work(self) -> None:
        """The failsafe's clock: speaks to the motors whenever the policy has not done so in time."""
        if self._to_auto_arm and not self.core.arming_blockers(self.now()) and self._recorded():
            self._to_auto_arm = False
            self.get_logger().warning(f"armed by auto_arm: {self.core.arm(self.now())[1]}")
        if self.link is not None:
            self._follow_vehicle(self.link)
        if time.monotonic() - self._last_output >= 0.9 * self.period:
            self._output()

    def _recorded(self) -> bool:
        """Whether the beginning of a flight that was asked to be recorded would be."""
        missing = unrecorded(self, _TO_RECORD) if self.config.record else []
        if missing:
            self.get_logger().info(f"auto_arm waits for the recorder of {missing}", throttle_duration_sec=5.0)
        return not missing

    def _output(self) -> SupervisorOutput:
        now = self.now()
        output = self.core.tick(now)
        grounded = output.mode in ("disarmed", "fault")
        self._silent = self._silent and grounded and not output.landed
        # Zeros in the air are a fall, and silence is the vehicle's own failsafe.
        silent = self._silent or (self.link is not None and self.link.following)
        if self._motors is not None and not (grounded and silent):
            self._motors.publish(
                messages.joint_state_from_motor_speeds(MotorSpeeds(output.motor_speeds), self.interface.actuators, now)
            )
        self._last_output = time.monotonic()
        self._airborne = not output.landed
        cause = output.cause
        if output.mode == "disarmed" and self._vehicle_says:
            cause = f"{cause}; {self._vehicle_says}"
        status = (output.mode, cause, output.latched)
        if status != self._status:
            self._announce(status, now)
        return output

    _airborne = False
    """Not low and slow for long enough to stand on the ground."""
    _silent = True
    """Nothing is said to motors of which this supervisor does not know that they may be off: it begins, or has ended,
    in the air, and nobody has asked."""

    def _announce(self, status: tuple[str, str, bool], now: float) -> None:
        mode, cause, latched = status
        before = self._status[0] if self._status else ""
        if before == "disarmed":
            self.schedule.lateness, self._relay = Histogram(), Histogram()  # of this flight, not of the start-up
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

    def _on_estop_message(self, message: Bool) -> None:
        if message.data:
            self._stop()
            self._output()

    # What a person asks

    def _serve(self, response: SetBool.Response, action: Callable[[], tuple[bool, str]]) -> SetBool.Response:
        if not self.active:
            response.success, response.message = False, "the supervisor is not active: activate it first"
            return response
        response.success, response.message = action()
        self._output()
        return response

    def _arm(self) -> tuple[bool, str]:
        if self.link is None:
            return self.core.arm(self.now())
        return self._arm_vehicle(self.link)

    def _disarm(self) -> tuple[bool, str]:
        self._silent = False
        if self.link is not None:
            self.link.release()
        return self.core.disarm(self.now())

    def _stop(self) -> tuple[bool, str]:
        self._silent = False
        self.core.estop(self.now())
        if self.link is not None:
            self.link.kill()
        return True, "emergency stop: motors off; call recover, then arm"

    # A vehicle with a safety of its own

    def _arm_vehicle(self, link: VehicleLink) -> tuple[bool, str]:
        """Ask the vehicle, which takes seconds; true once it follows and the policy flies it."""
        if link.waiting:
            return False, f"{self._vehicle_says}: it takes some seconds; ask again, or watch supervisor/status"
        if self._is_flying and link.following:
            return True, "armed; the vehicle follows"
        if self._untold:
            self._untold = False
            return False, self._vehicle_says
        reasons = [*self.core.arming_blockers(self.now()), *filter(None, [link.blocker()])]
        if reasons:
            return False, "; ".join(reasons)
        if link.armed and self._airborne:
            self.core.arm(self.now())  # taken over in the air: it is to be told how to fly from the first moment on
        link.ask()
        self._vehicle_says = "the vehicle is asked to arm"
        return False, f"{self._vehicle_says}: it takes some seconds; ask again, or watch supervisor/status"

    def _follow_vehicle(self, link: VehicleLink) -> None:
        progress, words = link.progress()
        if progress == "waiting":
            self._vehicle_says = f"the vehicle is arming: {words}"
        elif progress == "following":
            granted, text = (True, "") if self._is_flying else self.core.arm(self.now())
            self._vehicle_says, self._untold = text if not granted else "", not granted
            if not granted:
                link.release()
        elif progress == "refused":
            self._vehicle_says, self._untold = words, True
            self.core.disarm(self.now())
        elif self._is_flying and not link.following:
            problem = link.status.problem if link.status is not None else ""
            self._vehicle_says = problem or "the vehicle does not follow any more"
            self.core.disarm(self.now())

    @property
    def _is_flying(self) -> bool:
        return self.core.mode not in ("disarmed", "fault")

    def _note(self, what: str, refusal: str) -> None:
        if refusal:
            self._refusals[what] = refusal
            self._counts[what] += 1
            self.get_logger().warning(f"{what} refused: {refusal}", throttle_duration_sec=1.0)

    def describe(self) -> tuple[bytes, str, Values]:
        """The mode and its cause."""
        mode, cause, _ = self._status or (self.core.mode, "", False)
        return _LEVELS.get(mode, DiagnosticStatus.WARN), f"{mode}: {cause}" if cause else mode, self._values

    def _values(self) -> Mapping[str, Any]:
        mode, cause, latched = self._status or (self.core.mode, "", False)
        blockers = list(self.core.arming_blockers(self.now())) if mode == "disarmed" else []
        blockers += filter(None, [self.link.blocker()]) if self.link is not None else []
        return {
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


def read_rule(text: str) -> Rule:
    """A rule from `name: formula`, or `name: formula -> brake`."""
    name, colon, rest = text.partition(":")
    formula, arrow, reaction = (part.strip() for part in rest.partition("->"))
    if not colon or not formula or (arrow and reaction not in ("hold", "brake")):
        raise StartError(f"rule {text!r} is not of the form `name: formula` or `name: formula -> brake`")
    return Rule(name=name.strip(), formula=formula, reaction="brake" if reaction == "brake" else "hold")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node."""
    return run(SupervisorNode, argv)
