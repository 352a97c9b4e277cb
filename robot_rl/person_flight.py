"""Who moves a quadrotor's set-point, its mission or a person: take-over in flight, hand-back without a jump. No ROS.

A person's first twist takes the set-point from the mission, whose clock stops. Without twists it brakes and stands, for
as long as it takes. Handed back, it goes to where the mission was, and the mission's clock comes up to speed again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from hardware import setpoints
from hardware.teleop import flying
from hardware.teleop.flying import Flight, FlyingConfig
from policies.types import QuadrotorSetpoint
from robot_rl.mission import Phase, at

Driver = Literal["mission", "person", "held", "returning"]
_SPEED_UP = 1.0
"""s in which the mission's clock comes up to speed after a hand-back."""


class SharedFlight:
    """A mission in flight that a person may take over."""

    def __init__(
        self,
        mission: Sequence[Phase],
        home: np.ndarray,
        config: FlyingConfig,
        *,
        max_speed: float,
        max_acceleration: float,
    ) -> None:
        """Begin the mission.

        Args:
            mission: What to fly.
            home: Position (3,) m of the start.
            config: A person's bounds.
            max_speed: m/s on the way back to the mission.
            max_acceleration: m/s², likewise.
        """
        self._mission, self._home, self._config = mission, np.asarray(home, dtype=np.float64), config
        self._limits = {"max_speed": max_speed, "max_acceleration": max_acceleration}
        self.elapsed = 0.0
        """s on the mission's clock."""
        self._setpoint: QuadrotorSetpoint | None = None
        self._flight: Flight | None = None
        self._handed_back = False
        self._way_back: Callable[[float], QuadrotorSetpoint] | None = None
        self._way_time = self._way_length = 0.0
        self._since_return: float | None = None

    def take(self, twist: np.ndarray | None, measured: np.ndarray, period: float) -> tuple[Driver, QuadrotorSetpoint]:
        """The set-point of this instant, and who moves it.

        Args:
            twist: What the person wants (6,), see `flying.advance`; None: nothing, or nothing that is fresh.
            measured: Position (3,) m of the vehicle.
            period: s since the last call.
        """
        if twist is not None:
            self._handed_back, self._way_back = False, None
            if self._flight is None:
                self._flight = flying.begin(self._last(), self._home)
        if self._flight is not None:
            return self._by_hand(twist, measured, period)
        if self._way_back is not None:
            self._way_time += period
            if self._way_time < self._way_length:
                return "returning", self._say(self._way_back(self._way_time))
            self._way_back, self._since_return = None, 0.0
            period = 0.0
        return "mission", self._say(self._fly_mission(period))

    def hand_back(self) -> tuple[bool, str]:
        """Let the mission go on, once the set-point stands."""
        if self._flight is None:
            return False, "nobody has taken over"
        self._handed_back = True
        return True, "the mission goes on from where it was"

    def stand(self, position: np.ndarray, yaw: float) -> None:
        """The vehicle did not follow; a person goes on from where it is now, at `position` (3,) m with `yaw` rad."""
        if self._flight is not None:
            still = setpoints.hover(position, yaw, like=np.asarray(position, dtype=np.float64))
            self._flight = flying.begin(self._say(still), self._home)

    @property
    def phase(self) -> tuple[str, bool]:
        """(name of the mission's phase, whether the mission is over)."""
        name, _, over = at(self._mission, self.elapsed)
        return name, over

    def _by_hand(
        self, twist: np.ndarray | None, measured: np.ndarray, period: float
    ) -> tuple[Driver, QuadrotorSetpoint]:
        assert self._flight is not None
        wanted = np.zeros(6) if twist is None else twist
        self._flight = flying.advance(self._flight, wanted, measured, period, self._config)
        setpoint = self._say(self._flight.setpoint)
        if self._handed_back and self._flight.stands:
            self._flight = None
            self._plan_way_back(setpoint)
            return "returning", setpoint
        return ("held" if twist is None else "person"), setpoint

    def _plan_way_back(self, start: QuadrotorSetpoint) -> None:
        _, goal, _ = at(self._mission, self.elapsed)
        distance = np.linalg.norm(goal.position - start.position)
        length = max(0.5, float(setpoints.segment_duration(distance, **self._limits)))

        def sample(time: float) -> QuadrotorSetpoint:
            return setpoints.segment(
                np.asarray(time),
                start=start.position,
                goal=goal.position,
                duration=length,
                start_yaw=start.yaw,
                goal_yaw=goal.yaw,
            )

        self._way_back, self._way_time, self._way_length = sample, 0.0, length

    def _fly_mission(self, period: float) -> QuadrotorSetpoint:
        if self._since_return is None:
            self.elapsed += period
            return at(self._mission, self.elapsed)[1]
        before = float(setpoints.ramp_time(np.asarray(self._since_return), _SPEED_UP)[0])
        self._since_return += period
        now, rate, change = (float(v) for v in setpoints.ramp_time(np.asarray(self._since_return), _SPEED_UP))
        self.elapsed += now - before
        point = at(self._mission, self.elapsed)[1]
        if self._since_return >= _SPEED_UP:
            self._since_return = None
        return replace(
            point,
            velocity=rate * point.velocity,
            acceleration=rate * rate * point.acceleration + change * point.velocity,
        )

    def _last(self) -> QuadrotorSetpoint:
        return at(self._mission, self.elapsed)[1] if self._setpoint is None else self._setpoint

    def _say(self, setpoint: QuadrotorSetpoint) -> QuadrotorSetpoint:
        self._setpoint = setpoint
        return setpoint
