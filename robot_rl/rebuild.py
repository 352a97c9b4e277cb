"""A config back from the JSON that was made of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

T = TypeVar("T")


def rebuild(kind: type[T], data: Mapping[str, Any]) -> T:
    """A dataclass from what `dataclasses.asdict` and JSON made of it; fields that `data` lacks have their defaults."""
    hints = get_type_hints(kind)
    values = {}
    for one in dataclasses.fields(kind):  # type: ignore[arg-type]
        if one.name not in data:
            continue
        value, hint = data[one.name], hints[one.name]
        if dataclasses.is_dataclass(hint):
            value = rebuild(hint, value)  # type: ignore[arg-type]
        elif isinstance(value, list):
            value = tuple(value)
        elif value is not None and "Path" in str(hint):
            value = Path(value)
        values[one.name] = value
    return kind(**values)
