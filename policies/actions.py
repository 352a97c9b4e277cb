"""Action terms: from a network's output in [-1, 1] to a command in physical units.

The scale is in the manifest and is applied here, once, outside the network. Like observation
terms, action terms run unchanged on torch and numpy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from array_api_compat import array_namespace

from policies.types import Array, BodyRatesThrust, Command, MotorSpeeds


@dataclass(frozen=True, kw_only=True)
class ActionConfig:
    """A policy's action, as the manifest stores it."""

    name: str
    """Key of `ACTIONS`."""
    parameters: Mapping[str, float] = field(default_factory=dict)
    """Keyword arguments of the term's function: its physical scale."""


@dataclass(frozen=True, kw_only=True)
class Action:
    """An action term and its size."""

    function: Callable[..., Command]
    """(action (..., size), **parameters) → command."""
    size: int
    """Length of the normalized action."""


def motor_speeds(action: Array, *, low: float, high: float) -> MotorSpeeds:
    """Map -1 to `low` and 1 to `high` rad/s, linearly, for each rotor (..., 4)."""
    return MotorSpeeds(low + 0.5 * (high - low) * (action + 1.0))


def body_rates_thrust(
    action: Array, *, max_rate: float, max_yaw_rate: float, min_thrust: float, max_thrust: float
) -> BodyRatesThrust:
    """Map (..., 4) to roll, pitch rates ±`max_rate`, yaw rate ±`max_yaw_rate` rad/s and thrust m/s²."""
    xp = array_namespace(action)
    rates = xp.concat([action[..., :2] * max_rate, action[..., 2:3] * max_yaw_rate], axis=-1)
    return BodyRatesThrust(rates, min_thrust + 0.5 * (max_thrust - min_thrust) * (action[..., 3] + 1.0))


ACTIONS: dict[str, Action] = {
    "motor_speeds": Action(function=motor_speeds, size=4),
    "body_rates_thrust": Action(function=body_rates_thrust, size=4),
}


def find_action(config: ActionConfig) -> Action:
    """Look an action term up by name.

    Raises:
        ValueError: No such term, with the nearest name.
    """
    if config.name not in ACTIONS:
        near = get_close_matches(config.name, ACTIONS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known terms: {', '.join(ACTIONS)}"
        raise ValueError(f"unknown action term {config.name!r}; {hint}")
    return ACTIONS[config.name]


def to_command(config: ActionConfig, action: Array) -> Command:
    """The command that a normalized `action` (..., A), clipped to [-1, 1], stands for."""
    return ACTIONS[config.name].function(action.clip(-1.0, 1.0), **config.parameters)
