"""Set-points of a mission as a node: it starts when the supervisor has armed; the demo lands by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from nav_msgs.msg import Odometry
from std_msgs.msg import String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import MultiDOFJointTrajectory

from hardware import setpoints
from policies import rotation
from policies.types import QuadrotorSetpoint, QuadrotorState
from robot_rl.mission import KINDS, MissionConfig, Phase, at, plan
from robot_rl.nodes import messages, qos
from robot_rl.nodes.managed import Managed, ManagedConfig, Values
from robot_rl.nodes.parameters import parameter
from robot_rl.nodes.running import run

_AIRBORNE = ("active", "holding", "level", "descending")
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


class SetpointNode(Managed):
    """Publishes where to be now; stands still on the ground until armed."""

    part = "mission"

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
        self._disarm = self.create_client(Trigger, "disarm")

    def _forget(self) -> None:
        self._mission: tuple[Phase, ...] = ()
        self._elapsed = 0.0
        self._phase = ""
        self._over = False

    # The life cycle

    def configure(self) -> None:
        """Plan the mission once, so that a bad one is refused now and not when armed."""
        names = {f.name for f in fields(MissionConfig)} - {"kind"}
        config = self.config
        self.mission_config = MissionConfig(kind=config.mission, **{name: getattr(config, name) for name in names})
        plan(self.mission_config, np.zeros(3), 0.0)

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
        elif not self._mission:
            phase, setpoint = "ground", self._stand(self._state)
        else:
            self._elapsed += passed
            phase, setpoint, over = at(self._mission, self._elapsed)
            if over:
                phase = "done"
                self._finish()
        if setpoint is not None:
            self._setpoints.publish(messages.trajectory_from_setpoint(setpoint, now))
        if phase != self._phase:
            self._phase = phase
            self._phases.publish(String(data=phase))
            self.get_logger().info(f"phase {phase}")

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
            self._mission = ()
        self._mode = mode

    def _begin(self) -> None:
        if self._state is not None:
            yaw = float(rotation.yaw_of(self._state.orientation))
            self._mission = plan(self.mission_config, self._state.position, yaw)
            self._elapsed, self._over = 0.0, False

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
            "elapsed": self._elapsed,
            "skipped periods": self.schedule.skipped,
            "timing.setpoint_lateness": self.schedule.lateness.to_chart(),
        }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node."""
    return run(SetpointNode, argv)
