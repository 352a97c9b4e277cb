"""Geometric tracking of a quadrotor on SE(3).

After T. Lee, M. Leok, N. H. McClamroch, "Geometric tracking control of a quadrotor UAV on SE(3)", CDC 2010
(arXiv 1003.2005), in its notation. The paper's world z axis points down and its thrust along -b3; here both point up,
so that with position error e_x, velocity error e_v and the set-point's acceleration a_d its control law reads

    F   = m (g e3 + a_d - k_x e_x - k_v e_v)             wanted force
    b3c = F / |F|,  b2c = b3c × b1d / |b3c × b1d|,  b1c = b2c × b3c,  R_c = [b1c b2c b3c]
    f   = F · R e3                                       collective thrust
    e_R = ½ (R_cᵀ R - Rᵀ R_c)^∨,  e_Ω = Ω - Rᵀ R_c Ω_c   attitude and rate error
    M   = J (-k_R e_R - k_Ω e_Ω) + Ω × J Ω - J (Ω^ Rᵀ R_c Ω_c - Rᵀ R_c Ω̇_c)

With f and M the errors fall exponentially while the attitude error stays below 90°, and almost globally to there.
Ω_c follows from the set-point's jerk, as in D. Mellinger, V. Kumar (ICRA 2011); Ω̇_c, which needs its snap, counts as 0.

What practice adds, and what the paper's proof does not cover: gains per inertia (a vehicle twice as large flies the
same), an integral of e_v + c e_x (F. Goodarzi, D. Lee, T. Lee, "Geometric nonlinear PID control", ECC 2013), bounds on
errors, tilt and thrust, a heading that is led no further than `max_heading_error` ahead of the vehicle's own (e_R
vanishes at half a turn), and the lead that slow rotors need. Array-API functions with leading batch axes ``...``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from array_api_compat import array_namespace, device

from hardware.controllers.quadrotor import lead_motor_speeds, motor_speeds_from_wrench
from policies import rotation
from policies.types import Array, QuadrotorSetpoint, QuadrotorState


@dataclass(frozen=True, kw_only=True)
class GeometricConfig:
    """Gains and bounds; the defaults fly a Crazyflie and its randomization at 100 Hz with 20 ms of delay."""

    position_gain: float = 6.0
    """k_x / m, 1/s², acceleration per position error."""
    velocity_gain: float = 4.0
    """k_v / m, 1/s, acceleration per velocity error."""
    integral_gain: tuple[float, float, float] = (1.5, 1.5, 4.0)
    """1/s², growth of the integral per velocity error."""
    integral_ratio: float = 1.5
    """c, 1/s, velocity error that a position error counts as in the integral."""
    integral_limit: tuple[float, float, float] = (1.5, 1.5, 5.0)
    """m/s², bound of the integral along world x, y, z; z must cover a wrong mass or thrust curve."""
    attitude_gain: tuple[float, float, float] = (60.0, 60.0, 4.0)
    """k_R / J, 1/s², angular acceleration per e_R about the body axes."""
    rate_gain: tuple[float, float, float] = (8.0, 8.0, 3.0)
    """k_Ω / J, 1/s, angular acceleration per e_Ω."""
    max_position_error: float = 0.6
    """m, longer position errors are shortened to this; the integral grows only below it."""
    max_velocity_error: float = 2.0
    """m/s, longer velocity errors are shortened to this."""
    max_tilt: float = 0.7
    """rad, of the wanted thrust direction."""
    max_climb: float = 5.0
    """m/s², bound of the wanted vertical acceleration, up and down, beside the integral."""
    max_heading_error: float = 0.5
    """rad, by which the wanted heading is ahead of the vehicle's at most."""
    max_rate: float = 3.0
    """rad/s, bound of Ω_c per axis: a set-point may jump."""
    motor_time: float = 0.03
    """s, time constant that the rotors shall have; 0 or unknown rotor speeds: no compensation."""
    gravity: float = 9.81
    """m/s²."""


