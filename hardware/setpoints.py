"""Set-points of a quadrotor as pure functions of time: where it should be, how fast, and why.

Every function returns a `QuadrotorSetpoint` whose velocity and acceleration are the exact
derivatives of its position, for numpy and torch alike. `time` has shape (...) and is in s since
the manoeuvre began; other arguments broadcast against it, so that one call can serve a batch in
which every vehicle flies its own curve. Positions are in m in the world frame, yaw in rad.

A manoeuvre starts from rest: the clock of a curve is ramped up smoothly, so that the vehicle flies
the same path, only slower, until the ramp is over.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from array_api_compat import array_namespace, device

from policies.types import Array, QuadrotorSetpoint

PEAK_SPEED = 15.0 / 8.0
"""Highest speed of a minimum-jerk move divided by its mean speed."""
PEAK_ACCELERATION = 10.0 / math.sqrt(3.0)
"""Highest acceleration of a minimum-jerk move over distance d in time T, divided by d / T²."""


def hover(position: Array | Sequence[float], yaw: Array | float = 0.0, *, like: Array) -> QuadrotorSetpoint:
    """Stand still.

    Args:
        position: Shape (..., 3), m.
        yaw: Shape (...), rad.
        like: Array whose kind, floating type and device the result has.
    """
    xp = array_namespace(like)
    place = _as(position, like)
    zero = xp.zeros_like(place)
    return QuadrotorSetpoint(place, zero, zero, _as(yaw, like) + zero[..., 0])


def figure_eight(
    time: Array,
    *,
    center: Array | Sequence[float],
    size: Array | float = 1.0,
    period: Array | float = 5.5,
    ramp: float = 2.0,
    yaw: Array | float = 0.0,
) -> QuadrotorSetpoint:
    """Lying eight: x = size cos(φ), y = size/2 sin(2 φ), with φ = π/2 + 2π s / period.

    It starts and crosses at `center`. `s` is the time, ramped up from rest by `ramp_time`, so a
    whole period takes `period` once `ramp` is over.

    Args:
        time: Shape (...), s since the start; at rest before 0.
        center: Shape (..., 3), m.
        size: Shape (...), m, half the extent along x.
        period: Shape (...), s.
        ramp: s until full speed, 0 for a start at full speed.
        yaw: Shape (...), rad.
    """
    xp = array_namespace(time)
    s, rate, change = ramp_time(time, ramp)
    omega = 2.0 * math.pi / _as(period, time)
    extent = _as(size, time)
    angle = omega * s + 0.5 * math.pi
    zero = xp.zeros_like(extent * angle)
    place = [extent * xp.cos(angle), 0.5 * extent * xp.sin(2.0 * angle), zero]
    first = [-extent * omega * xp.sin(angle), extent * omega * xp.cos(2.0 * angle), zero]
    second = [
        -extent * omega * omega * xp.cos(angle),
        -2.0 * extent * omega * omega * xp.sin(2.0 * angle),
        zero,
    ]
    return _along(center, xp.stack(place, -1), xp.stack(first, -1), xp.stack(second, -1), rate, change, yaw)


def segment(
    time: Array,
    *,
    start: Array | Sequence[float],
    goal: Array | Sequence[float],
    duration: Array | float,
    start_yaw: Array | float = 0.0,
    goal_yaw: Array | float | None = None,
) -> QuadrotorSetpoint:
    """Straight minimum-jerk move (a quintic) from rest to rest: take-off, go-to, landing.

    Holds `start` before 0 and `goal` after `duration`. The heading turns along with it, the
    shorter way round.

    Args:
        time: Shape (...), s since the departure.
        start: Shape (..., 3), m.
        goal: Shape (..., 3), m.
        duration: Shape (...), s, > 0; see `segment_duration`.
        start_yaw: Shape (...), rad.
        goal_yaw: Shape (...), rad; None keeps `start_yaw`.
    """
    xp = array_namespace(time)
    origin = _as(start, time)
    way = _as(goal, time) - origin
    share, rate, change = _minimum_jerk(time, _as(duration, time))
    turn = 0.0 if goal_yaw is None else _shorter_turn(_as(goal_yaw, time) - _as(start_yaw, time))
    return QuadrotorSetpoint(
        origin + way * share[..., None],
        way * rate[..., None],
        way * change[..., None],
        _as(start_yaw, time) + turn * share + xp.zeros_like(way[..., 0] * share),
    )


def segment_duration(distance: Array, *, max_speed: float, max_acceleration: float) -> Array:
    """Shortest duration (...) s of a `segment` over `distance` (...) m that keeps both limits (m/s, m/s²)."""
    if not (max_speed > 0.0 and max_acceleration > 0.0):
        raise ValueError(f"max_speed {max_speed} and max_acceleration {max_acceleration} must be above 0")
    xp = array_namespace(distance)
    by_speed = PEAK_SPEED * distance / max_speed
    by_acceleration = xp.sqrt(PEAK_ACCELERATION * distance / max_acceleration)
    return xp.where(by_speed > by_acceleration, by_speed, by_acceleration)


def waypoints(
    time: Array, *, points: Array, departures: Array, durations: Array, yaws: Array | None = None
) -> QuadrotorSetpoint:
    """Chain of minimum-jerk moves that stops at every point.

    Args:
        time: Shape (...), s.
        points: Shape (..., K, 3), m; K ≥ 2.
        departures: Shape (..., K-1), s at which point k is left; not before the arrival there.
        durations: Shape (..., K-1), s, > 0, of the move from point k to k + 1.
        yaws: Shape (..., K), rad, heading at each point; None is 0.
    """
    xp = array_namespace(time)
    share, rate, change = _minimum_jerk(time[..., None] - departures, durations)
    ways = points[..., 1:, :] - points[..., :-1, :]
    if yaws is None:
        yaws = xp.zeros_like(points[..., 0])
    turns = _shorter_turn(yaws[..., 1:] - yaws[..., :-1])
    return QuadrotorSetpoint(
        points[..., 0, :] + xp.sum(ways * share[..., None], axis=-2),
        xp.sum(ways * rate[..., None], axis=-2),
        xp.sum(ways * change[..., None], axis=-2),
        yaws[..., 0] + xp.sum(turns * share, axis=-1),
    )


def plan_waypoints(
    points: Array, *, max_speed: float, max_acceleration: float, dwell: float = 0.0, start: float = 0.0
) -> tuple[Array, Array]:
    """Departures and durations for `waypoints`, each (..., K-1) s, with `dwell` s of rest at each point.

    Args:
        points: Shape (..., K, 3), m.
        max_speed: m/s.
        max_acceleration: m/s².
        dwell: s of rest at every point between the first and the last.
        start: s at which the first point is left.
    """
    xp = array_namespace(points)
    ways = points[..., 1:, :] - points[..., :-1, :]
    distance = xp.sqrt(xp.sum(ways * ways, axis=-1))
    durations = segment_duration(distance, max_speed=max_speed, max_acceleration=max_acceleration)
    # Equal neighbours give a distance of 0; a move needs some time all the same.
    durations = xp.where(durations > 0.1, durations, xp.full_like(durations, 0.1))
    before = xp.cumulative_sum(durations + dwell, axis=-1)[..., :-1]
    return start + xp.concat([xp.zeros_like(durations[..., :1]), before], axis=-1), durations


def smooth_path(
    time: Array,
    *,
    center: Array | Sequence[float],
    amplitudes: Array,
    frequencies: Array,
    phases: Array,
    ramp: float = 2.0,
    yaw: Array | float = 0.0,
) -> QuadrotorSetpoint:
    """Sum of M sinusoids per axis, shifted so that it starts at `center`, from rest.

    Args:
        time: Shape (...), s since the start; at rest before 0.
        center: Shape (..., 3), m.
        amplitudes: Shape (..., M, 3), m.
        frequencies: Shape (..., M, 3), Hz.
        phases: Shape (..., M, 3), rad.
        ramp: s until full speed, 0 for a start at full speed.
        yaw: Shape (...), rad.
    """
    xp = array_namespace(time)
    s, rate, change = ramp_time(time, ramp)
    omega = 2.0 * math.pi * frequencies
    angle = omega * s[..., None, None] + phases
    place = xp.sum(amplitudes * (xp.sin(angle) - xp.sin(phases)), axis=-2)
    first = xp.sum(amplitudes * omega * xp.cos(angle), axis=-2)
    second = -xp.sum(amplitudes * omega * omega * xp.sin(angle), axis=-2)
    return _along(center, place, first, second, rate, change, yaw)


def step(time: Array, *, points: Array, times: Array, yaw: Array | float = 0.0) -> QuadrotorSetpoint:
    """Jump from point to point; velocity and acceleration are zero (the jump itself has none).

    Args:
        time: Shape (...), s.
        points: Shape (..., K, 3), m.
        times: Shape (..., K-1), s of the jump from point k to k + 1.
        yaw: Shape (...), rad.
    """
    xp = array_namespace(time)
    jumps = points[..., 1:, :] - points[..., :-1, :]
    done = xp.astype(time[..., None] >= times, jumps.dtype)
    place = points[..., 0, :] + xp.sum(jumps * done[..., None], axis=-2)
    zero = xp.zeros_like(place)
    return QuadrotorSetpoint(place, zero, zero, _as(yaw, time) + zero[..., 0])


def ramp_time(time: Array, ramp: float) -> tuple[Array, Array, Array]:
    """Clock of a curve that starts from rest: (s, ds/dt, d²s/dt²), each (...).

    The rate is 0 before 0, grows as the smoothstep 10 u³ - 15 u⁴ + 6 u⁵ with u = time / ramp, and
    is 1 after `ramp`; s therefore has three continuous derivatives and lags by ramp / 2 in the end.
    """
    xp = array_namespace(time)
    if ramp <= 0.0:
        return time, xp.ones_like(time), xp.zeros_like(time)
    u = xp.clip(time / ramp, 0.0, 1.0)
    s = ramp * u**4 * (u * u - 3.0 * u + 2.5) + (xp.clip(time, ramp, None) - ramp)
    rate = u**3 * (u * (6.0 * u - 15.0) + 10.0)
    change = 30.0 / ramp * (u * (1.0 - u)) ** 2
    return s, rate, change


def _minimum_jerk(time: Array, duration: Array) -> tuple[Array, Array, Array]:
    """Share of the way done, 0 to 1, and its two derivatives, by Flash and Hogan (1985)."""
    xp = array_namespace(time)
    u = xp.clip(time / duration, 0.0, 1.0)
    share = u**3 * (u * (6.0 * u - 15.0) + 10.0)
    rate = 30.0 * (u * (1.0 - u)) ** 2 / duration
    change = 60.0 * u * (1.0 - u) * (1.0 - 2.0 * u) / (duration * duration)
    return share, rate, change


def _along(
    center: Array | Sequence[float],
    place: Array,
    first: Array,
    second: Array,
    rate: Array,
    change: Array,
    yaw: Array | float,
) -> QuadrotorSetpoint:
    """Set-point on a curve given by its derivatives by s, and s by its derivatives by time."""
    xp = array_namespace(place)
    rate, change = rate[..., None], change[..., None]
    return QuadrotorSetpoint(
        _as(center, place) + place,
        first * rate,
        second * rate * rate + first * change,
        _as(yaw, place) + xp.zeros_like(place[..., 0]),
    )


def _shorter_turn(angle: Array) -> Array:
    xp = array_namespace(angle)
    return xp.atan2(xp.sin(angle), xp.cos(angle))


def _as(value: Array | Sequence[float] | float, like: Array) -> Array:
    """`value` as an array of the kind, type and device of `like`."""
    return array_namespace(like).asarray(value, dtype=like.dtype, device=device(like))
