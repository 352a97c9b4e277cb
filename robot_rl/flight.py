"""A recorded flight: reading it from the recorder's file and measuring how well it followed its set-point."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hardware.descriptions import load_description
from policies.rotation import rotate
from robot_rl.errors import UserError, require_packages

if TYPE_CHECKING:
    from robot_rl.recording import Recording, Stream

_TIMING = "timing."
"""Values in `/diagnostics` whose name begins so are histograms."""


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


def load_flight(path: str | Path) -> Flight:
    """Read a recorded flight: a file, or the last one in a folder. Samples whose time does not advance are dropped.

    A row is a sample of odometry, with the set-point, command and phase that were the newest when it came in.

    Raises:
        UserError: There is no flight, or it cannot be read.
    """
    recording = _find(path)
    odometry = _stream(recording, "odom")
    if odometry is None or len(odometry) < 2:
        count = 0 if odometry is None else len(odometry)
        raise UserError(f"{recording.source}: the flight has {count} samples of odometry; at least 2 are needed")
    pose, twist = odometry.values("pose.pose"), odometry.values("twist.twist")
    time = odometry.measured
    advancing = np.concatenate([[True], time[1:] > np.maximum.accumulate(time)[:-1]])
    when = odometry.received[advancing]
    orientation = pose[advancing, 3:]
    setpoints = _newest(_stream(recording, "setpoint"), when, _setpoint, 6)
    names = _motor_names(recording)
    commands = _newest(_stream(recording, "motor_commands"), when, lambda one: _motors(one, names), 4)
    phase, phase_names = _phases(_stream(recording, "setpoint/phase"), when)
    return Flight(
        time=time[advancing] - time[0],
        position=pose[advancing, :3],
        orientation=orientation,
        # Odometry has it in the body's frame.
        linear_velocity=np.asarray(rotate(orientation, twist[advancing, :3])),
        angular_velocity=twist[advancing, 3:],
        setpoint_position=setpoints[:, :3],
        setpoint_velocity=setpoints[:, 3:],
        motor_commands=commands,
        phase=phase,
        phase_names=phase_names,
    )


def load_timing(path: str | Path) -> dict[str, dict[str, Any]]:
    """The last histogram of each name in `/diagnostics`, those that counted something; empty where there are none."""
    stream = _find(path).streams.get("/diagnostics")
    found: dict[str, Any] = {}
    for message in stream.messages() if stream is not None else ():
        for status in message.status:
            for pair in status.values:
                if pair.key.startswith(_TIMING):
                    found[pair.key.removeprefix(_TIMING)] = pair.value
    histograms = {name: _histogram(text) for name, text in found.items()}
    used = {name: value for name, value in histograms.items() if any(value.get("counts", ()))}
    # What flies the robot first; the rest as it came.
    order = ("policy", "control", "supervisor")
    return dict(sorted(used.items(), key=lambda item: next((i for i, key in enumerate(order) if key in item[0]), 9)))


def _find(path: str | Path) -> Recording:
    require_packages("reading a recorded flight", "demos", ["mcap", "rosbags"])
    from robot_rl.recording import load_recording

    path = Path(path)
    files = [path] if path.is_file() else sorted(path.glob("episode-*.mcap"))
    if not files:
        raise UserError(
            f"no recorded flight in {path}: there is no episode-*.mcap; give a folder that the recorder wrote"
        )
    return load_recording(files[-1])


def _stream(recording: Recording, name: str) -> Stream | None:
    namespace = str(recording.info.get("namespace", "/")).rstrip("/")
    return recording.streams.get(f"{namespace}/{name}")


def _newest(
    stream: Stream | None, when: np.ndarray, convert: Callable[[Any], np.ndarray | None], size: int
) -> np.ndarray:
    """What was newest at the times `when`; nan before the first message."""
    result = np.full((len(when), size), np.nan)
    if stream is None:
        return result
    rows = ((came, convert(message)) for came, message in zip(stream.received, stream.messages(), strict=True))
    good = [(came, value) for came, value in rows if value is not None]
    if good:
        last = np.searchsorted([came for came, _ in good], when, side="right") - 1
        result[last >= 0] = np.stack([value for _, value in good])[last[last >= 0]]
    return result


def _setpoint(message: Any) -> np.ndarray | None:
    if len(message.points) != 1 or len(message.points[0].transforms) != 1:
        return None
    point = message.points[0]
    position = point.transforms[0].translation
    velocity = [one.linear for one in point.velocities[:1]]
    return np.array([*_xyz(position), *(_xyz(velocity[0]) if velocity else (0.0, 0.0, 0.0))])


def _xyz(vector: Any) -> tuple[float, float, float]:
    return vector.x, vector.y, vector.z


def _motor_names(recording: Recording) -> list[str]:
    robot = recording.info.get("robot")
    return list(load_description(str(robot)).interface.actuators) if robot else []


def _motors(message: Any, names: Sequence[str]) -> np.ndarray | None:
    # Values belong to names, not to places.
    speeds = dict(zip(message.name, message.velocity, strict=False))
    wanted = names or list(message.name)
    if len(wanted) != 4 or not all(name in speeds for name in wanted):
        return None
    return np.array([speeds[name] for name in wanted])


def _phases(stream: Stream | None, when: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    said = ["waiting", *(str(message.data) for message in stream.messages())] if stream is not None else ["waiting"]
    last = np.zeros(len(when), int) if stream is None else np.searchsorted(stream.received, when, side="right")
    names = list(dict.fromkeys(said[index] for index in last))
    return np.array([names.index(said[index]) for index in last]), tuple(names)


def _histogram(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"a histogram in /diagnostics is not JSON: {error}") from error
    return value if isinstance(value, dict) else {}


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
