"""What the supervisor is told, checked before it is believed.

Three inputs keep the newest good sample and its stamp: the vehicle's state, the attitude of its
inertial sensor, and the policy's motor commands. A sample that is not believed leaves no trace
but a counter and a sentence, so that the age of the last good one grows until the supervisor acts.

All times are s on one clock. `stamp` is when something was measured or computed, `now` when it
arrived.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hardware.safety.stamped import StampConfig, StampedInput
from policies.types import Array, QuadrotorState


@dataclass(frozen=True, kw_only=True)
class InputConfig(StampConfig):
    """What the quadrotor's inputs believe."""

    jump_margin: float = 0.1
    """m that a pose may jump beyond speed × time: noise and corrections of the estimator."""


class StateInput(StampedInput):
    """Newest believed state of the vehicle."""

    def __init__(self, config: InputConfig, max_speed: float) -> None:
        super().__init__("state", config, "outlier")
        self.config = config
        self.max_speed = max_speed
        self.state: QuadrotorState | None = None
        self.outliers_in_row = 0

    def observe(self, state: QuadrotorState, stamp: float, now: float) -> str:
        """Take a state (single vehicle, numpy or lists); returns why not, or an empty string."""
        if problem := self.check_stamp(stamp, now):
            return problem
        state = QuadrotorState(
            *(
                np.asarray(value, dtype=np.float64)
                for value in (
                    state.position,
                    state.orientation,
                    state.linear_velocity,
                    state.angular_velocity,
                )
            )
        )
        parts = ("position", "orientation", "linear_velocity", "angular_velocity")
        bad = [part for part in parts if not np.all(np.isfinite(getattr(state, part)))]
        if bad:
            return self.refuse("not_finite", f"has non-finite {', '.join(bad)}")
        orientation = unit_quaternion(state.orientation)
        if orientation is None:
            return self.refuse("not_finite", f"orientation {state.orientation.tolist()} is no unit quaternion")
        if not self.trusted:
            return self.refuse("outlier", f"is not believed after {self.outliers_in_row} jumps in a row: recover")
        if self.state is not None:
            jump = float(np.linalg.norm(state.position - self.state.position))
            reach = self.max_speed * (stamp - self.stamp) + self.config.jump_margin
            if jump > reach:
                self.outliers_in_row += 1
                return self.refuse("outlier", f"jumps by {jump:.2f} m where {reach:.2f} m are possible")
        self.outliers_in_row = 0
        self.state = QuadrotorState(state.position, orientation, state.linear_velocity, state.angular_velocity)
        return self.accept(stamp)

    @property
    def trusted(self) -> bool:
        """False after too many jumps in a row, until `forget`."""
        return self.outliers_in_row < self.config.outliers_to_fault

    def forget(self) -> None:
        """Believe the next pose wherever it is: the vehicle was carried, or the estimator restarted."""
        super().forget()
        self.state = None
        self.outliers_in_row = 0


class AttitudeInput(StampedInput):
    """Newest attitude and body rates, from the inertial sensor: it may live on when odometry is dead."""

    def __init__(self, config: InputConfig) -> None:
        super().__init__("attitude", config)
        self.config = config
        self.orientation = np.array([1.0, 0.0, 0.0, 0.0])
        self.angular_velocity = np.zeros(3)

    def observe(self, orientation: Array, angular_velocity: Array, stamp: float, now: float) -> str:
        """Take an attitude (4,) wxyz and body rates (3,) rad/s; returns why not, or an empty string."""
        if problem := self.check_stamp(stamp, now):
            return problem
        unit = unit_quaternion(np.asarray(orientation, dtype=np.float64))
        rates = np.asarray(angular_velocity, dtype=np.float64)
        if unit is None or not np.all(np.isfinite(rates)):
            return self.refuse("not_finite", "has a non-finite rate or is no unit quaternion")
        self.orientation, self.angular_velocity = unit, rates
        return self.accept(stamp)


class CommandInput(StampedInput):
    """Newest believed motor command, from one publisher only."""

    def __init__(self, config: InputConfig, max_speed: float) -> None:
        super().__init__("command", config, "out_of_limits", "second_source", label="policy output")
        self.config = config
        self.max_speed = max_speed
        self.values = np.zeros(4)
        self.source = ""
        self._heard = -math.inf

    def observe(self, values: Array, stamp: float, now: float, source: str) -> str:
        """Take rotor speeds (4,) rad/s from `source`; returns why not, or an empty string."""
        if source != self.source and now - self._heard < self.config.source_timeout:
            return self.refuse("second_source", f"from {source!r} is refused while {self.source!r} is alive")
        self.source, self._heard = source, now
        if problem := self.check_stamp(stamp, now):
            return problem
        values = np.asarray(values, dtype=np.float64)
        if values.shape != (4,) or not np.all(np.isfinite(values)):
            return self.refuse("not_finite", f"is {values.tolist()}; expected 4 finite rotor speeds")
        slack = self.config.limit_tolerance * self.max_speed
        if np.min(values) < -slack or np.max(values) > self.max_speed + slack:
            return self.refuse("out_of_limits", f"{values.tolist()} rad/s leaves [0, {self.max_speed:.1f}]")
        self.values = np.clip(values, 0.0, self.max_speed)
        return self.accept(stamp)


def unit_quaternion(values: np.ndarray) -> np.ndarray | None:
    """The quaternion (4,) at unit length, or None if it is not one within 5 %."""
    length = float(np.linalg.norm(values))
    if values.shape != (4,) or not math.isfinite(length) or abs(length - 1.0) > 0.05:
        return None
    return values / length
