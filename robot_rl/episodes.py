"""Reads recorded episodes, whatever file they are in: one function for a file or a folder.

Pictures stay in the file until somebody asks for them: those of an hour are a gigabyte.
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from robot_rl.episode import Episode, stack
from robot_rl.errors import UserError, require_packages
from robot_rl.hil.frames import LogError, LogReader, Place, read_again, read_places
from robot_rl.hil.records import Record, RecordError, decode
from robot_rl.hil.schema import Schema

if TYPE_CHECKING:
    from robot_rl.recording.mapping import EpisodeMapping

__all__ = ["Episode", "LoggedPictures", "load_episodes", "stack"]
_logger = logging.getLogger(__name__)


def load_episodes(
    path: Path, mapping: EpisodeMapping | None = None, problems: list[str] | None = None
) -> list[Episode]:
    """The episodes of a file, or of every known file under a folder, in the order of names.

    An episode whose recording was cut off is returned too, with `complete` False, as far as it is whole.

    Args:
        path: A log of the human in the loop (.log), a recording (.mcap), or a folder.
        mapping: For recordings without control steps: which of their streams make observation and action.
        problems: Takes a sentence for everything that was left out; it is logged if not given. In a folder a file that
            cannot be read is left out so, and the others are used.

    Raises:
        UserError: There is nothing at `path`, or the file, or every file of the folder, cannot be read.
    """
    path = Path(path)
    found: list[str] = []
    if path.is_dir():
        episodes, refused = [], 0
        files = sorted(file for file in path.rglob("*") if file.suffix in _READERS and file.is_file())
        for file in files:
            try:
                episodes += _load_file(file, mapping, found)
            except UserError as error:
                refused += 1
                found.append(str(error))
        if refused and refused == len(files) and problems is None:
            raise UserError(found[0])
    elif not path.exists():
        raise UserError(f"no episodes at {path}: there is no such file or folder")
    elif path.suffix not in _READERS:
        raise UserError(f"{path} has no known format; known: {', '.join('*' + suffix for suffix in _READERS)}")
    else:
        episodes = _load_file(path, mapping, found)
    if problems is not None:
        problems += found
    for problem in found if problems is None else ():
        _logger.warning("%s", problem)
    return episodes


def _load_file(path: Path, mapping: EpisodeMapping | None, problems: list[str]) -> list[Episode]:
    try:
        return list(_READERS[path.suffix](path, mapping, problems))
    except (LogError, RecordError) as error:
        raise UserError(str(error)) from error


class LoggedPictures(Mapping[str, NDArray[np.uint8]]):
    """Pictures of an episode by camera, which are read when they are looked up.

    Raises:
        UserError: On a look-up, if the file is not what it was.
    """

    def __init__(self, source: Path, schema: Schema, places: Sequence[Place]) -> None:
        """Of the records at `places` of the log `source`, one episode in order."""
        self._source, self._schema, self._places = source, schema, array("Q", [n for place in places for n in place])

    def __getitem__(self, camera: str) -> NDArray[np.uint8]:
        """Shape (T + 1, H, W, 3), or (T, H, W, 3) where what followed the last action is not known."""
        if camera not in self._schema.images:
            raise KeyError(camera)
        pictures = []
        try:
            for payload in read_again(self._source, zip(self._places[::2], self._places[1::2], strict=True)):
                record = decode(payload, self._schema)
                pictures.append(record.images[camera].copy())  # a view would keep the whole record
        except (LogError, RecordError) as error:
            raise UserError(str(error)) from error
        if record.final_observation is not None:
            pictures.append(record.final_images[camera])
        return np.stack(pictures)

    def __iter__(self) -> Iterator[str]:
        """The cameras."""
        return iter(self._schema.images)

    def __len__(self) -> int:
        """How many cameras."""
        return len(self._schema.images)


def _read_log(path: Path, mapping: EpisodeMapping | None, problems: list[str]) -> Iterator[Episode]:
    with LogReader(path) as reader:
        schema, log_id = reader.schema, reader.log_id
    records: list[Record] = []
    places: list[Place] = []

    def episode() -> Episode:
        return stack(records, schema, path, LoggedPictures(path, schema, places) if schema.images else {})

    for _, payload, place in read_places(path):
        record = decode(payload, schema, source=log_id)
        if records and record.episode != records[-1].episode:
            yield episode()
            records, places = [], []
        # Its pictures are views of the payload; they are read again when they are needed.
        records.append(replace(record, images={}, final_images={}))
        places.append(place)
    if records:
        yield episode()


def _read_recording(path: Path, mapping: EpisodeMapping | None, problems: list[str]) -> Iterator[Episode]:
    require_packages(f"reading {path.name}", "demos", ["mcap", "rosbags"])
    from robot_rl.recording import load_recording
    from robot_rl.recording.episode import episodes_of

    recording = load_recording(path)
    if recording.problem:
        problems.append(recording.problem)
    yield from episodes_of(recording, mapping, problems)


_READERS: dict[str, Callable[[Path, EpisodeMapping | None, list[str]], Iterable[Episode]]] = {
    ".log": _read_log,
    ".mcap": _read_recording,
}
"""Reader of each file format, by suffix. Each adds a sentence to the given list for everything that it leaves out."""
