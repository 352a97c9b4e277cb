"""Figures of a report as inline SVG whose colours follow the page, light or dark.

matplotlib writes fixed colours. The figures are therefore drawn in placeholder colours, which are replaced by
CSS variables in the finished SVG; the page defines those variables once for light and once for dark.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from policies.rotation import tilt_of
from robot_rl.errors import require_packages
from robot_rl.flight import Flight, phase_segments, tracking_error

_INK, _MUTED, _GRID = "#0a0a01", "#0a0a02", "#0a0a03"
SERIES = tuple(f"#0a0a1{index}" for index in range(6))
"""Placeholder colours of the data, in the order in which they are used."""
_VARIABLES = {_INK: "var(--ink)", _MUTED: "var(--muted)", _GRID: "var(--grid)"} | {
    color: f"var(--series-{index})" for index, color in enumerate(SERIES)
}
_STYLE: dict[str, Any] = {
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.edgecolor": _GRID,
    "axes.labelcolor": _MUTED,
    "axes.titlecolor": _INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "xtick.color": _GRID,
    "ytick.color": _GRID,
    "xtick.labelcolor": _MUTED,
    "ytick.labelcolor": _MUTED,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "text.color": _INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.4,
    "lines.solid_capstyle": "round",
    "font.family": "sans-serif",
    "svg.fonttype": "none",  # text stays text: small, searchable, in the page's font
    "path.simplify": True,
    "path.simplify_threshold": 0.3,
}
_MAX_POINTS = 1500


def position_figure(flight: Flight) -> str:
    """Position and set-point over time, one panel per axis."""
    with _figure(rows=3, height=5.2, salt="position") as (figure, axes):
        keep = _thin(len(flight.time))
        for index, axis in enumerate(axes):
            _shade_phases(axis, flight, label=index == 0)
            axis.plot(
                flight.time[keep],
                flight.setpoint_position[keep, index],
                "--",
                color=_MUTED,
                lw=1.2,
                label="set-point",
            )
            axis.plot(flight.time[keep], flight.position[keep, index], color=SERIES[index], label="flown")
            axis.set_ylabel(f"{'xyz'[index]} (m)")
        axes[0].legend(loc="lower left", bbox_to_anchor=(0.0, 1.16), ncols=2, borderaxespad=0)
        axes[-1].set_xlabel("time (s)")
        return _svg(figure)


def error_figure(flight: Flight) -> str:
    """Distance to the set-point and tilt over time."""
    with _figure(rows=2, height=3.6, salt="error") as (figure, axes):
        keep = _thin(len(flight.time))
        for index, axis in enumerate(axes):
            _shade_phases(axis, flight, label=index == 0)
        axes[0].plot(flight.time[keep], 100.0 * tracking_error(flight)[keep], color=SERIES[3])
        axes[0].set_ylabel("error (cm)")
        axes[0].set_ylim(bottom=0)
        axes[1].plot(flight.time[keep], np.degrees(tilt_of(flight.orientation))[keep], color=SERIES[4])
        axes[1].set_ylabel("tilt (°)")
        axes[1].set_ylim(bottom=0)
        axes[1].set_xlabel("time (s)")
        return _svg(figure)


def path_figure(flight: Flight) -> str:
    """The flight from above."""
    with _figure(width=4.6, height=3.6, salt="path") as (figure, (axis,)):
        keep = _thin(len(flight.time))
        setpoint = flight.setpoint_position[keep]
        axis.plot(setpoint[:, 0], setpoint[:, 1], "--", color=_MUTED, lw=1.2, label="set-point")
        axis.plot(flight.position[keep, 0], flight.position[keep, 1], color=SERIES[0], label="flown")
        axis.plot(*flight.position[0, :2], "o", color=SERIES[2], ms=5, label="start")
        axis.plot(*flight.position[-1, :2], "s", color=SERIES[3], ms=5, label="end")
        axis.set_aspect("equal", adjustable="datalim")
        axis.set_xlabel("x (m)")
        axis.set_ylabel("y (m)")
        axis.legend(loc="lower left", bbox_to_anchor=(0.0, 1.01), ncols=4, borderaxespad=0, columnspacing=1.2)
        return _svg(figure)


def motor_figure(flight: Flight) -> str:
    """Commanded rotor speeds over time."""
    with _figure(height=2.3, salt="motors") as (figure, (axis,)):
        keep = _thin(len(flight.time))
        _shade_phases(axis, flight, label=True)
        for index, name in enumerate(("front-right", "back-right", "back-left", "front-left")):
            speed = flight.motor_commands[keep, index]
            axis.plot(flight.time[keep], speed, color=SERIES[index], lw=0.9, label=name)
        axis.set_ylabel("rotor command (rad/s)")
        axis.set_xlabel("time (s)")
        axis.legend(loc="lower left", bbox_to_anchor=(0.0, 1.12), ncols=4, borderaxespad=0)
        return _svg(figure)


def timing_figure(timing: Mapping[str, Mapping[str, Any]]) -> str:
    """One histogram per measured part of the control loop, counts on a logarithmic axis."""
    columns = min(2, len(timing))
    rows = math.ceil(len(timing) / columns)
    with _figure(rows=rows, columns=columns, height=2.2 * rows, share_x=False, salt="timing") as (
        figure,
        axes,
    ):
        for axis, (name, histogram) in zip(axes, timing.items(), strict=False):
            counts = np.asarray(histogram["counts"], dtype=float)
            left, right = _bin_edges(np.asarray(histogram["edges_us"], dtype=float), len(counts))
            used = np.flatnonzero(counts)
            if used.size:
                shown = slice(used[0], used[-1] + 1)
                widths = (right - left)[shown]
                axis.bar(left[shown], counts[shown], widths, align="edge", color=SERIES[0], edgecolor="none")
                axis.set_yscale("log")
                axis.set_ylim(bottom=0.7)
                if left[shown][0] > 0:
                    axis.set_xscale("log")
            for key, color in (("p50_us", SERIES[2]), ("p99_us", SERIES[3])):
                if math.isfinite(float(histogram.get(key) or math.nan)):
                    label = f"{key[:3]} {_microseconds(histogram[key])}"
                    axis.axvline(float(histogram[key]), color=color, lw=1.2, label=label)
            axis.set_title(name.replace("_", " "))
            axis.set_xlabel("µs")
            axis.set_ylabel("count")
            axis.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, borderaxespad=0.2)
        for axis in axes[len(timing) :]:
            axis.set_visible(False)
        return _svg(figure)


def training_figure(progress: Sequence[Mapping[str, Any]]) -> str:
    """Loss (or return) over updates, with the CPU seconds spent on a second panel where they are known."""
    updates = [float(row.get("update", index)) for index, row in enumerate(progress)]
    key = next((name for name in ("loss", "return", "episode_return") if name in progress[0]), None)
    cpu = [float(row["cpu_s"]) for row in progress if "cpu_s" in row]
    panels = [panel for panel in (key, "cpu_s" if len(cpu) == len(progress) else None) if panel]
    if not panels:
        return ""
    with _figure(columns=len(panels), height=2.6, share_x=False, salt="training") as (figure, axes):
        for axis, panel in zip(axes, panels, strict=True):
            values = np.array([float(row.get(panel, math.nan)) for row in progress])
            axis.plot(updates, values, color=SERIES[0] if panel == key else SERIES[2])
            positive = values[np.isfinite(values)]
            if panel == "loss" and positive.size and positive.min() > 0 and positive.max() / positive.min() > 20:
                axis.set_yscale("log")
            axis.set_xlabel("update")
            axis.set_ylabel("CPU time (s)" if panel == "cpu_s" else panel.replace("_", " "))
        return _svg(figure)


def _bin_edges(edges: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Left and right edge of every bin; recorders may add an open bin below and above the listed edges."""
    if len(edges) == bins + 1:
        return edges[:-1], edges[1:]
    open_top = float(edges[-1] * 2 if edges[-1] > 0 else 1.0)
    if len(edges) == bins:
        return edges, np.append(edges[1:], open_top)
    if len(edges) == bins - 1:
        return np.insert(edges, 0, 0.0), np.append(edges, open_top)
    raise ValueError(f"a histogram has {len(edges)} edges for {bins} counts; expected {bins + 1}")


