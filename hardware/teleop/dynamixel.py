"""Dynamixel servos of the X series (XL330, XC330, XL430, XM430, …), protocol 2.0, as in GELLO and ALOHA's leaders.

    FF FF FD 00 · number · length (2) · instruction · … · CRC-16 (2)
An FD after FF FF is sent twice, so that the header never comes in between. Addresses are those of the maker's tables.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from hardware.teleop.servo import Answer

_HEADER = b"\xff\xff\xfd\x00"
_ALL = 0xFE
_STATUS, _SYNC_READ, _SYNC_WRITE = 0x55, 0x82, 0x83
_MODE, _TORQUE, _CURRENT, _GOAL, _POSITION = 11, 64, 102, 116, 132
_POSITION_BY_CURRENT = 5
_LONGEST = 64


class Dynamixel:
    """See the module; `strength` is the current limit in the servo's unit, 1 mA for an XL330, 2.69 mA for an XM430."""

    resolution = 4096
    goes_round = True

    def read(self, servos: Sequence[int]) -> bytes:
        """Ask all at once where they are."""
        return packet(_ALL, _SYNC_READ, struct.pack("<HH", _POSITION, 4) + bytes(servos))

    def prepare(self, servos: Sequence[int], strength: int) -> bytes:
        """Position by limited current: a hand can push a joint away."""
        mode = _write(_MODE, 1, {servo: bytes((_POSITION_BY_CURRENT,)) for servo in servos})
        return mode + _write(_CURRENT, 2, {servo: struct.pack("<h", strength) for servo in servos})

    def switch(self, servos: Sequence[int], on: bool) -> bytes:
        """Switch their motors on or off."""
        return _write(_TORQUE, 1, {servo: bytes((on,)) for servo in servos})

    def go(self, goals: Mapping[int, int]) -> bytes:
        """Send them to positions in ticks."""
        return _write(_GOAL, 4, {servo: struct.pack("<i", ticks) for servo, ticks in goals.items()})

    def parse(self, buffer: bytearray) -> list[Answer]:
        """Take whole answers from the beginning of the buffer; leave what is not complete."""
        answers: list[Answer] = []
        while True:
            start = buffer.find(_HEADER)
            if start < 0:
                del buffer[: max(0, len(buffer) - len(_HEADER) + 1)]
                return answers
            del buffer[:start]
            if len(buffer) < 7:
                return answers
            (length,) = struct.unpack_from("<H", buffer, 5)
            if not 3 <= length <= _LONGEST:
                del buffer[:1]
                continue
            if len(buffer) < 7 + length:
                return answers
            whole = bytes(buffer[: 7 + length])
            if crc(whole[:-2]) != struct.unpack_from("<H", whole, len(whole) - 2)[0]:
                del buffer[:1]
                continue
            del buffer[: len(whole)]
            content = whole[7:-2].replace(b"\xff\xff\xfd\xfd", b"\xff\xff\xfd")
            if content[0] == _STATUS and len(content) == 6:  # instruction, error, position
                answers.append(Answer(whole[4], struct.unpack_from("<i", content, 2)[0]))


def packet(servo: int, instruction: int, content: bytes) -> bytes:
    """A whole packet."""
    body = (bytes((instruction,)) + content).replace(b"\xff\xff\xfd", b"\xff\xff\xfd\xfd")
    head = _HEADER + bytes((servo,)) + struct.pack("<H", len(body) + 2) + body
    return head + struct.pack("<H", crc(head))


def crc(data: bytes) -> int:
    """CRC-16 with the polynomial 0x8005, highest bit first, from 0."""
    value = 0
    for byte in data:
        value = (value << 8 & 0xFFFF) ^ _TABLE[(value >> 8) ^ byte]
    return value


def _write(address: int, size: int, values: Mapping[int, bytes]) -> bytes:
    content = b"".join(bytes((servo,)) + value for servo, value in values.items())
    return packet(_ALL, _SYNC_WRITE, struct.pack("<HH", address, size) + content)


def _table_entry(value: int) -> int:
    value <<= 8
    for _ in range(8):
        value = (value << 1 ^ 0x8005 if value & 0x8000 else value << 1) & 0xFFFF
    return value


_TABLE = [_table_entry(number) for number in range(256)]
