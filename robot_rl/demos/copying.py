"""Copies of recorded episodes: whole files, parts of them, and logs of the human in the loop as recordings.

A copy keeps every stream with its times of measurement and receipt, and what the recorder was told.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from policies.writing import whole_folder
from robot_rl.demos.dataset import Demonstration
from robot_rl.errors import UserError
from robot_rl.hil.records import Record
from robot_rl.recording import Recording, WriterSettings, steps
from robot_rl.recording.file import EpisodeFile, Item
from robot_rl.recording.types import PICTURE, STEP, serialize, set_stamp, standard_types
from robot_rl.recording.writer import FORMAT

_PATIENT = WriterSettings(queue_bytes=1 << 40, packing="png")


def file_name(number: int) -> str:
    """Of the episode with this number in its set."""
    return f"episode-{number:06d}.mcap"


def check_out(out: Path, *inputs: Path) -> None:
    """Refuse an `out` that exists and is no empty folder, or that lies in what is read: nothing is overwritten.

    Raises:
        UserError: It is so.
    """
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise UserError(f"{out} exists already; give --out a path that does not exist, or an empty folder")
    for path in inputs:
        if path.resolve() in out.resolve().parents:
            raise UserError(f"{out} lies in {path}, which would hold its episodes twice; give --out a path beside it")


def write_set(out: Path, demonstrations: Sequence[Demonstration]) -> None:
    """A new data set of whole episodes, in order; written whole or not at all."""
    with whole_folder(out) as fresh:
        copy_all(fresh, demonstrations)


def copy_all(folder: Path, demonstrations: Sequence[Demonstration]) -> None:
    """Whole episodes, in order, into a folder.

    Raises:
        UserError: One of them is still being recorded.
    """
    for number, one in enumerate(demonstrations):
        if one.state == "running":
            raise UserError(f"{one.name} is still being recorded; end it first")
        if one.recording is not None:
            shutil.copyfile(one.recording.source, folder / file_name(number))
        else:
            copy_part(folder / file_name(number), one, 0, len(one.episode))


def copy_part(path: Path, one: Demonstration, first: int, last: int) -> None:
    """A new recording of the steps from `first` to before `last`, and of what was measured meanwhile.

    It keeps the verdict of the whole. Where its last step is not the last of the episode, that step is one that was
    cut off (truncated), and the observation after it is the next step's.
    """
    episode = one.episode
    if one.recording is not None:
        zero, started = one.recording.clock_zero_ns, one.recording.started_ns
        definitions = _own_types(one.recording)
        items: Iterator[Item] = _recorded(one, one.recording, first, last)
        cause = one.recording.cause
    else:
        started = round(1e9 * episode.wall_time)
        zero = started - round(1e9 * float(episode.observed_at[0]))
        definitions, cause = {}, "success" if episode.success else "no success"
        items = _logged(one, zero, first, last)
        if one.beside is not None:
            definitions = _own_types(one.beside)
            items = chain(items, _meanwhile(one.beside, episode.observed_at[first], episode.observed_at[last - 1]))
    whole = (first, last) == (0, len(episode))
    info = dict(one.info) if whole else {**one.info, "steps_of_original": [first, last]}
    begin = {
        "format": FORMAT,
        "info": info,
        "schema": episode.schema.to_dict(),
        "clock_zero_ns": max(0, zero),
        "started_ns": max(0, started),
    }
    file = EpisodeFile(path, begin, _PATIENT, definitions)
    try:
        for item in items:
            file.put([item])
    except BaseException:
        file.abandon(delete=True)
        raise
    if one.state == "cut off" and last == len(episode):
        file.abandon(delete=False)  # its end is not known, and none is made up
        return
    seconds = (last - first) * one.period
    file.finish({"success": bool(episode.success), "cause": cause, "seconds": seconds})


def _own_types(recording: Recording) -> dict[str, str]:
    """Definitions of the types that are known to this file only."""
    known = standard_types().types
    streams = [stream for stream in recording.streams.values() if stream.type not in known]
    return {stream.type: stream.types.generate_msgdef(stream.type, ros_version=2)[0] for stream in streams}


def _recorded(one: Demonstration, recording: Recording, first: int, last: int) -> Iterator[Item]:
    """What a recording holds of these steps, in the order of receipt within each topic."""
    schema = recording.schema
    assert schema is not None
    zero = recording.clock_zero_ns
    stream = recording.stream(steps.TOPIC)
    observations = one.episode.observations
    begin = stream.measured[first]
    end = stream.measured[last] if last < len(stream) else np.inf
    pictures = {steps.picture_topic(camera) for camera in schema.images}
    for topic, source in recording.streams.items():
        if topic == steps.TOPIC:
            chosen, shift = np.arange(first, last), first
        elif topic in pictures:  # that after the last step included
            chosen, shift = np.flatnonzero((source.sequence >= first) & (source.sequence <= last)), first
        else:
            inside = (source.measured >= (begin if first else -np.inf)) & (source.measured < end)
            chosen, shift = np.flatnonzero(inside), 0
        for row, data in zip(chosen.tolist(), source.raws_at(chosen.tolist()), strict=True):
            times = [zero + round(1e9 * float(when[row])) for when in (source.measured, source.received)]
            content: Any = data
            cut = row == last - 1 and last < len(one.episode)
            if topic == steps.TOPIC and (first or cut):
                message = source.message(row)
                message.index -= first
                message.wall_time += float(stream.measured[first] - stream.measured[0])
                if cut:
                    message.terminated, message.truncated = False, True
                    message.final_observation = np.asarray(observations[last], np.float32)
                content = _stamped(message, times[0])
            yield Item(topic, source.type, content, times[0], times[1], int(source.sequence[row]) - shift)


def _meanwhile(recording: Recording, begin: float, end: float) -> Iterator[Item]:
    """All messages that were measured in this time, s on the recording's clock."""
    for topic, source in recording.streams.items():
        chosen = np.flatnonzero((source.measured >= begin - 1e-6) & (source.measured <= end + 1e-6)).tolist()
        for row, data in zip(chosen, source.raws_at(chosen), strict=True):
            times = [recording.clock_zero_ns + round(1e9 * float(t[row])) for t in (source.measured, source.received)]
            yield Item(topic, source.type, data, times[0], times[1], int(source.sequence[row]))


