"""Feetech servos of the STS and SMS series (STS3215, …), as in the SO-100 and SO-101 arms.

    FF FF · number · length · instruction or error · … · inverted sum
Numbers have the lowest byte first, and a sign in bit 15. Addresses are those of the maker's tables.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from hardware.teleop.servo import Answer

_HEADER = b"\xff\xff"
_ALL = 0xFE
_SYNC_READ, _SYNC_WRITE = 0x82, 0x83
_TORQUE, _GOAL, _STRENGTH, _POSITION = 40, 42, 48, 56
_SIGN = 0x8000


class Feetech:
    """See the module; `strength` is the torque limit in thousandths."""

    resolution = 4096
    goes_round = False

    def read(self, servos: Sequence[int]) -> bytes:
        """Ask all at once where they are."""
        return packet(_ALL, _SYNC_READ, bytes((_POSITION, 2, *servos)))

    def prepare(self, servos: Sequence[int], strength: int) -> bytes:
        """Limit the torque: a hand can push a joint away."""
        return _write(_STRENGTH, 2, {servo: struct.pack("<H", strength) for servo in servos})

    def switch(self, servos: Sequence[int], on: bool) -> bytes:
        """Switch their motors on or off."""
        return _write(_TORQUE, 1, {servo: bytes((on,)) for servo in servos})

    def go(self, goals: Mapping[int, int]) -> bytes:
        """Send them to positions in ticks."""
        values = {servo: struct.pack("<H", abs(ticks) | (_SIGN if ticks < 0 else 0)) for servo, ticks in goals.items()}
        return _write(_GOAL, 2, values)

    def parse(self, buffer: bytearray) -> list[Answer]:
        """Take whole answers from the beginning of the buffer; leave what is not complete."""
        answers: list[Answer] = []
        while True:
            start = buffer.find(_HEADER)
            if start < 0:
                del buffer[: max(0, len(buffer) - 1)]
                return answers
            del buffer[:start]
            if len(buffer) < 4:
                return answers
            servo, length = buffer[2], buffer[3]
            if servo == 0xFF or not 2 <= length <= 32:
                del buffer[:1]
                continue
            if len(buffer) < 4 + length:
                return answers
            whole = bytes(buffer[: 4 + length])
            if checksum(whole[2:-1]) != whole[-1]:
                del buffer[:1]
                continue
            del buffer[: len(whole)]
            if length == 4 and servo < _ALL:  # error, position
                (raw,) = struct.unpack_from("<H", whole, 5)
                answers.append(Answer(servo, -(raw & ~_SIGN) if raw & _SIGN else raw))


def packet(servo: int, instruction: int, content: bytes) -> bytes:
    """A whole packet."""
    body = bytes((servo, len(content) + 2, instruction)) + content
    return _HEADER + body + bytes((checksum(body),))


def checksum(data: bytes) -> int:
    """The inverted lowest byte of the sum."""
    return ~sum(data) & 0xFF


def _write(address: int, size: int, values: Mapping[int, bytes]) -> bytes:
    content = b"".join(bytes((servo,)) + value for servo, value in values.items())
    return packet(_ALL, _SYNC_WRITE, bytes((address, size)) + content)
