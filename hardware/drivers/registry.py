"""Drivers by name. Looking one up imports nothing of the others, nor any vendor's library before it is needed."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from hardware.descriptions import ArmDescription, QuadrotorDescription
from hardware.drivers.driver import Driver, DriverError

DRIVERS: Mapping[str, str] = MappingProxyType(
    {
        "sim": "hardware.drivers.simulated:open_driver",
        "ur": "hardware.drivers.ur:open_driver",
        "franka": "hardware.drivers.franka:open_driver",
        "xarm": "hardware.drivers.xarm:open_driver",
        "mavlink": "hardware.drivers.mavlink:open_driver",
        "crazyflie": "hardware.drivers.crazyflie:open_driver",
        # Shared memory to nodes that speak topics.
        "topics": "hardware.drivers.bridged_quadrotor:open_driver",
        "px4": "hardware.drivers.relayed_quadrotor:open_px4",
        "crazyswarm2": "hardware.drivers.relayed_quadrotor:open_crazyswarm2",
        # Only this name is known here: the driver is above this folder.
        "ros2_control": "robot_rl.ros2_control:open_driver",
    }
)
"""Where each driver's `open_driver(description, settings)` is."""

NO_SETTINGS: Mapping[str, str] = MappingProxyType({})


def open_driver(
    name: str,
    description: ArmDescription | QuadrotorDescription,
    settings: Mapping[str, str] = NO_SETTINGS,
) -> Driver[Any, Any]:
    """A driver by its name, not yet connected: use it in a `with`.

    Args:
        name: One of `DRIVERS`.
        description: The robot that is expected behind it; a driver refuses another kind, and other joints.
        settings: The driver's own settings as text; each driver's config dataclass documents them.

    Raises:
        DriverError: No such driver, a wrong setting, a robot that it does not drive, or its library is missing.
    """
    if name not in DRIVERS:
        raise DriverError(f"no driver {name!r}; known drivers: {', '.join(DRIVERS)}")
    module, function = DRIVERS[name].split(":")
    driver: Driver[Any, Any] = getattr(importlib.import_module(module), function)(description, settings)
    return driver
