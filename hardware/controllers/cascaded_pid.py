"""Cascaded PID of a quadrotor: position → velocity → attitude → rate, the structure of PX4 and the Crazyflie firmware.

    position  P     v  = v_d + k_p (x_d - x)                              within max_speed
    velocity  PI    a  = a_d + k_v (v - v_now) + ∫                        within max_tilt and max_climb
    attitude  P     Ω  = k_q · rotation from the vehicle's attitude to the wanted one, tilt before heading
    rate      PID   α  = k_r (Ω - Ω_now) + ∫ - k_d dΩ_now/dt

Attitude after D. Brescianini, M. Hehn, R. D'Andrea, "Nonlinear quadrocopter attitude control" (ETH, 2013), which PX4
uses: the shortest turn of the thrust axis is followed at once, what remains about it only as far as yaw authority goes.
Anti-windup: an integral grows only towards what the limits below it still allow (K. Åström, L. Rundqwist, "Integrator
windup and how to avoid it", ACC 1989), and is bounded. Derivatives are of measurements, filtered, so that a jump of the
set-point does not kick. Array-API functions with leading batch axes ``...``; the memory goes in and out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from array_api_compat import array_namespace, device

from hardware.controllers.quadrotor import lead_motor_speeds, motor_speeds_from_wrench, thrust_from_motor_speeds
from policies import rotation
from policies.types import Array, QuadrotorSetpoint, QuadrotorState


@dataclass(frozen=True, kw_only=True)
class PidConfig:
    """Gains and bounds; the defaults fly a Crazyflie and its randomization at 100 Hz with 20 ms of delay."""

    position_gain: tuple[float, float, float] = (1.5, 1.5, 1.5)
    """1/s, velocity per position error, world x, y, z."""
    max_speed: float = 1.5
    """m/s that a position error may ask for, beside the set-point's own."""
    velocity_gain: tuple[float, float, float] = (4.0, 4.0, 5.0)
    """1/s, acceleration per velocity error."""
    velocity_integral_gain: tuple[float, float, float] = (1.5, 1.5, 4.0)
    """1/s², growth of the acceleration per velocity error."""
    velocity_integral_limit: tuple[float, float, float] = (1.5, 1.5, 5.0)
    """m/s², bound of that integral; z must cover a wrong mass or thrust curve."""
    max_tilt: float = 0.7
    """rad, of the wanted thrust direction."""
    max_climb: float = 5.0
    """m/s², bound of the wanted vertical acceleration, up and down, beside the integral."""
    attitude_gain: tuple[float, float, float] = (6.0, 6.0, 1.5)
    """1/s, body rate per rad of roll, pitch and heading error."""
    max_rates: tuple[float, float, float] = (6.0, 6.0, 1.5)
    """rad/s, bound of the wanted body rates."""
    rate_gain: tuple[float, float, float] = (9.0, 9.0, 3.0)
    """1/s, angular acceleration per rate error."""
    rate_integral_gain: tuple[float, float, float] = (3.0, 3.0, 1.0)
    """1/s², growth of the angular acceleration per rate error."""
    rate_integral_limit: tuple[float, float, float] = (8.0, 8.0, 1.0)
    """rad/s², bound of that integral."""
    rate_derivative_gain: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Angular acceleration taken off per angular acceleration of the vehicle; noisy gyroscopes ask for 0."""
    rate_filter_time: float = 0.02
    """s, time constant of the filter of that derivative."""
    motor_time: float = 0.03
    """s, time constant that the rotors shall have; 0 or unknown rotor speeds: no compensation."""
    gravity: float = 9.81
    """m/s²."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PidMemory:
    """What the cascade carries from one call to the next."""

    velocity_integral: Array
    """Shape (..., 3), m/s², world frame."""
    rate_integral: Array
    """Shape (..., 3), rad/s², body frame."""
    filtered_rates: Array
    """Shape (..., 3), rad/s, body frame."""


_DEFAULT = PidConfig()


def initial_memory(state: QuadrotorState) -> PidMemory:
    """Memory before the first call."""
    zero = array_namespace(state.position).zeros_like(state.position)
    return PidMemory(velocity_integral=zero, rate_integral=zero, filtered_rates=state.angular_velocity)


def track(
    parameters: Mapping[str, Array],
    state: QuadrotorState,
    setpoint: QuadrotorSetpoint,
    memory: PidMemory,
    dt: float,
    config: PidConfig = _DEFAULT,
) -> tuple[Array, PidMemory]:
    """Rotor set-points (..., 4) rad/s that follow a set-point, and the new memory.

    Args:
        parameters: What is believed of the vehicle; see `hardware.controllers.quadrotor`.
        state: Measured state; `motor_speeds` measured, predicted, or None.
        setpoint: Position, velocity, acceleration and heading.
        memory: From `initial_memory`, then from the previous call.
        dt: s since the previous call.
        config: Gains.
    """
    xp = array_namespace(state.position)
    push, velocity_integral = velocity_loop(state, setpoint, memory.velocity_integral, dt, config)
    rates = attitude_loop(state.orientation, push, setpoint.yaw, config)
    mass, inertia = _as(parameters["mass"], push), _as(parameters["inertia"], push)
    upright = rotation.rotate_inverse(state.orientation, push)[..., 2]
    thrust = mass * xp.clip(upright, 0.2 * config.gravity, None)
    error = rates - state.angular_velocity
    share = dt / (dt + config.rate_filter_time)
    filtered = memory.filtered_rates + share * (state.angular_velocity - memory.filtered_rates)
    turning = (filtered - memory.filtered_rates) / dt
    wanted = _as(config.rate_gain, error) * error + memory.rate_integral
    wanted = wanted - _as(config.rate_derivative_gain, error) * turning
    gyroscopic = xp.linalg.cross(state.angular_velocity, inertia * state.angular_velocity)
    speeds = motor_speeds_from_wrench(parameters, thrust, inertia * wanted + gyroscopic)
    # What the rotors cannot make, the integral is not to ask for more of.
    made = (_torque(parameters, speeds) - gyroscopic) / inertia
    growth = _as(config.rate_integral_gain, error) * error * dt
    rate_integral = _grow(memory.rate_integral, growth, wanted - made, 0.1, config.rate_integral_limit)
    command = lead_motor_speeds(parameters, speeds, state.motor_speeds, config.motor_time)
    kept = PidMemory(velocity_integral=velocity_integral, rate_integral=rate_integral, filtered_rates=filtered)
    return command, kept


