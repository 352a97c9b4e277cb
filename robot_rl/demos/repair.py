"""`robot-rl demos repair`: recordings that were cut off become whole MCAP files, which other programs open too.

Our reader needs no such thing. What a repaired file holds is what our reader finds in the old one: nothing is added,
and an episode without its end stays one that was cut off.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from policies.writing import whole_file
from robot_rl.demos.configs import RepairConfig
from robot_rl.errors import UserError
from robot_rl.recording import RecordingError, load_recording, marks
from robot_rl.recording.chunks import ChunkWriter
from robot_rl.recording.file import sync_folder
from robot_rl.recording.scan import Scan, read_chunk, scan


def run(config: RepairConfig) -> int:
    """Repair what needs it; the exit status is 1 where something could not be."""
    paths = sorted(config.path.glob("*.mcap")) if config.path.is_dir() else [config.path]
    paths = [path for path in paths if not path.name.startswith(".")]
    if not paths:
        raise UserError(f"{config.path} has no recordings (*.mcap)")
    status = 0
    for path in paths:
        try:
            said = repair(path, keep=config.keep)
        except UserError as error:
            sys.stderr.write(f"{error}\n")
            status = 1
        else:
            sys.stdout.write(f"{said}\n")
    return status


def repair(path: Path, *, keep: bool = True) -> str:
    """Put a whole file in the place of one that was cut off; says what was done.

    The old file is touched only when the new one is on the disk and was read back. It stays as `NAME.mcap.cut` with
    `keep`.

    Raises:
        UserError: It cannot be read, is being recorded, there is no room, or `NAME.mcap.cut` exists already.
    """
    if load_recording(path).state == "running":
        raise UserError(f"{path} is still being recorded; end it first")
    old = scan(path)
    if old.closed and old.end == old.size:
        return f"{path}: whole"
    kept = path.with_name(f"{path.name}.cut")
    if keep and kept.exists():
        raise UserError(f"{kept} exists already; move it away, or give --no-keep")
    left_out = old.size - old.end
    try:
        with whole_file(path) as fresh:
            _write(fresh, old, {"damage": old.damage, "left_out_bytes": left_out, "size": old.size})
            new = scan(fresh)
            if not new.closed or new.damage or new.messages != old.messages:
                raise UserError(
                    f"{path}: the new file is not whole ({new.damage or 'messages are missing'}); kept as it was"
                )
            if keep:
                os.link(path, kept)
        sync_folder(path.parent)
    except OSError as error:
        raise UserError(f"{path} cannot be repaired: {error.strerror}; it is as it was") from error
    beside = f"; as it was: {kept.name}" if keep else ""
    return f"{path}: repaired, {old.messages} messages; {left_out} bytes at its end could not be read{beside}"


def _write(path: Path, old: Scan, about: dict[str, object]) -> None:
    """A new file of all that was found, on the disk when this returns."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        writer = ChunkWriter(file)
        begin = old.metadata[:1] if old.metadata and old.metadata[0][0] == marks.BEGIN else []
        for name, entries in begin:
            writer.add_metadata(name, entries)
        schemas = {0: 0}
        for number, schema in old.schemas.items():
            schemas[number] = writer.register_schema(*schema)
        channels = {
            number: writer.register_channel(
                one.topic, one.encoding, schemas.get(one.schema, 0), {"offered_qos_profiles": ""}
            )
            for number, one in old.channels.items()
        }
        for number, row, data in _messages(old):
            one = old.channels[number]
            writer.add_message(channels[number], one.received[row], data, one.measured[row], one.sequence[row])
        writer.flush()
        for name, entries in old.metadata[len(begin) :]:
            writer.add_metadata(name, entries)
        writer.add_metadata(marks.REPAIRED, marks.seal(about))
        writer.finish()
        os.fsync(file)
    finally:
        os.close(file)


def _messages(old: Scan) -> Iterator[tuple[int, int, bytes]]:
    """Channel, row and bytes of every message, in the order of the file."""
    numbers = list(old.channels)
    sizes = [len(old.channels[number].offset) for number in numbers]
    owner = np.repeat(np.array(numbers, np.int64), sizes)
    row = np.concatenate([np.arange(size) for size in sizes]) if sizes else np.zeros(0, np.int64)
    chunk = np.concatenate([np.array(old.channels[n].chunk, np.int64) for n in numbers] or [row])
    offset = np.concatenate([np.array(old.channels[n].offset, np.int64) for n in numbers] or [row])
    file = os.open(old.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        unpacked, content = -1, b""
        for place in np.lexsort((offset, chunk)).tolist():
            number, index = int(owner[place]), int(row[place])
            length, start, wanted = old.channels[number].length[index], int(offset[place]), int(chunk[place])
            if wanted >= 0 and wanted != unpacked:
                unpacked, content = wanted, read_chunk(file, old.chunks[wanted])
            data = os.pread(file, length, start) if wanted < 0 else content[start : start + length]
            if len(data) != length:
                raise RecordingError(f"{old.path} became shorter while it was read")
            yield number, index, data
    finally:
        os.close(file)
