"""What is known of a quadrotor: its interface and its physical parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hardware.descriptions.fields import check_keys, read_array
from policies.types import RobotInterface

_FIELDS = (
    "name", "kind", "motors", "state_rate_hz", "command_rate_hz", "signals", "commands", "parameters"
)  # fmt: skip
SHAPES: Mapping[str, tuple[int, ...]] = {
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
"""Every parameter of a quadrotor and its shape."""
_SURROUNDINGS: Mapping[str, tuple[int, ...]] = {
    "wind": (3,), "gravity": (), "external_force": (3,), "external_torque": (3,), "supply": (),
}  # fmt: skip


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


def read_quadrotor(data: dict[str, Any]) -> QuadrotorDescription:
    """Check the content of a quadrotor's file.

    Raises:
        ValueError: A field is missing, unknown or has the wrong shape.
    """
    check_keys("field", data, _FIELDS)
    entries = data["parameters"]
    check_keys("parameter", entries, SHAPES)
    parameters = {}
    for key, shape in SHAPES.items():
        check_keys(f"{key} field", entries[key], ("value", "unit", "source"))
        parameters[key] = read_array(f"parameter {key!r}", entries[key]["value"], shape)
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
        sources={key: str(entries[key]["source"]) for key in SHAPES},
    )


def simulated_parameters(
    description: QuadrotorDescription, overrides: Mapping[str, Any] | None = None
) -> dict[str, np.ndarray]:
    """What a simulation of one vehicle takes: as described, with overrides, in still air.

    Args:
        description: The vehicle.
        overrides: True values that differ, by name: those of the description, where thrust coefficients may be each
            rotor's (4, 3), and `wind` (3,) m/s, `gravity` m/s², `external_force` (3,) N, `external_torque` (3,) N m,
            `supply`, the share of the full battery's rotor speed.

    Raises:
        ValueError: An override is unknown, has the wrong shape or is not finite, or `battery_sag` is no fraction.
    """
    values: dict[str, np.ndarray] = {name: np.zeros(shape) for name, shape in _SURROUNDINGS.items()}
    values["gravity"], values["supply"] = np.asarray(9.81), np.asarray(1.0)
    values.update({name: np.asarray(value) for name, value in description.parameters.items()})
    values["thrust_coefficients"] = np.broadcast_to(values["thrust_coefficients"], (4, 3))
    for name, value in (overrides or {}).items():
        if name not in values:
            raise ValueError(f"unknown parameter {name!r}; known: {', '.join(sorted(values))}")
        try:
            given = np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError):
            raise ValueError(f"parameter {name!r} is {value!r}; expected numbers") from None
        if name == "thrust_coefficients" and given.shape == (3,):
            given = np.broadcast_to(given, (4, 3))
        shape = values[name].shape
        if given.shape != shape or not np.all(np.isfinite(given)):
            raise ValueError(f"parameter {name!r} is {given.tolist()}; expected finite values of shape {shape}")
        values[name] = given
    if not 0.0 <= float(values["battery_sag"]) < 1.0:
        raise ValueError(f"parameter 'battery_sag' is {values['battery_sag']}; expected a fraction from 0 to below 1")
    return values
