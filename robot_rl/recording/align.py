"""Streams brought to one rate. Every value comes from samples that are there: a row without them is rejected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from robot_rl.recording.errors import RecordingError
from robot_rl.recording.numbers import only_real_numbers
from robot_rl.recording.reader import Recording
from robot_rl.recording.stream import Stream

_ROUNDING = 1e-9
"""s, what rounding makes of equal times."""
MAX_ROWS = 10_000_000
"""Most rows of a recording at its new rate."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """What is taken of a stream, and how."""

    topic: str
    """Name of the topic."""
    field: str = ""
    """Field of its messages, such as position or pose.orientation; all numbers if not given. Not used for pictures."""
    how: Literal["hold", "interpolate", "nearest"] = "hold"
    """hold: the last sample before the row; interpolate: between the samples around it, quaternions as rotations;
    nearest: the number of the nearest message, for pictures."""
    limit: float = 0.1
    """s. hold: age that a sample may have; interpolate: longest gap that is bridged; nearest: largest distance."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Aligned:
    """The T rows that have data of every column."""

    times: NDArray[np.float64]
    """s on the recording's clock; multiples of the period after the first sample, with holes where rows were
    rejected. Shape (T,)."""
    rows: NDArray[np.int64]
    """Which multiples they are; neighbours differ by 1 where nothing was rejected between. Shape (T,)."""
    values: Mapping[str, NDArray[np.float64]]
    """Of each column that is held or interpolated. Shape (T, K)."""
    messages: Mapping[str, NDArray[np.int64]]
    """Of each column with the nearest message: its number in the stream. Shape (T,)."""
    rejected: int
    """How many rows were left out."""
    missing: Mapping[str, int]
    """For how many rows each column had no data; a row may count for several."""


def align(recording: Recording, rate: float, columns: Mapping[str, Column]) -> Aligned:
    """Bring streams to one rate by their times of measurement.

    Rows are 1 / `rate` apart, from the first sample of any column to the last. A row for which a column has no sample
    within its limit is rejected and counted; nothing is repeated for longer, and nothing is continued.

    Args:
        recording: What was recorded.
        rate: Rows per second, Hz.
        columns: What is taken, by a name of your choice.

    Raises:
        RecordingError: A topic or field is missing, or cannot be used so.
    """
    if not 0.0 < rate <= 100_000.0:
        raise RecordingError(f"the rate is {rate} Hz; expected above 0")
    if not columns:
        raise RecordingError("no columns are given to align")
    streams = {name: recording.stream(column.topic) for name, column in columns.items()}
    for name, column in columns.items():
        if not len(streams[name]):
            raise RecordingError(f"{recording.source}: {column.topic} has no messages")
        if not column.limit > 0.0:
            raise RecordingError(f"column {name!r}: the limit is {column.limit} s; expected above 0")
    start = min(float(stream.measured.min()) for stream in streams.values())
    end = max(float(stream.measured.max()) for stream in streams.values())
    count = int((end - start) * rate + 1e-6) + 1
    if count > MAX_ROWS:
        raise RecordingError(
            f"{recording.source}: the streams span {end - start:.0f} s, {count} rows at {rate:g} Hz; at most {MAX_ROWS}"
            " are made: look for messages with a wrong stamp"
        )
    times = start + np.arange(count) / rate
    values: dict[str, NDArray[np.float64]] = {}
    messages: dict[str, NDArray[np.int64]] = {}
    good = np.ones(count, bool)
    missing = {}
    for name, column in columns.items():
        if column.how == "nearest":
            messages[name], valid = _nearest(streams[name], times, column.limit)
        else:
            values[name], valid = _numbers(streams[name], times, column)
        missing[name] = int(count - valid.sum())
        good &= valid
    return Aligned(
        times=times[good],
        rows=np.flatnonzero(good),
        values={name: value[good] for name, value in values.items()},
        messages={name: message[good] for name, message in messages.items()},
        rejected=int(count - good.sum()),
        missing=missing,
    )


def _nearest(stream: Stream, times: NDArray[np.float64], limit: float) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    order = np.argsort(stream.measured, kind="stable")
    known = stream.measured[order]
    after = np.searchsorted(known, times).clip(0, len(known) - 1)
    before = (after - 1).clip(0)
    nearest = np.where(np.abs(known[before] - times) <= np.abs(known[after] - times), before, after)
    return order[nearest], np.abs(known[nearest] - times) <= limit + _ROUNDING


def _numbers(
    stream: Stream, times: NDArray[np.float64], column: Column
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    values = stream.values(column.field)
    # A sample that holds no number is none; of two with the same time the later one counts.
    usable = np.isfinite(values).all(-1)
    known, values = stream.measured[usable], values[usable]
    if not len(known):
        return np.zeros((len(times), values.shape[-1])), np.zeros(len(times), bool)
    order = np.argsort(known, kind="stable")
    known, values = known[order], values[order]
    last = np.append(known[1:] > known[:-1], True)
    known, values = known[last], values[last]
    before = np.searchsorted(known, times + _ROUNDING, side="right") - 1
    begun = before >= 0
    before = before.clip(0)
    if column.how == "hold":
        return values[before], begun & (times - known[before] <= column.limit + _ROUNDING)
    first = stream.message(0)
    if not only_real_numbers(first, column.field, column.topic):
        raise RecordingError(f"{column.topic} {column.field} has whole numbers or flags; take how='hold' for it")
    return _interpolated(known, values, times, before, begun, column.limit, stream.quaternions(column.field))


def _interpolated(
    known: NDArray[np.float64],
    values: NDArray[np.float64],
    times: NDArray[np.float64],
    before: NDArray[np.int64],
    begun: NDArray[np.bool_],
    limit: float,
    quaternions: list[int],
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    after = (before + 1).clip(max=len(known) - 1)
    exact = np.abs(known[before] - times) <= _ROUNDING
    gap = known[after] - known[before]
    share = np.where(exact | (gap <= 0.0), 0.0, (times - known[before]) / np.where(gap > 0.0, gap, 1.0))[:, None]
    result = values[before] + share * (values[after] - values[before])
    for start in quaternions:
        part = slice(start, start + 4)
        result[:, part] = slerp(values[before, part], values[after, part], share)
    return result, begun & (exact | ((gap > 0.0) & (gap <= limit + _ROUNDING)))


def slerp(first: NDArray[np.float64], second: NDArray[np.float64], share: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rotation that lies at `share` (..., 1) of the shortest way between two quaternions (..., 4)."""
    cosine = (first * second).sum(-1, keepdims=True)
    second = np.where(cosine < 0.0, -second, second)
    angle = np.arccos(np.abs(cosine).clip(0.0, 1.0))
    sine = np.sin(angle)
    near = sine < 1e-6
    divisor = np.where(near, 1.0, sine)
    mixed = np.where(
        near,
        first + share * (second - first),
        (np.sin((1.0 - share) * angle) * first + np.sin(share * angle) * second) / divisor,
    )
    norm = np.linalg.norm(mixed, axis=-1, keepdims=True)
    return np.where(share == 0.0, first, mixed / np.where(norm > 0.0, norm, 1.0))
