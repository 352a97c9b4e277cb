"""A data set as it is on disk: its episodes with what was said of them, and what cannot be read of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.episodes import Episode, load_episodes
from robot_rl.errors import UserError
from robot_rl.recording import Recording, load_recording, steps
from robot_rl.recording.episode import episodes_of

SUFFIXES = (".mcap", ".log")
"""Files that hold episodes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Demonstration:
    """One episode of a data set."""

    name: str
    """File relative to the set; of a log also the number in it."""
    episode: Episode
    """What learns reads this."""
    recording: Recording | None
    """All streams with their true times; None from a log of the human in the loop."""
    beside: Recording | None = None
    """The recording whose streams the steps were made of, where it has no steps of its own."""

    @property
    def info(self) -> Mapping[str, Any]:
        """What the recorder was told at its begin."""
        source = self.recording or self.beside
        return {} if source is None else source.info

    @property
    def state(self) -> str:
        """`finished`, `running`, or `cut off`."""
        if self.recording is not None and self.recording.state != "finished":
            return self.recording.state
        return "finished" if self.episode.complete else "cut off"

    @property
    def seconds(self) -> float:
        """S from the first observation to the end of the last control period."""
        return float(self.episode.observed_at[-1] - self.episode.observed_at[0]) + self.period

    @property
    def period(self) -> float:
        """S between control steps, as they should be."""
        return 1.0 / self.episode.schema.control_rate_hz


@dataclass(frozen=True, kw_only=True, eq=False)
class DataSet:
    """What a path holds."""

    path: Path
    """File or folder."""
    demonstrations: list[Demonstration]
    """In the order of names."""
    unreadable: dict[str, str]
    """Files without a readable episode: why, in one sentence."""
    repaired: dict[str, str]
    """Files of which a part was left out: what and why."""

    def __iter__(self) -> Iterator[Demonstration]:
        """Over the demonstrations."""
        return iter(self.demonstrations)

    def __len__(self) -> int:
        """How many there are."""
        return len(self.demonstrations)

    @property
    def episodes(self) -> list[Episode]:
        """Of all demonstrations."""
        return [one.episode for one in self.demonstrations]


def open_set(path: Path) -> DataSet:
    """Everything that can be read of a file or folder of episodes; a bad file costs itself only.

    Raises:
        UserError: There is nothing at `path`.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(f for f in path.rglob("*") if f.suffix in SUFFIXES and f.is_file() and not _hidden(f, path))
    elif path.is_file() and path.suffix in SUFFIXES:
        files = [path]
    elif path.exists():
        raise UserError(f"{path} is no file of episodes; those end in {' or '.join(SUFFIXES)}")
    else:
        raise UserError(f"no episodes at {path}: there is no such file or folder")
    found = DataSet(path=path, demonstrations=[], unreadable={}, repaired={})
    for file in files:
        name = file.name if file == path else str(file.relative_to(path))
        problems: list[str] = []
        try:
            demonstrations = _read(file, name, problems)
        except (UserError, ValueError, OSError) as error:  # recording, record and log errors are ValueErrors or these
            found.unreadable[name] = _one_sentence(error)
            continue
        found.demonstrations.extend(demonstrations)
        if not demonstrations:
            found.unreadable[name] = " ".join(problems) or f"{file} holds no episode"
        elif problems:
            found.repaired[name] = " ".join(problems)
    return found


def choose(data: DataSet) -> list[Demonstration]:
    """The episodes that can be used; what cannot be read is for the caller to report.

    Raises:
        UserError: There are none.
    """
    if not data.demonstrations:
        why = next(iter(data.unreadable.values()), "it holds no *.mcap and no *.log")
        raise UserError(f"no episodes at {data.path}: {why}")
    return data.demonstrations


def one_kind(demonstrations: Sequence[Demonstration]) -> None:
    """Check that all have the same schema.

    Raises:
        UserError: Two differ; the message says in what.
    """
    first = demonstrations[0]
    for other in demonstrations[1:]:
        if difference := first.episode.schema.difference(other.episode.schema):
            names = f"{other.episode.source} is of another kind than {first.episode.source}"
            raise UserError(f"{names}: {difference}; use sets of one kind")


def with_final(episode: Episode) -> tuple[int, np.ndarray]:
    """The number T of steps whose successor was measured, and the observations (T + 1, D) around them.

    The last step of an episode that was cut off has none: it is left out, and nothing is put in its place.
    """
    count = len(episode.observations) - 1
    return count, episode.observations[: count + 1]


def _read(file: Path, name: str, problems: list[str]) -> list[Demonstration]:
    if file.suffix == ".log":
        episodes = load_episodes(file, problems=problems)
        return [Demonstration(name=f"{name}#{e.number}", episode=e, recording=None) for e in episodes]
    recording = load_recording(file)
    if recording.problem:
        problems.append(recording.problem)
    if recording.schema is None and steps.TOPIC not in recording.streams:
        topics = ", ".join(sorted(recording.streams))[:200] or "nothing that is known"
        raise UserError(f"{file} has no control steps, but {topics}; make steps of streams with robot-rl demos align")
    episodes = list(episodes_of(recording, None, problems))
    return [Demonstration(name=name, episode=e, recording=recording) for e in episodes]


def _hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _one_sentence(error: Exception) -> str:
    return " ".join(str(error).split())[:400] or type(error).__name__
