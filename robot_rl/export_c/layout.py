"""The structures that an exported policy takes and gives, and the same as rows of float32 numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from policies import observations
from policies.manifest import Manifest
from policies.types import ArmSetpoint, ArmState, QuadrotorSetpoint, QuadrotorState
from robot_rl.errors import UserError

Fields = tuple[tuple[str, int], ...]
_QUADROTOR_STATE = (("position", 3), ("orientation", 4), ("linear_velocity", 3), ("angular_velocity", 3))
_QUADROTOR_SETPOINT = (("position", 3), ("velocity", 3), ("acceleration", 3), ("yaw", 1))
_ARM_FIELDS = {"tool_pose": 7, "tool_twist": 6, "gripper_width": 1, "wrench": 6}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Members of the structures, in order, with their number of floats; a member `objects.cube` lies in `objects`."""

    kind: str
    """`quadrotor` or `arm`."""
    state: Fields
    """Members of `struct policy_state`: of an arm only those that the policy reads."""
    setpoint: Fields
    """Members of `struct policy_setpoint`."""
    command: Fields
    """Members of `struct policy_command`."""
    uses_setpoint: bool
    """Whether the policy reads the set-point at all."""


def read_layout(manifest: Manifest) -> Layout:
    """Structures of a policy.

    Raises:
        UserError: The policy needs something that C does not have, by name.
    """
    if manifest.images:
        raise UserError(f"{manifest.name}: pictures ({', '.join(manifest.images)}) are not available in C")
    quadrotor = manifest.robot.kind == "quadrotor"
    return Layout(
        kind=manifest.robot.kind,
        state=_QUADROTOR_STATE if quadrotor else _arm_state(manifest),
        setpoint=_QUADROTOR_SETPOINT if quadrotor else (("tool_pose", 7),),
        command=_command(manifest),
        uses_setpoint=quadrotor or _reads_goal(manifest),
    )  # fmt: skip


def floats(fields: Fields) -> int:
    """Number of floats of a structure."""
    return sum(count for _, count in fields)


def identifier(name: str) -> str:
    """A name as C can write it."""
    text = re.sub(r"\W", "_", name)
    return f"_{text}" if text[:1].isdigit() else text


def structure(name: str, fields: Fields, comments: dict[str, str]) -> str:
    """Definition of a structure of floats."""
    plain = [field for field in fields if "." not in field[0]]
    lines = [f"    float {identifier(n)}{_dimension(c)};{_comment(comments, n)}" for n, c in plain]
    if objects := [field for field in fields if "." in field[0]]:
        lines += ["    struct {", *(f"        float {identifier(n.split('.', 1)[1])}[{c}];" for n, c in objects)]
        lines += [f"    }} objects;{_comment(comments, 'objects')}"]
    return "\n".join([f"struct {name} {{", *lines, "};"])


def flatten(record: Any, fields: Fields) -> np.ndarray:
    """A state or set-point as rows (..., floats) float32; what it does not have is zeros."""
    columns, batch = [], ()
    for name, count in fields:
        value = record.objects[name.split(".", 1)[1]] if "." in name else getattr(record, name)
        if value is not None:
            value = np.asarray(value, np.float32)
            value = value[..., None] if name in ("yaw", "gripper_width") else value
            batch = value.shape[:-1]
        columns.append((value, count))
    filled = [np.zeros((*batch, count), np.float32) if value is None else value for value, count in columns]
    return np.concatenate(filled, axis=-1)


def unflatten(rows: np.ndarray, layout: Layout, which: str) -> Any:
    """The state (`which` is `state`) or set-point of rows (..., floats)."""
    fields = layout.state if which == "state" else layout.setpoint
    edges = np.cumsum([count for _, count in fields])[:-1]
    parts: dict[str, Any] = {name: part for (name, _), part in zip(fields, np.split(rows, edges, axis=-1), strict=True)}
    for name in {"yaw", "gripper_width"} & set(parts):
        parts[name] = parts[name][..., 0]
    if layout.kind == "quadrotor":
        return QuadrotorState(**parts) if which == "state" else QuadrotorSetpoint(**parts)
    if which == "setpoint":
        return ArmSetpoint(**parts)
    objects = {name.split(".", 1)[1]: parts.pop(name) for name in list(parts) if "." in name}
    # What the policy does not read is there, as the type asks, but empty.
    unread: dict[str, Any] = {
        "joint_positions": rows[..., :0],
        "joint_velocities": rows[..., :0],
        "gripper_width": rows[..., 0] * 0,
    }
    unread.update({"tool_pose": rows[..., :0], "tool_twist": rows[..., :0]})
    return ArmState(**{**unread, **parts}, objects=objects)


def _arm_state(manifest: Manifest) -> Fields:
    signals = observations.needed_signals(manifest.observation)
    fields = [
        (term.name, int(term.parameters["joints"]))
        for term in manifest.observation
        if term.name in ("joint_positions", "joint_velocities")
    ]
    fields += [(name, count) for name, count in _ARM_FIELDS.items() if name in signals]
    fields += [(f"objects.{name}", 7) for name in _objects(manifest)]
    return tuple(dict.fromkeys(fields))


def _objects(manifest: Manifest) -> Sequence[str]:
    """Names of the objects whose poses the terms read."""
    named = []
    for config in manifest.observation:
        poses = observations.find_term(config).poses
        named += [str(config.parameters[key]) for key in poses if key in config.parameters and key != "frame"]
    return [name for name in dict.fromkeys(named) if name not in ("tool", "goal", "base")]


def _reads_goal(manifest: Manifest) -> bool:
    values = [value for term in manifest.observation for value in term.parameters.values()]
    return "goal" in values or any(term.name == "behind_difference" for term in manifest.observation)


def _command(manifest: Manifest) -> Fields:
    name, parameters = manifest.action.name, manifest.action.parameters
    if parameters.get("arms"):
        raise UserError(f"{manifest.name}: a policy of several arms ({parameters['arms']}) is not available in C")
    if name == "joint_position_targets":
        return ("joint_positions", len(str(parameters["low"]).split())), ("gripper", 1)
    known: dict[str, Fields] = {
        "motor_speeds": (("motor_speeds", 4),),
        "body_rates_thrust": (("rates", 3), ("thrust", 1)),
        "cartesian_twist": (("twist", 6), ("gripper", 1)),
    }
    if name not in known:
        raise UserError(
            f"{manifest.name}: action term {name!r} is not available in C; available are {', '.join(known)}"
        )
    return known[name]


def _dimension(count: int) -> str:
    return f"[{count}]" if count > 1 else ""


def _comment(comments: dict[str, str], name: str) -> str:
    return f" /* {comments[name]} */" if name in comments else ""
