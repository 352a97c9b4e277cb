"""The session's episodes: recorded while recording is on, listed, and what their curves show.

A recording always holds a whole episode, so that it can be replayed: turned on in the middle of one, it begins with
the next. Whatever goes wrong with the disk is said on the page; the robot goes on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from robot_rl.hil.records import Record
from robot_rl.hil.schema import RecordError, Schema
from robot_rl.recording import EpisodeWriter, RecordingError
from robot_rl.recording.writer import number_of

WINDOW = 20
"""Episodes over which curves are averaged."""


@dataclass(frozen=True, kw_only=True)
class EpisodeRow:
    """An episode of this session or this run, as the page lists it."""

    number: int
    """From 1."""
    outcome: str
    """`success`, `failure`, `time-out` or `discarded`."""
    seconds: float
    """Of robot time."""
    helped: float
    """Share of its steps in which the person drove."""
    file: str = ""
    """Name of its recording; empty where there is none."""


def curves(rows: Sequence[EpisodeRow], window: int = WINDOW) -> dict[str, list[float | None]]:
    """Success, share of steps that a person drove, and cycle time of successes, each over the last `window` episodes.

    Discarded episodes do not count.
    """
    counted = [row for row in rows if row.outcome != "discarded"]
    success: list[float | None] = []
    helped: list[float | None] = []
    cycle: list[float | None] = []
    for end in range(1, len(counted) + 1):
        recent = counted[max(0, end - window) : end]
        won = [row.seconds for row in recent if row.outcome == "success"]
        success.append(round(len(won) / len(recent), 4))
        helped.append(round(sum(row.helped for row in recent) / len(recent), 4))
        cycle.append(round(sum(won) / len(won), 3) if won else None)
    return {"success": success, "intervention": helped, "cycle_time": cycle}


def episodes_message(rows: Sequence[EpisodeRow], most: int = 200) -> dict[str, Any]:
    """What the page gets: the last rows, the newest first, and the curves."""
    return {"rows": [asdict(row) for row in reversed(rows[-most:])], "curves": curves(rows[-2000:]), "total": len(rows)}


class EpisodeRecorder:
    """Recording on and off, and what became of it."""

    def __init__(self, folder: Path, schema: Schema | None, *, on: bool, say: Callable[[str], None]) -> None:
        """Prepare; nothing is written before the first episode.

        Args:
            folder: Data set that episodes are added to.
            schema: Of its steps; None where only streams are recorded.
            on: Whether to record from the first episode on.
            say: Tells the person what went wrong.
        """
        self.folder, self.on = folder, on
        self.count = 0
        """Episodes that were stored."""
        self._schema, self._say = schema, say
        self._writer: EpisodeWriter | None = None
        self._lock = threading.Lock()  # pictures come from another thread

    @property
    def next_number(self) -> int:
        """Of the next episode in the data set."""
        numbers = [number_of(path) for path in self.folder.glob("episode-*.mcap")]
        return max((number + 1 for number in numbers if number is not None), default=0)

    @property
    def running(self) -> bool:
        """Whether the current episode is being recorded."""
        return self._writer is not None and self._writer.recording

    def begin(self, info: Mapping[str, Any]) -> None:
        """An episode begins."""
        if not self.on:
            return
        with self._lock:
            try:
                if self._writer is None:
                    self._writer = EpisodeWriter(self.folder, self._schema)
                self._writer.begin(info)
            except (RecordingError, OSError) as error:
                self._fail(error)

    def step(self, record: Record) -> None:
        """A control step of it."""
        with self._lock:
            if self._writer is not None and self._writer.recording:
                try:
                    self._writer.step(record)
                except (RecordingError, RecordError) as error:
                    self._fail(error)

    def write(self, topic: str, message: Any, measured: float) -> None:
        """Something else of it, measured and received at `measured` s of its clock."""
        with self._lock:
            if self._writer is not None and self._writer.recording:
                try:
                    self._writer.write(topic, message, measured, measured)
                except RecordingError as error:
                    self._fail(error)

    def end(self, success: bool, cause: str, *, discard: bool = False) -> str:
        """The episode is over. Returns the name of its file; empty where nothing was stored."""
        with self._lock:
            if self._writer is None or not self._writer.recording:
                return ""
            try:
                if discard:
                    self._writer.discard()
                    return ""
                summary = self._writer.end(success, cause)
            except (RecordingError, OSError) as error:
                self._fail(error)
                return ""
        self.count += 1
        lost = sum(summary.dropped.values())
        if lost:
            self._say(f"{summary.path.name}: {lost} messages were lost; the disk is too slow")
        return summary.path.name

    def close(self) -> None:
        """Leave a running episode as one that was cut off."""
        with self._lock:
            if self._writer is not None:
                self._writer.close()
                self._writer = None

    def _fail(self, error: Exception) -> None:
        """Recording is off from here on; what was stored stays."""
        self.on = False
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._say(f"recording is off: {error}")
