"""Torques that cannot carry a joint beyond its limits of position and velocity, however long they are asked for.

Per joint, the acceleration that a torque makes is kept below

    a = min(e / T, sqrt(ρ e)) + feedforward,        e = v_allowed(q) - q̇

where v_allowed is the velocity limit, and towards a position limit at distance d the velocity sqrt(2 a_brake d) from
which the joint still stops before it; ρ is the rate of acceleration that the torque's rate makes, so that the
torque can be taken back before e is used up. The same holds in the other direction. Beyond a limit v_allowed points
back into the range. This is a barrier condition of relative degree two on each limit (Nguyen and Sreenath,
"Exponential control barrier functions", 2016), solved in closed form by giving every joint its own acceleration:

    τ' = τ + M (clip(q̈, lower, upper) - q̈),        q̈ = M⁻¹ τ

so that torques within the limits pass unchanged, and a limited joint leaves the others' accelerations alone. The rate
of torques is kept by `approach`, a common share of the way for all joints: it does not turn the acceleration, and
what lies between two torques that keep the bounds keeps them too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hardware.descriptions.arm import ArmDescription
from hardware.dynamics import mass_matrix
from hardware.safety.arm_envelope import ArmEnvelope, joint_envelope

_SIGNS = np.array([[1.0], [-1.0]])
"""Towards the upper limit, towards the lower."""


@dataclass(frozen=True, kw_only=True)
class TorqueLimitConfig:
    """How hard limits are kept."""

    velocity_share: float = 0.9
    """Share of the envelope's velocity that is aimed at: the rest takes up what other joints' motion does."""
    response_time: float = 0.03
    """s, T: time constant with which a velocity approaches its bound."""
    brake_share: float = 0.25
    """Share of the torque limits that braking before a position limit may need, at the largest inertia."""
    rate_share: float = 0.25
    """Share of the torque's rate that may be counted on to take an acceleration back."""
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
    limits: TorqueLimits, q: np.ndarray, qd: np.ndarray, inverse_inertia: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest acceleration (..., n) rad/s² that keep the limits.

    Args:
        limits: Of the robot.
        q: Shape (..., n), rad.
        qd: Shape (..., n), rad/s.
        inverse_inertia: Shape (..., n), 1/(kg m²), diagonal of the inverse joint-space inertia.
    """
    config = limits.config
    # Both directions at once: along the last axis but one towards the upper limit, then towards the lower.
    q, qd = q[..., None, :], qd[..., None, :]
    jerk = (config.rate_share * limits.torque_rate * inverse_inertia)[..., None, :]
    velocity = _SIGNS * qd
    towards = np.maximum(velocity, 0.0)
    distance = limits.edges - _SIGNS * q - config.lag * towards
    allowed = np.minimum(np.sqrt(2.0 * limits.braking * np.maximum(distance, 0.0)), limits.velocity)
    # Within braking distance the allowed velocity itself falls by braking × velocity / allowed.
    falling = limits.braking * np.minimum(towards / np.maximum(allowed, 1e-6), 1.0) * (allowed < limits.velocity)
    back = np.maximum(config.return_gain * np.minimum(distance, 0.0), -0.5 * limits.velocity)
    left = allowed + back - velocity
    size = np.abs(left)
    bound = np.sign(left) * np.minimum(size / config.response_time, np.sqrt(jerk * size)) - falling
    return -bound[..., 1, :], bound[..., 0, :]


def approach(target: np.ndarray, previous: np.ndarray, step: np.ndarray) -> tuple[np.ndarray, float]:
    """As far as possible from `previous` (n,) to `target` (n,) with no joint changing by more than `step` (n,).

    Returns:
        What is reached, and the share of the way, 1.0 if all of it.
    """
    way = target - previous
    share = float(np.min(step / np.maximum(np.abs(way), step)))
    # Clipped once more: a share is rounded.
    return (target, 1.0) if share >= 1.0 else (np.clip(previous + share * way, previous - step, previous + step), share)
