"""Where a frame was when a picture was taken: measured poses of the last second, interpolated."""

from __future__ import annotations

from collections import deque

import numpy as np

from hardware.perception import poses


class PoseBuffer:
    """Poses (4, 4) by time; never holds more than `length`."""

    def __init__(self, gap: float = 0.02, length: int = 2000) -> None:
        """Poses further than `gap` s from the asked time are of no use unless there is one on either side."""
        self.gap = gap
        self._entries: deque[tuple[float, np.ndarray]] = deque(maxlen=length)

    def add(self, stamp: float, pose: np.ndarray) -> str:
        """Take a pose (4, 4); returns why it is refused, or ""."""
        if not np.all(np.isfinite(pose)):
            return "the pose is not finite"
        if self._entries and stamp <= self._entries[-1][0]:
            if self._entries[-1][0] - stamp < 1.0:
                return f"the stamp {stamp:.3f} s does not advance"
            self._entries.clear()  # the clock was set back
        self._entries.append((stamp, pose))
        return ""

    def at(self, stamp: float) -> np.ndarray | None:
        """The pose at `stamp` s, between its neighbours; None if none is near enough."""
        after: tuple[float, np.ndarray] | None = None
        for entry in reversed(self._entries):
            if entry[0] <= stamp:
                return self._between(entry, after, stamp)
            after = entry
        return after[1] if after is not None and after[0] - stamp <= self.gap else None

    def _between(
        self, before: tuple[float, np.ndarray], after: tuple[float, np.ndarray] | None, stamp: float
    ) -> np.ndarray | None:
        if after is None or after[0] - before[0] > 5.0 * self.gap:
            near = before if after is None or stamp - before[0] <= after[0] - stamp else after
            return near[1] if abs(near[0] - stamp) <= self.gap else None
        share = (stamp - before[0]) / (after[0] - before[0])
        return poses.changed(before[1], share * poses.change_between(before[1], after[1]))
