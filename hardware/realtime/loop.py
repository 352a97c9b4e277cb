"""A loop with absolute deadlines: the n-th tick is due n periods after the first, whatever the ticks before took.

A deadline that has passed is lost: it is counted and never caught up, since a burst of late ticks would be worse than
a gap. Wake-up error, work and period are counted in histograms of fixed size.
"""

from __future__ import annotations

import ctypes
import errno
import sys
import time

from hardware.realtime.histogram import Histogram

_ABSOLUTE = 1


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class DeadlineLoop:
    """`while …: loop.wait(); work()`."""

    def __init__(self, rate_hz: float) -> None:
        """Prepare; the first `wait` returns at once and sets the beginning."""
        if not rate_hz > 0.0:
            raise ValueError(f"rate is {rate_hz} Hz; expected a positive one")
        self.rate_hz, self._period = rate_hz, round(1e9 / rate_hz)
        self.ticks = 0
        """Calls of `wait` so far."""
        self.lost_periods = 0
        """Deadlines at which no tick began."""
        self.wake_error, self.work, self.period = Histogram(), Histogram(), Histogram()
        self._due = self._woken = 0
        self._until = _Timespec()
        self._sleep = None
        if sys.platform == "linux":
            self._sleep = ctypes.CDLL(None).clock_nanosleep
            self._address = ctypes.byref(self._until)

    def wait(self) -> float:
        """Sleep until the next deadline; returns `time.monotonic()` in s after waking up.

        A signal's handler runs when it comes; the deadline stays.
        """
        now = time.monotonic_ns()
        if self.ticks == 0:
            self.ticks, self._due, self._woken = 1, now, now
            return now * 1e-9
        self.work.record((now - self._woken) * 1e-9)
        self._due += self._period
        if now > self._due:
            self._skip(now)
        now = self._sleep_until(self._due)
        self.wake_error.record((now - self._due) * 1e-9)
        self.period.record((now - self._woken) * 1e-9)
        # Woken after the next deadline: those in between are lost too.
        if now - self._due >= self._period:
            late = (now - self._due) // self._period
            self.lost_periods += late
            self._due += late * self._period
        self.ticks += 1
        self._woken = now
        return now * 1e-9

    def _skip(self, now: int) -> None:
        missed = (now - self._due) // self._period + 1
        self.lost_periods += missed
        self._due += missed * self._period

    def _sleep_until(self, due: int) -> int:
        while (now := time.monotonic_ns()) < due:
            if self._sleep is None:
                time.sleep((due - now) * 1e-9)
                continue
            self._until.seconds, self._until.nanoseconds = divmod(due, 1_000_000_000)
            problem = self._sleep(time.CLOCK_MONOTONIC, _ABSOLUTE, self._address, None)
            if problem not in (0, errno.EINTR):
                raise OSError(problem, "clock_nanosleep failed")
        return now
