"""Settings of automatic domain randomization from a YAML file: the fields of `sim.adr.AutomaticConfig`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from sim.adr import AutomaticConfig, AutomaticParameter


def load_automatic(path: str | Path) -> AutomaticConfig:
    """Read a mapping with the fields of `AutomaticConfig`; `parameters` is a list with those of `AutomaticParameter`.

    Raises:
        ValueError: There is no such file, an unknown field, with the nearest one, or a wrong value.
    """
    if not Path(path).is_file():
        raise ValueError(f"automatic randomization {str(path)!r} is no file")
    try:
        data = yaml.safe_load(Path(path).read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not YAML: {error}") from error
    try:
        fields = _known(data, AutomaticConfig)
        entries = fields.pop("parameters", None)
        if not isinstance(entries, list) or not entries:
            raise ValueError(f"parameters is {entries!r}; expected a list with at least one parameter")
        parameters = tuple(_parameter(number, entry) for number, entry in enumerate(entries))
        return AutomaticConfig(parameters=parameters, **fields)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _parameter(number: int, entry: Any) -> AutomaticParameter:
    try:
        fields = _known(entry, AutomaticParameter)
        if "limits" in fields:
            limits = fields["limits"]
            if not isinstance(limits, list) or len(limits) != 2:
                raise ValueError(f"limits is {limits!r}; expected [lowest, highest]")
            fields["limits"] = (float(limits[0]), float(limits[1]))
        return AutomaticParameter(**fields)
    except (TypeError, ValueError) as error:
        raise ValueError(f"parameters, entry {number}: {error}") from error


def _known(data: Any, kind: type[AutomaticConfig] | type[AutomaticParameter]) -> dict[str, Any]:
    """The entries of a mapping, which must have the dataclass's fields only."""
    if not isinstance(data, Mapping):
        raise ValueError(f"expected a mapping, got {data!r}")
    types = {field.name: field.type for field in dataclasses.fields(kind)}
    for key in data:
        if key not in types:
            near = get_close_matches(str(key), types, n=1)
            raise ValueError(f"unknown field {key!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    for key, value in data.items():
        if types[key] in ("bool", "int") and type(value).__name__ != types[key]:
            raise ValueError(f"{key} is {value!r}; expected {types[key]}")
    # YAML reads 1e-3, without a point, as text.
    return {key: float(value) if types[key] == "float" else value for key, value in data.items()}
