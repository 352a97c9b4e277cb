"""Set-points of a mission as a node: it starts when the supervisor has armed; the demo lands by itself.

In flight a person may take the set-point over by `command/twist`, as the node `teleop` sends it while the dead-man is
held: m/s ahead, to the left and up, and a yaw rate. Without twists the vehicle stands; the service `hand_back` lets the
mission go on.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import TwistStamped
from nav_msgs.msg import Odometry
from std_msgs.msg import String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import MultiDOFJointTrajectory

from hardware import setpoints
from hardware.descriptions import load_description
from hardware.teleop.flying import FlyingConfig
from policies import rotation
from policies.types import QuadrotorSetpoint, QuadrotorState
from robot_rl.flight_policy import load_flight_policy
from robot_rl.mission import KINDS, MissionConfig, plan
from robot_rl.nodes import messages, qos
from robot_rl.nodes.arm_messages import twist_from_message
from robot_rl.nodes.managed import Managed, ManagedConfig, Values
from robot_rl.nodes.parameters import parameter
from robot_rl.nodes.publishers import FirstPublisher, source_of
from robot_rl.nodes.running import run
from robot_rl.person_flight import SharedFlight

_AIRBORNE = ("active", "holding", "level", "descending")
_FRESH = (-0.05, 0.15)
"""s: the least and the greatest age of a person's twist."""
_FENCE_MARGIN = 0.3
"""m that a person's set-point keeps from the supervisor's geofence."""
_STILL_CLOCK = 0.5
"""s without time for the mission after which its clock stands still instead of jumping on."""


@dataclass(frozen=True, kw_only=True)
class SetpointConfig(ManagedConfig):
    """Parameters of the node; those of the mission as in `robot_rl.mission.MissionConfig`."""

    mission: str = parameter("hover", "What to fly once armed.", choices=KINDS)
    rate: float = parameter(50.0, "Hz of set-points.", low=1.0, high=500.0)
    end_when_done: bool = parameter(False, "End the node, with status 0, once the demo has landed.")
    height: float = parameter(1.0, "m above the start at which to hover and to fly figures.", low=0.1, high=100.0)
    max_speed: float = parameter(0.7, "m/s in take-off, way-points and return.", low=0.05, high=20.0)
    max_acceleration: float = parameter(1.0, "m/s² in the same.", low=0.05, high=20.0)
    hover_time: float = parameter(4.0, "s of hovering in the demo.", low=0.0, high=3600.0)
    size: float = parameter(1.0, "m, half the length of the figure-eight along x.", low=0.0, high=100.0)
    figure_period: float = parameter(5.5, "s per figure-eight.", low=1.0, high=600.0)
    periods: float = parameter(2.0, "Figure-eights at full speed in the demo.", low=0.0, high=1000.0)
    ramp: float = parameter(2.0, "s in which a figure-eight comes up to speed, and down.", low=0.0, high=60.0)
    points: list[float] = parameter(
        [1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 1.0], "Way-points x, y, z, x, y, z, ... in m, frame odom."
    )
    dwell: float = parameter(1.0, "s of rest at each way-point.", low=0.0, high=3600.0)
    landing_speed: float = parameter(0.3, "m/s at most on the way down.", low=0.05, high=2.0)
    policy: str = parameter("", "Policy whose geofence a person's set-point keeps away from; empty: none is known.")
    robot: str = parameter("crazyflie", "Robot description that the policy is for: a name, or the path of a YAML file.")
    person_speed: float = parameter(1.0, "m/s horizontally at most while a person flies.", low=0.05, high=20.0)
    person_climb: float = parameter(0.5, "m/s up and down, likewise.", low=0.05, high=10.0)
    person_yaw_rate: float = parameter(1.0, "rad/s, likewise.", low=0.05, high=6.0)
    person_acceleration: float = parameter(1.5, "m/s² of the set-point, likewise, also to stand.", low=0.1, high=20.0)
    person_radius: float = parameter(5.0, "m from the start within which a person may fly.", low=0.1, high=1000.0)
    person_ceiling: float = parameter(3.0, "m above the start up to which a person may fly.", low=0.1, high=100.0)


