"""ROS parameters from a frozen dataclass: name, default, description, range, all read-only.

A node's settings are fixed while it runs: changing what flies in flight is a restart, not a call.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

Config = TypeVar("Config")
_OWN = ("use_sim_time", "start_type_description_service")
"""Parameters that rclpy declares itself; those of `qos_overrides` too."""


class ParameterError(ValueError):
    """A parameter that is unknown or out of its range, in one sentence."""


def parameter(
    default: Any,
    description: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: Sequence[str] = (),
) -> Any:
    """A dataclass field that `read` declares as a ROS parameter."""
    metadata = {"description": description, "low": low, "high": high, "choices": tuple(choices)}
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def read(node: Node, config_type: type[Config]) -> Config:
    """Declare the fields of `config_type` on `node` and return their values.

    The node must have been made with `automatically_declare_parameters_from_overrides`, which is how
    a misspelled name shows up at all: ROS drops overrides that nobody declares without a word.
    """
    fields = {f.name: f for f in dataclasses.fields(config_type)}  # type: ignore[arg-type]
    given = [name for name in node.get_parameters_by_prefix("") if not _is_own(name)]
    for name in given:
        if name not in fields:
            near = get_close_matches(name, fields, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(fields)}"
            raise ParameterError(f"node {node.get_name()} has no parameter {name!r}; {hint}")
        node.undeclare_parameter(name)
    values = {name: _declare(node, field) for name, field in fields.items()}
    return config_type(**values)


def settings_of(texts: Sequence[str]) -> dict[str, str]:
    """The parameter `driver_settings`, e.g. `["connection=udp:0.0.0.0:14540"]`, as a dict; empty texts are none.

    Raises:
        ParameterError: A text is no name=value.
    """
    settings = {}
    for text in filter(None, texts):
        name, equals, value = text.partition("=")
        if not equals:
            raise ParameterError(f"parameter driver_settings: {text!r} is not of the form name=value")
        settings[name.strip()] = value.strip()
    return settings


def _declare(node: Node, field: dataclasses.Field) -> Any:
    factory: Any = field.default_factory
    default = factory() if field.default is dataclasses.MISSING else field.default
    low, high, choices = field.metadata["low"], field.metadata["high"], field.metadata["choices"]
    descriptor = ParameterDescriptor(
        description=field.metadata["description"],
        additional_constraints=f"one of {', '.join(choices)}" if choices else "",
        read_only=True,
    )
    if low is not None and high is not None and isinstance(default, float):
        descriptor.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high))]
    elif low is not None and high is not None and isinstance(default, int):
        descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high))]
    value = node.declare_parameter(field.name, default, descriptor).value
    if choices and value not in choices:
        raise ParameterError(f"parameter {field.name!r} is {value!r}; choose from {', '.join(choices)}")
    return list(value) if isinstance(default, list) else value


def _is_own(name: str) -> bool:
    return name in _OWN or name.startswith("qos_overrides.")
