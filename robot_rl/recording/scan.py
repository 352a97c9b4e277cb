"""Reads an MCAP file as far as it is whole, trusting nothing: every length is compared with what is there first.

What is behind the first damage is not used. Messages are not kept, only where they are.
"""

from __future__ import annotations

import os
import struct
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robot_rl.recording.errors import RecordingError

MAGIC = b"\x89MCAP0\r\n"
MAX_RECORD = 256 << 20
"""Most bytes of one record, and of one chunk when unpacked."""
MAX_MESSAGES = 20_000_000
"""Most messages of a file."""
_HEAD = struct.Struct("<BQ")
_MESSAGE = struct.Struct("<HIQQ")
_CHUNK = struct.Struct("<QQQII")
_HEADER, _FOOTER, _SCHEMA, _CHANNEL, _MESSAGE_OP, _CHUNK_OP, _METADATA, _DATA_END = 1, 2, 3, 4, 5, 6, 12, 15


class _DamageError(Exception):
    """What is wrong with the bytes at hand, in few words."""


@dataclass
class Channel:
    """One topic of a file, and where its messages are, in the order written."""

    topic: str
    """Name of the topic."""
    encoding: str
    """Of the messages; cdr."""
    schema: int
    """Id of its type."""
    received: array[int] = field(default_factory=lambda: array("Q"))
    """Log times, ns."""
    measured: array[int] = field(default_factory=lambda: array("Q"))
    """Publish times, ns."""
    sequence: array[int] = field(default_factory=lambda: array("I"))
    """Sequence numbers."""
    offset: array[int] = field(default_factory=lambda: array("Q"))
    """Byte at which the message begins, in the file or in its unpacked chunk."""
    length: array[int] = field(default_factory=lambda: array("I"))
    """Bytes of the message."""
    chunk: array[int] = field(default_factory=lambda: array("i"))
    """Number of its packed chunk; -1 for a message that lies in the file as it is."""


@dataclass
class Scan:
    """A file as far as it is whole."""

    path: Path
    """The file."""
    size: int = 0
    """Its bytes."""
    end: int = 0
    """Byte behind the last whole record."""
    damage: str = ""
    """What is wrong at `end`, in few words; empty where nothing is."""
    closed: bool = False
    """Whether it has its end: index, footer and magic."""
    schemas: dict[int, tuple[str, str, bytes]] = field(default_factory=dict)
    """Name, encoding and definition of each type."""
    channels: dict[int, Channel] = field(default_factory=dict)
    """By id."""
    metadata: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """Name and entries, in the order written."""
    chunks: list[tuple[int, int, str, int]] = field(default_factory=list)
    """Packed chunks: offset and length of the packed bytes, kind of packing, unpacked bytes."""
    messages: int = 0
    """How many there are."""


def scan(path: Path) -> Scan:
    """Read the file.

    Raises:
        RecordingError: It cannot be opened, or is no MCAP file.
    """
    result = Scan(Path(path))
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise RecordingError(f"cannot open {path}: {error.strerror}") from error
    try:
        result.size = os.fstat(file).st_size
        if os.pread(file, len(MAGIC), 0) != MAGIC:
            raise RecordingError(f"{path} is no recording (it does not begin as MCAP files do)")
        result.end = len(MAGIC)
        try:
            _read_records(file, result)
        except _DamageError as damage:
            result.damage = str(damage)
        except OSError as error:
            result.damage = f"the disk cannot be read ({error.strerror})"
    finally:
        os.close(file)
    return result


def _read_records(file: int, result: Scan) -> None:
    checksum = zlib.crc32(MAGIC)
    data_ended = False
    while result.end < result.size:
        head = os.pread(file, _HEAD.size, result.end)
        if len(head) < _HEAD.size:
            raise _DamageError("an incomplete record")
        opcode, length = _HEAD.unpack(head)
        if opcode == 0 or 0x10 <= opcode < 0x80:
            raise _DamageError(f"a record of unknown kind {opcode}")
        if length > result.size - result.end - _HEAD.size:
            raise _DamageError("an incomplete record")
        if length > MAX_RECORD:
            raise _DamageError(f"a record of {length} bytes (at most {MAX_RECORD} are read)")
        body = os.pread(file, length, result.end + _HEAD.size)
        if len(body) < length:
            raise _DamageError("an incomplete record")
        try:
            if opcode == _DATA_END:
                (expected,) = struct.unpack_from("<I", body)
                if expected not in (0, checksum):
                    raise _DamageError("a wrong checksum of the whole")
                data_ended = True
            elif opcode == _FOOTER:
                end = result.end + _HEAD.size + length
                if os.pread(file, len(MAGIC), end) != MAGIC or not data_ended:
                    raise _DamageError("an incomplete end")
                result.end = end + len(MAGIC)
                result.closed = True
                if result.end < result.size:
                    raise _DamageError("bytes behind the end")
                return
            elif not data_ended:  # behind it all is repeated for a quick look
                _take(opcode, memoryview(body), result.end + _HEAD.size, result)
        except (struct.error, UnicodeDecodeError, IndexError, OverflowError) as error:
            raise _DamageError("a damaged record") from error
        checksum = zlib.crc32(body, zlib.crc32(head, checksum))
        result.end += _HEAD.size + length
    raise _DamageError("no end")