class SetpointNode(Managed):
    """Publishes where to be now; stands still on the ground until armed."""

    part = "mission"
    needs_message_info = True
    priority = 5

    def __init__(self) -> None:
        super().__init__("setpoint", SetpointConfig)
        self.config = config = self.settings
        self.set_period(1.0 / config.rate)
        self._state: QuadrotorState | None = None
        self._mode = ""
        self._last_tick = 0.0
        self._forget()
        self._setpoints = qos.publisher(self, MultiDOFJointTrajectory, "setpoint", qos.command_publisher(self.period))
        self._phases = qos.publisher(self, String, "setpoint/phase", qos.STATUS)
        qos.subscription(self, Odometry, "odom", self._on_odometry, qos.SENSOR_READER)
        qos.subscription(self, String, "supervisor/status", self._on_status, qos.STATUS)
        twist = self.when_active_with_info(self._on_twist)
        qos.subscription(self, TwistStamped, "command/twist", twist, qos.COMMAND_READER)
        self.create_service(Trigger, "hand_back", self._on_hand_back)
        self._disarm = self.create_client(Trigger, "disarm")

    def _forget(self) -> None:
        self._flight: SharedFlight | None = None
        self._phase = ""
        self._over = False
        self._twist: tuple[np.ndarray, float] | None = None
        self._first = FirstPublisher()
        self._refusal, self._refused = "", 0

    # The life cycle

    def configure(self) -> None:
        """Plan the mission once, so that a bad one is refused now and not when armed."""
        names = {f.name for f in fields(MissionConfig)} - {"kind"}
        config = self.config
        self.mission_config = MissionConfig(kind=config.mission, **{name: getattr(config, name) for name in names})
        plan(self.mission_config, np.zeros(3), 0.0)
        self.flying_config = FlyingConfig(
            speed=config.person_speed,
            climb=config.person_climb,
            yaw_rate=config.person_yaw_rate,
            acceleration=config.person_acceleration,
            radius=config.person_radius,
            ceiling=config.person_ceiling,
            box=self._box(),
        )

    def _box(self) -> tuple[tuple[float, float], ...] | None:
        """The geofence of the policy's envelope, beyond which the supervisor lands, less a margin but for the floor."""
        if not self.config.policy:
            return None
        interface = load_description(self.config.robot).interface
        fence = load_flight_policy(self.config.policy, interface, self.config.robot).manifest.envelope.geofence
        (x, y, z), m = fence, _FENCE_MARGIN
        return (x[0] + m, x[1] - m), (y[0] + m, y[1] - m), (z[0], z[1] - m)

    def activate(self) -> None:
        """Begin: in the air with the mission from where the vehicle is, on the ground once it is armed."""
        self._forget()
        self._last_tick = self.now()
        if self._mode in _AIRBORNE:
            self._begin()
        self.get_logger().info(f"mission {self.config.mission}; it starts when the supervisor is armed")

    def deactivate(self) -> None:
        """Say nothing more: the policy stands still at the last set-point."""

    # While active

    def work(self) -> None:
        """Publish the set-point of this instant."""
        now = self.now()
        passed, self._last_tick = min(now - self._last_tick, _STILL_CLOCK), now
        if self._state is None:
            phase, setpoint = "waiting", None
        elif self._flight is None:
            phase, setpoint = "ground", self._stand(self._state)
        else:
            phase, setpoint = self._fly(self._flight, self._state, now, passed)
        if setpoint is not None:
            self._setpoints.publish(messages.trajectory_from_setpoint(setpoint, now))
        if phase != self._phase:
            self._phase = phase
            self._phases.publish(String(data=phase))
            self.get_logger().info(f"phase {phase}")

    def _fly(
        self, flight: SharedFlight, state: QuadrotorState, now: float, passed: float
    ) -> tuple[str, QuadrotorSetpoint]:
        if self._mode != "active":  # something else holds or lands it: a person's set-point stays with it
            flight.stand(state.position, float(rotation.yaw_of(state.orientation)))
            self._twist = None
        twist = None
        if self._twist is not None and now - self._twist[1] <= _FRESH[1]:
            twist = self._twist[0]
        driver, setpoint = flight.take(twist, state.position, passed)
        if driver != "mission":
            return driver, setpoint
        phase, over = flight.phase
        if over:
            self._finish()
        return "done" if over else phase, setpoint

    def _finish(self) -> None:
        """Ask for disarming once the mission is over; the supervisor's status tells that it has happened."""
        if not self._over and self._disarm.service_is_ready():
            self._over = True
            self._disarm.call_async(Trigger.Request())
        if self._over and self._mode == "disarmed" and self.config.end_when_done:
            self.finished = True

    def _on_odometry(self, message: Odometry) -> None:
        try:
            state, _ = messages.state_from_odometry(message)
        except messages.MessageError as error:
            self.get_logger().warning(f"odometry refused: {error}", throttle_duration_sec=1.0)
            return
        if np.all(np.isfinite(state.position)) and np.all(np.isfinite(state.orientation)):
            self._state = state

    def _on_status(self, message: String) -> None:
        mode = messages.status_from_message(message).mode
        if self.active and mode == "active" and self._mode not in _AIRBORNE:
            self._begin()
        elif mode not in _AIRBORNE and not self._over:
            self._flight = None
        self._mode = mode

    # A person

    def _on_twist(self, message: TwistStamped, info: Mapping) -> None:
        now = self.now()
        refusal = self._first.refusal(source_of(info), time.monotonic())
        if not refusal and self._flight is None:
            refusal = "nothing flies; arm first"
        if not refusal:
            try:
                twist, _, stamp = twist_from_message(message, messages.BODY_FRAME, messages.BODY_FRAME)
                if not _FRESH[0] <= now - stamp <= _FRESH[1]:
                    raise messages.MessageError(
                        f"twist is {now - stamp:.2f} s old (limits {_FRESH[0]:g} and {_FRESH[1]:g} s); are the clocks "
                        "of both machines the same?"
                    )
                # The last word of a person is zero, and no reason to take over anew.
                if np.any(twist) or self._phase in ("person", "held"):
                    self._twist = twist, stamp
            except messages.MessageError as error:
                refusal = str(error)
        if refusal:
            self._refusal, self._refused = refusal, self._refused + 1
            self.get_logger().warning(f"twist refused: {refusal}", throttle_duration_sec=1.0)

    def _on_hand_back(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success, response.message = False, "nothing flies"
        if self._flight is not None:
            response.success, response.message = self._flight.hand_back()
            self._twist = None
        return response

    def _begin(self) -> None:
        if self._state is not None:
            yaw = float(rotation.yaw_of(self._state.orientation))
            config, home = self.mission_config, self._state.position
            self._flight = SharedFlight(
                plan(config, home, yaw),
                home,
                self.flying_config,
                max_speed=config.max_speed,
                max_acceleration=config.max_acceleration,
            )
            self._over, self._twist = False, None

    def _stand(self, state: QuadrotorState) -> QuadrotorSetpoint:
        return setpoints.hover(state.position, float(rotation.yaw_of(state.orientation)), like=state.position)

    def describe(self) -> tuple[bytes, str, Values]:
        """The phase of the mission."""
        level = DiagnosticStatus.WARN if self._state is None else DiagnosticStatus.OK
        return level, "no odometry yet" if self._state is None else self._phase, self._values

    def _values(self) -> Mapping[str, Any]:
        return {
            "mission": self.config.mission,
            "phase": self._phase,
            "elapsed": 0.0 if self._flight is None else self._flight.elapsed,
            "last refused twist": self._refusal,
            "twists refused": self._refused,
            "skipped periods": self.schedule.skipped,
            "timing.setpoint_lateness": self.schedule.lateness.to_chart(),
        }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node."""
    return run(SetpointNode, argv)
