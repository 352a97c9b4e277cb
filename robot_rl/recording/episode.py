"""The episode in a recording, for learning: its control steps, or streams of any robot through a mapping."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from robot_rl.episode import Episode, stack
from robot_rl.hil.records import Record, RecordError, check
from robot_rl.hil.schema import Schema
from robot_rl.recording import steps
from robot_rl.recording.errors import RecordingError
from robot_rl.recording.mapping import EpisodeMapping, mapped_episodes
from robot_rl.recording.reader import Recording
from robot_rl.recording.stream import RecordedPictures
from robot_rl.recording.writer import number_of


@dataclass(frozen=True, kw_only=True, eq=False)
class Steps:
    """The control steps of a recording, as far as they follow each other."""

    records: list[Record]
    """Without their pictures."""
    problem: str
    """Why steps are left out, in one sentence; empty where none are."""


def read_steps(recording: Recording) -> Steps:
    """The steps from the first on; behind a missing one nothing is used, for what led to it is not known.

    Raises:
        RecordingError: A step is damaged.
    """
    stream, schema = recording.stream(steps.TOPIC), recording.schema
    if schema is None:
        raise RecordingError(f"{recording.source}: it has steps, but does not say what they look like")
    rows = {camera: _rows(recording, camera) for camera in schema.images}
    records: list[Record] = []
    problem = ""
    plain = Schema(**{**schema.to_dict(), "images": {}})
    for message in stream.messages():
        index = len(records)
        try:
            record = steps.from_message(message, {}, {}, source=str(recording.source))
            check(record, plain)
        except (RecordError, ValueError) as error:
            raise RecordingError(f"{recording.source}: step {index}: {error}") from error
        lost = [camera for camera, found in rows.items() if index not in found]
        if record.final_observation is not None:
            lost += [camera for camera, found in rows.items() if index + 1 not in found]
        if record.index != index or lost:
            what = f"step {index}" if record.index != index else f"the picture of {lost[0]!r} of step {index}"
            problem = (
                f"{recording.source}: {what} is missing; the {len(stream) - index} steps from there on are left out"
            )
            break
        records.append(record)
    return Steps(records=records, problem=problem)


def _rows(recording: Recording, camera: str) -> dict[int, int]:
    stream = recording.streams.get(steps.picture_topic(camera))
    return {} if stream is None else {int(number): row for row, number in enumerate(stream.sequence)}


def step_pictures(recording: Recording, records: list[Record]) -> Mapping[str, NDArray[np.uint8]]:
    """The pictures of the steps."""
    schema = recording.schema
    if schema is None or not schema.images:
        return {}
    count = len(records) + (records[-1].final_observation is not None)
    streams = {}
    for camera in schema.images:
        rows = _rows(recording, camera)
        chosen = np.array([rows[index] for index in range(count)], np.int64)
        streams[camera] = (recording.stream(steps.picture_topic(camera)), chosen)
    return RecordedPictures(streams, schema.images)


def episodes_of(recording: Recording, mapping: EpisodeMapping | None, problems: list[str]) -> Iterator[Episode]:
    """The episodes in a recording: one, or none where nothing happened, or several through a mapping.

    Raises:
        RecordingError: It has neither steps nor, with `mapping`, the streams that are needed.
    """
    if steps.TOPIC not in recording.streams:
        if recording.schema is not None or not recording.streams:  # cut off, or ended, before its first step
            problems.append(f"{recording.source}: it has no steps")
            return
        if mapping is None:
            raise RecordingError(
                f"{recording.source} has no control steps; give a mapping that says which streams make the observation"
                f" and the action (it has {', '.join(sorted(recording.streams)) or 'no topics'})"
            )
        yield from mapped_episodes(recording, mapping, problems)
        return
    found = read_steps(recording)
    if found.problem:
        problems.append(found.problem)
    if found.records:
        schema = recording.schema
        assert schema is not None
        pictures = step_pictures(recording, found.records)
        episode = stack(found.records, schema, recording.source, pictures)
        yield judged(episode, recording, whole=not found.problem)


def judged(episode: Episode, recording: Recording, *, whole: bool) -> Episode:
    """The episode with what was said at the end of its recording.

    Who ends a recording after its last step has the last word on its success; where that step was no end of the
    episode, it is one now: a success terminates it, anything else cuts it off.
    """
    number = number_of(recording.source)
    episode = replace(episode, number=episode.number if number is None else number)
    if not (recording.finished and whole):
        return episode
    terminated, truncated = episode.terminated.copy(), episode.truncated.copy()
    if not (terminated[-1] or truncated[-1]):
        terminated[-1], truncated[-1] = recording.success, not recording.success
    return replace(episode, complete=True, success=recording.success, terminated=terminated, truncated=truncated)
