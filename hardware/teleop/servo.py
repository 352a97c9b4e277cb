"""Servos of a leader arm on a serial bus: what a protocol must say, and opening the port.

The makers' own Python packages wait for an answer by asking the port again and again without a pause, which takes a
processor from the control loop that shares the interpreter. So the few packets that are needed are made here, and the
thread of `Reader` sleeps until bytes come.
"""

from __future__ import annotations

import os
import termios
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from hardware.teleop.device import DeviceError
from hardware.teleop.opening import open_path


@dataclass(frozen=True)
class Answer:
    """What a servo has answered."""

    servo: int
    """Its number on the bus."""
    ticks: int
    """Its position."""


class ServoProtocol(Protocol):
    """How one maker's servos are spoken to. All methods make or read packets and touch no port."""

    resolution: int
    """Ticks of a turn."""
    goes_round: bool
    """Goals may be beyond one turn."""

    def read(self, servos: Sequence[int]) -> bytes:
        """Ask all at once where they are."""

    def prepare(self, servos: Sequence[int], strength: int) -> bytes:
        """Before they are switched on: how strong they may be, in the maker's unit."""

    def switch(self, servos: Sequence[int], on: bool) -> bytes:
        """Switch their motors on or off."""

    def go(self, goals: Mapping[int, int]) -> bytes:
        """Send them to positions in ticks."""

    def parse(self, buffer: bytearray) -> list[Answer]:
        """Take whole answers from the beginning of the buffer, and noise with them; leave what is not complete."""


def open_port(path: str, baud: int) -> int:
    """Open a serial port, 8 bits without parity.

    Raises:
        DeviceError: It cannot be opened, is none, or does not know the speed.
    """
    speed = getattr(termios, f"B{baud}", None)
    if speed is None:
        raise DeviceError(f"baud {baud} is none that a serial port knows; set what the servos are set to, e.g. 1000000")
    descriptor = open_path(path, os.O_RDWR)
    try:
        settings = termios.tcgetattr(descriptor)
        settings[0] = settings[1] = settings[3] = 0
        settings[2] = termios.CS8 | termios.CREAD | termios.CLOCAL
        settings[4] = settings[5] = speed
        termios.tcsetattr(descriptor, termios.TCSANOW, settings)
        termios.tcflush(descriptor, termios.TCIOFLUSH)
    except termios.error as error:
        os.close(descriptor)
        raise DeviceError(f"{path} is no serial port: {error.args[-1]}") from error
    return descriptor
