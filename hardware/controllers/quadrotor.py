"""Quadrotor controllers of the failsafe: level the vehicle, hold a position, fill the rotors.

Pure array-API functions with leading batch axes ``...``. `parameters` are a description's: what
is believed of the vehicle. The truth differs (battery, decks, wear), so that everything here is
tuned for phase margin, not for speed.

- Position: proportional-derivative-integral acceleration with gravity feed-forward, bounded, as
  the outer loop of Lee, Leok, McClamroch, "Geometric tracking control of a quadrotor UAV on
  SE(3)" (2010). The integral carries wrong mass, thrust and wind; it is data that goes in and out.
- Attitude: tilt before heading. The error of Lee's paper vanishes at half a turn; here it is the
  angle about the shortest axis between the thrust direction and the wanted one (as Brescianini and
  D'Andrea, 2018, do with quaternions), so that it rights itself from any attitude.
- Rotors: a Crazyflie's rotor needs 55 ms to speed up and 249 ms to slow down, too slow for the
  attitude loop. Where the present speeds are known (measured, or predicted by
  `predict_motor_speeds`), the command overshoots them such that the rotor moves with
  `motor_time` both ways, within its limits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from array_api_compat import array_namespace, device

from policies import rotation
from policies.types import Array, QuadrotorSetpoint, QuadrotorState


@dataclass(frozen=True, kw_only=True)
class QuadrotorControllerConfig:
    """Gains and bounds; the defaults fly a Crazyflie and its randomization (CONTRACT.md)."""

    position_gain: float = 3.0
    """1/s², acceleration per position error."""
    velocity_gain: float = 2.5
    """1/s, acceleration per velocity error."""
    integral_gain: float = 1.5
    """1/s³, growth of the integral per position error."""
    integral_limit: tuple[float, float, float] = (1.5, 1.5, 5.0)
    """m/s², bound of the integral along world x, y, z; z must cover a wrong thrust curve or mass."""
    max_position_error: float = 1.0
    """m, longer position errors are shortened to this."""
    max_velocity_error: float = 3.0
    """m/s, longer velocity errors are shortened to this."""
    max_tilt: float = 0.45
    """rad, of the wanted thrust direction."""
    max_climb: float = 5.0
    """m/s², bound of the wanted vertical acceleration, up and down, beside the integral."""
    tilt_gain: float = 30.0
    """1/s², angular acceleration per rad of tilt error."""
    tilt_rate_gain: float = 7.0
    """1/s, angular acceleration per rad/s of roll and pitch rate."""
    heading_gain: float = 2.0
    """1/s², angular acceleration per rad of heading error."""
    heading_rate_gain: float = 2.0
    """1/s, angular acceleration per rad/s of yaw rate."""
    max_tilt_error: float = 1.0
    """rad, larger tilt errors count as this much: it bounds the rate at which the vehicle rights itself."""
    heading_share: float = 0.25
    """Largest share of a hovering rotor's thrust that heading control may add or take."""
    motor_time: float = 0.03
    """s, time constant that the rotors shall have; 0 or unknown rotor speeds: no compensation."""
    gravity: float = 9.81
    """m/s²."""


_DEFAULT = QuadrotorControllerConfig()


def hover_thrust(parameters: Mapping[str, Array], config: QuadrotorControllerConfig = _DEFAULT) -> Array:
    """Believed weight (...) N: the collective thrust that hovers."""
    return parameters["mass"] * config.gravity


def thrust_from_motor_speeds(parameters: Mapping[str, Array], motor_speeds: Array) -> Array:
    """Thrust (..., 4) N of each rotor at `motor_speeds` (..., 4) rad/s."""
    xp = array_namespace(motor_speeds)
    c0, c1, c2 = _curve(parameters, motor_speeds)
    return c0 + motor_speeds * (c1 + c2 * motor_speeds) + xp.zeros_like(motor_speeds)


def motor_speeds_from_thrust(parameters: Mapping[str, Array], thrust: Array) -> Array:
    """Rotor speeds (..., 4) rad/s for rotor thrusts (..., 4) N, 0 where the curve gives no less."""
    xp = array_namespace(thrust)
    c0, c1, c2 = _curve(parameters, thrust)
    load = xp.clip(thrust - c0, 0.0, None)
    # Root of c2 Ω² + c1 Ω = load in the form that also holds for a linear curve (c2 = 0).
    divisor = c1 + xp.sqrt(c1 * c1 + 4.0 * c2 * load)
    return 2.0 * load / xp.where(divisor > 0.0, divisor, xp.ones_like(load))


