"""What to bring up, as data: the nodes and arguments of `config/<robot>.yaml`.

Both `launch/*.launch.py` and `robot-rl up` read it here, so that they start the same nodes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from hardware.descriptions import load_arm
from hardware.urdf import to_urdf
from robot_rl.paths import find_shared

Value: TypeAlias = bool | int | float | str | list
"""Value of an argument or a parameter; a list has one type of element."""
_DESCRIPTION = "$(robot_description)"


class BringupError(ValueError):
    """An argument or a configuration that cannot be used, in one sentence."""


@dataclass(frozen=True, kw_only=True)
class Argument:
    """An argument that a user may set as `name:=value`."""

    name: str
    """Its name."""
    description: str
    """What it does, with its unit."""
    default: Value
    """Its default, which also fixes its type."""
    choices: tuple[str, ...] = ()
    """What may be chosen; empty if anything may."""


@dataclass(frozen=True, kw_only=True)
class NodeEntry:
    """A node to start."""

    name: str
    """Its ROS name."""
    executable: str
    """Its executable in `lib/<package>`."""
    parameters: Mapping[str, Value] = field(default_factory=dict)
    """Its parameters; `$(argument)` stands for the value of an argument, `$(robot_description)` for the URDF of the
    argument `robot`."""
    package: str = "robot_rl"
    """Its ROS package; another one need not be installed as long as no argument asks for the node."""
    arguments: tuple[str, ...] = ()
    """Further words of its command line; `$(config)` stands for the folder of configurations."""
    when: Mapping[str, list] = field(default_factory=dict)
    """Started only if each of these arguments has one of the listed values."""
    unless: Mapping[str, list] = field(default_factory=dict)
    """Not started if one of these arguments has one of the listed values."""
    critical: bool = False
    """Everything ends, with an error, when it ends by itself."""
    grace: float = 0.0
    """s between the end of a critical node and the end of the others: time to bring the robot down."""
    ends_mission: bool = False
    """Everything ends, without an error, when it ends with status 0."""


@dataclass(frozen=True, kw_only=True)
class Bringup:
    """All of `config/<robot>.yaml`."""

    description: str
    """What comes up, in one sentence."""
    arguments: Mapping[str, Argument]
    """Arguments by name."""
    nodes: tuple[NodeEntry, ...]
    """Nodes, in the order in which they are started."""


EXECUTABLES = {
    "quadrotor_simulator": "simulator",
    "quadrotor_topics": "topics",
    "px4": "px4",
    "crazyswarm2": "crazyswarm2",
    "policy": "policy",
    "setpoint": "setpoint",
    "supervisor": "supervisor",
    "recorder": "recorder",
    "arm": "arm",
    "camera": "camera",
    "markers": "markers",
    "arm_supervisor": "arm_supervisor",
    "arm_simulator": "arm_simulator",
    "arm_policy": "arm_policy",
    "arm_setpoint": "arm_setpoint",
    "teleop": "teleop",
    "ros2_control": "ros2_control",
}
"""Module in `robot_rl.nodes` of each executable."""


def load_bringup(name_or_path: str | Path) -> Bringup:
    """Read a configuration by name (`quadrotor`) or from a YAML file.

    Raises:
        BringupError: There is no such configuration, or it has unknown keys.
    """
    path = Path(name_or_path)
    if path.suffix not in {".yaml", ".yml"}:
        known = sorted(file.stem for file in find_shared("config").glob("*.yaml"))
        if str(name_or_path) not in known:
            raise BringupError(f"nothing to bring up is called {str(name_or_path)!r}; known: {', '.join(known)}")
        path = find_shared(f"config/{name_or_path}.yaml")
    data = yaml.safe_load(path.read_text())
    try:
        arguments = {
            name: Argument(name=name, **{**entry, "choices": tuple(entry.get("choices", ()))})
            for name, entry in data["arguments"].items()
        }
        nodes = tuple(NodeEntry(**{**entry, "arguments": tuple(entry.get("arguments", ()))}) for entry in data["nodes"])
    except (TypeError, KeyError) as error:
        raise BringupError(f"{path} cannot be read: {error}") from error
    for node in nodes:
        if node.package == "robot_rl" and node.executable not in EXECUTABLES:
            raise BringupError(f"{path}: no executable {node.executable!r}; known: {', '.join(EXECUTABLES)}")
        for name in [*node.when, *node.unless, *references(node)]:
            if name not in arguments:
                raise BringupError(f"{path}: node {node.name} refers to an argument {name!r} that is not declared")
    return Bringup(description=data["description"], arguments=arguments, nodes=nodes)


def parse(bringup: Bringup, texts: list[str]) -> dict[str, Value]:
    """Values of all arguments from `["policy:=my_bundle", …]`; those not given keep their default.

    Raises:
        BringupError: An argument is unknown, or a value does not fit it.
    """
    values = {name: argument.default for name, argument in bringup.arguments.items()}
    for text in texts:
        name, separator, value = text.partition(":=")
        if not separator:
            raise BringupError(f"argument {text!r} is not of the form name:=value")
        if name not in values:
            near = get_close_matches(name, values, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(values)}"
            raise BringupError(f"unknown argument {name!r}; {hint}")
        values[name] = convert(bringup.arguments[name], value)
    return values


def convert(argument: Argument, text: str) -> Value:
    """The value that `text` stands for, in the type of the argument's default."""
    default = argument.default
    value: Any = text
    if not isinstance(default, str):
        try:
            value = yaml.safe_load(text)
            if isinstance(default, list):
                value = [type(default[0])(entry) for entry in (value if isinstance(value, list) else [value])]
            elif isinstance(default, float) and not isinstance(value, bool):
                value = float(value)
        except (yaml.YAMLError, TypeError, ValueError):
            value = None
        if type(value) is not type(default):
            kind = {bool: "true or false", list: f"a list like {default}"}.get(type(default), type(default).__name__)
            raise BringupError(f"argument {argument.name} is {text!r}, expected {kind}")
    if argument.choices and value not in argument.choices:
        raise BringupError(f"argument {argument.name} is {text!r}; choose from {', '.join(argument.choices)}")
    return value


