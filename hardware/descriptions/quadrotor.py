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
