"""Observation terms: pure functions of state, set-point and memory, written once.

The same function runs on a torch batch in training, on a numpy batch in evaluation and on one
numpy sample on the robot, so training and deployment cannot assemble an observation differently.

A term is ``(state, setpoint, memory, *, period, **parameters) → (feature, memory)``:

- `feature` has shape (..., size);
- `memory` is a dict of arrays that one episode carries along, e.g. past actions. A term that keeps
  memory returns a new dict; it never writes into the old one;
- `period` is the control period in s; `parameters` are the term's own, stored in the manifest.

A term marked `world_vector` returns a vector in the world frame, and the assembler turns all of
them into the **heading frame**: the world turned about z by the vehicle's own heading. So nothing
but `yaw_error` depends on where north is, and a large heading error does not disturb a recovery.
(The body frame would do that too, but mixes a fall's speed into the lateral axes whenever the
vehicle tilts, which makes slow vehicles oscillate.)

To add a term: write the function, add it to `TERMS` with its size, its memory and the signals that
it reads. Nothing else changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, TypeAlias

from array_api_compat import array_namespace, device

from policies.types import Array, QuadrotorSetpoint, QuadrotorState

Memory: TypeAlias = dict[str, Array]


@dataclass(frozen=True, kw_only=True)
class MemorySpec:
    """What one memory array looks like at the start of an episode."""

    shape: tuple[int, ...]
    """Shape of one sample."""
    initial: float = 0.0
    """Value of every element at the start of an episode."""
    clip: float | None = None
    """Elements never exceed this magnitude; None where the term bounds them otherwise."""


@dataclass(frozen=True, kw_only=True)
class TermConfig:
    """One entry of a policy's observation, as the manifest stores it."""

    name: str
    """Key of `TERMS`."""
    parameters: Mapping[str, float] = field(default_factory=dict)
    """Keyword arguments of the term's function."""


@dataclass(frozen=True, kw_only=True)
class Term:
    """An observation term and what the assembler needs to know of it."""

    function: Callable[..., tuple[Array, Memory]]
    """The pure function; see the module's docstring."""
    size: Callable[..., int]
    """Length of the feature, given the term's parameters."""
    memory: Callable[..., dict[str, MemorySpec]] = lambda **_: {}
    """Memory that the term needs, given its parameters."""
    signals: tuple[str, ...] = ()
    """Fields of the robot's state that it reads."""
    world_vector: bool = False
    """Whether the feature is a vector (..., 3) in the world frame, to be turned into the heading frame."""


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


def action_history(
    state: QuadrotorState,
    setpoint: QuadrotorSetpoint,
    memory: Memory,
    *,
    period: float,
    length: int,
    size: int,
    initial: float,
) -> tuple[Array, Memory]:
    """The last `length` normalized actions of `size` elements, newest first (..., length × size)."""
    return memory["action_history"], memory


TERMS: dict[str, Term] = {
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
    "action_history": Term(
        function=action_history,
        size=lambda length, size, **_: int(length) * int(size),
        memory=lambda length, size, initial, **_: {
            "action_history": MemorySpec(shape=(int(length) * int(size),), initial=initial, clip=1.0)
        },
    ),
}


def find_term(config: TermConfig) -> Term:
    """Look a term up by name.

    Raises:
        ValueError: No such term, with the nearest name.
    """
    if config.name not in TERMS:
        near = get_close_matches(config.name, TERMS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known terms: {', '.join(TERMS)}"
        raise ValueError(f"unknown observation term {config.name!r}; {hint}")
    return TERMS[config.name]


def observation_size(terms: Sequence[TermConfig]) -> int:
    """Length D of the observation vector."""
    return sum(find_term(term).size(**term.parameters) for term in terms)


def memory_specs(terms: Sequence[TermConfig]) -> dict[str, MemorySpec]:
    """Memory arrays that the terms need, by name."""
    specs: dict[str, MemorySpec] = {}
    for term in terms:
        specs.update(find_term(term).memory(**term.parameters))
    return specs


def initial_memory(terms: Sequence[TermConfig], like: Array) -> Memory:
    """Memory at the start of an episode, with the batch axes, type and device of `like` (..., k)."""
    xp = array_namespace(like)
    where = device(like)  # arrays of numpy 1 have no attribute of that name
    return {
        name: xp.full((*like.shape[:-1], *spec.shape), spec.initial, dtype=like.dtype, device=where)
        for name, spec in memory_specs(terms).items()
    }


def observe(
    terms: Sequence[TermConfig], state: Any, setpoint: Any, memory: Memory, period: float
) -> tuple[Array, Memory]:
    """Assemble the observation (..., D) and the memory after it.

    The order is that of `terms`, with the world vectors, turned into the heading frame, first. The
    environment, the exporter and the runtime all call this function, and nothing else.
    """
    vectors: list[Array] = []
    features: list[Array] = []
    for term in terms:
        entry = TERMS[term.name]
        feature, memory = entry.function(state, setpoint, memory, period=period, **term.parameters)
        (vectors if entry.world_vector else features).append(feature)
    xp = array_namespace(state.orientation if vectors else features[0])
    if vectors:
        features = [_to_heading(vector, state.orientation) for vector in vectors] + features
    return xp.concat(features, axis=-1), memory


def _to_heading(vector: Array, orientation: Array) -> Array:
    """Turn a world vector (..., 3) by minus the heading, the twist of `orientation` (..., 4) about z."""
    xp = array_namespace(vector)
    w, z = orientation[..., 0], orientation[..., 3]
    # Upside down there is no heading: there the horizontal part fades out instead of jumping.
    scale = 1.0 / (w * w + z * z + 1e-4)
    cosine, sine = (w * w - z * z) * scale, 2.0 * w * z * scale
    x, y = vector[..., 0], vector[..., 1]
    return xp.stack([cosine * x + sine * y, cosine * y - sine * x, vector[..., 2]], axis=-1)


def record_action(memory: Memory, action: Array) -> Memory:
    """Memory after the normalized `action` (..., A) was emitted, clipped to [-1, 1]."""
    if "action_history" not in memory:
        return memory
    xp = array_namespace(action)
    history = memory["action_history"]
    older = history[..., : history.shape[-1] - action.shape[-1]]
    newest = xp.concat([action.clip(-1.0, 1.0), older], axis=-1)
    return {**memory, "action_history": newest}
