"""A second quadrotor simulator, for tests only: numpy, rotation matrices, 1 ms steps, real delay lines.

It shares no line with `sim/`: other attitude representation (matrix exponential), other integrator
(velocity Verlet at 1 kHz), latency by queues of samples, and its own draw of vehicles over the ranges of the
contract's "Minimum randomization". A shipped policy has to fly it too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from policies import MotorSpeeds, Policy, QuadrotorSetpoint, QuadrotorState

GRAVITY = 9.81
ARM = 0.0397
MAX_SPEED = 2272.6
X = ARM / np.sqrt(2.0) * np.array([1.0, -1.0, -1.0, 1.0])
Y = ARM / np.sqrt(2.0) * np.array([-1.0, -1.0, 1.0, 1.0])
YAW = np.array([-1.0, 1.0, -1.0, 1.0])
DT = 1e-3


@dataclass(frozen=True, eq=False)
class Vehicles:
    """N drawn vehicles; all arrays (N) or (N, 3)."""

    mass: np.ndarray
    inertia: np.ndarray
    thrust_to_weight: np.ndarray
    yaw_ratio: np.ndarray
    rise: np.ndarray
    fall: np.ndarray
    observation_delay: np.ndarray
    action_delay: np.ndarray
    force: np.ndarray
    torque: np.ndarray
    noise: float


def draw_vehicles(count: int, rng: np.random.Generator) -> Vehicles:
    """Draw over the contract's ranges: small vehicles have small, fast motors; mass fits the inertia."""
    size = rng.uniform(0.0, 1.0, count)

    def near_size(weight: float) -> np.ndarray:
        return weight * size + (1.0 - weight) * rng.uniform(0.0, 1.0, count)

    jx = 3.8e-6 * (25.0 / 3.8) ** near_size(0.6)
    lightest = np.maximum(0.025, jx / (0.4 * ARM**2))
    heaviest = np.minimum(0.045, jx / (0.08 * ARM**2))
    mass = rng.uniform(lightest, heaviest)
    rise = 0.03 * 5.0 ** near_size(0.6)
    total = rng.uniform(0.0, 0.02, count)
    share = rng.uniform(0.0, 1.0, count)
    direction = rng.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    weight = mass * GRAVITY
    force = direction * (0.05 * rng.uniform(0.0, 1.0, count) * weight)[:, None]
    return Vehicles(
        mass=mass,
        inertia=np.stack([jx, jx * rng.uniform(0.95, 1.05, count), jx * rng.uniform(1.5, 2.1, count)], axis=1),
        thrust_to_weight=rng.uniform(1.45, 2.3, count),
        yaw_ratio=np.exp(rng.uniform(np.log(0.0045), np.log(0.034), count)),
        rise=rise,
        fall=np.minimum(rise * rng.uniform(1.0, 2.0, count), 0.25),
        observation_delay=np.round(total * share / DT).astype(int),
        action_delay=np.round(total * (1.0 - share) / DT).astype(int),
        force=force,
        torque=rng.uniform(-1.0, 1.0, (count, 3)) * (1e-4 * weight)[:, None],
        noise=1.0,
    )


def nominal_vehicles(count: int) -> Vehicles:
    """The described Crazyflie, without delay, disturbance or noise."""
    one, zero = np.ones(count), np.zeros((count, 3))
    return Vehicles(
        mass=0.0319 * one,
        inertia=np.tile([16.8e-6, 16.8e-6, 29.8e-6], (count, 1)),
        thrust_to_weight=1.53 * one,
        yaw_ratio=0.00735 * one,
        rise=0.055 * one,
        fall=0.249 * one,
        observation_delay=np.zeros(count, int),
        action_delay=np.zeros(count, int),
        force=zero,
        torque=zero,
        noise=0.0,
    )


