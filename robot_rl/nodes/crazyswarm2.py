"""A Crazyflie that crazyswarm2 speaks to, as a managed node: body rates and thrust through `cmd_vel_legacy`.

Checked against crazyswarm2 at f6154e2 and the firmware at 2a18fc2. Its C++ server (`backend:=cpp`) is the one that is
flown with. The other one, of cflib, turns pitch the other way in `cmd_vel_legacy`, and its odometry has velocities of
the body and rates in deg/s; it is known by the frames of its odometry and refused.

| what | as the C++ server has it |
|---|---|
| `odom` | frame: the drone's name, no child frame; velocity in the world; **no body rates**; stamp of receipt |
| `rates` | a custom topic that crazyflies.yaml must have; `stateEstimateZ`, mrad/s, pitch is nose up |
| `cmd_vel_legacy` | linear y, x: roll, pitch rate, deg/s FLU; angular z: *minus* the yaw rate; linear z: 0 to 60000 |
| parameters of the firmware | can be set, but not be read back |

Rates are angles to a firmware whose `flightmode.stabMode…` are not 0, and only its PID controller follows them: the
node sets both for every request to fly, and sends nothing before. The firmware levels 0.5 s after the last set-point,
and turns the motors off after 2 s.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import Twist
from nav_msgs.msg import Odometry
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.task import Future
from std_srvs.srv import Empty

from hardware.drivers import crazyflie_packets as packets
from hardware.drivers.mavlink_arming import ARM, SET_MODE, ArmingConfig
from hardware.drivers.thrust_scale import ThrustScale, described_hover
from robot_rl.nodes import messages, qos
from robot_rl.nodes.managed import Values
from robot_rl.nodes.parameters import parameter
from robot_rl.nodes.quadrotor_face import QuadrotorFaceConfig
from robot_rl.nodes.relay import RelayNode
from robot_rl.nodes.running import run

FOR_RATES: Mapping[str, int] = {
    "flightmode.stabModeRoll": 0,
    "flightmode.stabModePitch": 0,
    "flightmode.stabModeYaw": 0,
    "stabilizer.controller": 1,
}
"""Parameters of the firmware with which set-points are rates that the PID controller follows."""
RATE_VARIABLES = ("stateEstimateZ.rateRoll", "stateEstimateZ.ratePitch", "stateEstimateZ.rateYaw")
"""What the custom topic has to carry, in this order."""
_DENIED = 2
"""Of `Arming.observe_ack`."""
_SETTLE = 0.3
"""s that the parameters may take from the server, which says only that it has them, to the drone."""
_ZEROS = 3
"""Set-points without thrust that unlock the firmware's commander, in the air too."""
_LOST = 0.1
"""s without rates after which odometry is no state any more."""
_SILENT = 3.0
"""s without a status after which it is not known what the drone does; the server's own default is 1 Hz."""


def twist_from_rates(rates: np.ndarray, throttle: float) -> Twist:
    """A message for `cmd_vel_legacy`: body rates (3,) rad/s FLU, throttle 0 to 1; none is zeros only."""
    message = Twist()
    if throttle > 0.0:
        roll, pitch, yaw = (math.degrees(float(rate)) for rate in rates)
        message.linear.y, message.linear.x, message.angular.z = roll, pitch, -yaw
        message.linear.z = float(min(int(throttle * packets.FULL_THRUST), packets.HIGHEST_THRUST))
    return message


def rates_from_values(values: Sequence[float]) -> np.ndarray:
    """Body rates (3,) rad/s FLU of `RATE_VARIABLES`.

    Raises:
        MessageError: There are not three.
    """
    if len(values) != 3:
        raise messages.MessageError(f"rates have {len(values)} values, expected {', '.join(RATE_VARIABLES)}")
    roll, pitch, yaw = (float(value) for value in values)
    return np.array([roll, -pitch, yaw]) * 1e-3


