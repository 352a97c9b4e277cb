"""Which streams of a recording make the observation and the action, where it has no control steps of ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from robot_rl.episode import Episode
from robot_rl.hil.schema import RecordError, Schema
from robot_rl.recording.align import Aligned, Column, align
from robot_rl.recording.errors import RecordingError
from robot_rl.recording.reader import Recording
from robot_rl.recording.stream import RecordedPictures
from robot_rl.recording.writer import number_of


@dataclass(frozen=True, kw_only=True)
class EpisodeMapping:
    """How an episode is made of streams at a control rate."""

    rate: float
    """Control steps per second, Hz."""
    observation: tuple[Column, ...]
    """What the observation is made of, in this order."""
    action: tuple[Column, ...]
    """What the action is made of, in this order: commands in their own units."""
    action_low: tuple[float, ...]
    """Command that is -1 as an action, one for each number."""
    action_high: tuple[float, ...]
    """Command that is 1 as an action, one for each number."""
    cameras: Mapping[str, Column] = field(default_factory=dict)
    """Pictures by camera; `how` must be nearest."""
    task: str = "recorded"
    """Name of the task."""
    robot: str = "recorded"
    """Name of the robot."""


def mapped_episodes(recording: Recording, mapping: EpisodeMapping, problems: list[str]) -> Iterator[Episode]:
    """An episode for every stretch without a rejected row; only the last one can be complete.

    Raises:
        RecordingError: A stream is missing or does not fit; a command lies outside of [action_low, action_high].
    """
    observed = {f"observation/{number}": column for number, column in enumerate(mapping.observation)}
    acted = {f"action/{number}": column for number, column in enumerate(mapping.action)}
    looked = {f"camera/{name}": column for name, column in mapping.cameras.items()}
    _check(mapping)
    aligned = align(recording, mapping.rate, {**observed, **acted, **looked})
    if aligned.rejected:
        lost = ", ".join(f"{name} {count}" for name, count in aligned.missing.items() if count)
        total = aligned.rejected + len(aligned.times)
        problems.append(
            f"{recording.source}: {aligned.rejected} of {total} steps are left out, their data are missing ({lost})"
        )
    if not len(aligned.times):
        return
    observations = np.concatenate([aligned.values[name] for name in observed], -1).astype(np.float32)
    commands = np.concatenate([aligned.values[name] for name in acted], -1)
    actions = _scaled(recording, mapping, commands, aligned.times)
    shapes = {name: recording.stream(column.topic).picture(0).shape for name, column in mapping.cameras.items()}
    try:
        schema = Schema(
            observation=observations.shape[-1],
            action=actions.shape[-1],
            images=shapes,
            task=mapping.task,
            robot=mapping.robot,
            control_rate_hz=mapping.rate,
        )
    except RecordError as error:
        raise RecordingError(f"{recording.source}: {error}") from error
    edges = [0, *(np.flatnonzero(np.diff(aligned.rows) != 1) + 1).tolist(), len(aligned.rows)]
    for first, last in zip(edges[:-1], edges[1:], strict=True):
        part = slice(first, last)
        final = last == len(aligned.rows) and recording.finished
        yield _episode(recording, schema, mapping, aligned, observations, actions, part, final)


def _episode(
    recording: Recording,
    schema: Schema,
    mapping: EpisodeMapping,
    aligned: Aligned,
    observations: NDArray[np.float32],
    actions: NDArray[np.float32],
    part: slice,
    final: bool,
) -> Episode:
    count = part.stop - part.start
    ends = np.zeros((2, count), bool)
    if final:
        ends[0 if recording.success else 1, -1] = True
    streams = {
        name: (recording.stream(column.topic), aligned.messages[f"camera/{name}"][part])
        for name, column in mapping.cameras.items()
    }
    times = aligned.times[part]
    return Episode(
        source=recording.source,
        number=number_of(recording.source) or 0,
        schema=schema,
        complete=final,
        observations=observations[part],
        images=RecordedPictures(streams, schema.images) if streams else {},
        actions=actions[part],
        policy_actions=actions[part],
        drivers=np.full(count, "person"),
        rewards=(ends[0]).astype(np.float32),
        terminated=ends[0],
        truncated=ends[1],
        success=final and recording.success,
        observed_at=times,
        acted_at=times,
        wall_time=1e-9 * recording.clock_zero_ns + float(times[0]),
        info={},
    )


def _check(mapping: EpisodeMapping) -> None:
    if not mapping.observation or not mapping.action:
        raise RecordingError("the mapping needs at least one column of the observation and one of the action")
    for column in (*mapping.observation, *mapping.action):
        if column.how == "nearest":
            raise RecordingError(f"{column.topic}: how is 'nearest', which is for pictures; take hold or interpolate")
    for name, column in mapping.cameras.items():
        if column.how != "nearest":
            raise RecordingError(f"camera {name!r}: how is {column.how!r}; pictures are taken with 'nearest'")


def _scaled(
    recording: Recording, mapping: EpisodeMapping, commands: NDArray[np.float64], times: NDArray[np.float64]
) -> NDArray[np.float32]:
    low, high = np.array(mapping.action_low, float), np.array(mapping.action_high, float)
    size = commands.shape[-1]
    if low.shape != (size,) or high.shape != (size,) or not (low < high).all():
        raise RecordingError(
            f"action_low and action_high have {low.size} and {high.size} numbers; expected {size} each, low below high"
        )
    actions = 2.0 * (commands - low) / (high - low) - 1.0
    worst = np.unravel_index(int(np.abs(actions).argmax()), actions.shape)
    if abs(actions[worst]) > 1.0 + 1e-6:
        raise RecordingError(
            f"{recording.source}: number {worst[1]} of the action is {commands[worst]:g} at {times[worst[0]]:.3f} s;"
            f" expected {low[worst[1]]:g} to {high[worst[1]]:g}: widen action_low and action_high"
        )
    return actions.astype(np.float32).clip(-1.0, 1.0)
