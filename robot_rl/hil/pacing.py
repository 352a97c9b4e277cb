"""A fixed rate by absolute deadlines, and how well it was kept."""

from __future__ import annotations

import time

import numpy as np


class Pacer:
    """Waits for the end of each control period. A late step does not delay those after it."""

    def __init__(self, period: float, keep: int = 20_000) -> None:
        """Prepare for periods of `period` s; statistics are over the last `keep` of them."""
        self.period = period
        self._waits = np.full(keep, np.nan)
        self._count = 0
        self.late = 0
        """Periods that ended after their deadline."""
        self.begin()

    def begin(self) -> None:
        """An episode begins now: nothing before it counts."""
        self._deadline = time.perf_counter() + self.period
        self._last = time.perf_counter()

    def wait(self) -> None:
        """Wait for the end of the period."""
        left = self._deadline - time.perf_counter()
        if left > 0.0:
            time.sleep(left)
        now = time.perf_counter()
        self.late += left <= 0.0
        self._waits[self._count % len(self._waits)] = now - self._last
        self._count += 1
        self._last = now
        self._deadline += self.period
        if self._deadline < now:  # more than a whole period late: the missed ones are not made up for
            self._deadline = now + self.period

    def report(self) -> dict[str, float]:
        """Mean, median and 99th percentile of the period, its largest value, s, and how many ended late."""
        seen = self._waits[: min(self._count, len(self._waits))]
        if not len(seen):
            return {"wanted": self.period, "count": 0, "late": 0}
        return {
            "wanted": self.period,
            "count": self._count,
            "mean": float(seen.mean()),
            "p50": float(np.percentile(seen, 50)),
            "p99": float(np.percentile(seen, 99)),
            "p99_error": float(np.percentile(np.abs(seen - self.period), 99)),
            "worst": float(seen.max()),
            "late": self.late,
        }
