"""The kernel's joystick interface, `/dev/input/js*`: its bytes, and what it says about a device.

Chosen over `/dev/input/event*`: on most distributions everybody may read it, also over SSH; it says where every axis
stands when it is opened and again after an overflow; and it is 8 bytes an event, which needs no package (the one for
event devices is built from source against the kernel's headers).

    u32 time ms · s16 value · u8 type (1 button, 2 axis, +128 for a state that is no event) · u8 number
"""

from __future__ import annotations

import array
import fcntl
import struct
from dataclasses import dataclass, field

BUTTON, AXIS, INITIAL = 0x01, 0x02, 0x80
EVENT = struct.Struct("=IhBB")
FULL = 32767.0
"""Value of an axis at its end."""

AXIS_CODES = {
    0x00: "ABS_X", 0x01: "ABS_Y", 0x02: "ABS_Z", 0x03: "ABS_RX", 0x04: "ABS_RY", 0x05: "ABS_RZ",
    0x06: "ABS_THROTTLE", 0x07: "ABS_RUDDER", 0x08: "ABS_WHEEL", 0x09: "ABS_GAS", 0x0A: "ABS_BRAKE",
    0x10: "ABS_HAT0X", 0x11: "ABS_HAT0Y",
}  # fmt: skip
"""Axes by their number in `linux/input-event-codes.h`."""
BUTTON_CODES = {
    0x120: "BTN_TRIGGER", 0x121: "BTN_THUMB", 0x122: "BTN_THUMB2", 0x123: "BTN_TOP", 0x124: "BTN_TOP2",
    0x125: "BTN_PINKIE", 0x126: "BTN_BASE", 0x127: "BTN_BASE2", 0x128: "BTN_BASE3", 0x129: "BTN_BASE4",
    0x12A: "BTN_BASE5", 0x12B: "BTN_BASE6",
    0x130: "BTN_SOUTH", 0x131: "BTN_EAST", 0x132: "BTN_C", 0x133: "BTN_NORTH", 0x134: "BTN_WEST", 0x135: "BTN_Z",
    0x136: "BTN_TL", 0x137: "BTN_TR", 0x138: "BTN_TL2", 0x139: "BTN_TR2", 0x13A: "BTN_SELECT", 0x13B: "BTN_START",
    0x13C: "BTN_MODE", 0x13D: "BTN_THUMBL", 0x13E: "BTN_THUMBR",
    0x220: "BTN_DPAD_UP", 0x221: "BTN_DPAD_DOWN", 0x222: "BTN_DPAD_LEFT", 0x223: "BTN_DPAD_RIGHT",
}  # fmt: skip
"""Buttons, likewise."""

_AXIS_MAP, _BUTTON_MAP = 0x40, 0x300 - 0x100
"""Lengths of the tables that the kernel fills: ABS_CNT, and KEY_MAX - BTN_MISC + 1."""


@dataclass(frozen=True)
class Layout:
    """What a device's numbered axes and buttons are."""

    axes: tuple[str, ...]
    """Codes in the order of their numbers."""
    buttons: tuple[str, ...]
    """Codes in the order of their numbers."""


@dataclass
class State:
    """Where sticks and buttons are.

    Nothing counts before it has moved since the device was opened: a trigger that was never touched is reported as half
    pressed, and a dead-man that is held while the device is plugged in has to be let go first.
    """

    axes: dict[int, float] = field(default_factory=dict)
    """Values in [-1, 1] by number."""
    buttons: dict[int, bool] = field(default_factory=dict)
    """Down or up, by number."""
    pressed: set[int] = field(default_factory=set)
    """Numbers of the buttons that went down since somebody emptied this."""
    rest: bytes = b""
    """The beginning of an event whose end has not come yet."""

    def feed(self, data: bytes) -> None:
        """Take bytes in whatever pieces they come."""
        data = self.rest + data
        whole = len(data) - len(data) % EVENT.size
        self.rest = data[whole:]
        for _, value, kind, number in EVENT.iter_unpack(data[:whole]):
            what, initial = kind & ~INITIAL, bool(kind & INITIAL)
            if what == AXIS and (not initial or number in self.axes):
                self.axes[number] = max(-1.0, value / FULL)
            elif what == BUTTON and (not initial or number in self.buttons):
                if value and not self.buttons.get(number, False):
                    self.pressed.add(number)
                self.buttons[number] = bool(value)


def device_name(descriptor: int) -> str:
    """What the device calls itself; empty where the file is no joystick (a pipe of a test)."""
    buffer = array.array("B", bytes(128))
    try:
        fcntl.ioctl(descriptor, _request(0x13, len(buffer)), buffer)
    except OSError:
        return ""
    return buffer.tobytes().split(b"\0", 1)[0].decode(errors="replace")


def device_layout(descriptor: int) -> Layout | None:
    """The kernel's own numbering of axes and buttons; None where the file is no joystick."""
    counts, axes = array.array("B", [0]), array.array("B", bytes(_AXIS_MAP))
    buttons = array.array("H", bytes(2 * _BUTTON_MAP))
    try:
        fcntl.ioctl(descriptor, _request(0x11, 1), counts)
        num_axes = counts[0]
        fcntl.ioctl(descriptor, _request(0x12, 1), counts)
        num_buttons = counts[0]
        fcntl.ioctl(descriptor, _request(0x32, _AXIS_MAP), axes)
        fcntl.ioctl(descriptor, _request(0x34, 2 * _BUTTON_MAP), buttons)
    except OSError:
        return None
    return Layout(
        tuple(AXIS_CODES.get(code, f"ABS_{code:#x}") for code in axes[:num_axes]),
        tuple(BUTTON_CODES.get(code, f"BTN_{code:#x}") for code in buttons[:num_buttons]),
    )


def _request(number: int, size: int) -> int:
    """An ioctl that reads `size` bytes from a joystick."""
    return (2 << 30) | (size << 16) | (ord("j") << 8) | number
