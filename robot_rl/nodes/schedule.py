"""Absolute deadlines on any clock, with lost periods counted."""

from __future__ import annotations

from hardware.realtime.histogram import Histogram

_JUMP = 3600.0
"""Time in s that no process is late by: then it was the clock that jumped."""


class Schedule:
    """Deadlines at multiples of a period after the start; a lost one is counted, never caught up."""

    def __init__(self, period: float, now: float) -> None:
        self.period = period
        self.deadline = now + period
        self.skipped = 0
        self.lateness = Histogram()

    def wait(self, now: float) -> float:
        """Time in s until the next deadline, 0 if it has passed."""
        return max(0.0, self.deadline - now)

    def due(self, now: float) -> bool:
        """Whether a deadline has passed; if so, the next one is the first in the future."""
        if self.deadline - now > 2.0 * self.period:  # the clock was set back
            self.deadline = now + self.period
        late = now - self.deadline
        if late < 0.0:
            return False
        if late > _JUMP:  # the clock was set forward, or simulated time has begun
            self.deadline = now + self.period
            return True
        lost = int(late / self.period)
        self.skipped += lost
        self.lateness.record(late)
        self.deadline += (lost + 1) * self.period
        return True