def _microseconds(value: float) -> str:
    return f"{value / 1000:.1f} ms" if value >= 1000 else f"{value:.0f} µs"


def _thin(length: int) -> slice:
    return slice(None, None, max(1, length // _MAX_POINTS))


def _shade_phases(axis: Any, flight: Flight, *, label: bool) -> None:
    """Mark every second phase with a band, and name the phases above the panel where there is room."""
    total = flight.time[-1]
    for index, (name, first, last) in enumerate(phase_segments(flight)):
        start, end = flight.time[first], flight.time[min(last, len(flight.time) - 1)]
        if index % 2 == 0:
            axis.axvspan(start, end, color=_MUTED, alpha=0.09, lw=0)
        if label and (end - start) > 0.0105 * total * len(name):
            axis.text(
                (start + end) / 2,
                1.02,
                name.replace("_", " "),
                ha="center",
                va="bottom",
                fontsize=8,
                color=_MUTED,
                transform=axis.get_xaxis_transform(),
            )
    axis.set_xlim(0, total)


@contextmanager
def _figure(
    *, salt: str, rows: int = 1, columns: int = 1, width: float = 9.2, height: float, share_x: bool = True
) -> Iterator[tuple[Any, list[Any]]]:
    """A matplotlib figure in the page's style, without the global state of pyplot."""
    require_packages("a report", "report", ["matplotlib", "PIL"])
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # The salt keeps the ids of several figures in one page apart, and the output the same from run to run.
    style: Any = {**_STYLE, "svg.hashsalt": f"robot_rl {salt}"}
    with mpl.rc_context(style):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(rows, columns, sharex=share_x, squeeze=False)
        yield figure, list(axes.flat)


def _svg(figure: Any) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for color, variable in _VARIABLES.items():
        text = text.replace(color, variable)
    return text
