"""Recordings as data: streams with true times, as far as a file is whole. Messages stay in the file until asked for."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from robot_rl.hil.schema import RecordError, Schema
from robot_rl.recording import marks
from robot_rl.recording.errors import RecordingError
from robot_rl.recording.scan import Scan, scan
from robot_rl.recording.stream import Stream
from robot_rl.recording.types import types_with

State = Literal["finished", "running", "cut off"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Recording:
    """One file as far as it is whole."""

    source: Path
    """The file."""
    state: State
    """Whether it was ended, is still being written, or was cut off: its process died, or the disk failed."""
    success: bool
    """Whether it was ended as a success."""
    cause: str
    """Why it was ended; empty where it was not."""
    problem: str
    """What is wrong with the file and what was left out because of it, in one sentence; empty where nothing is."""
    info: Mapping[str, Any]
    """What the recorder was told at its begin: task, settings, engine, seed."""
    schema: Schema | None
    """What its steps look like; None where it has none."""
    streams: Mapping[str, Stream]
    """By topic."""
    dropped: Mapping[str, int]
    """Messages of each topic that the recorder could not store."""
    clock_zero_ns: int
    """Unix time of the zero of the recording's clock, ns."""
    started_ns: int
    """Unix time of its begin, ns."""

    @property
    def finished(self) -> bool:
        """Whether it was ended, and is whole up to there."""
        return self.state == "finished"

    @property
    def duration(self) -> float:
        """S from the first to the last receipt."""
        times = [stream.received for stream in self.streams.values() if len(stream)]
        return float(max(t.max() for t in times) - min(t.min() for t in times)) if times else 0.0

    def stream(self, topic: str) -> Stream:
        """The stream of a topic.

        Raises:
            RecordingError: There is none.
        """
        if topic not in self.streams:
            raise RecordingError(f"{self.source} has no topic {topic!r}; it has {', '.join(sorted(self.streams))}")
        return self.streams[topic]


def load_recording(path: Path) -> Recording:
    """Read an MCAP file of ROS 2 messages, ours or another's, as far as it is whole.

    Raises:
        RecordingError: It cannot be opened, is no such file, or its begin is damaged.
    """
    path = Path(path)
    found = scan(path)
    names = [name for name, _ in found.metadata]
    marked = {name: _unsealed(path, name, data) for name, data in found.metadata if name.startswith("robot_rl.")}
    ours = names[:1] == [marks.BEGIN]
    begin = marked.get(marks.BEGIN, {})
    try:
        schema = Schema.from_dict(begin["schema"]) if begin.get("schema") is not None else None
    except RecordError as error:
        raise RecordingError(f"{path}: {error}") from error
    first = min((min(one.received) for one in found.channels.values() if one.received), default=0)
    zero = _whole_number(begin.get("clock_zero_ns"), first)
    end = marked.get(marks.END)
    state = _state(path, found, ours, end)
    return Recording(
        source=path,
        state=state,
        success=end is not None and end.get("success") is True,
        cause=str(end.get("cause", "")) if end else "",
        problem=_problem(path, found, state),
        info=_mapping(begin.get("info")),
        schema=schema,
        streams=_streams(path, found, zero),
        dropped={
            str(topic): count
            for topic, count in _mapping((end or {}).get("dropped", marked.get(marks.DROPPED, {}))).items()
            if isinstance(count, int)
        },
        clock_zero_ns=zero,
        started_ns=_whole_number(begin.get("started_ns"), first),
    )


def _unsealed(path: Path, name: str, data: dict[str, str]) -> dict[str, Any]:
    try:
        return marks.unseal(data)
    except (ValueError, RecursionError) as error:
        raise RecordingError(f"{path}: its mark {name!r:.80} is damaged ({error!s:.80})") from error


def _mapping(data: object) -> dict[str, Any]:
    return data if isinstance(data, dict) else {}


def _whole_number(value: object, default: int) -> int:
    return value if isinstance(value, int) and 0 <= value < 2**63 else default


def _state(path: Path, found: Scan, ours: bool, end: object) -> State:
    if end is not None or (not ours and found.closed and not found.damage):
        return "finished"
    return "running" if _is_locked(path) else "cut off"


def _is_locked(path: Path) -> bool:
    # The recorder holds a lock for as long as it lives.
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(file)
    return False


def _problem(path: Path, found: Scan, state: State) -> str:
    if state == "running":
        return ""
    rest = found.size - found.end
    if state == "finished":
        return f"{path}: behind its end there is {found.damage} ({rest} bytes); the data are whole" if rest else ""
    if rest:
        return f"{path}: cut off; the last {rest} bytes of {found.size} are left out ({found.damage})"
    return f"{path}: cut off; it has no end, nothing that was stored is lost"


def _streams(path: Path, found: Scan, zero: int) -> dict[str, Stream]:
    used = {number: one for number, one in found.channels.items() if one.encoding == "cdr"}
    definitions = {}
    for one in used.values():
        name, encoding, text = found.schemas.get(one.schema, ("", "", b""))
        if encoding == "ros2msg":
            definitions[name] = text.decode(errors="replace")
    types = types_with(definitions)
    streams: dict[str, Stream] = {}
    for one in used.values():
        name = found.schemas.get(one.schema, ("", "", b""))[0]
        if name not in definitions:
            raise RecordingError(f"{path}: {one.topic!r:.80} has messages of no ROS 2 type ({name!r:.80})")
        if one.topic in streams:
            raise RecordingError(f"{path}: {one.topic!r:.80} comes from two channels; one is expected")
        streams[one.topic] = Stream(
            topic=one.topic,
            type=name,
            measured=_seconds(one.measured, zero),
            received=_seconds(one.received, zero),
            sequence=np.array(one.sequence, np.int64),
            source=path,
            types=types,
            channel=one,
            chunks=found.chunks,
        )
    return streams


def _seconds(nanoseconds: Any, zero: int) -> NDArray[np.float64]:
    return (np.array(nanoseconds, np.uint64) - np.uint64(zero)).view(np.int64) * 1e-9
