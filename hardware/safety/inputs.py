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

from policies.types import Array, QuadrotorState


@dataclass(frozen=True, kw_only=True)
class InputConfig:
    """What the inputs believe."""

    clock_tolerance: float = 0.02
    """s by which a stamp may lie in the future: clocks of two machines differ."""
    max_delay: float = 0.5
    """s by which a stamp may lie in the past on arrival; what comes later has waited in a queue."""
    jump_margin: float = 0.1
    """m that a pose may jump beyond speed × time: noise and corrections of the estimator."""
    outliers_to_fault: int = 3
    """Jumps in a row after which the pose is no longer believed."""
    source_timeout: float = 0.5
    """s of silence after which another publisher of commands may take over."""
    limit_tolerance: float = 1e-3
    """Share of the highest rotor speed by which a command may exceed a limit and is clipped, not refused."""


class _Stamped:
    """Newest stamp and the refusals, shared by the three inputs."""

    def __init__(self, name: str, config: InputConfig, *further_counters: str, label: str = "") -> None:
        self.name = name
        self.label = label or name
        self.config = config
        self.stamp = -math.inf
        """s, stamp of the newest good sample; -inf if there is none."""
        self.refusal = ""
        """Why the newest sample was refused, in words; empty if it was accepted."""
        keys = ("not_finite", "stamp_in_future", "stamp_too_old", "stamp_not_newer", *further_counters)
        self.counters = {f"{name}_{key}": 0 for key in keys}

    def age(self, now: float) -> float:
        """Time in s since the newest good sample, inf if there is none."""
        return max(0.0, now - self.stamp)

    def forget(self) -> None:
        """As if nothing had come yet; counters stay."""
        self.stamp = -math.inf

    def _refuse(self, key: str, sentence: str) -> str:
        self.counters[f"{self.name}_{key}"] += 1
        self.refusal = f"{self.label} {sentence}"
        return self.refusal

    def _check_stamp(self, stamp: float, now: float) -> str:
        if not math.isfinite(stamp):
            return self._refuse("not_finite", f"stamp is {stamp}")
        if stamp > now + self.config.clock_tolerance:
            return self._refuse(
                "stamp_in_future", f"stamp is {1e3 * (stamp - now):.0f} ms in the future: compare the clocks"
            )
        if stamp < now - self.config.max_delay:
            return self._refuse("stamp_too_old", f"stamp is {1e3 * (now - stamp):.0f} ms old on arrival")
        if stamp <= self.stamp:
            return self._refuse(
                "stamp_not_newer", f"stamp {stamp:.3f} s is not newer than the last, {self.stamp:.3f} s"
            )
        return ""

    def _accept(self, stamp: float) -> str:
        self.stamp = stamp
        self.refusal = ""
        return ""


class StateInput(_Stamped):
    """Newest believed state of the vehicle."""

    def __init__(self, config: InputConfig, max_speed: float) -> None:
        super().__init__("state", config, "outlier")
        self.max_speed = max_speed
        self.state: QuadrotorState | None = None
        self.outliers_in_row = 0

    def observe(self, state: QuadrotorState, stamp: float, now: float) -> str:
        """Take a state (single vehicle, numpy or lists); returns why not, or an empty string."""
        if problem := self._check_stamp(stamp, now):
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
            return self._refuse("not_finite", f"has non-finite {', '.join(bad)}")
        orientation = unit_quaternion(state.orientation)
        if orientation is None:
            return self._refuse("not_finite", f"orientation {state.orientation.tolist()} is no unit quaternion")
        if not self.trusted:
            return self._refuse("outlier", f"is not believed after {self.outliers_in_row} jumps in a row: recover")
        if self.state is not None:
            jump = float(np.linalg.norm(state.position - self.state.position))
            reach = self.max_speed * (stamp - self.stamp) + self.config.jump_margin
            if jump > reach:
                self.outliers_in_row += 1
                return self._refuse("outlier", f"jumps by {jump:.2f} m where {reach:.2f} m are possible")
        self.outliers_in_row = 0
        self.state = QuadrotorState(state.position, orientation, state.linear_velocity, state.angular_velocity)
        return self._accept(stamp)

    @property
    def trusted(self) -> bool:
        """False after too many jumps in a row, until `forget`."""
        return self.outliers_in_row < self.config.outliers_to_fault

    def forget(self) -> None:
        """Believe the next pose wherever it is: the vehicle was carried, or the estimator restarted."""
        super().forget()
        self.state = None
        self.outliers_in_row = 0


class AttitudeInput(_Stamped):
    """Newest attitude and body rates, from the inertial sensor: it may live on when odometry is dead."""

    def __init__(self, config: InputConfig) -> None:
        super().__init__("attitude", config)
        self.orientation = np.array([1.0, 0.0, 0.0, 0.0])
        self.angular_velocity = np.zeros(3)

    def observe(self, orientation: Array, angular_velocity: Array, stamp: float, now: float) -> str:
        """Take an attitude (4,) wxyz and body rates (3,) rad/s; returns why not, or an empty string."""
        if problem := self._check_stamp(stamp, now):
            return problem
        unit = unit_quaternion(np.asarray(orientation, dtype=np.float64))
        rates = np.asarray(angular_velocity, dtype=np.float64)
        if unit is None or not np.all(np.isfinite(rates)):
            return self._refuse("not_finite", "has a non-finite rate or is no unit quaternion")
        self.orientation, self.angular_velocity = unit, rates
        return self._accept(stamp)


class CommandInput(_Stamped):
    """Newest believed motor command, from one publisher only."""

    def __init__(self, config: InputConfig, max_speed: float) -> None:
        super().__init__("command", config, "out_of_limits", "second_source", label="policy output")
        self.max_speed = max_speed
        self.values = np.zeros(4)
        self.source = ""
        self._heard = -math.inf

    def observe(self, values: Array, stamp: float, now: float, source: str) -> str:
        """Take rotor speeds (4,) rad/s from `source`; returns why not, or an empty string."""
        if source != self.source and now - self._heard < self.config.source_timeout:
            return self._refuse("second_source", f"from {source!r} is refused while {self.source!r} is alive")
        self.source, self._heard = source, now
        if problem := self._check_stamp(stamp, now):
            return problem
        values = np.asarray(values, dtype=np.float64)
        if values.shape != (4,) or not np.all(np.isfinite(values)):
            return self._refuse("not_finite", f"is {values.tolist()}; expected 4 finite rotor speeds")
        slack = self.config.limit_tolerance * self.max_speed
        if np.min(values) < -slack or np.max(values) > self.max_speed + slack:
            return self._refuse("out_of_limits", f"{values.tolist()} rad/s leaves [0, {self.max_speed:.1f}]")
        self.values = np.clip(values, 0.0, self.max_speed)
        return self._accept(stamp)


def unit_quaternion(values: np.ndarray) -> np.ndarray | None:
    """The quaternion (4,) at unit length, or None if it is not one within 5 %."""
    length = float(np.linalg.norm(values))
    if values.shape != (4,) or not math.isfinite(length) or abs(length - 1.0) > 0.05:
        return None
    return values / length
