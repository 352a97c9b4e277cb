"""Pictures of a calibration: where corners were seen, how far they are off, and the residuals of every view."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from hardware.perception.boards import Board
from hardware.perception.hand_eye import HandEye, Sample
from hardware.perception.intrinsics import Intrinsics
from hardware.perception.poses import inverse
from policies.camera import CameraModel, opencv

_GREEN, _RED = (40, 200, 60), (240, 50, 40)
_LARGEST_SCALE = 40.0


def write_overlay(path: Path, image: np.ndarray, pixels: np.ndarray, residuals: np.ndarray) -> None:
    """The picture with found corners (green) and, from each, the residual (red) as many times longer as is said."""
    cv2 = opencv()
    shown = np.ascontiguousarray(image)
    away = float(np.sqrt((residuals**2).sum(axis=1).mean()))
    scale = float(np.clip(12.0 / max(away, 1e-6), 1.0, _LARGEST_SCALE))
    for corner, residual in zip(pixels, residuals, strict=True):
        begin = tuple(int(value) for value in np.rint(16.0 * corner))
        end = tuple(int(value) for value in np.rint(16.0 * (corner - scale * residual)))
        cv2.circle(shown, begin, 4 * 16, _GREEN, 1, cv2.LINE_AA, 4)
        cv2.line(shown, begin, end, _RED, 1, cv2.LINE_AA, 4)
    text = f"found (green) to projected (red), {scale:.0f} times longer; rms {away:.3f} pixels"
    cv2.rectangle(shown, (0, 0), (shown.shape[1], 20), (0, 0, 0), -1)
    cv2.putText(shown, text, (6, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1, cv2.LINE_AA)
    cv2.imwrite(str(path), cv2.cvtColor(shown, cv2.COLOR_RGB2BGR))


def write_coverage(path: Path, found: Intrinsics) -> None:
    """All corners in the picture's frame, on the cells in which they are counted."""
    figure, axes = _figure(6.4, 6.4 * found.camera.height / found.camera.width + 0.6)
    extent = (-0.5, found.camera.width - 0.5, found.camera.height - 0.5, -0.5)
    axes.imshow(found.cells > 0, extent=extent, cmap="Greens", vmin=0.0, vmax=2.5, aspect="equal")
    tilts = np.concatenate([np.full(len(view.pixels), view.tilt) for view in found.views])
    every = np.concatenate([view.pixels for view in found.views])
    drawn = axes.scatter(every[:, 0], every[:, 1], s=3, c=tilts, cmap="plasma", vmin=0.0, vmax=45.0)
    figure.colorbar(drawn, ax=axes, label="tilt of the board, degrees", shrink=0.85)
    axes.set(title=f"corners seen in {100.0 * found.coverage:.0f} % of the picture, {len(found.views)} views")
    axes.set(xlabel="column, pixels", ylabel="row, pixels")
    _save(figure, path)


def write_view_residuals(path: Path, found: Intrinsics) -> None:
    """Left the residual of every corner, right the root mean square of every view."""
    figure, (left, right) = _figure(8.0, 3.4, columns=2)
    every = np.concatenate([view.residuals for view in found.views])
    left.scatter(every[:, 0], every[:, 1], s=3, alpha=0.5)
    reach = 1.1 * float(np.abs(every).max())
    left.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", title=f"rms {found.rms:.3f} pixels")
    left.set(xlabel="column, pixels", ylabel="row, pixels")
    right.bar(range(len(found.views)), [view.rms for view in found.views])
    right.axhline(found.rms, color="0.3", linewidth=1.0)
    right.set(xlabel="view", ylabel="rms, pixels", title="by view")
    _save(figure, path)


def write_hand_eye(path: Path, found: HandEye) -> None:
    """Residual of every sample in mm and degrees, rejected ones hollow, and what each method reaches by itself."""
    figure, (left, middle, right) = _figure(11.0, 3.4, columns=3)
    places = np.arange(len(found.names))
    for axes, column, factor, unit in ((left, 0, 1e3, "mm"), (middle, 1, math.degrees(1.0), "degrees")):
        off, held = factor * found.residuals[:, column], factor * found.held_out[:, column]
        axes.bar(places[found.kept], off[found.kept], label="used")
        if not found.kept.all():
            axes.bar(places[~found.kept], off[~found.kept], fill=False, linestyle="--", label="rejected")
        axes.plot(places[found.kept], held[found.kept], "k_", label="held out")
        axes.set(xlabel="sample", ylabel=unit, title=f"rms {factor * found.residual[column]:.3f} {unit}")
        top = float(max(off[found.kept].max(), held[found.kept].max()))
        axes.set_ylim(0.0, 1.6 * top)
        axes.legend(fontsize=7)
    names = [*found.methods, "refined"]
    values = [1e3 * m for _, m, _ in found.methods.values()] + [1e3 * found.residual[0]]
    right.barh(names, values)
    right.set(xlabel="rms, mm", title="methods")
    _save(figure, path)


def project_board(board: Board, camera: CameraModel, sample: Sample, found: HandEye, indices: np.ndarray) -> np.ndarray:
    """Pixels (K, 2) at which corners of the board should be, by the calibration and the tool's pose alone."""
    a = sample.tool if found.mounting == "eye-in-hand" else inverse(sample.tool)
    middle = inverse(a @ found.camera) @ found.board
    points = board.corners[indices] - np.array([*(0.5 * np.array(board.size)), 0.0])
    return camera.project(points @ middle[:3, :3].T + middle[:3, 3])


def _figure(width: float, height: float, columns: int = 1) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, columns)


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path)
