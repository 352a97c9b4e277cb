"""A recorded flight: reading it from disk and measuring how well it followed its set-point.

The recorder writes one folder per flight with `flight.npz` (arrays below, no pickled objects) and, where a
policy node ran, `timing.json` (histograms of its control loop).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.errors import UserError

_SHAPES: dict[str, tuple[int, ...]] = {
    "time": (),
    "position": (3,),
    "orientation": (4,),
    "linear_velocity": (3,),
    "angular_velocity": (3,),
    "setpoint_position": (3,),
    "setpoint_velocity": (3,),
    "motor_commands": (4,),
    "phase": (),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Flight:
    """One flight, sampled at T instants; world ENU, body FLU, SI units, quaternions wxyz body to world."""

    time: np.ndarray
    """Shape (T,), s since the first sample, strictly increasing."""
    position: np.ndarray
    """Shape (T, 3), m, world."""
    orientation: np.ndarray
    """Shape (T, 4), unit quaternion."""
    linear_velocity: np.ndarray
    """Shape (T, 3), m/s, world."""
    angular_velocity: np.ndarray
    """Shape (T, 3), rad/s, body."""
    setpoint_position: np.ndarray
    """Shape (T, 3), m, world; nan before the first set-point."""
    setpoint_velocity: np.ndarray
    """Shape (T, 3), m/s, world; nan before the first set-point."""
    motor_commands: np.ndarray
    """Shape (T, 4), rad/s; nan before the first command."""
    phase: np.ndarray
    """Shape (T,), index into `phase_names`."""
    phase_names: tuple[str, ...]
    """What the set-point was doing: take-off, hover, …"""


@dataclass(frozen=True, kw_only=True)
class PhaseMetrics:
    """How one contiguous phase of the flight went."""

    name: str
    """Name of the phase."""
    start: float
    """s since the start of the flight."""
    duration: float
    """s."""
    rmse: float
    """m, 3-D root mean square distance to the set-point; nan where there was none."""
    worst: float
    """m, largest distance to the set-point."""
    top_speed: float
    """m/s."""


@dataclass(frozen=True, kw_only=True)
class FigureEight:
    """The part of the figure-eight that is scored."""

    phase: str = "figure_eight"
    """Name of the phase that flies it."""
    ramp: float = 2.0
    """s at the start of the phase that are not scored: the drone gets up to speed."""
    period: float = 5.5
    """s, one figure-eight."""
    periods: int = 2
    """How many periods are scored."""


def load_flight(folder: str | Path) -> Flight:
    """Read `flight.npz` in `folder`; samples whose time does not advance are dropped.

    Raises:
        UserError: There is no flight, or an array is missing or has the wrong shape.
    """
    path = Path(folder) / "flight.npz"
    if not path.is_file():
        raise UserError(
            f"no recorded flight in {folder}: {path.name} is missing; give a folder that the recorder wrote"
        )
    with np.load(path, allow_pickle=False) as data:
        missing = [key for key in (*_SHAPES, "phase_names") if key not in data.files]
        if missing:
            raise UserError(f"{path}: array {missing[0]!r} is missing; it has {', '.join(sorted(data.files))}")
        arrays = {key: np.asarray(data[key]) for key in _SHAPES}
        names = tuple(str(name) for name in data["phase_names"])
    length = arrays["time"].shape[0] if arrays["time"].ndim else 0
    if length < 2:
        raise UserError(f"{path}: the flight has {length} samples; at least 2 are needed")
    for key, shape in _SHAPES.items():
        if arrays[key].shape != (length, *shape):
            raise UserError(f"{path}: {key!r} has shape {arrays[key].shape}; expected {(length, *shape)}")
    phase = arrays["phase"].astype(int)
    if phase.min() < 0 or phase.max() >= len(names):
        raise UserError(f"{path}: phase {phase.max()} has no name; phase_names has {len(names)} entries")
    time = arrays["time"].astype(float)
    advancing = np.concatenate([[True], time[1:] > np.maximum.accumulate(time)[:-1]])
    kept = {key: value[advancing] for key, value in arrays.items()}
    kept["time"] = kept["time"].astype(float) - float(time[0])
    kept["phase"] = phase[advancing]
    return Flight(**kept, phase_names=names)


def load_timing(folder: str | Path) -> dict[str, dict[str, Any]]:
    """Histograms in `timing.json` by name, those that counted something; empty where the flight has none."""
    path = Path(folder) / "timing.json"
    if not path.is_file():
        return {}
    try:
        data = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    histograms = {name: value for name, value in data.items() if isinstance(value, dict)}
    used = {name: value for name, value in histograms.items() if any(value.get("counts", ()))}
    # What flies the robot first; the rest as it came.
    order = ("policy", "supervisor")
    return dict(sorted(used.items(), key=lambda item: next((i for i, key in enumerate(order) if key in item[0]), 9)))


def tracking_error(flight: Flight) -> np.ndarray:
    """Distance to the set-point, shape (T,), m."""
    return np.linalg.norm(flight.position - flight.setpoint_position, axis=-1)


def phase_segments(flight: Flight) -> list[tuple[str, int, int]]:
    """Contiguous phases in order as (name, first sample, one past the last)."""
    edges = np.flatnonzero(np.diff(flight.phase)) + 1
    bounds = [0, *edges.tolist(), len(flight.phase)]
    return [(flight.phase_names[flight.phase[a]], a, b) for a, b in zip(bounds[:-1], bounds[1:], strict=True)]


def _rms(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(np.sqrt(np.mean(finite**2))) if finite.size else float("nan")


def measure_phases(flight: Flight) -> list[PhaseMetrics]:
    """Duration and errors of every phase, in the order flown."""
    error = tracking_error(flight)
    speed = np.linalg.norm(flight.linear_velocity, axis=-1)
    result = []
    for name, first, last in phase_segments(flight):
        part = error[first:last]
        end = flight.time[min(last, len(flight.time) - 1)]
        result.append(
            PhaseMetrics(
                name=name,
                start=float(flight.time[first]),
                duration=float(end - flight.time[first]),
                rmse=_rms(part),
                worst=float(np.nanmax(part)) if np.isfinite(part).any() else float("nan"),
                top_speed=float(np.nanmax(speed[first:last])),
            )
        )
    return result


def figure_eight_rmse(flight: Flight, figure: FigureEight = FigureEight()) -> float:
    """3-D RMSE in m over `periods` periods after the ramp; nan where the flight has no complete ones."""
    error = tracking_error(flight)
    for name, first, last in phase_segments(flight):
        start = flight.time[first] + figure.ramp
        end = start + figure.periods * figure.period
        if name != figure.phase or flight.time[last - 1] < end - 0.1:
            continue
        scored = (flight.time >= start) & (flight.time < end)
        return _rms(error[scored])
    return float("nan")


def worst_gap(time: Sequence[float] | np.ndarray) -> float:
    """Longest time between two samples, s."""
    return float(np.max(np.diff(np.asarray(time))))