def _take(opcode: int, body: memoryview, offset: int, result: Scan) -> None:
    if opcode == _CHUNK_OP:
        _take_chunk(body, offset, result)
    elif opcode == _METADATA:
        name, position = _text(body, 0)
        result.metadata.append((name, _pairs(body, position)))
    elif opcode in (_SCHEMA, _CHANNEL, _MESSAGE_OP):
        _take_inner(opcode, body, offset, -1, result)


def _take_chunk(body: memoryview, offset: int, result: Scan) -> None:
    _, _, size, checksum, name_length = _CHUNK.unpack_from(body)
    packing = bytes(body[_CHUNK.size : _CHUNK.size + name_length]).decode()
    start = _CHUNK.size + name_length + 8
    (length,) = struct.unpack_from("<Q", body, start - 8)
    if length != len(body) - start:
        raise _DamageError("a damaged chunk")
    if size > MAX_RECORD:
        raise _DamageError(f"a chunk of {size} bytes (at most {MAX_RECORD} are read)")
    data = memoryview(unpack_chunk(body[start:], packing, size))
    if checksum and zlib.crc32(data) != checksum:
        raise _DamageError("a wrong checksum")
    chunk, base = -1, offset + start
    if packing:
        chunk, base = len(result.chunks), 0
        result.chunks.append((offset + start, length, packing, size))
    for opcode, position, end in _inner_records(data):
        _take_inner(opcode, data[position:end], base + position, chunk, result)


def unpack_chunk(data: memoryview, packing: str, size: int) -> Any:
    """The bytes of a chunk; never more than it says to hold."""
    if packing == "":
        found: Any = data
    elif packing == "zstd":
        import zstandard

        try:
            found = zstandard.ZstdDecompressor().stream_reader(bytes(data)).read(size + 1)
        except zstandard.ZstdError as error:
            raise _DamageError("a chunk that cannot be unpacked") from error
    elif packing == "lz4":
        import lz4.frame  # type: ignore[import-untyped]

        try:
            found = lz4.frame.LZ4FrameDecompressor().decompress(bytes(data), max_length=size + 1)
        except (RuntimeError, EOFError) as error:
            raise _DamageError("a chunk that cannot be unpacked") from error
    else:
        raise _DamageError(f"a chunk packed as {packing!r:.40}, which is not known")
    if len(found) != size:
        raise _DamageError("a chunk of another size than it says")
    return found


def _inner_records(data: memoryview) -> Iterator[tuple[int, int, int]]:
    position, size = 0, len(data)
    while position < size:
        opcode, length = _HEAD.unpack_from(data, position)
        position += _HEAD.size
        if length > size - position:
            raise _DamageError("a damaged chunk")
        yield opcode, position, position + length
        position += length


def _take_inner(opcode: int, body: memoryview, offset: int, chunk: int, result: Scan) -> None:
    if opcode == _MESSAGE_OP:
        number, sequence, received, measured = _MESSAGE.unpack_from(body)
        channel = result.channels.get(number)
        if channel is None:
            raise _DamageError("a message of an unknown topic")
        channel.received.append(received)
        channel.measured.append(measured)
        channel.sequence.append(sequence)
        channel.offset.append(offset + _MESSAGE.size)
        channel.length.append(len(body) - _MESSAGE.size)
        channel.chunk.append(chunk)
        result.messages += 1
        if result.messages > MAX_MESSAGES:
            raise _DamageError(f"more than {MAX_MESSAGES} messages")
    elif opcode == _CHANNEL:
        number, schema = struct.unpack_from("<HH", body)
        topic, position = _text(body, 4)
        encoding, _ = _text(body, position)
        result.channels.setdefault(number, Channel(topic, encoding, schema))
    elif opcode == _SCHEMA:
        (number,) = struct.unpack_from("<H", body)
        name, position = _text(body, 2)
        encoding, position = _text(body, position)
        (length,) = struct.unpack_from("<I", body, position)
        if length > len(body) - position - 4:
            raise _DamageError("a damaged type")
        result.schemas.setdefault(number, (name, encoding, bytes(body[position + 4 : position + 4 + length])))


def _text(data: memoryview, position: int) -> tuple[str, int]:
    (length,) = struct.unpack_from("<I", data, position)
    position += 4
    if length > len(data) - position:
        raise _DamageError("a damaged text")
    return bytes(data[position : position + length]).decode(), position + length


def _pairs(data: memoryview, position: int) -> dict[str, str]:
    (length,) = struct.unpack_from("<I", data, position)
    position += 4
    end = position + length
    if end > len(data):
        raise _DamageError("damaged metadata")
    pairs = {}
    while position < end:
        key, position = _text(data, position)
        pairs[key], position = _text(data, position)
    return pairs


def read_chunk(file: int, place: tuple[int, int, str, int]) -> bytes:
    """The unpacked bytes of a packed chunk.

    Raises:
        RecordingError: It is not there any more.
    """
    offset, length, packing, size = place
    data = os.pread(file, length, offset)
    try:
        return bytes(unpack_chunk(memoryview(data), packing, size))
    except _DamageError as damage:
        raise RecordingError(f"a recording changed while it was read: {damage}") from damage