def to_text(value: Value) -> str:
    """The text that `convert` turns into `value`."""
    return value if isinstance(value, str) else json.dumps(value)


def references(node: NodeEntry) -> dict[str, str]:
    """Arguments that a node's parameters refer to, each with the parameter."""
    return {
        value[2:-1]: key
        for key, value in node.parameters.items()
        if isinstance(value, str) and value.startswith("$(") and value.endswith(")") and value != _DESCRIPTION
    }


def selected(node: NodeEntry, values: Mapping[str, Value]) -> bool:
    """Whether the arguments' values ask for the node."""
    return all(values[name] in wanted for name, wanted in node.when.items()) and not any(
        values[name] in unwanted for name, unwanted in node.unless.items()
    )


def node_parameters(node: NodeEntry, values: Mapping[str, Value]) -> dict[str, Value]:
    """The node's parameters with the arguments' values put in."""
    filled = {parameter: values[argument] for argument, parameter in references(node).items()}
    described = {key: _urdf(str(values["robot"])) for key, value in node.parameters.items() if value == _DESCRIPTION}
    own_clock = {"use_sim_time": values.get("use_sim_time", False)}
    return {**node.parameters, **filled, **described, **own_clock}


def node_arguments(node: NodeEntry) -> list[str]:
    """The node's further arguments with the folder of configurations put in."""
    return [word.replace("$(config)", str(find_shared("config"))) for word in node.arguments]


def _urdf(robot: str) -> str:
    try:
        return to_urdf(load_arm(robot))
    except (ValueError, FileNotFoundError) as error:
        raise BringupError(str(error)) from error
