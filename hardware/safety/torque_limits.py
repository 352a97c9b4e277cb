"""Torques that cannot carry a joint beyond its limits of position and velocity, however long they are asked for.

Per joint, e = v_allowed(q) - q̇ is the velocity that is left, where v_allowed is the velocity limit, and towards a
position limit at distance d the velocity sqrt(2 a_brake d) from which the joint still stops before it. A torque makes
the acceleration q̈ = M⁻¹ (τ - c), with Coriolis torques c: an arm that spins and folds would go beyond its limits
without them. It goes on using up e until it is taken back, which takes the time T = q̈ / J at the torques' rate, all
joints together. So the acceleration is kept below

    a = min(e / response, sqrt(J² h² + 2 J e) - J h) - a_falling        (a h + a² / 2J = e)

with h the time until a change acts, J the rate at which this joint's acceleration can be taken back together with
those of all others that are about to use up their e, and a_falling the rate at which v_allowed itself falls. The same
holds in the other direction. Beyond a limit v_allowed points back into the range. This is a barrier condition of
relative degree two on each limit (Nguyen and Sreenath, "Exponential control barrier functions", 2016), solved in
closed form by giving every joint its own acceleration:

    τ' = τ + M (clip(q̈, lower, upper) - q̈)

so that torques within the limits pass unchanged, and a limited joint leaves the others' accelerations alone. The rate
of torques is kept by `approach`, which first takes back what the torques of the last tick would do beyond the bounds,
and gives the rest of the rate to what is asked, as a common share of the way for all joints: it does not turn the
acceleration, and what lies between two torques that keep the bounds keeps them too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hardware.descriptions.arm import ArmDescription
from hardware.dynamics import mass_matrix
from hardware.safety.arm_envelope import ArmEnvelope, joint_envelope

_ROUNDING = 1e-10
"""Share of a step by which rounded differences may exceed it: a controller that keeps the rate is not touched."""


@dataclass(frozen=True, kw_only=True)
class TorqueLimitConfig:
    """How hard limits are kept."""

    velocity_share: float = 0.95
    """Share of the envelope's velocity that is aimed at: the rest takes up what changes between two computations."""
    response_time: float = 0.008
    """s: shortest time constant with which a velocity approaches its bound."""
    return_time: float = 0.02
    """s: time constant with which a velocity beyond its bound comes back."""
    delay: float = 0.003
    """s, h: time until a change of torque acts."""
    brake_share: float = 0.25
    """Share of the torque limits that braking before a position limit may need, at the largest inertia."""
    return_rate_share: float = 0.25
    """Share of the torque's rate with which a velocity beyond its bound comes back."""
    lag: float = 0.025
    """s that braking takes to build up: positions are foreseen by it."""
    return_gain: float = 5.0
    """1/s: velocity back per rad beyond a limit."""
    samples: int = 300
    """Random postures in which the largest inertia is looked for."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TorqueLimits:
    """Constants of one robot; all shapes (n,)."""

    lower: np.ndarray
    """rad."""
    upper: np.ndarray
    """rad."""
    velocity: np.ndarray
    """rad/s."""
    braking: np.ndarray
    """rad/s², that the joint can surely brake with."""
    torque_rate: np.ndarray
    """N m/s."""
    joints: list[tuple[float, float, float, float]]
    """The same once more as plain numbers, joint by joint: upper, minus lower, velocity, braking."""
    config: TorqueLimitConfig
    """How hard limits are kept."""


def torque_limits(
    description: ArmDescription, envelope: ArmEnvelope, config: TorqueLimitConfig | None = None
) -> TorqueLimits:
    """Constants for `acceleration_bounds`."""
    config = config or TorqueLimitConfig()
    limits = joint_envelope(description, envelope)
    generator = np.random.default_rng(0)
    postures = generator.uniform(limits.lower, limits.upper, (config.samples, description.num_joints))
    inertia = np.max(np.sum(np.abs(mass_matrix(description, postures)), axis=-1), axis=0)
    velocity = config.velocity_share * limits.velocity
    braking = np.minimum(limits.acceleration, config.brake_share * limits.torque / inertia)
    return TorqueLimits(
        lower=limits.lower,
        upper=limits.upper,
        velocity=velocity,
        braking=braking,
        torque_rate=limits.torque_rate,
        joints=[
            (float(high), -float(low), float(most), float(brake))
            for high, low, most, brake in zip(limits.upper, limits.lower, velocity, braking, strict=True)
        ],
        config=config,
    )


def jerk_limits(limits: TorqueLimits, inertia: np.ndarray) -> list[float]:
    """How fast each joint's acceleration alone can be changed, all joints' torques taking part: (n,) rad/s³."""
    alone: list[float] = np.min(limits.torque_rate[:, None] / np.maximum(np.abs(inertia), 1e-9), axis=0).tolist()
    return alone


def acceleration_bounds(
    limits: TorqueLimits,
    q: np.ndarray,
    qd: np.ndarray,
    acceleration: np.ndarray,
    inertia: np.ndarray,
    alone: Sequence[float],
) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest acceleration (n,) rad/s² that keep the limits.

    Plain numbers, joint by joint: on so few, that takes a third of the time of array operations.

    Args:
        limits: Of the robot.
        q: Shape (n,), rad.
        qd: Shape (n,), rad/s.
        acceleration: Shape (n,), rad/s², that is asked for: what has to be taken back at once depends on it.
        inertia: Shape (n, n), kg m², in joint space.
        alone: Shape (n,), rad/s³: `jerk_limits` of that inertia.
    """
    config = limits.config
    rooms: list[tuple[float, float, float]] = []
    urgent: list[float] = []
    for (upper, minus_lower, most, braking), jerk, angle, velocity, asked in zip(
        limits.joints, alone, q.tolist(), qd.tolist(), acceleration.tolist(), strict=True
    ):
        for edge, sign in ((upper, 1.0), (minus_lower, -1.0)):
            left, falling = _room(config, edge - sign * angle, sign * velocity, most, braking)
            wanted = sign * asked
            hurry = wanted > 0.0 and 2.0 * wanted * config.delay + wanted * wanted / jerk > left
            rooms.append((left, falling, jerk))
            urgent.append(wanted if hurry else 0.0)
    time = 0.0
    if any(urgent):
        change = np.array(urgent[::2]) - np.array(urgent[1::2])
        time = float(np.max(np.abs(inertia @ change) / limits.torque_rate))
    bounds = [_bound(config, *room, hurry, time) for room, hurry in zip(rooms, urgent, strict=True)]
    return -np.array(bounds[1::2]), np.array(bounds[::2])


