"""The append-only log of what happened: survives kill -9 at any moment, and says what it dropped.

A record is with the operating system when `append` returns, so a killed process loses nothing. A thread of the log
forces it to the disk itself once a second (`sync_period`), so a power cut costs a second at most; the caller's control
loop never waits for a disk.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
import shutil
import threading
import time
from pathlib import Path

from robot_rl.hil.frames import LogError, LogReader, frame, header, is_log_id, read
from robot_rl.hil.records import Record, RecordError, check, decode, encode
from robot_rl.hil.schema import Schema

__all__ = ["LogError", "RecordError", "RecordLog", "read"]

_logger = logging.getLogger(__name__)


class RecordLog:
    """A log file open for appending; begins it, or goes on with it. Only one process can.

    Attributes:
        path: The file.
        schema: What its records look like.
        log_id: Its random id, 32 hexadecimal digits.
        checksum: Checksum of everything in it, see `frames`.
    """

    def __init__(self, path: Path, schema: Schema, *, log_id: str | None = None, sync_period: float = 1.0) -> None:
        """Open `path`.

        Args:
            path: The file; made with its folders if it does not exist.
            schema: What its records look like.
            log_id: Id of a new log, or the one that an existing log must have; random if not given.
            sync_period: s between two writes to the disk itself.

        Raises:
            LogError: The file is no log, has another schema or id, or another process has it open.
        """
        self.path = Path(path)
        self.schema = schema
        if log_id is not None and not is_log_id(log_id):
            raise LogError(f"the log's id is {log_id!r:.80}; expected 32 hexadecimal digits")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.path.exists():
            _create(self.path, header(log_id or secrets.token_hex(16), schema))
        self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        try:
            self._lock_file()
            self._go_on(log_id)
        except BaseException:
            os.close(self._file)
            raise
        self._lock = threading.Lock()
        self._failure = ""
        self._unsynced = threading.Event()
        self._closing = threading.Event()
        self._syncer = threading.Thread(target=self._sync_now_and_then, args=(sync_period,), daemon=True)
        self._syncer.start()

    def _lock_file(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LogError(
                f"{self.path} is open for appending elsewhere; end that process or use another file"
            ) from error

    def _go_on(self, log_id: str | None) -> None:
        with LogReader(self.path) as reader:
            if reader.schema != self.schema:
                raise LogError(
                    f"{self.path} holds records of another schema: {self.schema.difference(reader.schema)};"
                    " use another file, or the robot and task that it was made with"
                )
            if log_id is not None and reader.log_id != log_id:
                raise LogError(f"{self.path} is the log {reader.log_id}; expected {log_id}")
            self.log_id = reader.log_id
            self._count = reader.refresh()
            self._end = reader.end
            self.checksum = reader.checksum(self._count)
            self._last = decode(reader.payload(self._count - 1), self.schema) if self._count else None
            damage = reader.damage or "an incomplete record"
        size = os.fstat(self._file).st_size
        if size > self._end:
            # What is dropped is kept beside the log: behind one flipped bit there may be good records.
            aside = self.path.with_name(f"{self.path.name}.dropped-{self._end}-{time.time_ns()}")
            with open(self.path, "rb") as whole, open(aside, "xb") as dropped:
                whole.seek(self._end)
                shutil.copyfileobj(whole, dropped)
            os.ftruncate(self._file, self._end)
            _logger.warning(
                "%s: dropped %d bytes behind record %d (%s); they are kept in %s",
                *(self.path, size - self._end, self._count - 1, damage, aside.name),
            )

    @property
    def count(self) -> int:
        """How many records it holds, which is the next sequence number."""
        return self._count

    @property
    def next_episode(self) -> int:
        """The number of the next episode."""
        return 0 if self._last is None else self._last.episode + 1

    def append(self, record: Record) -> int:
        """Add a record; it is with the operating system when this returns.

        Returns:
            Its sequence number, from 0.

        Raises:
            RecordError: It does not fit the schema or does not follow the record before it; nothing was stored.
            LogError: The disk failed; nothing was stored.
        """
        check(record, self.schema)
        return self._append(record, encode(record))

    def append_encoded(self, payload: bytes) -> Record:
        """Add a record in its encoded form, as it is; returns it decoded. Raises as `append` and `decode` do."""
        record = decode(payload, self.schema, source=self.log_id)
        self._append(record, payload)
        return record

    def _append(self, record: Record, payload: bytes) -> int:
        with self._lock:
            if self._failure or self._closing.is_set():
                raise LogError(f"{self.path}: {self._failure or 'the log is closed'}")
            _check_order(record, self._last)
            data, checksum = frame(payload, self.checksum)
            try:
                _write(self._file, data)
            except OSError as error:
                self._take_back(error)
                raise LogError(f"{self.path}: record {self._count} was not stored: {error.strerror}") from error
            self._end += len(data)
            self._last, self.checksum = record, checksum
            self._count += 1
            self._unsynced.set()
            return self._count - 1

    def _take_back(self, error: OSError) -> None:
        # Half a frame would hide everything behind it.
        try:
            os.ftruncate(self._file, self._end)
        except OSError as second:
            self._failure = f"the disk failed twice ({error.strerror}, {second.strerror}); open the log anew"

    def sync(self) -> None:
        """Wait until everything is on the disk itself: milliseconds to seconds, so never call it in a control loop."""
        self._unsynced.clear()
        os.fsync(self._file)

    def _sync_now_and_then(self, period: float) -> None:
        while not self._closing.wait(period):
            if not self._unsynced.is_set():
                continue
            try:
                self.sync()
            except OSError as error:
                # After a failed fsync the system forgets which pages were bad: nothing stored here can be trusted.
                self._failure = f"the disk failed: {error.strerror}; open the log anew"
                _logger.error("%s: %s", self.path, self._failure)
                return

    def close(self) -> None:
        """Write everything to the disk itself and close the file."""
        with self._lock:
            if self._closing.is_set():
                return
            self._closing.set()
        self._syncer.join()
        try:
            if self._unsynced.is_set():
                self.sync()
        finally:
            os.close(self._file)

    def __enter__(self) -> RecordLog:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _check_order(record: Record, last: Record | None) -> None:
    # An episode is whole steps in order. One that was cut off by a kill is followed by a new one.
    if last is not None and not last.ended and (record.episode, record.index) == (last.episode, last.index + 1):
        return
    if record.index == 0 and (last is None or record.episode > last.episode):
        return
    before = "nothing" if last is None else f"step {last.index} of episode {last.episode}"
    ended = ", its last" if last is not None and last.ended else ""
    raise RecordError(
        f"step {record.index} of episode {record.episode} cannot follow {before}{ended};"
        " expected the next step, or step 0 of a later episode"
    )


def _write(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _create(path: Path, data: bytes) -> None:
    # A log appears under its name only with a whole header; where two begin it at once, one wins.
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        _write(file, data)
        os.fsync(file)
        with contextlib.suppress(FileExistsError):
            os.link(fresh, path)
    finally:
        os.close(file)
        fresh.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
