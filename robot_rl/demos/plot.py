"""A picture of one episode: what was measured and done, who drove, and when."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from policies.writing import whole_file
from robot_rl.demos.dataset import Demonstration

_COLORS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e", "#9498a0")
_STYLE: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e8",
    "grid.linewidth": 0.6,
    "axes.edgecolor": "#b5b5bd",
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "font.size": 8.5,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
}
_STILLS = 6


def draw(one: Demonstration, path: Path) -> None:
    """Write a PNG of an episode: stills of its cameras, actions, observations, and the time between steps."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    episode = one.episode
    cameras = sorted(episode.images)
    heights = [1.1] * len(cameras) + [1.6, 2.0, 0.9]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9.0, 1.2 + 1.45 * sum(heights)), layout="constrained", dpi=110)
        grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
        for row, camera in enumerate(cameras):
            _stills(figure, grid[row], episode.images[camera], camera)
        time = episode.observed_at - episode.observed_at[0]
        panels = [figure.add_subplot(grid[len(cameras) + i]) for i in range(3)]
        for axis in panels[1:]:
            axis.sharex(panels[0])
        _lines(panels[0], time, episode.actions, "action")
        _lines(panels[1], time, episode.observations[: len(episode)], "observation")
        gaps = 1000.0 * np.diff(episode.observed_at)
        longest = max(1000.0 * one.period, *gaps)
        panels[2].step(time[1:], gaps, where="post", color=_COLORS[0])
        panels[2].axhline(1000.0 * one.period, color="#9498a0", ls="--", lw=0.8)
        panels[2].set_ylim(0.0, 1.2 * longest)
        panels[2].set_title("time between measurements (ms); dashed: the control period")
        panels[2].set_xlabel("time (s)")
        for axis in panels[:2]:
            _shade(axis, time, episode.drivers == "person", one.period)
        verdict = "success" if episode.success else "no success"
        shaded = "; shaded: a person drives" if 0.0 < (episode.drivers == "person").mean() < 1.0 else ""
        figure.suptitle(
            f"{one.name}: {episode.schema.task}, {len(episode)} steps, {verdict}, {one.state}{shaded}", fontsize=11
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as fresh:
            figure.savefig(fresh, format="png", metadata={"Software": None})


def _stills(figure: Any, place: Any, pictures: np.ndarray, camera: str) -> None:
    chosen = np.linspace(0, len(pictures) - 1, min(_STILLS, len(pictures))).round().astype(int)
    for axis, index in zip(place.subgridspec(1, _STILLS).subplots()[: len(chosen)], chosen, strict=True):
        axis.imshow(pictures[index])
        axis.set_title(f"{camera}, step {index}", fontsize=7)
    for axis in figure.axes[-_STILLS:]:
        axis.axis("off")


def _lines(axis: Any, time: np.ndarray, values: np.ndarray, title: str) -> None:
    for column in range(values.shape[1]):
        axis.plot(time, values[:, column], color=_COLORS[column % len(_COLORS)], label=str(column), alpha=0.9)
    axis.set_title(f"{title}, by number")
    if values.shape[1] <= 10:
        axis.legend(ncols=values.shape[1], loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0, fontsize=7)


def _shade(axis: Any, time: np.ndarray, person: np.ndarray, period: float) -> None:
    if person.all() or not person.any():
        return
    edges = np.flatnonzero(np.diff(np.concatenate([[0], person.astype(int), [0]])))
    for first, last in edges.reshape(-1, 2):
        axis.axvspan(time[first], time[last - 1] + period, color="#efb118", alpha=0.14, lw=0)
