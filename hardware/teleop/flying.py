"""Flying a quadrotor by hand: sticks say a velocity and a yaw rate, from which a set-point comes that stays in bounds.

The set-point goes on from where it was, with the speed that it had, so that neither take-over nor hand-back jumps; with
the sticks centred it brakes and stands. It brakes ahead of the edges of the space it may be in, and waits for a vehicle
that falls behind. Nothing here knows what the set-point is followed by: a policy, a controller, real or simulated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from policies import rotation
from policies.types import QuadrotorSetpoint

_MARGIN = 0.5
"""Share of the deceleration with which one edge is approached; the rest is for a second one and for curves."""
_TURNING = 0.4
"""Share with which one flies along the round edge: v² / radius, so that both leave a little."""


@dataclass(frozen=True, kw_only=True)
class FlyingConfig:
    """The space and the speeds that a person has."""

    speed: float = 1.0
    """m/s horizontally at most; less where the radius is too small to fly along its edge so fast."""
    climb: float = 0.5
    """m/s up and down at most."""
    yaw_rate: float = 1.0
    """rad/s at most."""
    acceleration: float = 1.5
    """m/s² of the set-point at most, also to stand."""
    yaw_acceleration: float = 4.0
    """rad/s² of its heading at most."""
    radius: float = 5.0
    """m from the start, horizontally."""
    floor: float = -0.05
    """m above the start; a little below it, so that the vehicle can be set down."""
    ceiling: float = 3.0
    """m above the start."""
    box: tuple[tuple[float, float], ...] | None = None
    """m, x, y and z of the world between which it may be as well; None: anywhere."""
    leash: float = 0.5
    """m by which the set-point may be ahead of the vehicle."""

    def __post_init__(self) -> None:
        for name in ("speed", "climb", "yaw_rate", "acceleration", "yaw_acceleration", "radius", "leash"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0.0):
                raise ValueError(f"{name} of flying by hand is {value}; expected a number above 0")
        if not self.floor < self.ceiling:
            raise ValueError(f"floor of flying by hand is {self.floor} m, above its ceiling of {self.ceiling} m")


@dataclass(frozen=True, kw_only=True, eq=False)
class Flight:
    """Where a person has brought the set-point."""

    setpoint: QuadrotorSetpoint
    """The set-point now."""
    yaw_rate: float
    """rad/s at which its heading turns."""
    home: np.ndarray
    """Position (3,) m of the start, the middle of the space."""

    @property
    def stands(self) -> bool:
        """Whether it has come to rest."""
        return not np.any(self.setpoint.velocity) and self.yaw_rate == 0.0


def begin(setpoint: QuadrotorSetpoint, home: np.ndarray) -> Flight:
    """Take over the set-point as it moves now."""
    return Flight(setpoint=setpoint, yaw_rate=0.0, home=np.asarray(home, dtype=np.float64))


def advance(flight: Flight, twist: np.ndarray, measured: np.ndarray, period: float, config: FlyingConfig) -> Flight:
    """One step of the set-point.

    Args:
        flight: Before it.
        twist: What the person wants (6,): m/s ahead, to the left and up, in the heading of the set-point, rad/s; its
            roll and pitch mean nothing. Zero: stand.
        measured: Position (3,) m of the vehicle.
        period: s since the last step.
        config: Bounds.
    """
    before = flight.setpoint
    wanted = _clipped(rotation.rotate(rotation.from_yaw(np.asarray(before.yaw)), twist[:3]), config)
    wanted = _leashed(wanted, before.position - measured, config)
    wanted = _fenced(wanted, flight, config)
    velocity = _changed(flight, wanted, config.acceleration * period, config)
    wanted_rate = float(np.clip(twist[5], -config.yaw_rate, config.yaw_rate))
    change = config.yaw_acceleration * period
    rate = flight.yaw_rate + float(np.clip(wanted_rate - flight.yaw_rate, -change, change))
    yaw = float(before.yaw) + 0.5 * (flight.yaw_rate + rate) * period
    setpoint = replace(
        before,
        position=before.position + 0.5 * (before.velocity + velocity) * period,
        velocity=velocity,
        acceleration=(velocity - before.velocity) / period if period > 0.0 else np.zeros(3),
        yaw=np.asarray(math.remainder(yaw, math.tau)),
    )
    return replace(flight, setpoint=setpoint, yaw_rate=rate)


def _changed(flight: Flight, wanted: np.ndarray, change: float, config: FlyingConfig) -> np.ndarray:
    """As far from the present velocity to another as `change` m/s allow; braking before an edge comes first."""
    velocity = flight.setpoint.velocity
    braked = velocity + _shortened(_fenced(velocity, flight, config) - velocity, change)
    left = max(0.0, change - float(np.linalg.norm(braked - velocity)))
    return braked + _shortened(wanted - braked, left)


def _clipped(velocity: np.ndarray, config: FlyingConfig) -> np.ndarray:
    fastest = min(config.speed, math.sqrt(_TURNING * config.acceleration * config.radius))
    across = _shortened(velocity[:2], fastest)
    return np.append(across, np.clip(velocity[2], -config.climb, config.climb))


def _leashed(velocity: np.ndarray, ahead: np.ndarray, config: FlyingConfig) -> np.ndarray:
    """Do not run further away from the vehicle than it can follow."""
    return _limited_along(velocity, ahead, config.leash - float(np.linalg.norm(ahead)), config)


def _fenced(velocity: np.ndarray, flight: Flight, config: FlyingConfig) -> np.ndarray:
    """As fast towards an edge as one can still brake before it; what is beyond one may only come back."""
    position = flight.setpoint.position
    across = (position - flight.home) * [1.0, 1.0, 0.0]
    velocity = _limited_along(velocity, across, config.radius - float(np.linalg.norm(across)), config)
    low = np.array([-np.inf, -np.inf, flight.home[2] + config.floor])
    high = np.array([np.inf, np.inf, flight.home[2] + config.ceiling])
    if config.box is not None:
        box = np.asarray(config.box, dtype=np.float64)
        low, high = np.maximum(low, box[:, 0]), np.minimum(high, box[:, 1])
    for axis, unit in enumerate(np.eye(3)):
        velocity = _limited_along(velocity, unit, float(high[axis] - position[axis]), config)
        velocity = _limited_along(velocity, -unit, float(position[axis] - low[axis]), config)
    return velocity


def _limited_along(velocity: np.ndarray, direction: np.ndarray, room: float, config: FlyingConfig) -> np.ndarray:
    length = float(np.linalg.norm(direction))
    if length < 1e-9:
        return velocity
    unit = direction / length
    fastest = math.sqrt(2.0 * _MARGIN * config.acceleration * max(0.0, room))
    excess = float(velocity @ unit) - fastest
    return velocity - excess * unit if excess > 0.0 else velocity


def _shortened(vector: np.ndarray, length: float) -> np.ndarray:
    norm = float(np.linalg.norm(vector))
    return vector * (length / norm) if norm > length else vector.copy()
