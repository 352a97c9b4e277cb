"""A mapping file for a gamepad that none fits: somebody presses what they are asked for."""

from __future__ import annotations

import math
import os
import select
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from hardware.teleop.device import BUTTONS, DeviceError
from hardware.teleop.gamepad import find_gamepads
from hardware.teleop.gamepad_mapping import load_mapping
from hardware.teleop.joydev import EVENT, Layout, State, device_layout, device_name
from hardware.teleop.opening import open_path
from policies.writing import write_text

DIRECTIONS = {
    "x": "forward", "y": "to the left", "z": "up", "rz": "turn to the left",
    "rx": "tilt to the right", "ry": "tilt forward",
}  # fmt: skip
"""What to do with the sticks, by direction of the robot."""
_OPTIONAL = ("rx", "ry")
_FAR = 0.6
_PATIENCE = 20.0
"""s to wait for somebody to press something; then what may be left out is."""


class Presses:
    """The next stick or button that moves, from a joystick's descriptor."""

    def __init__(self, descriptor: int, layout: Layout, patience: float = _PATIENCE) -> None:
        """Wait at most `patience` s for each."""
        self._descriptor, self._layout, self._patience = descriptor, layout, patience
        self._state = State()
        self._far: tuple[int, int] | None = None

    def next_axis(self) -> tuple[str, int] | None:
        """(code, direction) of the axis that goes to an end and back; None: nobody moved one, or it was a trigger."""
        self._settle()
        self._far = None
        end = time.monotonic() + self._patience
        while self._far is None and time.monotonic() < end:
            self._take(0.05)
        if self._far is None or not self._comes_back(self._far[0]):
            return None
        number, sign = self._far
        return self._layout.axes[number], sign

    def next_button(self) -> str | None:
        """Code of the button that goes down; None: nobody pressed one."""
        self._settle()
        end = time.monotonic() + self._patience
        while time.monotonic() < end:
            self._take(0.05)
            if self._state.pressed:
                number = self._state.pressed.pop()
                if number < len(self._layout.buttons):
                    return self._layout.buttons[number]
        return None

    def _settle(self) -> None:
        self._take(0.1)
        self._state.pressed.clear()

    def _comes_back(self, number: int) -> bool:
        """Sticks rest in their middle, triggers at an end."""
        end = time.monotonic() + self._patience
        while abs(self._state.axes[number]) > 0.3 and time.monotonic() < end:
            self._take(0.05)
        return abs(self._state.axes[number]) <= 0.3

    def _take(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0.0:
            if select.select([self._descriptor], [], [], left)[0]:
                data = os.read(self._descriptor, 4096)
                for place in range(0, len(data), EVENT.size):  # one by one: it may be back at rest in the last one
                    self._state.feed(data[place : place + EVENT.size])
                    self._note_far()

    def _note_far(self) -> None:
        for number, value in self._state.axes.items():
            if self._far is None and abs(value) > _FAR and number < len(self._layout.axes):
                self._far = number, int(math.copysign(1, value))


def map_gamepad(pattern: str, out: Path, say: Callable[[str], None] = print) -> None:
    """Ask for every direction and button of the gamepad at `pattern`, and write the mapping to `out`.

    Raises:
        DeviceError: There is none, or a direction or the dead-man was not given.
    """
    paths = find_gamepads(pattern)
    if not paths:
        raise DeviceError(f"no gamepad at {pattern}; plug one in (`robot-rl devices` shows what there is)")
    descriptor = open_path(paths[0], os.O_RDONLY)
    try:
        layout = device_layout(descriptor)
        if layout is None:
            raise DeviceError(f"{paths[0]} is no joystick of the kernel")
        name = device_name(descriptor)
        data = ask(Presses(descriptor, layout), layout, name, say)
    finally:
        os.close(descriptor)
    write_text(out, f"# {name}\n" + yaml.safe_dump(data, sort_keys=False))
    load_mapping(out)
    say(f"written to {out}; use it as gamepad:{paths[0]},mapping={out}")


def ask(presses: Presses, layout: Layout, name: str, say: Callable[[str], None]) -> dict[str, Any]:
    """The content of a mapping file, from what is pressed.

    Raises:
        DeviceError: Something without which nobody can drive was not pressed.
    """
    motions: dict[str, dict[str, Any]] = {}
    used: set[str] = set()
    for direction, words in DIRECTIONS.items():
        optional = " (or wait, to leave it out)" if direction in _OPTIONAL else ""
        say(f"Move the stick for {words.upper()} to its end and let go{optional} …")
        found = presses.next_axis()
        while found is not None and found[0] in used:
            say(f"  {found[0]} is taken already; another one …")
            found = presses.next_axis()
        if found is None:
            if direction in _OPTIONAL:
                continue
            raise DeviceError(f"nothing was moved for {words}; a mapping needs forward, left, up and turn")
        code, sign = found
        used.add(code)
        motions[direction] = {"axis": code, "sign": sign}
        say(f"  {code}")
    say("Press the DEAD-MAN, which has to be held to drive …")
    dead_man = presses.next_button()
    if dead_man is None:
        raise DeviceError("no dead-man was pressed; nothing may move without one")
    say(f"  {dead_man}")
    roles: dict[str, str] = {}
    for role, words in BUTTONS.items():
        say(f"Press the button to {words} (or the dead-man, to leave it out) …")
        code_ = presses.next_button()
        if code_ is not None and code_ != dead_man and code_ not in roles.values():
            roles[role] = code_
            say(f"  {code_}")
    return {
        "names": [name],
        "axes": list(layout.axes),
        "buttons": list(layout.buttons),
        "dead_man": dead_man,
        "motions": motions,
        "roles": roles,
        "labels": {},
    }
