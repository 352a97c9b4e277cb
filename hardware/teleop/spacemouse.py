"""A SpaceMouse: a cap that springs back to its centre; how far it is pushed and turned is a velocity in six axes.

Its reports queue up in the kernel when nobody reads them, so that a slow reader drives a robot on what was pushed
seconds ago; a thread of its own takes them as they come and keeps the newest. A cap out of its centre reports all the
time, so that one that has fallen silent is lost and counts as centred. What is read here is what the device sends:
another program, such as spacenavd, may read it at the same time.
"""

from __future__ import annotations

import math
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hardware.teleop.device import (
    BUTTONS,
    DeviceConfig,
    DeviceError,
    Motion,
    Sample,
    check_shape,
    scaled,
    shaped,
)
from hardware.teleop.gamepad_mapping import AXES
from hardware.teleop.hidraw import HidDevice, find_hid
from hardware.teleop.opening import open_path
from hardware.teleop.reader import Reader
from hardware.teleop.spacemouse_mapping import CAP, Reports, SpaceMouseMapping, find_mapping, named_mapping


@dataclass(frozen=True, kw_only=True)
class SpaceMouseConfig(DeviceConfig):
    """How a SpaceMouse drives."""

    path: str = ""
    """Of the device, such as /dev/hidraw3; empty: the first one that is known."""
    mapping: str = ""
    """Name of a shipped mapping or path of one; empty: by the model."""
    deadzone: float = 0.08
    """Share of the cap's way that counts as rest."""
    exponent: float = 1.5
    """1: speed is proportional to deflection; above: finer near rest."""
    quiet_after: float = 0.08
    """s without a report after which a cap out of its centre counts as lost. It sends one every 8 to 16 ms."""
    clutch_hold: float = 0.5
    """s after the cap has come back to its centre for which the person still counts as driving."""
    wait: bool = False
    """Start without the device, and use it when it is plugged in."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_shape("SpaceMouse", self.deadzone, self.exponent)
        if not self.quiet_after > 0.0:
            raise ValueError(f"quiet_after of a SpaceMouse is {self.quiet_after} s; expected more than 0")


class SpaceMouse:
    """A SpaceMouse, until `close`. It may be unplugged and plugged in again; the robot rests meanwhile."""

    motion: Motion = "twist"

    def __init__(self, config: SpaceMouseConfig | None = None, sys: Path = Path("/sys/class/hidraw")) -> None:
        """Open it.

        Raises:
            DeviceError: It is not there and `wait` is false, or may not be opened.
            ValueError: The mapping is wrong.
        """
        self.config = config or SpaceMouseConfig()
        self.name = "SpaceMouse"
        self._sys = sys
        self._mapping = named_mapping(self.config.mapping or "two_buttons")
        self._lock = threading.Lock()
        self._start(-math.inf)
        self._reader = Reader(self.name, self._open, self._feed, self._forget, retry=0.3, wait=self.config.wait)

    def read(self) -> Sample:
        """The newest sample. Never blocks."""
        config, connected, age = self.config, self._reader.connected, self._reader.age
        with self._lock:
            now = time.monotonic()
            axes, down, mapping = dict(self._reports.axes), self._reports.down, self._mapping
            pressed, self._reports.pressed = self._reports.pressed, set()
            reported, rested, centred = self._reported, self._has_rested(now), self._centred
        quiet = now - reported
        out = any(abs(value) > config.deadzone for value in axes.values())
        if out:
            age = max(age, quiet)
        lost = not connected or (out and quiet > config.quiet_after)
        moves = rested and out and not lost
        if mapping.dead_man == CAP:
            held = moves or (rested and not lost and not out and now - centred < config.clutch_hold)
        else:
            held = connected and mapping.dead_man in down
            moves = moves and held
        direction = np.zeros(6)
        for name, stick in mapping.motions.items():
            direction[AXES.index(name)] = stick.sign * shaped(
                axes.get(stick.axis, 0.0), config.deadzone, config.exponent
            )
        buttons = frozenset(role for role, name in mapping.roles.items() if name in down)
        return Sample(
            twist=scaled(direction, config, "slow" in buttons) if moves and age <= config.stale_after else np.zeros(6),
            buttons=buttons,
            pressed=frozenset(role for role, name in mapping.roles.items() if name in pressed),
            engaged=held,
            dead_man=held,
            age=age if connected else math.inf,
            connected=connected,
        )

    def help(self) -> str:
        """Its axes and buttons."""
        with self._lock:
            mapping = self._mapping
        state = "" if self._reader.connected else f" (not connected: {self._reader.problem})"
        label = "the cap" if mapping.dead_man == CAP else mapping.labels.get(mapping.dead_man, mapping.dead_man)
        rule = f"push {label} to drive" if mapping.dead_man == CAP else f"HOLD {label} to drive"
        lines = [f"{self.name}{state}: {rule}; it goes where the cap is pushed and turned, and rests when it is let go"]
        lines += [f"  {mapping.labels.get(name, name):<24}{BUTTONS[role]}" for role, name in mapping.roles.items()]
        return "\n".join(lines)

    def close(self) -> None:
        """Let it go."""
        self._reader.close()

    def _has_rested(self, now: float) -> bool:
        """What is leaned on the cap while it is opened must not drive; one that was silent stood in its centre."""
        self._rested |= self._reported == -math.inf and now - self._opened > self.config.quiet_after
        return self._rested

    def _start(self, now: float) -> None:
        self._reports = Reports()
        self._reported = self._centred = -math.inf
        self._opened, self._rested = now, False

    def _open(self) -> int:
        device, mapping = self._find()
        descriptor = open_path(device.path, os.O_RDONLY)
        with self._lock:
            self.name, self._mapping = device.name, mapping
            self._start(time.monotonic())
        return descriptor

    def _find(self) -> tuple[HidDevice, SpaceMouseMapping]:
        config = self.config
        wanted = named_mapping(config.mapping) if config.mapping else None
        known = find_hid(self._sys)
        if config.path:
            named = [device for device in known if device.path == config.path]
            device = named[0] if named else HidDevice(path=config.path, name=config.path, vendor=0, product=0)
            return device, wanted or find_mapping(device.number) or self._mapping
        for device, mapping in find_spacemice(known):
            return device, wanted or mapping
        raise DeviceError(
            "no SpaceMouse found among /dev/hidraw*; plug one in. An unknown model is used when its path is given, "
            "e.g. spacemouse:/dev/hidraw0"
        )

    def _feed(self, data: bytes, now: float) -> None:
        with self._lock:
            if data and self._reports.feed(data, self._mapping):
                self._has_rested(now)
                self._reported = now
                if any(abs(value) > self.config.deadzone for value in self._reports.axes.values()):
                    self._centred = now
                else:
                    self._rested = True

    def _forget(self) -> None:
        with self._lock:
            self._start(-math.inf)


def find_spacemice(devices: list[HidDevice] | None = None) -> list[tuple[HidDevice, SpaceMouseMapping]]:
    """Those of this machine's HID devices that are SpaceMice, and what fits them."""
    found = []
    for device in find_hid() if devices is None else devices:
        mapping = find_mapping(device.number)
        if mapping is not None and device.multi_axis:
            found.append((device, mapping))
    return found
