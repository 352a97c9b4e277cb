"""Recorded episodes as arrays, whatever file they are in: one function reads a file or a folder.

Pictures stay in the file until somebody asks for them: those of an hour are a gigabyte.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import UserError
from robot_rl.hil.frames import LogError, LogReader, Place, read_again, read_places
from robot_rl.hil.records import Record, RecordError, decode
from robot_rl.hil.schema import Schema


@dataclass(frozen=True, kw_only=True, eq=False)
class Episode:
    """The T steps of an episode."""

    source: Path
    """The file that it was read from."""
    number: int
    """Its number in that file."""
    schema: Schema
    """Sizes, cameras, task, robot, rate."""
    complete: bool
    """Whether it ended by itself; False where recording stopped in the middle of it."""
    observations: NDArray[np.float32]
    """What was measured before each action and, where known, after the last one. Shape (T + 1, D) or (T, D)."""
    images: Mapping[str, NDArray[np.uint8]]
    """Pictures of each camera at the times of `observations`. Shape (T + 1, H, W, 3) or (T, H, W, 3). Read from the
    file at every look-up: keep what is needed again."""
    actions: NDArray[np.float32]
    """What was executed. Shape (T, A), in [-1, 1]."""
    policy_actions: NDArray[np.float32]
    """What the policy wanted. Shape (T, A)."""
    drivers: NDArray[np.str_]
    """Who acted: "policy", "person" or "base". Shape (T,)."""
    rewards: NDArray[np.float32]
    """Shape (T,)."""
    terminated: NDArray[np.bool_]
    """Success or failure. Shape (T,), true at the last step at most."""
    truncated: NDArray[np.bool_]
    """Time limit, or discarded by the operator. Shape (T,), true at the last step at most."""
    success: bool
    """Whether the task was done."""
    observed_at: NDArray[np.float64]
    """Monotonic clock at each measurement, s. Shape (T,)."""
    acted_at: NDArray[np.float64]
    """Monotonic clock at each action, s. Shape (T,)."""
    wall_time: float
    """Unix time at its start, s."""
    info: Mapping[str, NDArray[np.float64]]
    """Scalars of each step, NaN where a step has none. Shape (T,)."""

    def __len__(self) -> int:
        """T, the number of steps."""
        return len(self.actions)

    @property
    def has_final(self) -> bool:
        """Whether the observation after the last action is known."""
        return len(self.observations) > len(self.actions)


def load_episodes(path: Path) -> list[Episode]:
    """The episodes of a file, or of every known file under a folder, in the order of names.

    An episode whose recording was cut off is returned too, with `complete` False.

    Raises:
        UserError: There is nothing at `path`, or a file cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix in _READERS and file.is_file())
        return [episode for file in files for episode in load_episodes(file)]
    if not path.exists():
        raise UserError(f"no episodes at {path}: there is no such file or folder")
    if path.suffix not in _READERS:
        raise UserError(f"{path} has no known format; known: {', '.join('*' + suffix for suffix in _READERS)}")
    try:
        return list(_READERS[path.suffix](path))
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


def stack(records: list[Record], schema: Schema, source: Path, images: Mapping[str, NDArray[np.uint8]]) -> Episode:
    """The records of one episode, in order and at least one, as arrays, with their pictures."""
    last = records[-1]
    observations = [record.observation for record in records]
    if last.final_observation is not None:
        observations.append(last.final_observation)
    names = sorted({name for record in records for name in record.info})

    def column(name: str, dtype: Any) -> NDArray[Any]:
        return np.array([getattr(record, name) for record in records], dtype)

    return Episode(
        source=source,
        number=last.episode,
        schema=schema,
        complete=last.ended,
        observations=np.stack(observations),
        images=images,
        actions=column("action", np.float32),
        policy_actions=column("policy_action", np.float32),
        drivers=column("driver", np.str_),
        rewards=column("reward", np.float32),
        terminated=column("terminated", np.bool_),
        truncated=column("truncated", np.bool_),
        success=any(record.success for record in records),
        observed_at=column("observed_at", np.float64),
        acted_at=column("acted_at", np.float64),
        wall_time=records[0].wall_time,
        info={name: np.array([record.info.get(name, np.nan) for record in records]) for name in names},
    )


def _read_log(path: Path) -> Iterator[Episode]:
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


_READERS: dict[str, Callable[[Path], Iterable[Episode]]] = {".log": _read_log}
"""Reader of each file format, by suffix."""
