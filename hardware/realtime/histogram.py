"""Timing statistics of a control loop in fixed memory: a histogram with logarithmic bins."""

from __future__ import annotations

import math

import numpy as np


class Histogram:
    """Counts durations from 1 µs to 100 s; a percentile is known to 3 %, the maximum exactly.

    `record` is a constant-time increment and never allocates, so that it may run in a control loop.
    """

    LOWEST = 1e-6
    """s, lower edge of the first bin; what is shorter is counted there."""
    BINS_PER_DECADE = 40
    """6 % per bin."""
    DECADES = 8
    """From 1 µs to 100 s; what is longer is counted in the last bin."""
    BINS = BINS_PER_DECADE * DECADES

    def __init__(self) -> None:
        self._counts = np.zeros(self.BINS, dtype=np.int64)
        self._sum = 0.0
        self._max = 0.0

    def record(self, seconds: float) -> None:
        """Count one duration; negative ones count as 0, non-finite ones as the longest bin."""
        if not math.isfinite(seconds):
            self._counts[-1] += 1
            return
        seconds = max(0.0, seconds)
        index = 0
        if seconds > self.LOWEST:
            index = int(self.BINS_PER_DECADE * math.log10(seconds / self.LOWEST))
        self._counts[min(index, len(self._counts) - 1)] += 1
        self._sum += seconds
        self._max = max(self._max, seconds)

    @property
    def count(self) -> int:
        """How many durations were recorded."""
        return int(self._counts.sum())

    @property
    def counts(self) -> np.ndarray:
        """Shape (BINS,), how many fell into each bin; not to be written to."""
        return self._counts

    @property
    def sum(self) -> float:
        """Of the finite durations, s."""
        return self._sum

    @classmethod
    def restore(cls, counts: np.ndarray, total: float, longest: float) -> Histogram:
        """A histogram from `counts`, `sum` and `max` of another one."""
        histogram = cls()
        histogram._counts[:] = counts
        histogram._sum, histogram._max = total, longest
        return histogram

    @property
    def max(self) -> float:
        """Longest finite duration in s, 0 if there is none."""
        return self._max

    def percentile(self, percent: float) -> float:
        """Duration in s that `percent` (0 to 100) of the recorded ones do not exceed; nan if none."""
        if not 0.0 <= percent <= 100.0:
            raise ValueError(f"percent is {percent}; expected 0 to 100")
        total = self.count
        if total == 0:
            return math.nan
        rank = max(1, math.ceil(percent / 100.0 * total))
        index = int(np.searchsorted(np.cumsum(self._counts), rank))
        # The middle of the bin on its logarithmic axis, but never beyond what was seen.
        return min(self.LOWEST * 10.0 ** ((index + 0.5) / self.BINS_PER_DECADE), self._max)

    def merge(self, other: Histogram) -> None:
        """Add what another histogram has counted."""
        self._counts += other._counts
        self._sum += other._sum
        self._max = max(self._max, other._max)

    def to_dict(self) -> dict[str, float | int]:
        """Count, and mean, p50, p99 and max in s, as plain data; zeros if nothing was recorded."""
        if self.count == 0:
            return {"count": 0, "mean": 0.0, "p50": 0.0, "p99": 0.0, "max": 0.0}
        return {
            "count": self.count,
            "mean": self._sum / self.count,
            "p50": self.percentile(50.0),
            "p99": self.percentile(99.0),
            "max": self._max,
        }

    def to_chart(self) -> dict[str, float | int | list[int] | list[float]]:
        """Quantiles and the used part of the histogram in µs, ten bins a decade: what a report draws."""
        merged = self._counts.reshape(-1, 4).sum(axis=1)
        used = np.flatnonzero(merged)
        first, last = (int(used[0]), int(used[-1]) + 1) if used.size else (0, 0)
        edges = self.LOWEST * 1e6 * 10.0 ** (4.0 * np.arange(first, last + 1) / self.BINS_PER_DECADE)
        summary = self.to_dict()
        return {
            "count": summary["count"],
            **{f"{key}_us": round(1e6 * summary[key], 1) for key in ("p50", "p99", "max")},
            "counts": merged[first:last].tolist(),
            "edges_us": [round(float(edge), 1) for edge in edges],
        }
