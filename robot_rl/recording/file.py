"""One episode's file while it is written: a thread takes messages from a bounded queue to the disk.

Messages go to the file in chunks, each with a checksum, at least every `flush_period`; then a killed process loses
nothing of them. A second thread forces the file to the disk itself, so a power cut costs little more. Whoever hands
messages over never waits for either.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from robot_rl.recording import marks, messages, pictures
from robot_rl.recording.chunks import ChunkWriter
from robot_rl.recording.errors import RecordingError
from robot_rl.recording.types import definition, serialize, set_stamp

_logger = logging.getLogger(__name__)
_BREATH = 5e-5
"""s between two handfuls of messages."""
_HANDFUL = 3
"""Messages that are written without a pause: what a control loop of this process waits if it wakes up meanwhile."""
_HURRY = 500
"""Waiting messages from which on they are written without a pause."""


@dataclass(frozen=True, kw_only=True)
class WriterSettings:
    """How recordings are written."""

    packing: pictures.Packing = "auto"
    """How pictures are packed: to the bit as png, small as jpeg, or png for small ones and jpeg for others."""
    quality: int = 95
    """Of JPEG, 1 to 100."""
    queue_bytes: int = 256 << 20
    """Most bytes that wait for the disk; messages above it are dropped and counted."""
    flush_period: float = 0.2
    """s, longest time until a message is with the operating system: what a killed process loses."""
    sync_period: float = 0.4
    """s between two times that the file is forced to the disk itself."""
    poll_period: float = 0.02
    """s between two looks into the queue."""


class Item(NamedTuple):
    """A message that waits to be written."""

    topic: str
    """Its topic."""
    type: str
    """Its type."""
    content: bytes | bytearray | NDArray[np.uint8]
    """Its bytes, or a picture that is still to be packed."""
    measured: int
    """ns, Unix."""
    received: int
    """ns, Unix."""
    sequence: int
    """Of its topic."""
    frame: str = ""
    """Of a picture."""


class EpisodeFile:
    """A file that is being written.

    Attributes:
        path: The file.
        failure: Why nothing is stored any more, in one sentence; empty while all is well.
        counts: Messages of each topic that were stored.
        gaps: Longest time between two measurements of each topic, s.
    """

    def __init__(
        self, path: Path, begin: Mapping[str, Any], settings: WriterSettings, definitions: Mapping[str, str]
    ) -> None:
        """Make the file with its begin mark, on the disk when this returns.

        Args:
            path: A new file.
            begin: What the episode says about itself.
            settings: How it is written.
            definitions: Definitions of types beyond the standard ones, by name; may grow later.

        Raises:
            FileExistsError: There is one already.
            RecordingError: The disk refuses.
        """
        self.path, self._settings, self._definitions = path, settings, definitions
        self.failure = ""
        self._refused: Counter[str] = Counter()
        self._lost: Counter[str] = Counter()
        self._missed: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.gaps: dict[str, float] = {}
        self._queue: deque[tuple[int, Sequence[Item]]] = deque()
        # Held by those who hand messages over, for a moment; never by the thread that meets the disk.
        self._lock = threading.Lock()
        self._given = self._taken = 0
        self._channels: dict[str, tuple[int, str]] = {}
        self._schemas: dict[str, int] = {}
        self._last: dict[str, int] = {}
        self._said, self._said_at = 0, -10.0
        self._closing, self._written = threading.Event(), threading.Event()
        sealed = marks.seal(begin)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            self._writer = ChunkWriter(self._file)
            self._writer.add_metadata(marks.BEGIN, sealed)
            os.fsync(self._file)
            sync_folder(path.parent)
        except OSError as error:
            os.close(self._file)
            path.unlink(missing_ok=True)
            raise RecordingError(f"cannot begin the recording {path}: {error.strerror}") from error
        self._good = self._writer.end
        self._real_time = _is_real_time()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._syncer = threading.Thread(target=self._sync, name="recorder-sync", daemon=True)
        self._thread.start()
        self._syncer.start()

    def put(self, items: Sequence[Item]) -> bool:
        """Hand messages over, all or none; returns at once, False where they were dropped."""
        size = sum(_bytes_of(item) for item in items)
        with self._lock:
            fits = self._given - self._taken + size <= self._settings.queue_bytes and not self.failure
            if fits:
                self._given += size
                self._queue.append((size, items))
            else:
                self._refused.update(item.topic for item in items)
        return fits

    def count_lost(self, topic: str, count: int) -> None:
        """Count messages as lost that were never handed over."""
        with self._lock:
            self._missed[topic] += count

    @property
    def dropped(self) -> dict[str, int]:
        """Messages of each topic that were lost."""
        return dict(self._refused.copy() + self._lost.copy() + self._missed.copy())

    def finish(self, end: Mapping[str, Any]) -> None:
        """Write everything and the end mark with `end` and what was counted; all is on the disk when this returns.

        Raises:
            RecordingError: The disk failed; what was stored before stays readable, as an episode that was cut off.
        """
        self._stop_threads()
        try:
            if not self.failure:
                try:
                    self._flush()
                    counted = {"counts": self.counts, "worst_gaps": self.gaps, "dropped": self.dropped}
                    self._writer.add_metadata(marks.END, marks.seal({**end, **counted}))
                    self._writer.finish()
                    os.fsync(self._file)
                    sync_folder(self.path.parent)
                except OSError as error:
                    self._fail(error)
        finally:
            os.close(self._file)
        if self.failure:
            raise RecordingError(self.failure)

    def abandon(self, *, delete: bool) -> None:
        """Stop without an end mark, and delete the file or leave it as one that was cut off."""
        self._stop_threads()
        try:
            if not self.failure and not delete:
                self._guarded(self._flush)
        finally:
            os.close(self._file)
        if delete:
            self.path.unlink(missing_ok=True)
            sync_folder(self.path.parent)

    def _stop_threads(self) -> None:
        self._closing.set()
        self._thread.join()
        self._syncer.join()

    def _run(self) -> None:
        if self._real_time:
            _below_the_loop()
        flushed = time.monotonic()
        while not self._closing.wait(self._settings.poll_period):
            self._guarded(self._drain)
            if time.monotonic() - flushed >= self._settings.flush_period:
                self._guarded(self._flush)
                flushed = time.monotonic()
        self._guarded(self._drain)

    def _guarded(self, work: Any) -> None:
        if self.failure:
            while self._queue:
                self._lost.update(item.topic for item in self._queue.popleft()[1])
            return
        try:
            work()
        except OSError as error:
            self._fail(error)
        except Exception as error:  # a recorder that dies silently would be worse than any message about it
            _logger.exception("recording %s", self.path)
            self._fail(OSError(0, f"{type(error).__name__}: {error}"))

    def _drain(self) -> None:
        flushed = time.monotonic()
        while self._queue:
            for _ in range(min(_HANDFUL, len(self._queue))):
                size, items = self._queue.popleft()
                for item in items:
                    self._store(item)
                self._taken += size
            if time.monotonic() - flushed >= self._settings.flush_period:
                self._flush()
                flushed = time.monotonic()
            # A real sleep, so that a control loop of this process gets the interpreter: to let it go and take it back
            # at once would be faster than the other thread wakes up. Not where so much waits that it would be lost.
            time.sleep(_BREATH if len(self._queue) < _HURRY else 0.0)

    def _store(self, item: Item) -> None:
        topic, type_name, content, measured, received, sequence, _ = item
        if isinstance(content, np.ndarray):
            content = _packed(item, content, self._settings)
        channel, known = self._channels.get(topic, (0, type_name))
        if not channel:
            channel = self._register(topic, type_name)
        if known != type_name:
            raise ValueError(f"{topic} had messages of type {known} before and has {type_name} now")
        self._writer.add_message(channel, received, content, measured, sequence)
        self.counts[topic] += 1
        last = self._last.get(topic)
        if last is not None and 1e-9 * (measured - last) >= self.gaps.get(topic, 0.0):
            self.gaps[topic] = 1e-9 * (measured - last)
        self._last[topic] = measured

    def _register(self, topic: str, type_name: str) -> int:
        if type_name not in self._schemas:
            text = self._definitions.get(type_name) or definition(type_name)
            self._schemas[type_name] = self._writer.register_schema(type_name, "ros2msg", text.encode())
        channel = self._writer.register_channel(topic, "cdr", self._schemas[type_name], {"offered_qos_profiles": ""})
        self._channels[topic] = (channel, type_name)
        return channel

    def _flush(self) -> None:
        self._writer.flush()
        self._say_drops()
        end = self._writer.end
        if end != self._good:
            self._good = end
            self._written.set()

    def _say_drops(self) -> None:
        dropped = self.dropped
        total = sum(dropped.values())
        if total == self._said or time.monotonic() - self._said_at < 1.0:
            return
        self._said, self._said_at = total, time.monotonic()
        self._writer.add_metadata(marks.DROPPED, marks.seal(dropped))
        missed = sum(self._missed.values())
        why = f"{missed} never came" if missed == total else f"the disk is too slow; {missed} never came"
        _logger.warning("%s: %d messages were lost so far (%s): %s", self.path, total, why, dropped)

    def _sync(self) -> None:
        if self._real_time:
            _below_the_loop()
        while not self._closing.wait(self._settings.sync_period):
            if not self._written.is_set():
                continue
            self._written.clear()
            try:
                os.fdatasync(self._file)
            except OSError as error:
                self._fail(error)
                return

    def _fail(self, error: OSError) -> None:
        # Half a record is worth nothing, and would only look like damage.
        note = ""
        try:
            os.ftruncate(self._file, self._good)
        except OSError as second:
            note = f" ({second.strerror})"
        self.failure = (
            f"recording {self.path} stopped: {error.strerror}{note}; what was stored before it stays readable, as an"
            " episode that was cut off: free space or use another disk, then begin a new one"
        )
        _logger.error("%s", self.failure)


def _is_real_time() -> bool:
    """Whether this thread has real-time priority, as control loops have."""
    return hasattr(os, "sched_getscheduler") and os.sched_getscheduler(0) & 0xFF in (os.SCHED_FIFO, os.SCHED_RR)


def _below_the_loop() -> None:
    """Put this thread at the lowest real-time priority, or at normal priority where that is refused.

    Below the loop that made it, so that packing a picture delays no tick. Above other programs: one that took this
    thread's processor while it holds the interpreter would hold up the loop.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except OSError:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _bytes_of(item: Item) -> int:
    content = item.content
    return 128 + (content.nbytes if isinstance(content, np.ndarray) else len(content))


def _packed(item: Item, picture: NDArray[np.uint8], settings: WriterSettings) -> bytearray:
    data, kind = pictures.pack(picture, settings.packing, settings.quality)
    packed = serialize(messages.compressed_image(data, kind, item.frame))
    set_stamp(packed, item.measured)
    return packed


def sync_folder(folder: Path) -> None:
    """Force a folder's names to the disk itself."""
    file = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
