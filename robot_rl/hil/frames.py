"""The file format of a log of records, and reading it while another process appends.

A file is MAGIC and then frames: length (u32), checksum (u32), payload; little-endian. The first frame is the header:
JSON with the log's id and schema. A frame's checksum is the CRC-32 of its length and payload, begun with the checksum
of the frame before, so one checksum stands for everything up to it: a lost, repeated or exchanged frame shows, and two
files with the same checksum at the same place hold the same history.
"""

from __future__ import annotations

import json
import logging
import os
import re
import struct
import zlib
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path

from robot_rl.hil.records import record_limit
from robot_rl.hil.schema import RecordError, Schema

MAGIC = b"robot_rl log 1\r\n"
HEADER_LIMIT = 1 << 16
"""Most bytes of the header."""
_HEAD = struct.Struct("<II")
_LENGTH = struct.Struct("<I")
_logger = logging.getLogger(__name__)


class LogError(Exception):
    """A log file that cannot be used, in one sentence."""


def frame(payload: bytes, previous: int) -> tuple[bytes, int]:
    """The frame of a payload and its checksum, after a frame with the checksum `previous`."""
    length = _LENGTH.pack(len(payload))
    checksum = zlib.crc32(payload, zlib.crc32(length, previous))
    return length + _LENGTH.pack(checksum) + payload, checksum


def header(log_id: str, schema: Schema) -> bytes:
    """The first bytes of a log; the same id and schema always give the same bytes."""
    text = json.dumps({"log_id": log_id, "schema": schema.to_dict()}, sort_keys=True, ensure_ascii=True)
    return MAGIC + frame(text.encode(), zlib.crc32(MAGIC))[0]


def is_log_id(text: object) -> bool:
    """Whether it is the id of a log; ids name files, so nothing else may pass."""
    return isinstance(text, str) and re.fullmatch("[0-9a-f]{32}", text) is not None


class LogReader:
    """The records of a log by sequence number, also while it grows.

    Attributes:
        log_id: The log's id, 32 hexadecimal digits.
        schema: The schema of its records.
        end: Byte behind the last whole frame found so far.
        damage: What is wrong with the bytes at `end`; empty where there are none, or only the beginning of a frame.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        try:
            self._file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise LogError(f"cannot open {self.path}: {error.strerror}") from error
        try:
            self.log_id, self.schema, self.end, checksum = self._read_header()
        except BaseException:
            os.close(self._file)
            raise
        self.damage = ""
        self._limit = record_limit(self.schema)
        # Position i: where record i begins, and the checksum of all before it. 12 bytes a record.
        self._offsets = array("Q", [self.end])
        self._checksums = array("I", [checksum])

    def _read_header(self) -> tuple[str, Schema, int, int]:
        start = len(MAGIC)
        if os.pread(self._file, start, 0) != MAGIC:
            raise LogError(f"{self.path} is no log of records (it does not begin with {MAGIC.decode().strip()!r})")
        found, damage = _whole_frame(self._file, start, zlib.crc32(MAGIC), HEADER_LIMIT)
        if found is None:
            raise LogError(f"{self.path}: the header is damaged ({damage or 'incomplete'}); restore it from a copy")
        payload, checksum = found
        try:
            data = json.loads(payload)
            log_id, schema = data["log_id"], Schema.from_dict(data["schema"])
        except (ValueError, KeyError, TypeError) as error:
            raise LogError(f"{self.path}: the header cannot be used: {error}") from error
        if not is_log_id(log_id):
            raise LogError(f"{self.path}: the log's id is {log_id!r:.80}; expected 32 hexadecimal digits")
        return log_id, schema, start + _HEAD.size + len(payload), checksum

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def refresh(self, most: int | None = None) -> int:
        """Look for records behind the known ones, `most` of them at most; returns how many are known now."""
        while most is None or most > 0:
            found, self.damage = _whole_frame(self._file, self.end, self._checksums[-1], self._limit)
            if found is None:
                break
            payload, checksum = found
            self.end += _HEAD.size + len(payload)
            self._offsets.append(self.end)
            self._checksums.append(checksum)
            most = None if most is None else most - 1
        return len(self)

    def payload(self, sequence: int) -> bytes:
        """The encoded record with a sequence number below `len(self)`."""
        if not 0 <= sequence < len(self):
            raise IndexError(f"{self.path} holds the records 0 to {len(self) - 1}; asked for {sequence}")
        found, damage = _whole_frame(self._file, self._offsets[sequence], self._checksums[sequence], self._limit)
        if found is None:
            raise LogError(f"{self.path}: record {sequence} was there and is not any more ({damage or 'incomplete'})")
        return found[0]

    def place(self, sequence: int) -> Place:
        """Where the record with a sequence number below `len(self)` is."""
        return self._offsets[sequence], self._checksums[sequence]

    def at(self, place: Place) -> bytes:
        """The encoded record at a place that this or another reader of the same file gave."""
        found, damage = _whole_frame(self._file, *place, self._limit)
        if found is None:
            raise LogError(
                f"{self.path}: the record at byte {place[0]} is not there any more ({damage or 'incomplete'})"
            )
        return found[0]

    def checksum(self, sequence: int) -> int:
        """The checksum of the header and all records before `sequence`, which may be `len(self)`."""
        return self._checksums[sequence]

    def sync(self) -> None:
        """Wait until what was found is on the disk itself."""
        os.fsync(self._file)

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> LogReader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _whole_frame(file: int, offset: int, previous: int, limit: int) -> tuple[tuple[bytes, int] | None, str]:
    # The payload and checksum of the frame at `offset`, or why there is none; no reason for one not yet written whole.
    head = os.pread(file, _HEAD.size, offset)
    if len(head) < _HEAD.size:
        return None, ""
    length, checksum = _HEAD.unpack(head)
    if not 0 < length <= limit:
        return None, f"a length of {length} bytes; a record has 1 to {limit}"
    payload = os.pread(file, length, offset + _HEAD.size)
    if len(payload) < length:
        return None, ""
    if frame(payload, previous)[1] != checksum:
        return None, "a wrong checksum"
    return (payload, checksum), ""


Place = tuple[int, int]
"""Where a record is in its file: the byte at which its frame begins, and the checksum of all before it."""


def read(path: Path, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """Sequence numbers and encoded records from `start` on, as far as they are whole now.

    A process or thread may append meanwhile. Behind damage nothing is read, and a log line says how much.

    Raises:
        LogError: There is no log at `path`, or its header is damaged.
    """
    for sequence, payload, _ in read_places(path, start):
        yield sequence, payload


def read_places(path: Path, start: int = 0) -> Iterator[tuple[int, bytes, Place]]:
    """As `read`, and where each record is, for `read_again`."""
    with LogReader(path) as reader:
        sequence = start
        while sequence < len(reader) or sequence < reader.refresh(most=64 + max(0, sequence - len(reader))):
            yield sequence, reader.payload(sequence), reader.place(sequence)
            sequence += 1
        if reader.damage:
            rest = reader.path.stat().st_size - reader.end
            _logger.warning(
                "%s: record %d has %s; the %d bytes from there on are not read",
                *(reader.path, len(reader), reader.damage, rest),
            )


def read_again(path: Path, places: Iterable[Place]) -> Iterator[bytes]:
    """Encoded records from where they were found, without reading what lies before them.

    Raises:
        LogError: The file is not what it was.
    """
    with LogReader(path) as reader:
        for place in places:
            yield reader.at(place)


__all__ = [
    "LogError", "LogReader", "Place", "RecordError", "frame", "header", "is_log_id", "read", "read_again",
    "read_places",
]  # fmt: skip
