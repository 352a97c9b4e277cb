"""Action terms: from a network's output in [-1, 1] to a command in physical units.

The scale is in the manifest and is applied here, once, outside the network. Like observation
terms, action terms run unchanged on torch and numpy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from array_api_compat import array_namespace

from policies.types import Array, BodyRatesThrust, CartesianTwist, Command, JointPositions, MotorSpeeds


@dataclass(frozen=True, kw_only=True)
class ActionConfig:
    """A policy's action, as the manifest stores it."""

    name: str
    """Key of `ACTIONS`."""
    parameters: Mapping[str, float | str] = field(default_factory=dict)
    """Keyword arguments of the term's function: its physical scale."""


@dataclass(frozen=True, kw_only=True)
class Action:
    """An action term and its size."""

    function: Callable[..., Command | dict[str, Command]]
    """(action (..., size), **parameters) → command; for several arms, commands by arm name."""
    size: Callable[..., int]
    """Length of the normalized action, given the term's parameters."""


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


TWIST_AXES = ("x", "y", "z", "rx", "ry", "rz")
"""Components of a twist by name."""


def cartesian_twist(
    action: Array,
    *,
    axes: str,
    linear: float,
    angular: float = 0.0,
    frame: str = "base",
    gripper: float = -1.0,
    arms: str = "",
) -> CartesianTwist | dict[str, Command]:
    """Map (..., size) to a tool twist of ±`linear` m/s and ±`angular` rad/s along the `axes` that the policy has.

    `axes` names the elements of the action in order, e.g. "x y z rz gripper". Along the others the twist is 0
    and the controller holds what it has; without `gripper` among them the gripper stays at `gripper`. With
    `arms`, e.g. "left right", each arm has all axes, one arm after the other.
    """
    if arms:
        each = len(axes.split())
        parts_of_arms: dict[str, Any] = {
            name: cartesian_twist(
                action[..., i * each : (i + 1) * each],
                axes=axes,
                linear=linear,
                angular=angular,
                frame=frame,
                gripper=gripper,
            )
            for i, name in enumerate(arms.split())
        }
        return parts_of_arms
    xp = array_namespace(action)
    parts = {name: action[..., i] for i, name in enumerate(axes.split())}
    zero = xp.zeros_like(action[..., 0])
    values = [parts.get(name, zero) * (angular if name.startswith("r") else linear) for name in TWIST_AXES]
    return CartesianTwist(
        values=xp.stack(values, axis=-1),
        frame="tool" if frame == "tool" else "base",
        gripper=parts.get("gripper", zero + gripper),
    )


def _twist_size(*, axes: str, frame: str = "base", arms: str = "", **_: float) -> int:
    names = axes.split()
    if unknown := [name for name in names if name not in (*TWIST_AXES, "gripper")]:
        raise ValueError(f"unknown axis {unknown[0]!r}; known: {', '.join(TWIST_AXES)}, gripper")
    if frame not in ("base", "tool"):
        raise ValueError(f"frame is {frame!r}; expected base or tool")
    return len(names) * max(1, len(arms.split()))


def joint_position_targets(action: Array, *, low: str, high: str) -> JointPositions:
    """Map (..., n + 1) to joint targets between `low` and `high` rad, e.g. "-2.8 -1.7 …", and the gripper."""
    xp = array_namespace(action)
    bounds = [(float(a), float(b)) for a, b in zip(low.split(), high.split(), strict=True)]
    values = [a + 0.5 * (b - a) * (action[..., i] + 1.0) for i, (a, b) in enumerate(bounds)]
    return JointPositions(values=xp.stack(values, axis=-1), gripper=action[..., len(bounds)])


ACTIONS: dict[str, Action] = {
    "motor_speeds": Action(function=motor_speeds, size=lambda **_: 4),
    "body_rates_thrust": Action(function=body_rates_thrust, size=lambda **_: 4),
    "cartesian_twist": Action(function=cartesian_twist, size=_twist_size),
    "joint_position_targets": Action(function=joint_position_targets, size=lambda low, **_: len(low.split()) + 1),
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


def action_size(config: ActionConfig) -> int:
    """Length A of the normalized action.

    Raises:
        ValueError: No such term, or it has a wrong parameter.
    """
    return find_action(config).size(**config.parameters)


def to_command(config: ActionConfig, action: Array) -> Any:
    """The command, or commands by arm name, that a normalized `action` (..., A), clipped to [-1, 1], stands for."""
    return ACTIONS[config.name].function(action.clip(-1.0, 1.0), **config.parameters)
