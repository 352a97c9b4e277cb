"""`robot-rl devices`: what there is to drive with and why something cannot be used; try, map and calibrate it."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

from hardware.teleop.device import Device, DeviceError
from robot_rl.devices import calibrating, mapping
from robot_rl.devices.finding import find_devices
from robot_rl.devices.opening import KINDS, open_device
from robot_rl.errors import UserError


@dataclass(frozen=True, kw_only=True)
class DevicesConfig:
    """Devices for teleoperation: list them, try one, map its axes and buttons, calibrate a leader arm."""

    action: Annotated[Literal["list", "try", "map", "calibrate"], tyro.conf.Positional] = "list"
    """list them; try one: what it says, as you move it; map: press each axis and button of a gamepad; calibrate a
    leader arm."""
    device: Annotated[str, tyro.conf.Positional] = ""
    """By name, e.g. gamepad:/dev/input/js1 or spacemouse; to calibrate: the serial port."""
    json: bool = False
    """Write the list as JSON."""
    seconds: float = 0.0
    """s for which to try it; 0: until Ctrl-C."""
    out: Path = Path("device.yaml")
    """File to write a mapping or a calibration to."""
    protocol: Literal["feetech", "dynamixel"] = "feetech"
    """Of a leader arm's servos."""
    servos: tuple[int, ...] = field(default=(1, 2, 3, 4, 5, 6))
    """Numbers of a leader arm's servos, in the order of the follower's joints."""
    trigger: int = 0
    """Number of the servo of its trigger; 0: none."""
    baud: int = 1_000_000
    """Speed of its port."""
    pose: tuple[float, ...] = ()
    """rad of the follower's joints in the pose that the leader is put in first; nothing: all 0."""


def run(config: DevicesConfig) -> int:
    """Do it; exit status 1 where a device was asked for and does not answer."""
    try:
        if config.action == "list":
            return _list(config)
        if config.action == "try":
            return _try(config)
        if config.action == "map":
            mapping.map_gamepad(config.device.partition(":")[2] or "/dev/input/js*", config.out)
        else:
            calibrating.calibrate(
                calibrating.Plan(
                    port=config.device,
                    protocol=config.protocol,
                    servos=config.servos,
                    trigger=config.trigger or None,
                    baud=config.baud,
                    pose=config.pose,
                ),
                config.out,
            )
    except (DeviceError, ValueError) as error:
        raise UserError(str(error)) from error
    return 0


def _list(config: DevicesConfig) -> int:
    found = find_devices()
    if config.json:
        print(json.dumps([asdict(entry) for entry in found], indent=2))
        return 0
    width = max(len(entry.name) for entry in found)
    for entry in found:
        state = f"cannot be used: {entry.problem}" if entry.problem else "ready"
        print(f"{entry.name:<{width}}  {f'{entry.what}; ' if entry.what else ''}{state}")
    print("\nNames, wherever a command takes a device (two joined by +, settings after commas):")
    for kind, words in KINDS.items():
        print(f"  {kind:<12}{words}")
    return 0


def _try(config: DevicesConfig) -> int:
    if not config.device:
        raise UserError("which device? e.g. robot-rl devices try gamepad; `robot-rl devices` shows what there is")
    device = open_device(config.device)
    heard = False
    try:
        print(device.help().replace("\n", "\r\n"), end="\r\n")
        end = time.monotonic() + (config.seconds or float("inf"))
        while time.monotonic() < end:
            line, connected = _describe(device)
            heard |= connected
            sys.stdout.write(f"\r\x1b[K{line}")
            sys.stdout.flush()
            time.sleep(0.05)
    except KeyboardInterrupt:
        heard = True  # ended as asked
    finally:
        device.close()
        print()
    return 0 if heard else 1


def _describe(device: Device) -> tuple[str, bool]:
    """What a device says now, in a line."""
    sample = device.read()
    if not sample.connected:
        return "not connected", False
    parts = [f"dead-man {'HELD' if sample.dead_man else 'up  '}", f"age {1e3 * sample.age:4.0f} ms"]
    if sample.joints is not None:
        parts.append("joints " + " ".join(f"{value:+.2f}" for value in sample.joints))
    elif device.motion == "twist":
        parts.append("m/s " + _numbers(sample.twist[:3]) + "  rad/s " + _numbers(sample.twist[3:]))
    if sample.gripper is not None:
        parts.append(f"gripper {sample.gripper:+.2f}")
    parts.append(" ".join(sorted(sample.buttons | sample.pressed)))
    return "  ".join(parts), True


def _numbers(values: np.ndarray) -> str:
    return " ".join(f"{value:+.2f}" for value in values)