def state_from_odometry(message: Odometry, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Position, orientation wxyz and velocity in the world of the C++ server's odometry.

    Raises:
        MessageError: Another server's, or no orientation.
    """
    frame, child = message.header.frame_id, message.child_frame_id
    if frame != name or child:
        raise messages.MessageError(
            f"odometry has frames {frame!r} and {child!r}, expected {name!r} and none: start crazyswarm2 with "
            "backend:=cpp; the server of cflib turns pitch the other way"
        )
    place, speed = message.pose.pose.position, message.twist.twist.linear
    orientation = messages.from_quaternion(message.pose.pose.orientation, "odometry pose.orientation")
    return np.array([place.x, place.y, place.z]), orientation, np.array([speed.x, speed.y, speed.z])


def landing_duration(height: float, speed: float) -> float:
    """S that the firmware shall take to land; a height that is not known counts as 1 m."""
    return min(max(1.0, (height if math.isfinite(height) else 1.0) / speed), 30.0)


@dataclass(frozen=True, kw_only=True)
class Crazyswarm2Config(QuadrotorFaceConfig):
    """Parameters of the node."""

    name: str = parameter("cf1", "The drone's name in crazyflies.yaml; its topics are /NAME/….")
    server: str = parameter("/crazyflie_server", "Node that has the parameters of the firmware.")
    rates_topic: str = parameter("rates", "Custom topic of crazyflies.yaml with stateEstimateZ's three rates.")
    hover_throttle: float = parameter(
        0.0, "Share of full thrust that hovers; 0: from the description's mass and rotor curve.", low=0.0, high=0.95
    )
    landing_speed: float = parameter(0.4, "m/s at which it lands.", low=0.1, high=2.0)
    low_battery: float = parameter(3.5, "V under which it is not armed, and which is warned of.", low=0.0, high=60.0)
    rate: float = parameter(200.0, "Hz at which the node looks for new commands.", low=50.0, high=500.0)


class Crazyswarm2Node(RelayNode):
    """See the module. Its mode is: the parameters for rates are set, and the firmware is not locked."""

    part = "crazyswarm2"
    arming_config = ArmingConfig(stream_time=0.3)

    def __init__(self) -> None:
        super().__init__("crazyswarm2", Crazyswarm2Config)
        self._made: list[tuple[Any, Any]] = []

    def _forget(self) -> None:
        super()._forget()
        self._begin = time.monotonic()
        self._info = 0
        self._radio: dict[str, Any] = {}
        self._rates: tuple[float, np.ndarray] | None = None
        self._odometry_at = self._rates_at = self._status_at = -math.inf
        self._refused = {"odometry": "", "rates": ""}
        self._set_at = math.inf
        self._zeros = _ZEROS
        self._thrust_at = -math.inf
        self._landing_end = -math.inf
        self._arm_asked = False

    # The life cycle

    def configure(self) -> None:
        """Make the topics and services of the drone."""
        super().configure()
        try:
            from crazyflie_interfaces.msg import LogDataGeneric, Status
            from crazyflie_interfaces.srv import Arm, Land, NotifySetpointsStop
        except ImportError as error:
            raise ValueError(
                "crazyflie_interfaces is not installed: build crazyswarm2 (github.com/IMRCLab/crazyswarm2) in a "
                "workspace and source its setup.bash before"
            ) from error
        settings = self.settings
        self._scale = ThrustScale(hover=settings.hover_throttle or described_hover(self.description))
        self.period = 1.0 / settings.rate
        self._types: dict[str, Any] = {"arm": Arm, "land": Land, "notify": NotifySetpointsStop}
        root = f"/{settings.name}"
        self._topics = {name: f"{root}/{name}" for name in ("odom", "status", "cmd_vel_legacy")}
        self._topics["rates"] = f"{root}/{settings.rates_topic}"
        for kind, name, callback in (
            (Odometry, "odom", self._on_odometry),
            (LogDataGeneric, "rates", self._on_rates),
            (Status, "status", self._on_status),
        ):
            reader = qos.subscription(self, kind, self._topics[name], self.when_active(callback), qos.SENSOR_READER)
            self._made.append((self.destroy_subscription, reader))
        self._setpoints = qos.publisher(self, Twist, self._topics["cmd_vel_legacy"], qos.command_publisher(0.01))
        self._made.append((self.destroy_publisher, self._setpoints))
        self._arm = self._client_of(Arm, f"{root}/arm")
        self._land = self._client_of(Land, f"{root}/land")
        self._notify = self._client_of(NotifySetpointsStop, f"{root}/notify_setpoints_stop")
        self._emergency = self._client_of(Empty, f"{root}/emergency")
        self._firmware = self._client_of(SetParameters, f"{settings.server}/set_parameters")

    def cleanup(self) -> None:
        """Let go of the topics and services."""
        for destroy, each in self._made:
            destroy(each)
        self._made.clear()
        super().cleanup()

    def _client_of(self, kind: Any, name: str) -> Any:
        client = self.create_client(kind, name)
        self._made.append((self.destroy_client, client))
        return client

    # While active

    def work(self) -> None:
        """As every relay; before it, whether the drone listens, and what is wrong."""
        now, heard = time.monotonic(), self.heard
        if self.arming.phase in ("idle", "failed"):  # the parameters are set anew for every request
            self._set_at, self._zeros = math.inf, _ZEROS
            if self._arm_asked and not self._flies():  # given up before it was armed, which it may be a moment later
                self._call_arm(False)
            self._arm_asked = False
        known = self.arming.phase == "done" or now - self._status_at < _SILENT
        heard.in_mode = now - self._set_at > _SETTLE and known and not packets.fault_of(self._info)
        heard.fault = self._fault(now)
        if heard.fault and now - self._begin > _SILENT:
            self.get_logger().warning(heard.fault, throttle_duration_sec=5.0)
        super().work()
        if self.arming.phase == "done":
            self._arm_asked = False

    def ask(self, what: str) -> None:
        """Have the parameters set, or arm."""
        heard = self.heard
        heard.landing, self._landing_end = False, -math.inf
        if heard.battery_voltage < self.settings.low_battery:
            self._refuse(heard.fault)
            return
        if what == "mode":
            self._ask_for_rates()
            return
        if not self._info & packets.ARMABLE:
            self._complain("the drone says that it cannot be armed")
        if not self._arm.service_is_ready():
            self._complain(f"nobody serves {self._arm.srv_name}: is the crazyflie server there?")
            return
        self._arm_asked = True
        self._call_arm(True)

    def send(self, rates: np.ndarray, thrust: float) -> None:
        """Publish, once set-points are rates; the first ones have no thrust."""
        if not self.heard.in_mode:
            return
        throttle = self._scale.throttle(thrust) if thrust > 0.0 and not self._zeros else 0.0
        self._zeros = max(0, self._zeros - 1)
        if throttle:
            self._thrust_at = time.monotonic()
        self._setpoints.publish(twist_from_rates(rates, throttle))

    def land(self) -> None:
        """The firmware's own landing; on the ground disarm."""
        now = time.monotonic()
        if not self._flies():
            # What arms itself goes on saying that it is armed: nothing is left to be told.
            self.heard.landing = not self._info & packets.AUTO_ARMED
            self._call_arm(False)
        elif now >= self._landing_end:
            self.heard.landing = True
            height = math.nan if self.heard.position is None else float(self.heard.position[2])
            duration = landing_duration(height, self.settings.landing_speed)
            self._landing_end = now + duration + 2.0
            whole = int(duration)
            self._notify.call_async(self._types["notify"].Request())
            # Its planner must know where the drone is before it plans, and services have no order among each other.
            time.sleep(0.05)
            length = Duration(sec=whole, nanosec=int(1e9 * (duration - whole)))
            self._land.call_async(self._types["land"].Request(height=0.0, duration=length))

    def kill(self) -> None:
        """Motors off; the firmware is locked until it is restarted."""
        self._emergency.call_async(Empty.Request())

    def details(self) -> Mapping[str, Any]:
        """What the status says beside."""
        return {"supervisor": self._info, "clock": "receipt", **self._radio}

    def describe(self) -> tuple[bytes, str, Values]:
        """With what is wrong in front."""
        level, summary, values = super().describe()
        if self.heard.fault and (level == DiagnosticStatus.OK or not self.heard.state_stamp):
            return DiagnosticStatus.WARN, self.heard.fault, values
        return level, summary, values

    # Details

    def _flies(self) -> bool:
        """Whether it says so, or has said nothing since it was given thrust."""
        return bool(self._info & packets.FLYING) or self._status_at < self._thrust_at

    def _call_arm(self, arm: bool) -> None:
        self._arm.call_async(self._types["arm"].Request(arm=arm))

    def _ask_for_rates(self) -> None:
        if not self._firmware.service_is_ready():
            self._complain(f"nobody serves {self._firmware.srv_name}: is the crazyflie server there?")
            return
        request = SetParameters.Request(
            parameters=[
                Parameter(
                    name=f"{self.settings.name}.params.{name}",
                    value=ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=value),
                )
                for name, value in FOR_RATES.items()
            ]
        )
        self._firmware.call_async(request).add_done_callback(self._on_parameters)

    def _on_parameters(self, answer: Future) -> None:
        response: Any = answer.result()
        results = [] if response is None else list(response.results)
        refused = [
            f"{name}: {result.reason or 'no reason given'}"
            for name, result in zip(FOR_RATES, results, strict=False)
            if not result.successful
        ]
        if refused or len(results) != len(FOR_RATES):
            wanted = ", ".join(f"{name}: {value}" for name, value in FOR_RATES.items())
            self._refuse(f"the server does not set the firmware's {wanted} ({'; '.join(refused) or 'no answer'})")
        elif self.arming.phase == "mode":
            self._set_at = min(self._set_at, time.monotonic())

    def _complain(self, words: str) -> None:
        self.arming.observe_text(words, time.monotonic())
        self.get_logger().warning(words, throttle_duration_sec=1.0)

    def _refuse(self, words: str) -> None:
        """Complain, and end the request; a repetition would not help."""
        self._complain(words)
        self.arming.observe_ack(SET_MODE if self.arming.phase == "mode" else ARM, _DENIED, time.monotonic())

    def _fault(self, now: float) -> str:
        heard, settings = self.heard, self.settings
        words = [packets.fault_of(self._info), *self._refused.values()]
        if now - self._odometry_at > 0.5:
            words.append(f"no {self._topics['odom']}: crazyflies.yaml needs the default topic odom, 100 Hz")
        elif now - self._rates_at > 0.5:
            wanted = ", ".join(RATE_VARIABLES)
            words.append(f"no {self._topics['rates']}: crazyflies.yaml needs that custom topic, 100 Hz: {wanted}")
        if now - self._status_at > _SILENT:
            words.append(f"no {self._topics['status']}: crazyflies.yaml needs the default topic status, 10 Hz")
        elif heard.battery_voltage < settings.low_battery:
            words.append(f"battery at {heard.battery_voltage:.2f} V is under {settings.low_battery:g} V")
        return "; ".join(filter(None, words))

    def _stamp_of(self, message: Any) -> float:
        return min(self.to_monotonic(messages.to_seconds(message.header.stamp)), time.monotonic())

    def _on_odometry(self, message: Odometry) -> None:
        self._odometry_at = time.monotonic()
        try:
            position, orientation, velocity = state_from_odometry(message, self.settings.name)
        except messages.MessageError as error:
            self._refused["odometry"] = str(error)
            return
        self._refused["odometry"] = ""
        stamp = self._stamp_of(message)
        if self._rates is None or stamp - self._rates[0] > _LOST:
            return
        heard = self.heard
        heard.position, heard.orientation, heard.linear_velocity = position, orientation, velocity
        heard.angular_velocity = self._rates[1]
        heard.state_stamp = heard.attitude_stamp = min(stamp, self._rates[0])

    def _on_rates(self, message: Any) -> None:
        self._rates_at = time.monotonic()
        try:
            self._rates, self._refused["rates"] = (self._stamp_of(message), rates_from_values(message.values)), ""
        except messages.MessageError as error:
            self._refused["rates"] = str(error)

    def _on_status(self, message: Any) -> None:
        self._info, self._status_at = int(message.supervisor_info), time.monotonic()
        self.heard.armed = bool(self._info & packets.ARMED)
        self.heard.battery_voltage = float(message.battery_voltage)
        self._radio = {"rssi": int(message.rssi), "latency_ms": int(message.latency_unicast)}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node."""
    return run(Crazyswarm2Node, argv)
