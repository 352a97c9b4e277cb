"""Observation terms of quadrotors; `policies.observations` says what a term is and how they are assembled."""

from __future__ import annotations

from array_api_compat import array_namespace

from policies.terms import Memory, MemorySpec, Term
from policies.types import Array, QuadrotorSetpoint, QuadrotorState


def _shorten(vector: Array, limit: float) -> Array:
    """Shorten a vector (..., 3) to length `limit`, keeping its direction."""
    xp = array_namespace(vector)
    length = xp.linalg.vector_norm(vector, axis=-1, keepdims=True)
    return vector * (limit / length.clip(limit))


def position_error(
    state: QuadrotorState, setpoint: QuadrotorSetpoint, memory: Memory, *, period: float, limit: float
) -> tuple[Array, Memory]:
    """Position minus set-point (..., 3) m, shortened to `limit` m."""
    return _shorten(state.position - setpoint.position, limit), memory


def linear_velocity_error(
    state: QuadrotorState,
    setpoint: QuadrotorSetpoint,
    memory: Memory,
    *,
    period: float,
    limit: float,
    scale: float,
) -> tuple[Array, Memory]:
    """Velocity minus set-point (..., 3) m/s, shortened to `limit` m/s, times `scale`."""
    return _shorten(state.linear_velocity - setpoint.velocity, limit) * scale, memory


def up_direction(
    state: QuadrotorState, setpoint: QuadrotorSetpoint, memory: Memory, *, period: float
) -> tuple[Array, Memory]:
    """The world's z axis (..., 3) in the body frame: (0, 0, 1) when level."""
    xp = array_namespace(state.orientation)
    w, x, y, z = (state.orientation[..., i] for i in range(4))
    up = [2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y)]
    return xp.stack(up, axis=-1), memory


def yaw_error(
    state: QuadrotorState, setpoint: QuadrotorSetpoint, memory: Memory, *, period: float, limit: float
) -> tuple[Array, Memory]:
    """Heading minus set-point (..., 1) rad, wrapped and clipped to ±`limit`.

    The heading is the twist of the attitude about the world's z axis, which is defined at any tilt
    short of upside down.
    """
    xp = array_namespace(state.orientation)
    heading = 2.0 * xp.atan2(state.orientation[..., 3], state.orientation[..., 0])
    error = heading - setpoint.yaw
    wrapped = error - 2.0 * xp.pi * xp.round(error / (2.0 * xp.pi))
    return wrapped[..., None].clip(-limit, limit), memory


def angular_velocity(
    state: QuadrotorState, setpoint: QuadrotorSetpoint, memory: Memory, *, period: float, scale: float
) -> tuple[Array, Memory]:
    """Body rates (..., 3) rad/s, multiplied by `scale`."""
    return state.angular_velocity * scale, memory


def angular_velocity_history(
    state: QuadrotorState,
    setpoint: QuadrotorSetpoint,
    memory: Memory,
    *,
    period: float,
    length: int,
    scale: float,
) -> tuple[Array, Memory]:
    """Body rates of the last `length` periods before this one (..., 3 × length) rad/s times `scale`.

    Newest first. Together with the action history it tells a policy how this vehicle answers.
    """
    xp = array_namespace(state.angular_velocity)
    past = memory["angular_velocity_history"]
    now = state.angular_velocity * scale
    newest = xp.concat([now, past[..., : past.shape[-1] - 3]], axis=-1)
    return past, {**memory, "angular_velocity_history": newest}


def setpoint_acceleration(
    state: QuadrotorState, setpoint: QuadrotorSetpoint, memory: Memory, *, period: float, scale: float
) -> tuple[Array, Memory]:
    """Acceleration set-point (..., 3) m/s², multiplied by `scale`."""
    return setpoint.acceleration * scale, memory


def position_error_integral(
    state: QuadrotorState,
    setpoint: QuadrotorSetpoint,
    memory: Memory,
    *,
    period: float,
    limit: float,
    clip: float,
    scale: float,
) -> tuple[Array, Memory]:
    """Integral of the position error (..., 3) m s, multiplied by `scale`.

    The error is shortened to `limit` m before it is summed, and the sum to `clip` m s, so that a long
    excursion leaves little behind.
    """
    error = _shorten(state.position - setpoint.position, limit)
    total = _shorten(memory["position_error_integral"] + period * error, clip)
    return total * scale, {**memory, "position_error_integral": total}


QUADROTOR_TERMS: dict[str, Term] = {
    "position_error": Term(
        function=position_error, size=lambda **_: 3, signals=("position", "orientation"), world_vector=True
    ),
    "linear_velocity_error": Term(
        function=linear_velocity_error,
        size=lambda **_: 3,
        signals=("linear_velocity", "orientation"),
        world_vector=True,
    ),
    "up_direction": Term(function=up_direction, size=lambda **_: 3, signals=("orientation",)),
    "yaw_error": Term(function=yaw_error, size=lambda **_: 1, signals=("orientation",)),
    "angular_velocity": Term(function=angular_velocity, size=lambda **_: 3, signals=("angular_velocity",)),
    "angular_velocity_history": Term(
        function=angular_velocity_history,
        size=lambda length, **_: 3 * int(length),
        memory=lambda length, **_: {"angular_velocity_history": MemorySpec(shape=(3 * int(length),))},
        signals=("angular_velocity",),
    ),
    "setpoint_acceleration": Term(
        function=setpoint_acceleration, size=lambda **_: 3, signals=("orientation",), world_vector=True
    ),
    "position_error_integral": Term(
        function=position_error_integral,
        size=lambda **_: 3,
        memory=lambda clip, **_: {"position_error_integral": MemorySpec(shape=(3,), clip=clip)},
        signals=("position", "orientation"),
        world_vector=True,
    ),
}
