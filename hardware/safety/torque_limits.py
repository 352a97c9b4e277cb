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

from dataclasses import dataclass

import numpy as np

from hardware.descriptions.arm import ArmDescription
from hardware.dynamics import mass_matrix
from hardware.safety.arm_envelope import ArmEnvelope, joint_envelope

_SIGNS = np.array([[1.0], [-1.0]])
"""Towards the upper limit, towards the lower."""
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
    edges: np.ndarray
    """Shape (2, n), rad: upper, minus lower."""
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
    return TorqueLimits(
        lower=limits.lower,
        upper=limits.upper,
        velocity=config.velocity_share * limits.velocity,
        braking=np.minimum(limits.acceleration, config.brake_share * limits.torque / inertia),
        torque_rate=limits.torque_rate,
        edges=np.stack([limits.upper, -limits.lower]),
        config=config,
    )


def acceleration_bounds(
    limits: TorqueLimits, q: np.ndarray, qd: np.ndarray, acceleration: np.ndarray, inertia: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest acceleration (n,) rad/s² that keep the limits.

    Args:
        limits: Of the robot.
        q: Shape (n,), rad.
        qd: Shape (n,), rad/s.
        acceleration: Shape (n,), rad/s², that is asked for: what has to be taken back at once depends on it.
        inertia: Shape (n, n), kg m², in joint space.
    """
    config = limits.config
    # Both directions at once: rows towards the upper limit, then towards the lower.
    velocity = _SIGNS * qd
    towards = np.maximum(velocity, 0.0)
    distance = limits.edges - _SIGNS * q - config.lag * towards
    allowed = np.minimum(np.sqrt(2.0 * limits.braking * np.maximum(distance, 0.0)), limits.velocity)
    # Within braking distance the allowed velocity itself falls by braking × velocity / allowed.
    falling = limits.braking * np.minimum(towards / np.maximum(allowed, 1e-6), 1.0) * (allowed < limits.velocity)
    back = np.maximum(config.return_gain * np.minimum(distance, 0.0), -0.5 * limits.velocity)
    left = allowed + back - velocity
    # How fast a joint's acceleration alone can be changed, all joints' torques taking part.
    alone = np.min(limits.torque_rate[:, None] / np.maximum(np.abs(inertia), 1e-9), axis=0)
    asked = np.maximum(_SIGNS * acceleration, 0.0)
    urgent = np.where(2.0 * asked * config.delay + asked * asked / alone > left, asked, 0.0)
    time = float(np.max(np.abs(inertia @ (urgent[0] - urgent[1])) / limits.torque_rate))
    jerk = np.where(urgent > 0.0, np.minimum(alone, urgent / max(time, 1e-9)), alone)
    size = np.abs(left)
    lead = jerk * config.delay
    onward = np.minimum(size / config.response_time, np.sqrt(lead * lead + 2.0 * jerk * size) - lead)
    return_ = np.minimum(size / config.return_time, np.sqrt(config.return_rate_share * alone * size))
    bound = np.where(left > 0.0, onward, -return_) - falling
    return -bound[1], bound[0]


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
