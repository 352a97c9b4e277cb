"""The numbers in messages: of a field, with those of a field made of others in their order."""

from __future__ import annotations

from typing import Any

import numpy as np

from robot_rl.recording.errors import RecordingError


def flatten(message: Any, field: str, topic: str) -> list[float]:
    """The numbers of a field of a message, in order; quaternions as wxyz."""
    value = _at(message, field, topic)
    numbers: list[float] = []
    _collect(value, numbers, [])
    if not numbers and not isinstance(value, np.ndarray | list):
        raise RecordingError(f"{topic}: {field or 'the message'} has no numbers")
    return numbers


def quaternions_in(message: Any, field: str, topic: str) -> list[int]:
    """At which of the numbers of `flatten` a quaternion begins."""
    found: list[int] = []
    _collect(_at(message, field, topic), [], found)
    return found


def _at(message: Any, field: str, topic: str) -> Any:
    value = message
    for part in field.split(".") if field else []:
        fields = _fields(value)
        if part not in fields:
            raise RecordingError(f"{topic} has no field {field!r}; there is {', '.join(fields) or 'none'}")
        value = getattr(value, part)
    return value


def _fields(value: Any) -> list[str]:
    return list(getattr(type(value), "__dataclass_fields__", {}))


def _collect(value: Any, numbers: list[float], quaternions: list[int]) -> None:
    kind = getattr(type(value), "__msgtype__", None)
    if kind == "geometry_msgs/msg/Quaternion":
        quaternions.append(len(numbers))
        numbers.extend((value.w, value.x, value.y, value.z))
    elif kind == "std_msgs/msg/Header" or isinstance(value, str):
        return
    elif kind is not None:
        for name in _fields(value):
            if not name.startswith("__"):
                _collect(getattr(value, name), numbers, quaternions)
    elif isinstance(value, np.ndarray):
        numbers.extend(value.astype(np.float64).reshape(-1).tolist())
    elif isinstance(value, list):
        for one in value:
            _collect(one, numbers, quaternions)
    elif isinstance(value, bool | int | float):
        numbers.append(float(value))


def only_real_numbers(message: Any, field: str, topic: str) -> bool:
    """Whether a field has no whole numbers or flags, between which there is nothing."""
    return _real(_at(message, field, topic))


def _real(value: Any) -> bool:
    kind = getattr(type(value), "__msgtype__", None)
    if kind == "std_msgs/msg/Header":
        return True
    if kind is not None:
        return all(_real(getattr(value, name)) for name in _fields(value) if not name.startswith("__"))
    if isinstance(value, np.ndarray):
        return value.dtype.kind == "f"
    if isinstance(value, list):
        return all(_real(one) for one in value)
    return isinstance(value, float | str)
