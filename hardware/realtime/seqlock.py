"""Records in memory that processes share: one writer, many readers, nobody waits for anybody.

A slot is a file in `/dev/shm`, mapped into memory. It holds the newest few records, each in a cell of its own with
sequence number, stamp and checksum. The writer fills the next cell and then says its number; so a writer that is killed
or stopped in the middle of a record leaves the one before readable. A reader takes the newest cell whole and believes
it only if number and checksum fit, on every processor, whatever order its memory has; else it takes it again.

All slots of a robot lie in one folder, which belongs to the process that started the others. Locks say who is alive:
the kernel gives them back when a process ends, however it ends. Python's own `multiprocessing.shared_memory` is not
used, since its resource tracker removes what other processes still use.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import re
import shutil
import struct
import tempfile
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_MAGIC = b"RRLSLOT1"
_HEADER = struct.Struct("<8sIIQ")  # magic, checksum of the layout, cells, bytes of a record
_HEAD = 64  # newest sequence number, in a cache line of its own
_WRITER = 72  # process id of the newest writer
_FIRST = 128
_CELL = struct.Struct("<IIQd")  # checksum of what follows it, nothing, sequence number, stamp
_CHECKED = 8  # first byte that the checksum covers
_CELLS = 4
_ATTEMPTS = 1000
_OWNER = "owner"


class SlotError(Exception):
    """Why shared memory cannot be used, in one sentence."""


@dataclass(frozen=True, eq=False)
class Reading:
    """What a slot held."""

    record: np.void
    """A structured scalar of the slot's dtype; read-only."""
    sequence: int
    """1 for the first record ever written, then one more each time, also over a restart of the writer."""
    stamp: float
    """s, `time.monotonic()` of the writer, or what it gave in its place."""


