"""Writes MCAP so that a control loop of the same process hardly notices: see https://mcap.dev/spec.

`mcap.writer` makes every number of every record in Python: 9 µs a message, and a chunk's index alone holds the
interpreter for half a millisecond, which a loop that wakes up meanwhile waits; longer where another process has this
thread's processor. Here a message costs 2 µs, and a chunk a few calls into C. Rare records come from `mcap`.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections import Counter
from collections.abc import Mapping
from typing import Any

from mcap.data_stream import RecordBuilder
from mcap.opcode import Opcode
from mcap.records import (
    Channel,
    ChunkIndex,
    DataEnd,
    Footer,
    Header,
    Metadata,
    MetadataIndex,
    Schema,
    Statistics,
    SummaryOffset,
)

from robot_rl.recording.scan import MAGIC

CHUNK_BYTES = 512 << 10
"""A chunk that has as many bytes is written."""
_MESSAGE = struct.Struct("<BQHIQQ")
_MESSAGE_FIELDS = _MESSAGE.size - 9
_CHUNK = struct.Struct("<BQQQQIIQ")
_INDEX = struct.Struct("<BQHI")


class ChunkWriter:
    """An MCAP file while it grows; whatever is written is written whole and goes to the operating system at once.

    Attributes:
        end: Bytes of the file.
    """

    def __init__(self, file: int, library: str = "robot_rl") -> None:
        """Begin the file.

        Args:
            file: Descriptor of an empty file; stays open.
            library: Who writes it.
        """
        self._file, self.end, self._checksum = file, 0, 0
        self._schemas: list[Schema] = []
        self._channels: list[Channel] = []
        self._chunks: list[ChunkIndex] = []
        self._metadata: list[MetadataIndex] = []
        self._counts: Counter[int] = Counter()
        self._first, self._last = 0, 0
        self._parts: list[Any] = []
        self._size = 0
        self._index: dict[int, list[int]] = {}
        """Of each channel: time of receipt and place in the chunk, one after the other."""
        self._append(MAGIC)
        self._append(_record(Header("ros2", library)))

    def register_schema(self, name: str, encoding: str, data: bytes) -> int:
        """A message type; returns its number."""
        schema = Schema(id=len(self._schemas) + 1, name=name, encoding=encoding, data=data)
        self._schemas.append(schema)
        self._put_record(_record(schema))
        return schema.id

    def register_channel(self, topic: str, encoding: str, schema: int, metadata: Mapping[str, str]) -> int:
        """A topic; returns its number."""
        channel = Channel(
            id=len(self._channels) + 1,
            topic=topic,
            message_encoding=encoding,
            schema_id=schema,
            metadata=dict(metadata),
        )
        self._channels.append(channel)
        self._index[channel.id] = []
        self._put_record(_record(channel))
        return channel.id

    def add_message(
        self, channel: int, received: int, data: bytes | bytearray | memoryview, measured: int, sequence: int
    ) -> None:
        """A message, which is not copied yet: leave `data` as they are."""
        length = len(data)
        self._parts.append(
            _MESSAGE.pack(5, _MESSAGE_FIELDS + length, channel, sequence & 0xFFFFFFFF, received, measured)
        )
        self._parts.append(data)
        self._index[channel] += (received, self._size)
        self._size += _MESSAGE.size + length
        if self._size >= CHUNK_BYTES:
            self.flush()

    def add_metadata(self, name: str, data: Mapping[str, str]) -> None:
        """A record of words, behind what was written so far."""
        record = _record(Metadata(name=name, metadata=dict(data)))
        self._metadata.append(MetadataIndex(offset=self.end, length=len(record), name=name))
        self._append(record)

    def flush(self) -> None:
        """Write the messages so far as a chunk."""
        index = {channel: numbers for channel, numbers in self._index.items() if numbers}
        if not index:
            return
        body = b"".join(self._parts)
        first = min(min(numbers[::2]) for numbers in index.values())
        last = max(max(numbers[::2]) for numbers in index.values())
        head = _CHUNK.pack(6, _CHUNK.size - 9 + len(body), first, last, len(body), zlib.crc32(body), 0, len(body))
        start = self.end
        self._append(head)
        self._append(body)
        offsets, tables, place = {}, [], self.end
        for channel, numbers in index.items():
            table = _INDEX.pack(7, 6 + 8 * len(numbers), channel, 8 * len(numbers))
            table += struct.pack(f"<{len(numbers)}Q", *numbers)
            offsets[channel] = place
            place += len(table)
            tables.append(table)
            self._counts[channel] += len(numbers) // 2
        self._append(b"".join(tables))
        self._first = min(self._first, first) if self._chunks else first
        self._last = max(self._last, last)
        self._chunks.append(
            ChunkIndex(
                message_start_time=first,
                message_end_time=last,
                chunk_start_offset=start,
                chunk_length=len(head) + len(body),
                message_index_offsets=offsets,
                message_index_length=place - start - len(head) - len(body),
                compression="",
                compressed_size=len(body),
                uncompressed_size=len(body),
            )
        )
        self._parts, self._size = [], 0
        for channel in index:
            self._index[channel] = []

    def finish(self) -> None:
        """Write what waits, and what lets others find their way in the file. Nothing can follow."""
        self.flush()
        self._append(_record(DataEnd(self._checksum)))
        start, offsets = self.end, RecordBuilder()
        summary = RecordBuilder()
        groups: list[tuple[int, list[Any]]] = [
            (Opcode.SCHEMA, self._schemas),
            (Opcode.CHANNEL, self._channels),
            (Opcode.STATISTICS, [self._statistics()]),
            (Opcode.CHUNK_INDEX, self._chunks),
            (Opcode.METADATA_INDEX, self._metadata),
        ]
        for opcode, records in groups:
            before = summary.count
            for record in records:
                record.write(summary)
            if records:
                SummaryOffset(
                    group_opcode=opcode, group_start=start + before, group_length=summary.count - before
                ).write(offsets)
        place = start + summary.count
        whole = summary.end() + offsets.end()
        footer = struct.pack("<BQQQ", Opcode.FOOTER, 20, start, place)
        end = Footer(summary_start=start, summary_offset_start=place, summary_crc=zlib.crc32(footer, zlib.crc32(whole)))
        self._append(whole + _record(end) + MAGIC)

    def _statistics(self) -> Statistics:
        return Statistics(
            attachment_count=0,
            channel_count=len(self._channels),
            channel_message_counts=dict(self._counts),
            chunk_count=len(self._chunks),
            message_count=sum(self._counts.values()),
            metadata_count=len(self._metadata),
            message_start_time=self._first,
            message_end_time=self._last,
            schema_count=len(self._schemas),
        )

    def _put_record(self, record: bytes) -> None:
        self._parts.append(record)
        self._size += len(record)

    def _append(self, data: bytes) -> None:
        # Both let the interpreter go where there is much.
        self._checksum = zlib.crc32(data, self._checksum)
        view = memoryview(data)
        while view:
            count = os.write(self._file, view)
            self.end += count
            view = view[count:]


def _record(record: Any) -> bytes:
    builder = RecordBuilder()
    record.write(builder)
    return bytes(builder.end())
