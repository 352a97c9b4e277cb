"""Relative frames: a task as the tool sees it, so that what is learned in one place holds in others.

The tool's pose is told from where it stood when the episode began, everything else along the axes of the tool as it
stands now, and the action moves the tool along them too. Twists, differences and commands are about the tool's own
point, so only their axes turn: `rotation.adjoint` would move the point as well, and a turn would come out as a large
shift. What stays absolute are the joints and the poses of objects, where a task tells them.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from array_api_compat import array_namespace

from policies import rotation
from policies.actions import TWIST_AXES, ActionConfig
from policies.arm_terms import arm_of
from policies.terms import TermConfig
from policies.types import ArmSetpoint, ArmState, Array
from sim.tasks.arm import ArmTask

_TURNED = ("position_difference", "rotation_difference", "behind_difference", "tool_twist")
"""Observation terms whose vectors are turned into the tool's frame."""
_REACH = 2.0
"""Bound of the scaled way from the first pose, where the term that it replaces has none."""
_ROTATIONS: tuple[set[str], ...] = (set(), {"rz"}, {"rx", "ry", "rz"})
"""Axes of rotation that the tool's frame has a counterpart of; "rz" alone where the tool points straight down."""


def relative(task: ArmTask) -> ArmTask:
    """The task in relative frames: other terms, actions along the tool's axes, the same expert in them.

    Raises:
        ValueError: Its action has axes of the base that are no axes of the tool.
    """
    action = dataclasses.replace(task.action, parameters={**task.action.parameters, "frame": "tool"})
    _check(task)
    expert, build = task.expert, task.build

    def turned(state: Any, setpoint: ArmSetpoint) -> Array:
        """The expert along the tool's axes."""
        return to_tool_frame(expert(state, setpoint), state, action)

    return dataclasses.replace(
        task,
        terms=relative_terms(task.terms),
        action=action,
        expert=turned,
        build=None if build is None else lambda settings: relative(build(settings)),
    )


def relative_terms(terms: tuple[TermConfig, ...]) -> tuple[TermConfig, ...]:
    """Observation terms in relative frames, in the same order.

    Position and orientation of a tool become one `relative_pose`, where the first of them was.
    """
    chosen: list[TermConfig] = []
    seen: set[str] = set()
    scales = {
        str(term.parameters.get("arm", "")): float(term.parameters["scale"])
        for term in terms
        if term.name == "position" and term.parameters["of"] == "tool"
    }
    for term in terms:
        arm = str(term.parameters.get("arm", ""))
        if term.name in _TURNED:
            chosen.append(dataclasses.replace(term, parameters={**term.parameters, "frame": "tool"}))
        elif term.name in ("position", "orientation") and term.parameters["of"] == "tool":
            if arm not in seen:
                parameters: dict[str, float | str] = {"scale": scales.get(arm, 1.0), "limit": _REACH}
                chosen.append(TermConfig(name="relative_pose", parameters=parameters | ({"arm": arm} if arm else {})))
            seen.add(arm)
        else:
            chosen.append(term)
    return tuple(chosen)


def to_tool_frame(action: Array, state: ArmState | dict[str, ArmState], config: ActionConfig) -> Array:
    """A normalized `cartesian_twist` (..., A) along the base's axes as one along those of the tool.

    Where that is too fast along an axis of the tool, translation or rotation is slowed down and keeps its direction.
    Of what turns about axes that the action does not have, nothing is left.
    """
    return _turned(action, state, config, into_tool=True)


def to_base_frame(action: Array, state: ArmState | dict[str, ArmState], config: ActionConfig) -> Array:
    """The inverse of `to_tool_frame`."""
    return _turned(action, state, config, into_tool=False)


def _turned(action: Array, state: ArmState | dict[str, ArmState], config: ActionConfig, *, into_tool: bool) -> Array:
    xp = array_namespace(action)
    axes = str(config.parameters["axes"]).split()
    arms = str(config.parameters.get("arms", "")).split() or [""]
    parts: list[Array] = []
    for number, arm in enumerate(arms):
        part = action[..., number * len(axes) : (number + 1) * len(axes)]
        turn = xp.astype(arm_of(state, arm).tool_pose[..., 3:], part.dtype)
        turn = rotation.conjugate(turn) if into_tool else turn
        values = {name: part[..., i] for i, name in enumerate(axes)}
        for names in (TWIST_AXES[:3], TWIST_AXES[3:]):
            zero = xp.zeros_like(part[..., 0])
            vector = rotation.rotate(turn, xp.stack([values.get(name, zero) for name in names], axis=-1))
            # Axes that the action does not have cannot be too fast.
            kept = xp.stack([vector[..., i] if name in values else zero for i, name in enumerate(names)], axis=-1)
            kept = kept / xp.max(xp.abs(kept), axis=-1, keepdims=True).clip(1.0)
            values.update({name: kept[..., i] for i, name in enumerate(names) if name in values})
        parts.append(xp.stack([values[name] for name in axes], axis=-1))
    return xp.concat(parts, axis=-1)


def _check(task: ArmTask) -> None:
    if task.action.name != "cartesian_twist":
        raise ValueError(f"task {task.name!r} acts by {task.action.name}; only cartesian_twist has a frame")
    axes = set(str(task.action.parameters["axes"]).split()) - {"gripper"}
    turns = {name for name in axes if name.startswith("r")}
    if axes - turns not in (set(), {"x", "y", "z"}) or turns not in _ROTATIONS:
        raise ValueError(
            f"task {task.name!r} moves along {' '.join(sorted(axes))} of the base, which are no axes of the tool; "
            "relative frames need x, y and z, with no rotation, rz or all three"
        )
    if task.action.parameters.get("frame", "base") == "tool":
        raise ValueError(f"task {task.name!r} acts in the frame of the tool already")
