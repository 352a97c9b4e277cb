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

To add a term: write the function in `policies/quadrotor_terms.py` or `policies/arm_terms.py` and add it to
the table there with its size, its memory and the signals that it reads. Nothing else changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from array_api_compat import array_namespace, device

from policies.arm_terms import ARM_TERMS
from policies.quadrotor_terms import QUADROTOR_TERMS
from policies.terms import Memory, MemorySpec, Term, TermConfig
from policies.types import ArmState, Array, QuadrotorState


def action_history(
    state: Any,
    setpoint: Any,
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
    **QUADROTOR_TERMS,
    **ARM_TERMS,
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


def needed_signals(terms: Sequence[TermConfig]) -> tuple[str, ...]:
    """Fields of the robot's state that the terms read, sorted."""
    signals: set[str] = set()
    for config in terms:
        term = find_term(config)
        named = {str(config.parameters[key]) for key in term.poses if key in config.parameters} - {"goal", "base"}
        signals.update(term.signals, ("tool_pose" if name == "tool" else "objects" for name in named))
    return tuple(sorted(signals))


def memory_specs(terms: Sequence[TermConfig]) -> dict[str, MemorySpec]:
    """Memory arrays that the terms need, by name."""
    specs: dict[str, MemorySpec] = {}
    for term in terms:
        specs.update(find_term(term).memory(**term.parameters))
    return specs


def batch_like(state: Any) -> Array:
    """An array (..., k) of a robot's state: it tells batch axes, type and device."""
    if isinstance(state, QuadrotorState):
        return state.position
    arm: ArmState = state if isinstance(state, ArmState) else next(iter(state.values()))
    return arm.joint_positions


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