_DEFAULT = GeometricConfig()


def attitude_error(attitude: Array, wanted: Array) -> Array:
    """e_R (..., 3) of rotation matrices (..., 3, 3): ½ (R_cᵀ R - Rᵀ R_c)^∨, sin of the angle about its axis."""
    xp = array_namespace(attitude)
    difference = xp.matmul(xp.matrix_transpose(wanted), attitude)
    twice = difference - xp.matrix_transpose(difference)
    return 0.5 * xp.stack([twice[..., 2, 1], twice[..., 0, 2], twice[..., 1, 0]], axis=-1)


def wanted_attitude(force: Array, heading: Array) -> Array:
    """R_c (..., 3, 3) of a wanted force (..., 3), not along the horizontal, and a heading (...) rad."""
    xp = array_namespace(force)
    third = force / xp.sqrt(xp.sum(force * force, axis=-1, keepdims=True))
    forward = xp.stack([xp.cos(heading), xp.sin(heading), xp.zeros_like(heading)], axis=-1)
    second = rotation.normalize(xp.linalg.cross(third, forward))
    return xp.stack([xp.linalg.cross(second, third), second, third], axis=-1)


def body_torque(
    inertia: Array,
    attitude: Array,
    angular_velocity: Array,
    wanted: Array,
    wanted_rates: Array,
    config: GeometricConfig = _DEFAULT,
) -> Array:
    """M (..., 3) N m.

    Args:
        inertia: Shape (..., 3), kg m², principal moments.
        attitude: R, shape (..., 3, 3), body to world.
        angular_velocity: Ω, shape (..., 3), rad/s, body frame.
        wanted: R_c, shape (..., 3, 3).
        wanted_rates: Ω_c, shape (..., 3), rad/s, in the frame of R_c.
        config: Gains.
    """
    xp = array_namespace(attitude)
    to_body = xp.matmul(xp.matrix_transpose(attitude), wanted)
    rates = xp.matmul(to_body, wanted_rates[..., None])[..., 0]
    gain, rate_gain = _as(config.attitude_gain, attitude), _as(config.rate_gain, attitude)
    feedback = -gain * attitude_error(attitude, wanted) - rate_gain * (angular_velocity - rates)
    transport = xp.linalg.cross(angular_velocity, rates)
    return inertia * (feedback - transport) + xp.linalg.cross(angular_velocity, inertia * angular_velocity)


def track(
    parameters: Mapping[str, Array],
    state: QuadrotorState,
    setpoint: QuadrotorSetpoint,
    integral: Array,
    dt: float,
    config: GeometricConfig = _DEFAULT,
    jerk: Array | None = None,
) -> tuple[Array, Array]:
    """Rotor set-points (..., 4) rad/s that follow a set-point, and the new integral.

    Args:
        parameters: What is believed of the vehicle; see `hardware.controllers.quadrotor`.
        state: Measured state; `motor_speeds` measured, predicted, or None.
        setpoint: Position, velocity, acceleration and heading.
        integral: Shape (..., 3), m/s², world frame; zeros to begin with.
        dt: s since the previous call.
        config: Gains.
        jerk: Shape (..., 3), m/s³, world frame, of the set-point; None: 0.
    """
    xp = array_namespace(state.position)
    gap = setpoint.position - state.position
    velocity_gap = setpoint.velocity - state.linear_velocity
    integral = _integrate(gap, velocity_gap, integral, dt, config)
    lean = _wanted_acceleration(gap, velocity_gap, setpoint.acceleration, integral, config)
    attitude = rotation.to_matrix(state.orientation)
    wanted = wanted_attitude(lean, _led_heading(state.orientation, setpoint.yaw, config))
    rates = xp.zeros_like(lean) if jerk is None else _wanted_rates(lean, wanted, jerk, config)
    inertia = _as(parameters["inertia"], lean)
    torque = body_torque(inertia, attitude, state.angular_velocity, wanted, rates, config)
    # The integral along z makes up for a wrong mass or thrust curve: thrust is more or less, the lean stays.
    force = xp.concat([lean[..., :2], lean[..., 2:] + integral[..., 2:]], axis=-1)
    thrust = _as(parameters["mass"], lean) * xp.clip(xp.sum(force * attitude[..., :, 2], axis=-1), 2.0, None)
    speeds = motor_speeds_from_wrench(parameters, thrust, torque)
    return lead_motor_speeds(parameters, speeds, state.motor_speeds, config.motor_time), integral


