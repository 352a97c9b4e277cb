"""Which devices this machine has, and why one cannot be used."""

from __future__ import annotations

import glob
import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass

from hardware.teleop.device import DeviceError
from hardware.teleop.gamepad import find_gamepads
from hardware.teleop.gamepad_mapping import find_mapping
from hardware.teleop.joydev import device_layout, device_name
from hardware.teleop.opening import open_path
from hardware.teleop.spacemouse import find_spacemice


@dataclass(frozen=True, kw_only=True)
class Found:
    """A device, or a kind of device that there is none of."""

    name: str
    """As commands take it; of a leader arm, which has a calibration file, its port."""
    what: str
    """What it calls itself, and how it is read."""
    problem: str = ""
    """Why it cannot be used, and what to do; empty where it can."""


def find_devices() -> list[Found]:
    """Everything that a person may drive with."""
    return [_keyboard(), *_gamepads(), *_spacemice(), *_leaders(), _messages()]


def _keyboard() -> Found:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return Found(name="keyboard", what="this terminal", problem="there is no terminal here; start it from one")
    return Found(name="keyboard", what="this terminal")


def _gamepads() -> Iterator[Found]:
    paths = find_gamepads()
    if not paths:
        advice = "none at /dev/input/js*; plug one in, and load the kernel's module joydev (`sudo modprobe joydev`)"
        yield Found(name="gamepad", what="", problem=advice)
    for path in paths:
        try:
            descriptor = open_path(path, os.O_RDONLY)
        except DeviceError as error:
            yield Found(name=f"gamepad:{path}", what="", problem=str(error))
            continue
        name, layout = device_name(descriptor), device_layout(descriptor)
        os.close(descriptor)
        mapping = find_mapping(name, layout)
        missing = mapping.missing(layout) if layout is not None else []
        problem = f"has no {', '.join(missing)}; make a mapping for it: robot-rl devices map gamepad:{path}"
        yield Found(name=f"gamepad:{path}", what=f"{name}, mapping {mapping.name}", problem=problem if missing else "")


def _spacemice() -> Iterator[Found]:
    found = find_spacemice()
    if not found:
        yield Found(name="spacemouse", what="", problem="none of a known model at /dev/hidraw*; plug one in")
    for device, mapping in found:
        problem = ""
        try:
            os.close(open_path(device.path, os.O_RDONLY))
        except DeviceError as error:
            problem = str(error)
        yield Found(name=f"spacemouse:{device.path}", what=f"{device.name}, mapping {mapping.name}", problem=problem)


def _leaders() -> Iterator[Found]:
    ports = sorted(glob.glob("/dev/serial/by-id/*")) or sorted([*glob.glob("/dev/ttyACM*"), *glob.glob("/dev/ttyUSB*")])
    if not ports:
        yield Found(name="leader", what="", problem="no serial port at /dev/ttyACM* or /dev/ttyUSB*; plug one in")
    for port in ports:
        problem = ""
        try:
            os.close(open_path(port, os.O_RDWR))
        except DeviceError as error:
            problem = str(error)
        yield Found(name=port, what="serial port, for `robot-rl devices calibrate`", problem=problem)


def _messages() -> Found:
    what = "messages of ROS 2, from another machine"
    if importlib.util.find_spec("rclpy") is None:
        return Found(name="joy, twist", what=what, problem="rclpy is not installed: pip install 'robot_rl[ros]'")
    return Found(name="joy, twist", what=what)
