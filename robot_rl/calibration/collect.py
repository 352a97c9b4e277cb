"""Takes pictures of a board from a running camera, each when the board has moved."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hardware.perception.boards import Board, find_board
from hardware.perception.capture import Capture
from policies.camera import opencv

_STEP = 0.06
"""Mean way of the board's corners between two pictures, as a share of the picture's width."""
_STILL = 0.004
"""Way between two looks below which the board is held still: a moving board is blurred."""


def collect(
    capture: Capture, board: Board, folder: Path, count: int, timeout: float, say: Callable[[str], None]
) -> int:
    """Save `count` different views of a board as PNG files to `folder`, for at most `timeout` s; returns how many.

    A file that has come to its end, or a camera that is silent for 5 s, ends it too.
    """
    cv2 = opencv()
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("view_*.png"):
        old.unlink()
    taken: list[np.ndarray] = []
    before: np.ndarray | None = None
    number, end = 0, time.monotonic() + timeout
    say(f"show the board near and far, tilted, and out to the corners of the picture: {count} views are needed")
    while len(taken) < count and time.monotonic() < end:
        frame = capture.wait(number, timeout=5.0)
        if frame is None:
            break
        number = frame.number
        sighting = find_board(board, frame.image)
        if sighting is None:
            before = None
            continue
        now = np.full((len(board.corners), 2), np.nan)
        now[sighting.indices] = sighting.pixels
        width = frame.image.shape[1]
        still = before is not None and _way(now, before) < _STILL * width
        before = now
        if (still or not capture.is_live) and all(_way(now, other) > _STEP * width for other in taken):
            taken.append(now)
            cv2.imwrite(str(folder / f"view_{len(taken):03d}.png"), cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR))
            say(f"view {len(taken)} of {count}")
    return len(taken)


def _way(now: np.ndarray, before: np.ndarray) -> float:
    """Mean way of corners that are in both; infinite without any."""
    ways = np.linalg.norm(now - before, axis=1)
    return float(np.nanmean(ways)) if np.any(np.isfinite(ways)) else np.inf