def _integrate(gap: Array, velocity_gap: Array, integral: Array, dt: float, config: GeometricConfig) -> Array:
    """A wrong thrust has to be learned however far off it has led; sideways only near the set-point."""
    xp = array_namespace(gap)
    near = xp.abs(gap) < _as([config.max_position_error, config.max_position_error, math.inf], gap)
    error = _shorten(velocity_gap, config.max_velocity_error)
    error = error + config.integral_ratio * _shorten(gap, config.max_position_error)
    growth = _as(config.integral_gain, gap) * dt * error
    bound = _as(config.integral_limit, gap)
    return xp.clip(integral + xp.where(near, growth, xp.zeros_like(gap)), -bound, bound)


def _wanted_acceleration(
    gap: Array, velocity_gap: Array, acceleration: Array, integral: Array, config: GeometricConfig
) -> Array:
    """F / m (..., 3) m/s² without the integral along z, its tilt within bounds."""
    xp = array_namespace(gap)
    wanted = acceleration + config.position_gain * _shorten(gap, config.max_position_error)
    wanted = wanted + config.velocity_gain * _shorten(velocity_gap, config.max_velocity_error)
    up = xp.clip(wanted[..., 2:], -config.max_climb, config.max_climb) + config.gravity
    up = xp.clip(up, 0.2 * config.gravity, None)
    sideways = wanted[..., :2] + integral[..., :2]
    return xp.concat([_shorten(sideways, math.tan(config.max_tilt) * up), up], axis=-1)


def _led_heading(orientation: Array, yaw: Array, config: GeometricConfig) -> Array:
    """The wanted heading (...), at most `max_heading_error` ahead of the vehicle's own."""
    xp = array_namespace(orientation)
    # The twist about z: a heading that is defined at any tilt short of upside down.
    heading = 2.0 * xp.atan2(orientation[..., 3], orientation[..., 0])
    error = yaw - heading
    error = xp.atan2(xp.sin(error), xp.cos(error))
    return heading + xp.clip(error, -config.max_heading_error, config.max_heading_error)


def _wanted_rates(force: Array, wanted: Array, jerk: Array, config: GeometricConfig) -> Array:
    """Ω_c (..., 3) of a set-point that does not turn: what keeps the thrust along a force whose rate is the jerk."""
    xp = array_namespace(force)
    size = xp.sqrt(xp.sum(force * force, axis=-1))
    first, second = (xp.sum(jerk * wanted[..., :, k], axis=-1) / size for k in (0, 1))
    rates = xp.stack([-second, first, xp.zeros_like(first)], axis=-1)
    return xp.clip(rates, -config.max_rate, config.max_rate)


def _shorten(vector: Array, limit: Array | float) -> Array:
    """Scale vectors (..., n) down to at most `limit`, (..., 1) or a number."""
    xp = array_namespace(vector)
    length = xp.sqrt(xp.sum(vector * vector, axis=-1, keepdims=True))
    return vector * xp.clip(limit / xp.clip(length, 1e-9, None), 0.0, 1.0)


def _as(value: Array, like: Array) -> Array:
    """`value` as an array of the kind, type and device of `like`."""
    return array_namespace(like).asarray(value, dtype=like.dtype, device=device(like))