def _room(
    config: TorqueLimitConfig, distance: float, velocity: float, most: float, braking: float
) -> tuple[float, float]:
    """Velocity that is left towards a limit `distance` rad away, and how fast the allowed one falls, rad/s²."""
    towards = velocity if velocity > 0.0 else 0.0
    distance -= config.lag * towards
    if distance <= 0.0:
        back = max(config.return_gain * distance, -0.5 * most)
        return back - velocity, braking * min(1e6 * towards, 1.0)
    allowed = math.sqrt(2.0 * braking * distance)
    if allowed >= most:
        return most - velocity, 0.0
    # Within braking distance the allowed velocity itself falls by braking × velocity / allowed.
    return allowed - velocity, braking * min(towards / max(allowed, 1e-6), 1.0)


def _bound(config: TorqueLimitConfig, left: float, falling: float, alone: float, urgent: float, time: float) -> float:
    """Acceleration, rad/s², that uses up the velocity `left` in time; `time` s is what taking back `urgent` takes."""
    if left <= 0.0:
        return -min(-left / config.return_time, math.sqrt(config.return_rate_share * alone * -left)) - falling
    jerk = min(alone, urgent / max(time, 1e-9)) if urgent > 0.0 else alone
    lead = jerk * config.delay
    return min(left / config.response_time, math.sqrt(lead * lead + 2.0 * jerk * left) - lead) - falling


def within(acceleration: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Accelerations (n,) within bounds; far beyond both limits of velocity those may cross: then either brakes."""
    return np.minimum(np.maximum(acceleration, np.minimum(lower, upper)), upper)


def approach(
    target: np.ndarray, previous: np.ndarray, step: np.ndarray, safe: np.ndarray | None = None
) -> tuple[np.ndarray, bool]:
    """As far as possible from `previous` (n,) to `target` (n,) with no joint changing by more than `step` (n,).

    Args:
        target: What is asked for, N m.
        previous: What the robot makes now, N m.
        step: Largest change, N m.
        safe: Where to go first; None: straight to the target.

    Returns:
        What is reached, and whether that is the target. Differences of rounded numbers count as within the step.
    """
    if (np.abs(target - previous) <= (1.0 + _ROUNDING) * step).all():
        return target, True
    reached = previous
    if safe is not None:
        reached, whole = _go(previous, safe, previous, step)
        if not whole:
            return reached, False
    return _go(reached, target, previous, step)[0], False


def _go(start: np.ndarray, end: np.ndarray, middle: np.ndarray, step: np.ndarray) -> tuple[np.ndarray, bool]:
    """From `start` towards `end` as far as `middle` ± `step` goes, and whether that is the end."""
    way = end - start
    room = np.maximum(np.where(way > 0.0, middle + step - start, start - middle + step), 0.0)
    size = np.abs(way)
    share = float(np.min(room / np.maximum(size, 1e-12)))
    # Clipped once more: a share is rounded.
    return np.clip(start + min(share, 1.0) * way, middle - step, middle + step), share >= 1.0
