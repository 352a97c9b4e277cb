"""A gamepad on Linux, wired or wireless: sticks are velocities, one button is the dead-man.

It may be unplugged and plugged in again, also in another socket; the robot rests meanwhile. A wireless pad that goes
out of reach is noticed when the kernel drops it, which takes Bluetooth some seconds; until then the last stick counts
for as long as the dead-man was held, so prefer a cable, or set `quiet_after`.
"""

from __future__ import annotations

import glob
import os
import threading
import time
from collections.abc import Mapping, Set
from dataclasses import dataclass

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
from hardware.teleop.gamepad_mapping import AXES, GamepadMapping, find_mapping, named_mapping
from hardware.teleop.joydev import Layout, State, device_layout, device_name
from hardware.teleop.opening import open_path
from hardware.teleop.reader import Reader


@dataclass(frozen=True, kw_only=True)
class GamepadConfig(DeviceConfig):
    """How a gamepad drives."""

    path: str = "/dev/input/js*"
    """Of the device; the first that matches."""
    mapping: str = ""
    """Name of a shipped mapping or path of one; empty: by the device's name."""
    deadzone: float = 0.12
    """Share of a stick's way that counts as rest."""
    exponent: float = 1.5
    """1: speed is proportional to deflection; above: finer near rest."""
    quiet_after: float = 0.0
    """s without any report after which a held pad counts as stale, for wireless ones; 0: never. A stick that is held
    perfectly still reports nothing either."""
    wait: bool = False
    """Start without the device, and use it when it is plugged in."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_shape("gamepad", self.deadzone, self.exponent)


class Gamepad:
    """A gamepad, until `close`."""

    motion: Motion = "twist"

    def __init__(self, config: GamepadConfig | None = None) -> None:
        """Open it.

        Raises:
            DeviceError: It is not there and `wait` is false, or may not be opened.
            ValueError: The mapping is wrong.
        """
        self.config = config or GamepadConfig()
        self.name = "gamepad"
        self._mapping = named_mapping(self.config.mapping) if self.config.mapping else find_mapping("")
        self._layout = Layout(self._mapping.axes, self._mapping.buttons)
        self._state = State()
        self._reported = 0.0
        self._lock = threading.Lock()
        self._reader = Reader(self.name, self._open, self._feed, self._forget, retry=0.3, wait=self.config.wait)

    def read(self) -> Sample:
        """The newest sample. Never blocks."""
        config, connected, age = self.config, self._reader.connected, self._reader.age
        with self._lock:
            quiet = time.monotonic() - self._reported
            axes, down, pressed = by_code(self._layout, self._state)
            mapping = self._mapping
        if mapping.dead_man in down and config.quiet_after > 0.0 and quiet > config.quiet_after:
            age = max(age, quiet)
        return to_sample(mapping, config, axes=axes, down=down, pressed=pressed, age=age, connected=connected)

    def help(self) -> str:
        """Its sticks and buttons, the dead-man first."""
        with self._lock:
            mapping = self._mapping
        state = "" if self._reader.connected else f" (not connected: {self._reader.problem})"
        return to_help(mapping, f"{self.name}{state}")

    def close(self) -> None:
        """Let it go."""
        self._reader.close()

    def _open(self) -> int:
        descriptor = _open_readable(self.config.path)
        name = device_name(descriptor)
        found = device_layout(descriptor)
        mapping = self._mapping if self.config.mapping else find_mapping(name, found)
        layout = found or Layout(mapping.axes, mapping.buttons)
        if missing := mapping.missing(layout):
            os.close(descriptor)
            raise DeviceError(
                f"{name or 'the gamepad'} has no {' and no '.join(missing)}, which mapping {mapping.name!r} needs; it "
                f"has {', '.join([*layout.axes, *layout.buttons])}. Write a mapping for it and give its path"
            )
        with self._lock:
            self.name, self._mapping, self._layout, self._state = name or self.name, mapping, layout, State()
        return descriptor

    def _feed(self, data: bytes, now: float) -> None:
        with self._lock:
            self._state.feed(data)
            self._reported = now

    def _forget(self) -> None:
        with self._lock:
            self._state = State()


def by_code(layout: Layout, state: State) -> tuple[dict[str, float], set[str], set[str]]:
    """(axes, buttons that are down, those that went down since the last call), by code."""
    axes = {code: state.axes[number] for number, code in enumerate(layout.axes) if number in state.axes}
    down = {code for number, code in enumerate(layout.buttons) if state.buttons.get(number, False)}
    pressed = {code for number, code in enumerate(layout.buttons) if number in state.pressed}
    state.pressed.clear()
    return axes, down, pressed


def to_sample(
    mapping: GamepadMapping,
    config: GamepadConfig,
    *,
    axes: Mapping[str, float],
    down: Set[str],
    pressed: Set[str],
    age: float,
    connected: bool,
) -> Sample:
    """What sticks and buttons mean, wherever they come from.

    Args:
        mapping: What is what.
        config: Speeds and shape of the sticks.
        axes: Values in [-1, 1] by code.
        down: Codes of the buttons that are down.
        pressed: Codes of those that went down since the last sample.
        age: s since the device was heard.
        connected: It is there.
    """
    held = connected and mapping.dead_man in down
    direction = np.zeros(6)
    for name, stick in mapping.motions.items():
        if stick.axis in axes:
            value = (axes[stick.axis] - stick.rest) / (1.0 + abs(stick.rest))
            direction[AXES.index(name)] = stick.sign * shaped(value, config.deadzone, config.exponent)
    buttons = frozenset(role for role, code in mapping.roles.items() if code in down)
    moves = held and age <= config.stale_after
    return Sample(
        twist=scaled(direction, config, "slow" in buttons) if moves else np.zeros(6),
        buttons=buttons,
        pressed=frozenset(role for role, code in mapping.roles.items() if code in pressed),
        engaged=held,
        dead_man=held,
        age=age,
        connected=connected,
    )


def to_help(mapping: GamepadMapping, name: str) -> str:
    """The sticks and buttons of the device `name`, the dead-man first."""
    lines = [f"{name}: HOLD {mapping.label(mapping.dead_man)} to drive; nothing moves without it"]
    lines += [f"  {mapping.label(stick.axis):<24}{motion}" for motion, stick in mapping.motions.items()]
    lines += [f"  {mapping.label(code):<24}{BUTTONS[role]}" for role, code in mapping.roles.items()]
    return "\n".join(lines)


def _open_readable(pattern: str) -> int:
    paths = find_gamepads(pattern)
    if not paths:
        raise DeviceError(
            f"no gamepad at {pattern}; plug one in, and see that the kernel's module joydev is loaded "
            "(`sudo modprobe joydev`)"
        )
    return open_path(paths[0], os.O_RDONLY)


def find_gamepads(pattern: str = GamepadConfig.path) -> list[str]:
    """Paths that match, the lowest number first."""
    return sorted(glob.glob(pattern), key=lambda path: (len(path), path))