def _stamped(message: Any, measured: int) -> bytearray:
    data = serialize(message)
    set_stamp(data, measured)
    return data


def _logged(one: Demonstration, zero: int, first: int, last: int) -> Iterator[Item]:
    """The steps of a log as a recording has them; a log keeps no time of receipt, its measurement stands for it."""
    episode = one.episode
    images = {camera: episode.images[camera] for camera in episode.schema.images}
    for index in range(first, last):
        record = _record(one, index, first, cut=index == last - 1 and last < len(episode))
        measured = zero + round(1e9 * float(episode.observed_at[index]))
        message = _stamped(steps.to_message(replace(record, index=index - first)), measured)
        yield Item(steps.TOPIC, STEP, message, measured, measured, index - first)
        for camera, pictures in images.items():
            topic = steps.picture_topic(camera)
            yield Item(topic, PICTURE, pictures[index], measured, measured, index - first, camera)
            if index == last - 1 and len(pictures) > last:
                yield Item(topic, PICTURE, pictures[last], measured, measured, last - first, camera)


def _record(one: Demonstration, index: int, first: int, cut: bool) -> Record:
    episode = one.episode
    final = index == len(episode) - 1 and episode.has_final
    return Record(
        episode=episode.number,
        index=index,
        observation=episode.observations[index],
        action=episode.actions[index],
        policy_action=episode.policy_actions[index],
        driver=str(episode.drivers[index]),
        reward=float(episode.rewards[index]),
        terminated=bool(episode.terminated[index]) and not cut,
        truncated=bool(episode.truncated[index]) or cut,
        success=bool(episode.success) and index == len(episode) - 1,
        observed_at=float(episode.observed_at[index]),
        acted_at=float(episode.acted_at[index]),
        wall_time=episode.wall_time + float(episode.observed_at[first] - episode.observed_at[0]),
        final_observation=episode.observations[index + 1] if final or cut else None,
        info={name: float(v[index]) for name, v in episode.info.items() if np.isfinite(v[index])},
    )