def velocity_loop(
    state: QuadrotorState, setpoint: QuadrotorSetpoint, integral: Array, dt: float, config: PidConfig = _DEFAULT
) -> tuple[Array, Array]:
    """Wanted thrust (..., 3) m/s², world frame, gravity included, of the outer two loops; and their new integral."""
    xp = array_namespace(state.position)
    climb = _as(config.position_gain, state.position) * (setpoint.position - state.position)
    error = setpoint.velocity + _shorten(climb, config.max_speed) - state.linear_velocity
    wanted = setpoint.acceleration + _as(config.velocity_gain, error) * error
    sideways = wanted[..., :2] + integral[..., :2]
    up = xp.clip(wanted[..., 2:], -config.max_climb, config.max_climb) + config.gravity
    up = xp.clip(up, 0.2 * config.gravity, None)
    leaned = _shorten(sideways, math.tan(config.max_tilt) * up)
    climbed = up - config.gravity
    unmet = xp.concat([sideways - leaned, wanted[..., 2:] - climbed], axis=-1)
    growth = _as(config.velocity_integral_gain, error) * error * dt
    # A wrong mass has to be learned however far off it has led: there only the bound holds.
    unmet = xp.concat([unmet[..., :2], xp.zeros_like(climbed)], axis=-1)
    integral_after = _grow(integral, growth, unmet, 1e-6, config.velocity_integral_limit)
    # The integral along z makes up for a wrong thrust: it scales what the rotors get, the lean stays.
    direction = xp.concat([leaned, up], axis=-1)
    return direction * (xp.clip(up + integral[..., 2:], 2.0, None) / up), integral_after


def attitude_loop(orientation: Array, push: Array, yaw: Array, config: PidConfig = _DEFAULT) -> Array:
    """Wanted body rates (..., 3) rad/s.

    They turn body z along `push` (..., 3), world frame, and the heading to `yaw` (...) rad.
    """
    xp = array_namespace(orientation)
    aim = rotation.rotate_inverse(orientation, rotation.normalize(push))
    axis = xp.stack([-aim[..., 1], aim[..., 0]], axis=-1)
    sine = xp.sqrt(xp.sum(axis * axis, axis=-1, keepdims=True))
    angle = xp.atan2(sine, aim[..., 2:])
    # Upside down every axis is as short; the body's x axis breaks the tie.
    fallback = xp.concat([xp.ones_like(sine), xp.zeros_like(sine)], axis=-1)
    unit = xp.where(sine > 1e-6, axis / xp.clip(sine, 1e-6, None), fallback)
    heading = 2.0 * xp.atan2(orientation[..., 3], orientation[..., 0])
    error = yaw - heading
    error = xp.atan2(xp.sin(error), xp.cos(error))[..., None]
    rates = _as(config.attitude_gain, push) * xp.concat([unit * angle, error], axis=-1)
    bound = _as(config.max_rates, push)
    return xp.clip(rates, -bound, bound)


def _grow(integral: Array, growth: Array, unmet: Array, slack: float, limit: tuple[float, float, float]) -> Array:
    """The integral after `growth`, which counts only where it does not ask for more of what is `unmet` already."""
    xp = array_namespace(integral)
    bound = _as(limit, integral)
    worse = (xp.abs(unmet) > slack) & (unmet * growth > 0.0)
    return xp.clip(integral + xp.where(worse, xp.zeros_like(growth), growth), -bound, bound)


def _torque(parameters: Mapping[str, Array], speeds: Array) -> Array:
    """Torque (..., 3) N m that rotors make at steady speeds (..., 4)."""
    xp = array_namespace(speeds)
    thrusts = thrust_from_motor_speeds(parameters, speeds)
    places = _as(parameters["rotor_positions"], speeds)
    yaw = _as(parameters["rotor_yaw_signs"], speeds) * _as(parameters["yaw_torque_ratio"], speeds)[..., None]
    rows = (thrusts * places[..., 1], -thrusts * places[..., 0], thrusts * yaw)
    return xp.stack([xp.sum(row, axis=-1) for row in rows], axis=-1)


def _shorten(vector: Array, limit: Array | float) -> Array:
    """Scale vectors (..., n) down to at most `limit`, (..., 1) or a number."""
    xp = array_namespace(vector)
    length = xp.sqrt(xp.sum(vector * vector, axis=-1, keepdims=True))
    return vector * xp.clip(limit / xp.clip(length, 1e-9, None), 0.0, 1.0)


def _as(value: Array, like: Array) -> Array:
    """`value` as an array of the kind, type and device of `like`."""
    return array_namespace(like).asarray(value, dtype=like.dtype, device=device(like))