def motor_speeds_from_wrench(parameters: Mapping[str, Array], thrust: Array, torque: Array) -> Array:
    """Rotor speeds that make a collective thrust and a body torque.

    Where a rotor would exceed its limit, all four give up the same thrust, and negative thrusts
    become zero: attitude before height, as in the power distribution of the Crazyflie firmware.

    Args:
        parameters: `rotor_positions` (..., 4, 3), `rotor_yaw_signs` (..., 4), `yaw_torque_ratio`,
            `thrust_coefficients` (3,) or (..., 4, 3), `max_speed`.
        thrust: Shape (...), N.
        torque: Shape (..., 3), N m, body frame.

    Returns:
        Shape (..., 4), rad/s, within [0, max_speed].
    """
    xp = array_namespace(torque)
    positions = _as(parameters["rotor_positions"], torque)
    yaw = _as(parameters["rotor_yaw_signs"], torque) * _as(parameters["yaw_torque_ratio"], torque)[..., None]
    mix = xp.stack([xp.ones_like(yaw), positions[..., 1], -positions[..., 0], yaw], axis=-2)
    wrench = xp.concat([(thrust + xp.zeros_like(torque[..., 0]))[..., None], torque], axis=-1)
    wanted = xp.matmul(xp.linalg.inv(mix), wrench[..., None])[..., 0]
    limit = _as(parameters["max_speed"], torque)[..., None] + xp.zeros_like(wanted)
    excess = xp.max(wanted - thrust_from_motor_speeds(parameters, limit), axis=-1, keepdims=True)
    speeds = motor_speeds_from_thrust(parameters, wanted - xp.clip(excess, 0.0, None))
    return xp.where(speeds < limit, speeds, limit)


def predict_motor_speeds(parameters: Mapping[str, Array], motor_speeds: Array, command: Array, dt: float) -> Array:
    """Believed rotor speeds (..., 4) rad/s after `dt` s under `command`, from those before."""
    xp = array_namespace(motor_speeds)
    time = _rotor_time(parameters, motor_speeds, command)
    return command + (motor_speeds - command) * xp.exp(-dt / time)


def lead_motor_speeds(
    parameters: Mapping[str, Array], wanted: Array, motor_speeds: Array | None, motor_time: float
) -> Array:
    """Command (..., 4) rad/s that makes a rotor approach `wanted` with `motor_time` s, not its own time constant.

    `wanted` itself where the present speeds are unknown or `motor_time` is 0.
    """
    if motor_speeds is None or motor_time <= 0.0:
        return wanted
    xp = array_namespace(wanted)
    gain = _rotor_time(parameters, motor_speeds, wanted) / motor_time
    gain = xp.clip(gain, 1.0, None)
    command = motor_speeds + gain * (wanted - motor_speeds)
    return xp.clip(command, xp.zeros_like(wanted), _as(parameters["max_speed"], wanted)[..., None])


def level(
    parameters: Mapping[str, Array],
    orientation: Array,
    angular_velocity: Array,
    thrust: Array,
    motor_speeds: Array | None = None,
    config: QuadrotorControllerConfig = _DEFAULT,
) -> Array:
    """Level the vehicle at a given collective thrust; stops turning, so that the heading stays.

    Args:
        parameters: What is believed of the vehicle.
        orientation: Shape (..., 4), unit quaternion wxyz.
        angular_velocity: Shape (..., 3), rad/s, body frame.
        thrust: Shape (...), N; a multiple of `hover_thrust`, or what is known to hover.
        motor_speeds: Present rotor speeds (..., 4), rad/s, measured or predicted; None: unknown.
        config: Gains.

    Returns:
        Rotor set-points (..., 4), rad/s.
    """
    xp = array_namespace(orientation)
    up = xp.zeros_like(angular_velocity) + _as([0.0, 0.0, 1.0], orientation)
    torque = _attitude_torque(parameters, orientation, angular_velocity, up, None, config)
    return lead_motor_speeds(
        parameters, motor_speeds_from_wrench(parameters, thrust, torque), motor_speeds, config.motor_time
    )


