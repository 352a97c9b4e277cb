"""Observation and action terms in C: which function of `runtime/policy_terms.h` stands for which term."""

from __future__ import annotations

import inspect

from policies import observations
from policies.arm_terms import FARTHEST
from policies.manifest import Manifest
from policies.terms import TermConfig
from robot_rl.errors import UserError
from robot_rl.export_c.layout import identifier
from robot_rl.export_c.network import number

TERMS = {
    "position_error": "policy_error(state->position, setpoint->position, {limit}, 1.0f, {out})",
    "linear_velocity_error": "policy_error(state->linear_velocity, setpoint->velocity, {limit}, {scale}, {out})",
    "up_direction": "policy_up_direction(state->orientation, {out})",
    "yaw_error": "policy_yaw_error(state->orientation, setpoint->yaw, {limit}, {out})",
    "angular_velocity": "policy_scaled(state->angular_velocity, 3, {scale}, {out})",
    "angular_velocity_history": "policy_angular_velocity_history(state->angular_velocity, {scale}, {size}, "
    "memory->angular_velocity_history, {out})",
    "setpoint_acceleration": "policy_scaled(setpoint->acceleration, 3, {scale}, {out})",
    "position_error_integral": "policy_position_error_integral(state->position, setpoint->position, POLICY_PERIOD, "
    "{limit}, {clip}, {scale}, memory->position_error_integral, {out})",
    "action_history": "policy_scaled(memory->action_history, {size}, 1.0f, {out})",
    "joint_positions": "policy_scaled(state->joint_positions, {size}, {scale}, {out})",
    "joint_velocities": "policy_scaled(state->joint_velocities, {size}, {scale}, {out})",
    "position": "policy_position({of}, {x}, {y}, {z}, {scale}, {out})",
    "orientation": "policy_two_columns({of} + 3, {out})",
    "relative_pose": "policy_relative_pose(state->tool_pose, {scale}, {limit}, {farthest}, memory->first_tool_pose, "
    "{out})",
    "position_difference": "policy_position_difference({of}, {origin}, {frame}, {scale}, {limit}, {out})",
    "rotation_difference": "policy_rotation_difference({of}, {origin}, {frame}, {scale}, {limit}, {out})",
    "behind_difference": "policy_behind_difference({of}, setpoint->tool_pose, state->tool_pose, {frame}, {offset}, "
    "{scale}, {limit}, {out})",
    "tool_twist": "policy_tool_twist(state->tool_twist, {frame}, {linear}, {angular}, {out})",
    "gripper_width": "policy_scaled(&state->gripper_width, 1, {scale}, {out})",
    "wrench": "policy_wrench(state->wrench, {force}, {torque}, {limit}, {out})",
}
"""Call that computes a term, by its name; the term's parameters go into the braces."""
_POSES = ("of", "origin")
_FRAMES = {"base": "0", "tool": "state->tool_pose + 3"}


def observation_code(manifest: Manifest) -> str:
    """Statements that assemble the observation, in the order of `policies.observations.observe`.

    Raises:
        UserError: A term is not available in C, by name.
    """
    entries = [(config, observations.find_term(config)) for config in manifest.observation]
    # World vectors come first; within both groups, and when memory is written, the order is the manifest's.
    sizes = {id(config): entry.size(**config.parameters) for config, entry in entries}
    offsets: dict[int, int] = {}
    offset = 0
    for group in (True, False):
        for config, entry in entries:
            if entry.world_vector is group:
                offsets[id(config)] = offset
                offset += sizes[id(config)]
    lines = []
    for config, entry in entries:
        out = f"observation + {offsets[id(config)]}"
        lines.append(f"{_call(manifest, config, sizes[id(config)], out)};")
        if entry.world_vector:
            lines.append(f"policy_to_heading(state->orientation, {out});")
    return "\n".join(f"    {line}" for line in lines)


def action_code(manifest: Manifest) -> str:
    """Statements that turn the clipped `action` into the command, as `policies.actions` does."""
    name, given = manifest.action.name, manifest.action.parameters
    if name == "motor_speeds":
        low, high = float(given["low"]), float(given["high"])
        lines = [
            f"for (int i = 0; i < 4; i++) command->motor_speeds[i] = {_between(low, high, 'i')};",
        ]
    elif name == "body_rates_thrust":
        rates = ("max_rate", "max_rate", "max_yaw_rate")
        lines = [f"command->rates[{i}] = action[{i}] * {number(float(given[key]))};" for i, key in enumerate(rates)]
        lines.append(
            f"command->thrust = {_between(float(given['min_thrust']), float(given['max_thrust']), '3')};"
        )  # fmt: skip
    elif name == "cartesian_twist":
        lines = _twist(manifest)
    else:
        lows, highs = (str(given[key]).split() for key in ("low", "high"))
        lines = [
            f"command->joint_positions[{i}] = {_between(float(low), float(high), str(i))};"
            for i, (low, high) in enumerate(zip(lows, highs, strict=True))
        ]
        lines.append(f"command->gripper = action[{len(lows)}];")
    return "\n".join(f"    {line}" for line in lines)


def _call(manifest: Manifest, config: TermConfig, size: int, out: str) -> str:
    if config.name not in TERMS:
        raise UserError(
            f"{manifest.name}: observation term {config.name!r} is not available in C; available are {', '.join(TERMS)}"
        )
    defaults = inspect.signature(observations.find_term(config).function).parameters
    given = {name: p.default for name, p in defaults.items() if p.default is not inspect.Parameter.empty}
    given.update(config.parameters)
    if arm := given.get("arm") or given.get("origin_arm"):
        raise UserError(f"{manifest.name}: term {config.name!r} names the arm {arm!r}; in C a policy has one arm")
    words = {"out": out, "size": str(size), "farthest": number(FARTHEST)}
    for name, value in given.items():
        if name in _POSES:
            words[name] = _pose(str(value))
        elif name == "frame":
            words[name] = _FRAMES[str(value)]
        elif name not in ("arm", "origin_arm", "size"):
            words[name] = number(float(value))
    return TERMS[config.name].format(**words)


def _pose(name: str) -> str:
    return {"tool": "state->tool_pose", "goal": "setpoint->tool_pose"}.get(name, f"state->objects.{identifier(name)}")


def _between(low: float, high: float, index: str) -> str:
    return f"{number(low)} + {number(0.5 * (high - low))} * (action[{index}] + 1.0f)"


def _twist(manifest: Manifest) -> list[str]:
    given = manifest.action.parameters
    names = str(given["axes"]).split()
    lines = []
    for k, axis in enumerate(("x", "y", "z", "rx", "ry", "rz")):
        scale = number(float(given.get("angular" if axis.startswith("r") else "linear", 0.0)))
        value = f"action[{names.index(axis)}] * {scale}" if axis in names else "0.0f"
        lines.append(f"command->twist[{k}] = {value};")
    held = number(float(given.get("gripper", -1.0)))
    value = f"action[{names.index('gripper')}]" if "gripper" in names else held
    return [*lines, f"command->gripper = {value};"]
