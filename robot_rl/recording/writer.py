"""Records episodes, one MCAP file each: every stream with the time of its measurement and of its receipt.

No call but `begin`, `end` and `discard` waits for the disk; those three belong between episodes.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.hil.records import Record, RecordError, check
from robot_rl.hil.schema import Schema
from robot_rl.recording import steps
from robot_rl.recording.errors import RecordingError
from robot_rl.recording.file import EpisodeFile, Item, WriterSettings
from robot_rl.recording.types import PICTURE, begins_with_header, prepare, serialize, set_stamp

FORMAT = 1
"""Version of what we store in MCAP."""
_NAME = re.compile(r"episode-(\d{6,18})\.mcap")
_PICTURE_LIMIT = 4096


@dataclass(frozen=True, kw_only=True)
class EpisodeSummary:
    """What was recorded of an episode."""

    path: Path
    """The file."""
    seconds: float
    """From its begin to its end."""
    counts: Mapping[str, int]
    """Messages of each topic."""
    worst_gaps: Mapping[str, float]
    """Longest time between two measurements of each topic, s."""
    dropped: Mapping[str, int]
    """Messages of each topic that were lost."""


class EpisodeWriter:
    """Writes episodes into a folder: `begin`, then `step` and `write`, then `end` or `discard`."""

    def __init__(self, folder: Path, schema: Schema | None = None, settings: WriterSettings = WriterSettings()) -> None:
        """Of episodes of one kind.

        Args:
            folder: Where the files go; made if it does not exist.
            schema: What steps look like; None where only streams are recorded.
            settings: How they are written.
        """
        self.folder, self.schema, self._settings = Path(folder), schema, settings
        self._definitions: dict[str, str] = {}
        self._file: EpisodeFile | None = None
        self._step: Record | None = None
        self.folder.mkdir(parents=True, exist_ok=True)
        prepare()

    @property
    def recording(self) -> bool:
        """Whether an episode has begun and not ended."""
        return self._file is not None

    @property
    def path(self) -> Path | None:
        """The file of the running episode."""
        return self._file.path if self._file else None

    @property
    def failure(self) -> str:
        """Why nothing of the running episode is stored any more, in one sentence; empty while all is well."""
        return self._file.failure if self._file else ""

    @property
    def dropped(self) -> int:
        """Messages of the running episode that were lost."""
        return sum(self._file.dropped.values()) if self._file else 0

    def begin(self, info: Mapping[str, Any] | None = None) -> Path:
        """Begin an episode in a file of its own.

        Args:
            info: JSON-able; what a replay needs: task, settings, randomization, engine, seed.

        Raises:
            RecordingError: An episode is running, `info` is no JSON, or the disk refuses.
        """
        if self._file is not None:
            raise RecordingError(f"{self._file.path} is still being recorded; end or discard it first")
        self._started = time.monotonic()
        self._zero = time.time_ns() - time.monotonic_ns()
        about = {
            "format": FORMAT,
            "info": dict(info or {}),
            "schema": self.schema.to_dict() if self.schema else None,
            "clock_zero_ns": self._zero,
            "started_ns": time.time_ns(),
        }
        number = _next_number(self.folder)
        while True:
            path = self.folder / f"episode-{number:06d}.mcap"
            try:
                self._file = EpisodeFile(path, about, self._settings, self._definitions)
                break
            except FileExistsError:  # another process was faster
                number += 1
            except OSError as error:
                raise RecordingError(f"cannot begin the recording {path}: {error.strerror}") from error
        self._step = None
        self._sequence: dict[str, int] = {}
        return path

    def step(self, record: Record) -> None:
        """Record a control step; returns at once.

        Raises:
            RecordError: It does not fit the schema or does not follow the step before; nothing was stored.
            RecordingError: No episode is running, or the writer has no schema.
        """
        file = self._running()
        if self.schema is None:
            raise RecordingError("this recorder has no schema for steps; give one to EpisodeWriter")
        check(record, self.schema)
        self._check_order(record)
        measured, received = self._nanoseconds(record.observed_at), self._nanoseconds(time.monotonic())
        message = serialize(steps.to_message(record))
        set_stamp(message, measured)
        items = [Item(steps.TOPIC, steps.STEP, message, measured, received, record.index)]
        # When the picture after the last action was taken is not known; it has just come in.
        for pictures, taken, index in (
            (record.images, measured, record.index),
            (record.final_images, received, record.index + 1),
        ):
            for camera, picture in pictures.items():
                topic = steps.picture_topic(camera)
                items.append(Item(topic, PICTURE, picture.copy(), taken, received, index, camera))
        file.put(items)
        self._step = replace(record, images={}, final_images={})

    def write(
        self, topic: str, message: Any, measured: float, received: float | None = None, *, frame: str = ""
    ) -> None:
        """Record a message of any further stream; returns at once.

        Args:
            topic: Such as joint_states, tool_pose, wrench, camera/wrist/compressed.
            message: Made by `robot_rl.recording.messages`, or a picture (H, W, 3) uint8, red-green-blue.
            measured: Monotonic clock when it was measured, s; becomes the stamp of its header.
            received: Monotonic clock when it came in, s; now, if not given.
            frame: Of a picture.

        Raises:
            RecordingError: It is no message, a time is not finite, or no episode is running; nothing was stored.
        """
        self._running()
        when = self._nanoseconds(measured)
        came = self._nanoseconds(time.monotonic() if received is None else received)
        if isinstance(message, np.ndarray):
            _check_picture(topic, message)
            self._put(topic, PICTURE, message.copy(), when, came, frame)
            return
        data = serialize(message)
        if begins_with_header(message.__msgtype__):
            set_stamp(data, when)
        self._put(topic, message.__msgtype__, data, when, came)

    def write_raw(self, topic: str, type_name: str, data: bytes, measured: int, received: int) -> None:
        """Record serialized bytes as they are (CDR); times are Unix time, ns. See `define` for types of your own."""
        self._put(topic, type_name, data, measured, received)

    def count_lost(self, topic: str, count: int) -> None:
        """Count messages as lost that never came as far as here, so that the file says so."""
        self._running().count_lost(topic, count)

    def define(self, type_name: str, text: str) -> None:
        """Give the definition of a type that is not in standard ROS 2, with all that it is made of."""
        self._definitions[type_name] = text

    def end(self, success: bool, cause: str) -> EpisodeSummary:
        """End the episode; its file is whole and on the disk when this returns.

        Args:
            success: Whether the task was done.
            cause: Why it ended, such as success, failure, time limit, operator.

        Raises:
            RecordingError: The disk failed; what was stored before stays readable, as an episode that was cut off.
        """
        file = self._running()
        self._file = None
        seconds = time.monotonic() - self._started
        file.finish({"success": bool(success), "cause": str(cause), "seconds": seconds})
        return EpisodeSummary(
            path=file.path,
            seconds=seconds,
            counts=dict(file.counts),
            worst_gaps=dict(file.gaps),
            dropped=file.dropped,
        )

    def discard(self) -> None:
        """Throw the running episode away: its file is deleted."""
        file = self._running()
        self._file = None
        file.abandon(delete=True)

    def close(self) -> None:
        """Leave a running episode as one that was cut off."""
        if self._file is not None:
            file, self._file = self._file, None
            file.abandon(delete=False)

    def __enter__(self) -> EpisodeWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _running(self) -> EpisodeFile:
        if self._file is None:
            raise RecordingError("no episode is being recorded; call begin() first")
        return self._file

    def _put(
        self,
        topic: str,
        type_name: str,
        content: bytes | bytearray | NDArray[np.uint8],
        measured: int,
        received: int,
        frame: str = "",
    ) -> None:
        file = self._running()
        sequence = self._sequence.get(topic, 0)
        self._sequence[topic] = sequence + 1
        file.put([Item(topic, type_name, content, measured, received, sequence, frame)])

    def _nanoseconds(self, clock: float) -> int:
        if not math.isfinite(clock):
            raise RecordingError(f"a time is {clock}; expected seconds of the monotonic clock")
        found = self._zero + round(1e9 * clock)
        if not 0 <= found < 2**31 * 10**9:  # what a stamp can hold
            raise RecordingError(f"a time is {clock} s; expected seconds of the monotonic clock, not Unix time")
        return found

    def _check_order(self, record: Record) -> None:
        last = self._step
        if last is None and record.index == 0:
            return
        if last is not None and not last.ended and (record.episode, record.index) == (last.episode, last.index + 1):
            return
        before = "nothing" if last is None else f"step {last.index} of episode {last.episode}"
        ended = ", its last" if last is not None and last.ended else ""
        raise RecordError(
            f"step {record.index} of episode {record.episode} cannot follow {before}{ended} in one recording"
        )


def _check_picture(topic: str, picture: NDArray[np.uint8]) -> None:
    shape = picture.shape
    good = len(shape) == 3 and shape[2] == 3 and all(1 <= side <= _PICTURE_LIMIT for side in shape[:2])
    if not good or picture.dtype != np.uint8:
        raise RecordingError(
            f"the picture for {topic!r} is {picture.dtype} of shape {shape}; expected uint8 (height, width, 3),"
            f" at most {_PICTURE_LIMIT} pixels a side"
        )


def _next_number(folder: Path) -> int:
    found = [_NAME.fullmatch(name) for name in os.listdir(folder)]
    return max((int(match[1]) + 1 for match in found if match), default=0)


def number_of(path: Path) -> int | None:
    """The number in the name of an episode's file; None where it has another name."""
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else None