def hold_position(
    parameters: Mapping[str, Array],
    state: QuadrotorState,
    setpoint: QuadrotorSetpoint,
    integral: Array,
    dt: float,
    config: QuadrotorControllerConfig = _DEFAULT,
) -> tuple[Array, Array]:
    """Fly to a set-point and stay there, or follow a slow one.

    Args:
        parameters: What is believed of the vehicle.
        state: Measured state; `motor_speeds` measured, predicted, or None.
        setpoint: Position, velocity, acceleration and heading.
        integral: Shape (..., 3), m/s², world frame; what was learned of wrong parameters so far.
            Zeros to begin with, or in z the acceleration that `hover_thrust` is known to lack.
        dt: s since the previous call.
        config: Gains.

    Returns:
        Rotor set-points (..., 4), rad/s, and the new integral.
    """
    xp = array_namespace(state.position)
    error = setpoint.position - state.position
    error_rate = setpoint.velocity - state.linear_velocity
    # A wrong thrust has to be learned however far off it has led; far from the set-point, a horizontal
    # integral would only store the way there.
    near = xp.abs(error) < _as([config.max_position_error, config.max_position_error, math.inf], error)
    error = _shorten(error, config.max_position_error)
    error_rate = _shorten(error_rate, config.max_velocity_error)
    bound = _as(config.integral_limit, integral)
    growth = xp.where(near, config.integral_gain * error * dt, xp.zeros_like(error))
    integral = xp.clip(integral + growth, -bound, bound)
    wanted = setpoint.acceleration + config.position_gain * error + config.velocity_gain * error_rate
    lean = xp.clip(wanted[..., 2], -config.max_climb, config.max_climb) + config.gravity
    lean = xp.clip(lean, 0.2 * config.gravity, None)
    horizontal = _shorten(wanted[..., :2] + integral[..., :2], math.tan(config.max_tilt) * lean[..., None])
    direction = rotation.normalize(xp.concat([horizontal, lean[..., None]], axis=-1))
    torque = _attitude_torque(parameters, state.orientation, state.angular_velocity, direction, setpoint.yaw, config)
    # Some thrust stays even when it points the wrong way: without it there is no torque either.
    cosine = xp.clip(rotation.rotate_inverse(state.orientation, direction)[..., 2], 0.4, 1.0)
    # The tilt follows the accelerations as they are; the integral only scales what the rotors get for them.
    asked = xp.clip(lean + integral[..., 2], 0.2 * config.gravity, None) / direction[..., 2]
    thrust = _as(parameters["mass"], asked) * asked * cosine
    speeds = motor_speeds_from_wrench(parameters, thrust, torque)
    return lead_motor_speeds(parameters, speeds, state.motor_speeds, config.motor_time), integral


def _attitude_torque(
    parameters: Mapping[str, Array],
    orientation: Array,
    angular_velocity: Array,
    direction: Array,
    yaw: Array | None,
    config: QuadrotorControllerConfig,
) -> Array:
    """Torque (..., 3) N m that turns the body's z axis to `direction` (world) and the heading to `yaw`."""
    xp = array_namespace(orientation)
    inertia = _as(parameters["inertia"], orientation)
    aim = rotation.rotate_inverse(orientation, direction)
    # Rotation from body z to the aim: angle about an axis in the body's x-y plane.
    axis = xp.stack([-aim[..., 1], aim[..., 0]], axis=-1)
    sine = xp.sqrt(xp.sum(axis * axis, axis=-1, keepdims=True))
    angle = xp.clip(xp.atan2(sine, aim[..., 2:]), 0.0, config.max_tilt_error)
    # Upside down every axis is as short; the body's x axis breaks the tie.
    known = sine > 1e-6
    tie = xp.where(aim[..., 2:] < 0.0, xp.ones_like(sine), xp.zeros_like(sine))
    tie = xp.concat([tie, xp.zeros_like(sine)], axis=-1)
    unit = xp.where(known, axis / xp.where(known, sine, xp.ones_like(sine)), tie)
    tilting = config.tilt_gain * unit * angle - config.tilt_rate_gain * angular_velocity[..., :2]
    turning = -config.heading_rate_gain * angular_velocity[..., 2:]
    if yaw is not None:
        error = yaw - rotation.yaw_of(orientation)
        error = xp.atan2(xp.sin(error), xp.cos(error))
        turning = turning + config.heading_gain * xp.clip(error, -0.5, 0.5)[..., None]
    torque = inertia * xp.concat([tilting, turning], axis=-1)
    torque = torque + xp.linalg.cross(angular_velocity, inertia * angular_velocity)
    strength = config.heading_share * _as(parameters["yaw_torque_ratio"], torque)
    strength = (strength * _as(hover_thrust(parameters, config), torque))[..., None]
    return xp.concat([torque[..., :2], xp.clip(torque[..., 2:], -strength, strength)], axis=-1)


def _rotor_time(parameters: Mapping[str, Array], motor_speeds: Array, command: Array) -> Array:
    xp = array_namespace(motor_speeds)
    rise = _as(parameters["rise_time"], motor_speeds)[..., None]
    fall = _as(parameters["fall_time"], motor_speeds)[..., None]
    # An ideal rotor (time constant 0) follows within a microsecond instead of dividing by zero.
    return xp.clip(xp.where(command > motor_speeds, rise, fall), 1e-6, None)


def _curve(parameters: Mapping[str, Array], like: Array) -> tuple[Array, Array, Array]:
    coefficients = _as(parameters["thrust_coefficients"], like)
    return coefficients[..., 0], coefficients[..., 1], coefficients[..., 2]


def _shorten(vector: Array, limit: Array | float) -> Array:
    """Scale vectors (..., n) down to at most `limit`."""
    xp = array_namespace(vector)
    length = xp.sqrt(xp.sum(vector * vector, axis=-1, keepdims=True))
    share = limit / xp.where(length > 1e-9, length, xp.ones_like(length))
    return vector * xp.clip(share, 0.0, 1.0)


def _as(value: Array, like: Array) -> Array:
    """`value` as an array of the kind, type and device of `like`."""
    return array_namespace(like).asarray(value, dtype=like.dtype, device=device(like))
