"""Robot descriptions: physical facts as data, each with its unit and source."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from policies.types import RobotInterface

_FOLDER = Path(__file__).parent
_FIELDS = (
    "name", "kind", "motors", "state_rate_hz", "command_rate_hz", "signals", "commands", "parameters"
)  # fmt: skip
_QUADROTOR_SHAPES: Mapping[str, tuple[int, ...]] = {
    "mass": (),
    "inertia": (3,),
    "rotor_positions": (4, 3),
    "rotor_yaw_signs": (4,),
    "thrust_coefficients": (3,),
    "yaw_torque_ratio": (),
    "rise_time": (),
    "fall_time": (),
    "max_speed": (),
    "drag": (3,),
    "battery_sag": (),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class QuadrotorDescription:
    """One quadrotor: its interface and its nominal physical parameters."""

    interface: RobotInterface
    """Names, limits, rates, signals and commands."""
    parameters: Mapping[str, np.ndarray]
    """Float64 values by name, units as in the file: `mass`, `inertia` (3,), `rotor_positions` (4, 3),
    `rotor_yaw_signs` (4,), `thrust_coefficients` (3,), `yaw_torque_ratio`, `rise_time`, `fall_time`,
    `max_speed`, `drag` (3,), `battery_sag`."""
    sources: Mapping[str, str]
    """Where each parameter comes from."""


def list_descriptions() -> list[str]:
    """Names of the robots that ship with the package."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def load_description(name_or_path: str | Path) -> QuadrotorDescription:
    """Read a robot description by name (`crazyflie`) or from a YAML file.

    Raises:
        FileNotFoundError: No such robot; the message lists those that exist.
        ValueError: A field is missing, unknown or has the wrong shape.
    """
    path = Path(name_or_path)
    if path.suffix not in {".yaml", ".yml"}:
        path = _FOLDER / f"{name_or_path}.yaml"
    if not path.is_file():
        raise FileNotFoundError(
            f"no robot description {str(name_or_path)!r}; known robots: {', '.join(list_descriptions())}; "
            "or give the path of a .yaml file"
        )
    try:
        return _parse(yaml.safe_load(path.read_text()))
    except (ValueError, TypeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: {error}") from error


def _parse(data: Any) -> QuadrotorDescription:
    kind = data.get("kind") if isinstance(data, dict) else None
    if kind != "quadrotor":
        raise ValueError(f"kind is {kind!r}; supported: 'quadrotor'")
    _check_keys("field", data, _FIELDS)
    entries = data["parameters"]
    _check_keys("parameter", entries, _QUADROTOR_SHAPES)
    parameters = {}
    for key, shape in _QUADROTOR_SHAPES.items():
        _check_keys(f"{key} field", entries[key], ("value", "unit", "source"))
        value = np.asarray(entries[key]["value"], dtype=np.float64)
        if value.shape != shape or not np.all(np.isfinite(value)):
            raise ValueError(f"parameter {key!r} has shape {value.shape} or is not finite; expected {shape}")
        parameters[key] = value
    if len(data["motors"]) != 4:
        raise ValueError(f"motors are {data['motors']}; a quadrotor has 4")
    speed_limit = (0.0, float(parameters["max_speed"]))
    interface = RobotInterface(
        name=data["name"],
        kind="quadrotor",
        actuators=tuple(data["motors"]),
        limits={"speed": (speed_limit,) * len(data["motors"])},
        state_rate_hz=float(data["state_rate_hz"]),
        command_rate_hz=float(data["command_rate_hz"]),
        signals=tuple(data["signals"]),
        commands=tuple(data["commands"]),
    )
    return QuadrotorDescription(
        interface=interface,
        parameters=parameters,
        sources={key: str(entries[key]["source"]) for key in _QUADROTOR_SHAPES},
    )


def _check_keys(what: str, given: Any, expected: Collection[str]) -> None:
    if not isinstance(given, dict):
        raise ValueError(f"{what}s are {given!r}; expected a mapping with {', '.join(expected)}")
    for key in given:
        if key not in expected:
            near = get_close_matches(str(key), expected, n=1)
            raise ValueError(f"unknown {what} {key!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    for key in expected:
        if key not in given:
            raise ValueError(f"{what} {key!r} is missing")
