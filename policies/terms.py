"""What an observation term is: the types that the terms of every kind of robot share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from policies.types import Array

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
    parameters: Mapping[str, float | str] = field(default_factory=dict)
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
    poses: tuple[str, ...] = ()
    """Parameters whose values, where given, name a pose: `tool`, `goal`, an object, or `base` for none of them.

    They add what they name to `signals`.
    """
    world_vector: bool = False
    """Whether the feature is a vector (..., 3) in the world frame, to be turned into the heading frame."""