class _Mapped:
    """A slot's file in memory."""

    def __init__(self, folder: Path, name: str, dtype: np.dtype) -> None:
        self.name, self.dtype = name, np.dtype(dtype)
        size = _CELL.size + self.dtype.itemsize
        self._size, self._stride = size, -(-size // 64) * 64
        self._path = folder / name
        header = _HEADER.pack(_MAGIC, zlib.crc32(repr(self.dtype.descr).encode()), _CELLS, self.dtype.itemsize)
        length = _FIRST + _CELLS * self._stride
        _make(self._path, header.ljust(length, b"\0"))
        self._file = os.open(self._path, os.O_RDWR)
        try:
            found = os.pread(self._file, _HEADER.size, 0)
            if found != header or os.fstat(self._file).st_size != length:
                raise SlotError(
                    f"{self._path} holds records of another layout: an older version, or a robot with another "
                    f"number of joints; end its processes and remove {folder}"
                )
            self._map = mmap.mmap(self._file, length)
        except BaseException:
            os.close(self._file)
            raise
        self._memory = memoryview(self._map)
        self._head = self._memory[_HEAD : _HEAD + 8].cast("Q")
        self._closed = False

    def close(self) -> None:
        """Let go of the memory; the file stays for the others."""
        if not self._closed:
            self._closed = True
            self._head.release()
            self._memory.release()
            self._map.close()
            os.close(self._file)

    def __enter__(self):  # type: ignore[no-untyped-def]  # noqa: ANN204  (Self is newer than Python 3.10)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class SlotWriter(_Mapped):
    """The one process that writes a slot."""

    def __init__(self, folder: Path, name: str, dtype: np.dtype) -> None:
        """Take the slot over; sequence numbers go on from the last writer's.

        Raises:
            SlotError: Another process writes it, or its records have another layout.
        """
        super().__init__(folder, name, dtype)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            writer = struct.unpack_from("<Q", self._memory, _WRITER)[0]
            self.close()
            raise SlotError(f"slot {name!r} in {folder} is written by process {writer}: end that one first") from None
        struct.pack_into("<Q", self._memory, _WRITER, os.getpid())
        self.sequence = int(self._head[0])
        """Of the newest record; 0 before the first one."""

    def write(self, record: np.ndarray | np.void, stamp: float | None = None) -> int:
        """Publish a record; returns its sequence number.

        Args:
            record: One record of the slot's dtype.
            stamp: s; None: `time.monotonic()` now.
        """
        if record.dtype != self.dtype:
            raise TypeError(f"slot {self.name!r} takes records of {self.dtype}, not {record.dtype}")
        sequence = self.sequence + 1
        body = _CELL.pack(0, 0, sequence, time.monotonic() if stamp is None else stamp)[_CHECKED:] + record.tobytes()
        start = _FIRST + sequence % _CELLS * self._stride
        self._memory[start : start + self._size] = struct.pack("<II", zlib.crc32(body), 0) + body
        self._head[0] = self.sequence = sequence
        return sequence


class SlotReader(_Mapped):
    """One of the processes that read a slot; it may come before the writer."""

    last_sequence = 0
    """Of what `read_new` returned last."""

    @property
    def sequence(self) -> int:
        """Of the newest record; 0 before the first one."""
        return int(self._head[0])

    @property
    def writer(self) -> int:
        """Process id of the newest writer, which may have ended; 0 if there was none."""
        return int(struct.unpack_from("<Q", self._memory, _WRITER)[0])

    def read(self) -> Reading | None:
        """The newest record, whole; None before the first one.

        Raises:
            SlotError: The memory was damaged: no attempt gave a record with a right checksum.
        """
        for _ in range(_ATTEMPTS):
            newest = int(self._head[0])
            if newest == 0:
                return None
            start = _FIRST + newest % _CELLS * self._stride
            raw = bytes(self._memory[start : start + self._size])
            checksum, _unused, sequence, stamp = _CELL.unpack_from(raw)
            if sequence == newest and zlib.crc32(memoryview(raw)[_CHECKED:]) == checksum:
                record = np.frombuffer(raw, self.dtype, count=1, offset=_CELL.size)[0]
                return Reading(record, sequence, stamp)
        raise SlotError(f"slot {self.name!r}: {_ATTEMPTS} attempts gave no whole record; its memory was damaged")

    def read_new(self) -> Reading | None:
        """The newest record if this has not returned it yet, else None."""
        if int(self._head[0]) == self.last_sequence:
            return None
        reading = self.read()
        if reading is not None:
            self.last_sequence = reading.sequence
        return reading


class SlotFolder:
    """The slots of one robot, from `claim` to `release`: they belong to the process that starts the others."""

    def __init__(self, robot: str, root: Path | None = None) -> None:
        """Name it; nothing is made yet.

        Args:
            robot: Unique on this machine, e.g. its ROS namespace; slashes become dots.
            root: Where the folder lies; None: `/dev/shm`, or the folder of temporary files where there is none.
        """
        name = robot.strip("/").replace("/", ".")
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,100}", name) or name.startswith("."):
            raise SlotError(f"robot name {robot!r}: use up to 100 letters, digits, '_', '-', '.' and '/'")
        self.robot, self.path = name, (root or _root()) / f"robot_rl-{os.getuid()}-{name}"
        self._lock = -1

    def claim(self) -> Path:
        """Make the folder this process's own, free of what a dead run has left behind; returns its path.

        Raises:
            SlotError: Another process has it, or one of an earlier run still writes there.
        """
        while True:
            self.path.mkdir(mode=0o700, exist_ok=True)
            if self.path.is_symlink() or self.path.stat().st_uid != os.getuid():
                raise SlotError(f"{self.path} belongs to another user; choose another name for the robot")
            try:
                lock = os.open(self.path / _OWNER, os.O_RDWR | os.O_CREAT, 0o600)
            except FileNotFoundError:  # someone has just removed the folder
                continue
            if not _lock(lock):
                owner = os.pread(lock, 20, 0).decode() or "?"
                os.close(lock)
                raise SlotError(f"robot {self.robot!r} is in use by process {owner}; end it or choose another name")
            if _is_at(lock, self.path / _OWNER):
                break
            os.close(lock)
        try:
            self._sweep()
        except BaseException:
            os.close(lock)
            raise
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        self._lock = lock
        return self.path

    def release(self) -> None:
        """Remove the folder with everything in it; more than once does nothing."""
        if self._lock >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1

    def _sweep(self) -> None:
        """Remove the slots of a dead run."""
        for path in self.path.iterdir():
            if path.name == _OWNER:
                continue
            file = os.open(path, os.O_RDWR)
            try:
                if not _lock(file):
                    writer = struct.unpack("<Q", os.pread(file, 8, _WRITER))[0]
                    raise SlotError(
                        f"process {writer} of an earlier run of robot {self.robot!r} still writes "
                        f"{path.name!r}: end it first"
                    )
                path.unlink()
            finally:
                os.close(file)

    def __enter__(self) -> SlotFolder:
        self.claim()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def owner_of(folder: Path) -> int:
    """Process id of a folder's owner, which may have died; 0 where there is none."""
    try:
        text = (folder / _OWNER).read_text()
    except FileNotFoundError:
        return 0
    return int(text) if text.isdigit() else 0


def remove_if_abandoned(folder: Path) -> bool:
    """Remove a folder of slots whose owner has died; the others call this as they end. Returns whether it is gone."""
    try:
        lock = os.open(folder / _OWNER, os.O_RDWR)
    except FileNotFoundError:
        return not folder.exists()
    try:
        if not _lock(lock) or not _is_at(lock, folder / _OWNER):
            return False
        shutil.rmtree(folder, ignore_errors=True)
        return True
    finally:
        os.close(lock)


def _root() -> Path:
    memory = Path("/dev/shm")
    return memory if memory.is_dir() and os.access(memory, os.W_OK) else Path(tempfile.gettempdir())


def _make(path: Path, contents: bytes) -> None:
    """Make a file, at once with all it holds, so that a full memory is an error here and no signal at a later write.

    One that exists stays as it is.
    """
    if path.exists():
        return
    fresh = ""
    try:
        file, fresh = tempfile.mkstemp(prefix=".", dir=path.parent)
        with os.fdopen(file, "wb") as stream:
            stream.write(contents)
        os.link(fresh, path)
    except FileNotFoundError:
        raise SlotError(f"there is no folder {path.parent}: the process that made it has ended") from None
    except FileExistsError:
        pass  # another process was quicker
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise SlotError(f"there is no room for slot {path.name!r} in {path.parent}: {error.strerror}") from None
    finally:
        if fresh:
            Path(fresh).unlink(missing_ok=True)


def _lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_at(file: int, path: Path) -> bool:
    """Whether an open file is still the one at that path."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False
