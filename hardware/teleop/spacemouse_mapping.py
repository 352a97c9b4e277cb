"""Mapping files of SpaceMice: what a model's reports hold, and what its axes and buttons mean. `spacemice/` ships.

ids: ["256f:c635"]                    maker and model of those that it fits, as `lsusb` writes them
full: 350                             value of an axis at its end
reports: {1: [X, Y, Z], 3: buttons}   axes by report, two bytes each after the number of the report; a report that is
                                      shorter holds only the first ones; of the buttons a bit each
buttons: {LEFT: 0, RIGHT: 1}          number of the bit
dead_man: cap                         `cap`: it is held while it is out of its centre; or a button
motions, roles, labels                as a gamepad's
The device's own axes are x to the right, y towards the person, z down.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from hardware.descriptions.fields import check_keys
from hardware.teleop.gamepad_mapping import Stick, check_roles, read_motions
from hardware.teleop.mapping_files import read_file, shipped_or_own

FOLDER = Path(__file__).parent / "spacemice"
CAP = "cap"
AXES = ("X", "Y", "Z", "RX", "RY", "RZ")
_KEYS = ("ids", "full", "reports", "buttons", "dead_man", "motions", "roles", "labels")


@dataclass(frozen=True, kw_only=True)
class SpaceMouseMapping:
    """What reports, axes and buttons mean."""

    name: str
    """Of the mapping."""
    ids: tuple[str, ...]
    """Maker and model that it fits."""
    full: float
    """Value of an axis at its end."""
    axis_reports: Mapping[int, tuple[str, ...]]
    """Axes in the order of their bytes, by number of the report."""
    button_report: int
    """Number of the report of the buttons."""
    buttons: Mapping[str, int]
    """Bit by name of the button."""
    dead_man: str
    """`cap`, or the button without which nothing moves."""
    motions: Mapping[str, Stick]
    """Axis by direction of the robot: x, y, z, rx, ry, rz."""
    roles: Mapping[str, str]
    """Button by what it does."""
    labels: Mapping[str, str]
    """What is printed on it, by button."""


@dataclass
class Reports:
    """What reports have said so far."""

    axes: dict[str, float] = field(default_factory=dict)
    """Values in [-1, 1] by axis."""
    down: frozenset[str] = frozenset()
    """Buttons that are down."""
    pressed: set[str] = field(default_factory=set)
    """Buttons that went down since somebody emptied this."""

    def feed(self, report: bytes, mapping: SpaceMouseMapping) -> bool:
        """Take one report; whether it told about axes. Others, such as a battery's, say nothing here."""
        number, content = report[0], report[1:]
        if number in mapping.axis_reports:
            for place, axis in enumerate(mapping.axis_reports[number][: len(content) // 2]):
                (value,) = struct.unpack_from("<h", content, 2 * place)
                self.axes[axis] = max(-1.0, min(1.0, value / mapping.full))
            return True
        if number == mapping.button_report:
            bits = int.from_bytes(content, "little")
            down = frozenset(name for name, bit in mapping.buttons.items() if bits >> bit & 1)
            self.pressed |= down - self.down
            self.down = down
        return False


def load_mapping(path: Path) -> SpaceMouseMapping:
    """Read a mapping file.

    Raises:
        ValueError: The file is no mapping; says what is wrong with it.
    """
    return read_file("SpaceMouse mapping", path, _mapping)


def named_mapping(name: str) -> SpaceMouseMapping:
    """A shipped mapping by name, or one by path.

    Raises:
        ValueError: There is none, or it is wrong.
    """
    return load_mapping(shipped_or_own("SpaceMouse mapping", name, FOLDER))


def find_mapping(number: str) -> SpaceMouseMapping | None:
    """The shipped mapping for a maker and model such as `256f:c635`; None where it is no known SpaceMouse."""
    return next((mapping for mapping in _shipped() if number in mapping.ids), None)


@cache  # a device that is gone is looked for several times a second, beside a control loop
def _shipped() -> tuple[SpaceMouseMapping, ...]:
    return tuple(load_mapping(path) for path in sorted(FOLDER.glob("*.yaml")))


def _mapping(name: str, data: Any) -> SpaceMouseMapping:
    check_keys("entry", data, _KEYS)
    axis_reports, button_report = {}, 0
    for number, content in data["reports"].items():
        if not isinstance(number, int) or not 1 <= number <= 255:
            raise ValueError(f"report {number!r}; expected a number from 1 to 255")
        if content == "buttons":
            button_report = number
        elif isinstance(content, list) and set(content) <= set(AXES):
            axis_reports[number] = tuple(content)
        else:
            raise ValueError(f"report {number} is {content!r}; expected buttons, or a list of {', '.join(AXES)}")
    buttons = data["buttons"]
    if not all(isinstance(bit, int) and 0 <= bit < 512 for bit in buttons.values()):
        raise ValueError(f"buttons are {buttons!r}; expected the number of a bit each, from 0 to 511")
    if not (isinstance(data["full"], int | float) and data["full"] > 0):
        raise ValueError(f"full is {data['full']!r}; expected the value of an axis at its end, above 0")
    check_roles(data["roles"], data["dead_man"], {*buttons, CAP})
    if CAP in data["roles"].values():
        raise ValueError("the cap is no button: it has a role; only dead_man may be on it")
    axes = {axis for report in axis_reports.values() for axis in report}
    return SpaceMouseMapping(
        name=name,
        ids=tuple(data["ids"]),
        full=float(data["full"]),
        axis_reports=axis_reports,
        button_report=button_report,
        buttons=buttons,
        dead_man=data["dead_man"],
        motions=read_motions(data["motions"], axes),
        roles=data["roles"],
        labels=data["labels"],
    )
