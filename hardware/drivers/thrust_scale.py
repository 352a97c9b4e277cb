"""Thrust as policies say it, m/s², and as autopilots take it, 0 to 1 of full throttle.

Collective thrust over mass is what hovers at 9.81 m/s². The autopilot's number is a share of full throttle, and
the two meet at one point that every vehicle knows: the throttle at which it hovers (PX4's MPC_THR_HOVER, ArduPilot's
MOT_THST_HOVER; both learn it in flight). Between, the autopilot's own curve (THR_MDL_FAC, MOT_THST_EXPO) makes throttle
proportional to thrust; where it is not set, thrust grows with a share of the square of throttle:

    thrust / full thrust = square × throttle² + (1 - square) × throttle

A battery that empties, or payload, moves the hover point: the position loop's integral carries the rest, and a wrong
hover point of 10 % is a wrong thrust of 10 % at once, upwards or downwards: measure it (docs/drivers_quadrotors.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from hardware.descriptions import QuadrotorDescription

GRAVITY = 9.81
"""m/s², standard gravity as everywhere in this project."""


@dataclass(frozen=True, kw_only=True)
class ThrustScale:
    """m/s² to throttle and back."""

    hover: float
    """Throttle at which the vehicle hovers, 0 to 1."""
    square: float = 0.0
    """Share of the square in the curve from throttle to thrust, 0 (proportional) to 1."""
    lower: float = 0.0
    """Lowest throttle that is sent while flying; the rotors keep turning."""
    upper: float = 1.0
    """Highest throttle that is sent."""

    def __post_init__(self) -> None:
        if not 0.05 <= self.hover <= 0.95:
            raise ValueError(f"hover throttle is {self.hover}; expected a share of full throttle from 0.05 to 0.95")
        if not 0.0 <= self.square <= 1.0:
            raise ValueError(f"share of the square is {self.square}; expected 0 to 1")
        if not 0.0 <= self.lower < self.upper <= 1.0:
            raise ValueError(f"throttle limits are {self.lower} to {self.upper}; expected 0 ≤ lower < upper ≤ 1")

    @property
    def full(self) -> float:
        """m/s² at full throttle."""
        return GRAVITY / self._curve(self.hover)

    def throttle(self, thrust: float) -> float:
        """Throttle for a thrust in m/s², within the limits."""
        share = max(0.0, thrust) / self.full
        linear = 1.0 - self.square
        # The root in the form that also holds for a straight line.
        divisor = linear + math.sqrt(linear * linear + 4.0 * self.square * share)
        value = 2.0 * share / divisor if divisor > 0.0 else 0.0
        return min(max(value, self.lower), self.upper)

    def thrust(self, throttle: float) -> float:
        """Thrust in m/s² of a throttle."""
        return self.full * self._curve(throttle)

    def _curve(self, throttle: float) -> float:
        return throttle * (self.square * throttle + 1.0 - self.square)


def described_hover(description: QuadrotorDescription) -> float:
    """Share of full thrust that hovers, by the description's mass and rotor curve."""
    parameters = description.parameters
    c0, c1, c2 = (float(value) for value in parameters["thrust_coefficients"])
    speed = float(parameters["max_speed"])
    full = 4.0 * (c0 + speed * (c1 + c2 * speed))
    return float(parameters["mass"]) * GRAVITY / full
