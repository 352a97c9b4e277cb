"""Configs as JSON, and back again."""

from __future__ import annotations

import dataclasses
import json
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

Config = TypeVar("Config")


def to_json(config: Any) -> str:
    """A config as text."""
    return json.dumps(dataclasses.asdict(config))


def from_json(kind: type[Config], text: str) -> Config:
    """A config from its text, checked.

    Raises:
        ValueError: The text is no such config; names the field.
    """
    data = json.loads(text)
    if not isinstance(data, dict):
        raise ValueError(f"{kind.__name__}: expected a JSON object, got {text[:40]!r}")
    return rebuild(kind, data)


def rebuild(kind: type[Config], data: Mapping[str, Any], *, lenient: bool = False) -> Config:
    """A dataclass from what `dataclasses.asdict` and JSON made of it; fields that `data` lacks have their defaults.

    Args:
        kind: The dataclass; its fields may be dataclasses, too.
        data: Values by the fields' names.
        lenient: For configs of old versions: names that it does not have any more are left out, types not checked.

    Raises:
        ValueError: A name or a value that it does not take; names the field.
    """
    hints = get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    if not lenient and (unknown := [name for name in data if name not in names]):
        raise ValueError(f"{kind.__name__} has no field {unknown[0]!r}; it has {', '.join(names)}")
    values = {
        name: _value(hints[name], data[name], f"{kind.__name__}.{name}", lenient) for name in names if name in data
    }
    return kind(**values)


def _value(hint: Any, value: Any, name: str, lenient: bool) -> Any:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        choices = [choice for choice in get_args(hint) if choice is not type(None)]
        if value is None:
            return None
        hint = next((choice for choice in choices if dataclasses.is_dataclass(choice)), choices[0])
        origin = get_origin(hint)
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return rebuild(hint, value, lenient=lenient)  # type: ignore[arg-type]
    if hint is Path and isinstance(value, str):
        return Path(value)
    if isinstance(value, list) and (lenient or origin is tuple):
        return tuple(value)
    if lenient:
        return value
    if origin in (tuple, dict):
        if not isinstance(value, origin):
            raise ValueError(f"{name} is {value!r}; expected a {'list' if origin is tuple else 'JSON object'}")
        return value
    if origin is Literal:
        if value not in get_args(hint):
            raise ValueError(f"{name} is {value!r}; choose one of {', '.join(map(str, get_args(hint)))}")
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint):
        raise ValueError(f"{name} is {value!r}; expected {hint.__name__}")
    return value
