"""Writes the report of a flight: metrics, plots, loop timing, training curve and an animation."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from policies.rotation import tilt_of
from robot_rl import plots
from robot_rl.animation import AnimationConfig, render_animation
from robot_rl.errors import UserError, require_packages
from robot_rl.flight import (
    FigureEight,
    Flight,
    PhaseMetrics,
    figure_eight_rmse,
    load_flight,
    load_timing,
    measure_phases,
    worst_gap,
)
from robot_rl.report_page import page, pair, section, table


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Write the report of a recorded flight: one HTML file that contains everything, and a GIF beside it."""

    flight: Annotated[Path, tyro.conf.Positional]
    """Folder that the recorder wrote, of which the last flight is taken, or one of its files (episode-000000.mcap)."""
    out: Path | None = None
    """File to write; default: report.html in the flight's folder."""
    training: Path | None = None
    """Folder of the training run; its progress.jsonl becomes the training curve."""
    evaluation: Path | None = None
    """JSON written by `robot-rl eval`; its numbers become a table."""
    title: str = "Flight report"
    """Heading of the page."""
    figure_eight: FigureEight = field(default_factory=FigureEight)
    """Which part of the figure-eight is scored."""
    animation: AnimationConfig = field(default_factory=AnimationConfig)
    """How the animation is drawn."""


def write_report(config: ReportConfig) -> Path:
    """Write the report and return its path.

    Raises:
        UserError: There is no readable flight in the folder, or a file named in `config` is missing.
    """
    require_packages("a report", "report", ["matplotlib", "PIL"])
    flight = load_flight(config.flight)
    timing = load_timing(config.flight)
    progress = _load_progress(config.training)
    evaluation = _load_evaluation(config.evaluation)
    folder = config.flight.parent if config.flight.is_file() else config.flight
    out = config.out or folder / "report.html"
    out.parent.mkdir(parents=True, exist_ok=True)
    animation = render_animation(flight, out.with_suffix(".gif"), config.animation)
    phases = measure_phases(flight)
    eight = figure_eight_rmse(flight, config.figure_eight)

    sections = [
        pair(
            section(
                "The flight",
                "Three-dimensional view; the drone is drawn larger than it is.",
                _image(animation),
            ),
            section("From above", "", plots.path_figure(flight)),
        ),
        section("Position", "Each axis with its set-point.", plots.position_figure(flight)),
        section("Error and tilt", "Distance to the set-point; angle to the vertical.", plots.error_figure(flight)),
        section("Error by phase", _eight_note(eight, config.figure_eight), _phase_table(phases, eight)),
        section("Rotor commands", "As the supervisor passed them on.", plots.motor_figure(flight)),
    ]
    if timing:
        sections.append(
            section(
                "Timing of the control loop",
                "Measured in the nodes during this flight.",
                plots.timing_figure(timing) + _timing_table(timing),
            )
        )
    if progress:
        note = f"{len(progress)} updates in {_cpu_seconds(progress):.0f} CPU-seconds."
        sections.append(section("Training", note, plots.training_figure(progress)))
    if evaluation:
        rows = [(key.replace("_", " "), _value(value)) for key, value in evaluation.items() if _is_plain(value)]
        note = "Fresh episodes in simulation with the exported bundle, by robot-rl eval."
        sections.append(section("Evaluation", note, table(["", ""], rows)))
    gap = 1e3 * worst_gap(flight.time)
    subtitle = f"{flight.time[-1]:.1f} s, {len(flight.time)} samples, longest gap {gap:.0f} ms"
    out.write_text(page(config.title, subtitle, _tiles(flight, phases, eight, timing, progress), sections))
    return out


def run(config: ReportConfig) -> int:
    """The command `robot-rl report`."""
    print(f"report: {write_report(config).resolve().as_uri()}")
    return 0


def _tiles(
    flight: Flight,
    phases: Sequence[PhaseMetrics],
    eight: float,
    timing: Mapping[str, Mapping[str, Any]],
    progress: Sequence[Mapping[str, Any]],
) -> list[tuple[str, str]]:
    """The few numbers that a reader looks for first."""
    tiles = []
    if math.isfinite(eight):
        tiles.append((_centimetres(eight), "figure-eight RMSE"))
    tiles += [(_centimetres(phase.rmse), "hover RMSE") for phase in phases if phase.name == "hover"][:1]
    tiles.append((f"{max(phase.top_speed for phase in phases):.2f} m/s", "top speed"))
    tiles.append((f"{math.degrees(float(tilt_of(flight.orientation).max())):.0f}°", "largest tilt"))
    if "policy_step" in timing:
        tiles.append((_microseconds(timing["policy_step"].get("p99_us")), "policy step, 99th percentile"))
    if progress:
        tiles.append((f"{_cpu_seconds(progress):.0f} s", "CPU time of training"))
    return tiles


def _phase_table(phases: Sequence[PhaseMetrics], eight: float) -> str:
    rows = [
        (
            phase.name.replace("_", " "),
            f"{phase.start:.1f}",
            f"{phase.duration:.1f}",
            _centimetres(phase.rmse),
            _centimetres(phase.worst),
            f"{phase.top_speed:.2f}",
        )
        for phase in phases
    ]
    if math.isfinite(eight):
        rows.append(("figure eight, scored part", "", "", _centimetres(eight), "", ""))
    return table(["phase", "start (s)", "duration (s)", "RMSE", "worst", "top speed (m/s)"], rows)


def _eight_note(eight: float, figure: FigureEight) -> str:
    if not math.isfinite(eight):
        return "Distance between the measured position and the set-point."
    return (
        f"Distance between the measured position and the set-point. The scored part of the figure-eight is "
        f"{figure.periods} periods of {figure.period:g} s after a ramp of {figure.ramp:g} s."
    )


def _timing_table(timing: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        (
            name.replace("_", " "),
            str(int(sum(histogram["counts"]))),
            *(_microseconds(histogram.get(key)) for key in ("p50_us", "p99_us", "max_us")),
        )
        for name, histogram in timing.items()
    ]
    return table(["", "samples", "median", "99th percentile", "largest"], rows)


def _load_progress(folder: Path | None) -> list[dict[str, Any]]:
    if folder is None:
        return []
    path = folder / "progress.jsonl"
    if not path.is_file():
        raise UserError(f"no training curve in {folder}: {path.name} is missing")
    rows = []
    for line in path.read_text().splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue  # a run that was killed may end in half a line
        if isinstance(row, dict):
            rows.append(row)
    return rows


def _load_evaluation(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    if not path.is_file():
        raise UserError(f"no evaluation at {path}; write one with: robot-rl eval BUNDLE --json {path}")
    try:
        data = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise UserError(f"{path} holds a {type(data).__name__}; expected the object that robot-rl eval writes")
    return data


def _image(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="Animation of the flight" src="data:image/gif;base64,{data}">'


def _cpu_seconds(progress: Sequence[Mapping[str, Any]]) -> float:
    return max((float(row["cpu_s"]) for row in progress if "cpu_s" in row), default=math.nan)


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float) or value is None


def _value(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "–" if value is None else str(value)


def _centimetres(metres: float) -> str:
    return f"{100.0 * metres:.1f} cm" if math.isfinite(metres) else "–"


def _microseconds(value: object) -> str:
    if not isinstance(value, int | float) or not math.isfinite(value):
        return "–"
    return f"{value / 1000:.2f} ms" if value >= 1000 else f"{value:.0f} µs"
