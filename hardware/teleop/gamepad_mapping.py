"""Mapping files: which stick and button of a model of gamepad means what. YAML; those in `gamepads/` ship.

names: [parts of the names under which the kernel knows the model]
axes, buttons: [codes in the order of their numbers, where the kernel does not say it]
dead_man: BTN_TR                      must be held for anything to move
motions: {x: {axis: ABS_Y, sign: -1}} direction of the robot by stick; `rest: -1` for a trigger
roles: {gripper: BTN_SOUTH}           what buttons do, see `device.BUTTONS`
labels: {BTN_TR: right bumper}        what is printed on it
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hardware.descriptions.fields import check_keys
from hardware.teleop.device import check_buttons
from hardware.teleop.joydev import Layout
from hardware.teleop.mapping_files import read_file, shipped_or_own

FOLDER = Path(__file__).parent / "gamepads"
AXES = ("x", "y", "z", "rx", "ry", "rz")
_KEYS = ("names", "axes", "buttons", "dead_man", "motions", "roles", "labels")


@dataclass(frozen=True)
class Stick:
    """An axis of the device that moves the robot."""

    axis: str
    """Code of the axis, such as `ABS_X`."""
    sign: float = 1.0
    """1 or -1."""
    rest: float = 0.0
    """Value at rest: 0 of a stick, -1 of a trigger."""


@dataclass(frozen=True, kw_only=True)
class GamepadMapping:
    """What sticks and buttons mean."""

    name: str
    """Of the mapping."""
    names: tuple[str, ...]
    """Parts of device names that it fits."""
    axes: tuple[str, ...]
    """Codes of the axes by number, unless the kernel says otherwise."""
    buttons: tuple[str, ...]
    """Codes of the buttons by number, unless the kernel says otherwise."""
    dead_man: str
    """Code of the button without which nothing moves."""
    motions: Mapping[str, Stick]
    """Stick by direction: x, y, z, rx, ry, rz."""
    roles: Mapping[str, str]
    """Code of the button by what it does."""
    labels: Mapping[str, str]
    """What is printed on it, by code."""

    def missing(self, layout: Layout) -> list[str]:
        """Codes that nobody could drive without and that a device does not have."""
        needed = [stick.axis for name, stick in self.motions.items() if name in ("x", "y", "z", "rz")]
        return [c for c in [*needed, self.dead_man] if c not in (*layout.axes, *layout.buttons)]

    def label(self, code: str) -> str:
        """What people call an axis or button."""
        return self.labels.get(code, code)


def load_mapping(path: Path) -> GamepadMapping:
    """Read a mapping file.

    Raises:
        ValueError: The file is no mapping; says what is wrong with it.
    """
    return read_file("gamepad mapping", path, _mapping)


def find_mapping(device: str, layout: Layout | None = None) -> GamepadMapping:
    """The shipped mapping for a device: of those whose sticks and dead-man it has, the one that knows its name best.

    Names alone do not decide: one pad has other axes by cable than by Bluetooth. Where no name fits, it is `xbox` if
    that can be, as most pads pose as one.
    """
    known = [load_mapping(path) for path in sorted(FOLDER.glob("*.yaml"))]
    usable = [mapping for mapping in known if layout is None or not mapping.missing(layout)] or known

    def rank(mapping: GamepadMapping) -> tuple[int, bool]:
        parts = (len(part) for part in mapping.names if part.lower() in device.lower())
        return max(parts, default=0), mapping.name == "xbox"

    return max(usable, key=rank)


def named_mapping(name: str) -> GamepadMapping:
    """A shipped mapping by name, or one by path.

    Raises:
        ValueError: There is none, or it is wrong.
    """
    return load_mapping(shipped_or_own("gamepad mapping", name, FOLDER))


def _mapping(name: str, data: Any) -> GamepadMapping:
    check_keys("entry", data, _KEYS)
    for key in ("motions", "roles", "labels"):
        if not isinstance(data[key], dict):
            raise ValueError(f"{key} is {data[key]!r}; expected a mapping")
    sticks = read_motions(data["motions"], data["axes"])
    check_roles(data["roles"], data["dead_man"], data["buttons"])
    return GamepadMapping(
        name=name,
        names=tuple(data["names"]),
        axes=tuple(data["axes"]),
        buttons=tuple(data["buttons"]),
        dead_man=data["dead_man"],
        motions=sticks,
        roles=data["roles"],
        labels=data["labels"],
    )


def read_motions(entries: Mapping[str, Any], axes: Container[str]) -> dict[str, Stick]:
    """Sticks by direction.

    Raises:
        ValueError: A direction is none, or its axis, sign or rest is wrong.
    """
    sticks = {}
    for direction, entry in entries.items():
        if direction not in AXES:
            raise ValueError(f"motions has {direction!r}; expected {', '.join(AXES)}")
        stick = Stick(**entry)
        if stick.axis not in axes or stick.sign not in (-1, 1) or stick.rest not in (-1, 0, 1):
            raise ValueError(
                f"motion {direction!r} is {entry!r}; expected one of the axes, sign ±1 and rest -1, 0 or 1"
            )
        sticks[direction] = stick
    return sticks


def check_roles(roles: Mapping[str, str], dead_man: str, buttons: Container[str]) -> None:
    """Refuse roles that are none, and buttons that the device does not have.

    Raises:
        ValueError: Says which.
    """
    check_buttons(roles, "roles")
    for role, code in {**roles, "dead_man": dead_man}.items():
        if code not in buttons:
            raise ValueError(f"{role} is on {code!r}, which is none of its buttons")