def fly_hover(policy: Policy, vehicles: Vehicles, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Throw the vehicles (tilt to 90°, ±0.5 m, ±1 m/s, ±1 rad/s) and hold the origin.

    Returns:
        Distance (T, N) m from the origin at every control period.
    """
    count = len(vehicles.mass)
    heading = rng.uniform(-np.pi, np.pi, count)
    tilt_axis = np.stack([np.cos(heading), np.sin(heading), np.zeros(count)], axis=1)
    tilt = Rotation.from_rotvec(tilt_axis * rng.uniform(0.0, np.pi / 2, (count, 1)))
    rotation = (tilt * Rotation.from_rotvec(np.outer(rng.uniform(-np.pi, np.pi, count), [0, 0, 1]))).as_matrix()
    position, velocity = rng.uniform(-0.5, 0.5, (count, 3)), rng.uniform(-1.0, 1.0, (count, 3))
    rates = rng.uniform(-1.0, 1.0, (count, 3))
    hover = MAX_SPEED / np.sqrt(vehicles.thrust_to_weight)
    speeds = hover[:, None] * rng.uniform(0.0, 1.0, (count, 4))
    command = speeds.copy()
    period = round(1.0 / (policy.manifest.control_rate_hz * DT))
    longest = 2 * period + 1
    states: list[tuple[np.ndarray, ...]] = [(position, rotation, velocity, rates)] * longest
    commands = [command] * longest
    zero = np.zeros((count, 3))
    setpoint = QuadrotorSetpoint(zero, zero, zero, np.zeros(count))
    policy.reset()
    errors = []
    for k in range(round(seconds / DT)):
        if k % period == 0:
            command = _decide(policy, states, vehicles, setpoint, rng)
            errors.append(np.linalg.norm(position, axis=1))
        commands = [command, *commands[: longest - 1]]
        delayed = np.stack(commands)[vehicles.action_delay, np.arange(count)]
        speeds, position, rotation, velocity, rates = _step(
            vehicles, delayed, speeds, position, rotation, velocity, rates
        )
        states = [(position, rotation, velocity, rates), *states[: longest - 1]]
    return np.stack(errors)


def _decide(
    policy: Policy,
    states: list[tuple[np.ndarray, ...]],
    vehicles: Vehicles,
    setpoint: QuadrotorSetpoint,
    rng: np.random.Generator,
) -> np.ndarray:
    """Rotor speeds (N, 4) for the delayed, noisy state."""
    count = len(vehicles.mass)
    rows = np.arange(count)
    position, rotation, velocity, rates = (
        np.stack([state[i] for state in states])[vehicles.observation_delay, rows] for i in range(4)
    )
    scale = vehicles.noise
    turned = Rotation.from_matrix(rotation) * Rotation.from_rotvec(rng.normal(0.0, 0.003 * scale + 1e-12, (count, 3)))
    state = QuadrotorState(
        position=position + rng.normal(0.0, 0.001, (count, 3)) * scale,
        orientation=turned.as_quat(scalar_first=True),
        linear_velocity=velocity + rng.normal(0.0, 0.01, (count, 3)) * scale,
        angular_velocity=rates + rng.normal(0.0, 0.03, (count, 3)) * scale,
    )
    command = policy.step(state, setpoint)
    assert isinstance(command, MotorSpeeds)
    return np.clip(np.asarray(command.values, np.float64), 0.0, MAX_SPEED)


def _step(
    vehicles: Vehicles,
    command: np.ndarray,
    speeds: np.ndarray,
    position: np.ndarray,
    rotation: np.ndarray,
    velocity: np.ndarray,
    rates: np.ndarray,
) -> tuple[np.ndarray, ...]:
    lag = np.where(command > speeds, vehicles.rise[:, None], vehicles.fall[:, None])
    speeds = speeds + (command - speeds) * (DT / lag)
    full = vehicles.thrust_to_weight * vehicles.mass * GRAVITY / 4.0
    thrust = full[:, None] * (speeds / MAX_SPEED) ** 2
    torque = np.stack([thrust @ Y, -thrust @ X, vehicles.yaw_ratio * (thrust @ YAW)], axis=1) + vehicles.torque
    acceleration = rotation[:, :, 2] * (thrust.sum(1) / vehicles.mass)[:, None]
    acceleration = acceleration + vehicles.force / vehicles.mass[:, None] - [0.0, 0.0, GRAVITY]
    position = position + velocity * DT + 0.5 * DT**2 * acceleration
    velocity = velocity + acceleration * DT
    change = (torque - np.cross(rates, vehicles.inertia * rates)) / vehicles.inertia
    middle = rates + 0.5 * DT * change
    rotation = rotation @ _exponential(middle * DT)
    return speeds, position, rotation, velocity, rates + DT * change


def _exponential(vector: np.ndarray) -> np.ndarray:
    """Rotation matrices (N, 3, 3) of small rotation vectors (N, 3), to third order, re-orthogonalized by size."""
    x, y, z = vector.T
    zero = np.zeros_like(x)
    skew = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=1).reshape(-1, 3, 3)
    square = skew @ skew
    return np.eye(3) + skew + 0.5 * square + skew @ square / 6.0
