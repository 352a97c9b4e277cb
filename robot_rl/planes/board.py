"""Where a control process says what it does: in its slots `status`, `timing` and `report`, whatever the robot."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hardware.realtime.histogram import Histogram
from hardware.realtime.loop import DeadlineLoop
from hardware.realtime.seqlock import SlotWriter
from robot_rl.planes import records

_STATUS_PERIOD = 0.02
_TIMING_PERIOD = 0.5


class Board:
    """Where a control process says what it does: its status, the timing of its loop, its counters."""

    def __init__(self, folder: Path, loop: DeadlineLoop, report: Callable[[], Mapping[str, Any]]) -> None:
        """Take the three slots over; nothing is written yet.

        Args:
            folder: Of the slots.
            loop: Whose timing is told.
            report: The counters by name, plain data; asked for every 0.5 s.

        Raises:
            SlotError: Another control process writes them.
        """
        self.loop = loop
        self.record = records.new(records.STATUS)
        """Of the status: the process fills what is its own (`follow`, ages, `driver_fault`, ...) before `say`."""
        self.state_age, self.command_age = Histogram(), Histogram()
        """Of what the robot moves on, at the ticks that move it."""
        self._report_of = report
        self._status = SlotWriter(folder, "status", records.STATUS)
        self._timing = SlotWriter(folder, "timing", records.TIMING)
        self._report = SlotWriter(folder, "report", records.REPORT)
        period = 1.0 / loop.rate_hz
        self._every, self._often = (max(1, round(each / period)) for each in (_STATUS_PERIOD, _TIMING_PERIOD))
        self._said = ("", "")

    def say(self, mode: str, cause: str, latched: bool, now: float) -> None:
        """What there is to say, once per tick: the status at every change and every 20 ms, the rest every 0.5 s.

        Args:
            mode: Of the safety state.
            cause: Why, in words.
            latched: Whether only `recover` leads on.
            now: s, `time.monotonic()` of the tick.
        """
        # Ages in a cause grow from tick to tick: the first one stays until something else is wrong.
        kind = (mode, "".join(c for c in cause if not c.isdigit() and c != "."))
        changed = kind != self._said
        if changed:
            self._said = kind
            self.note(mode, cause, latched, now)
        record = self.record
        record["mode"], record["cause"], record["latched"] = mode.encode(), records.encode(cause), latched
        ticks = self.loop.ticks
        if changed or ticks % self._every == 0:
            self._write_status(now)
        # In different ticks, so that none of them is long.
        if ticks % self._often == self._often // 2:
            self._write_timing()
        elif ticks % self._often == 0:
            self._report.write(records.fill_report(records.new(records.REPORT), self._report_of()))

    def answer(self, number: int, granted: bool, why: str, now: float) -> None:
        """The answer to a request, at once."""
        record = self.record
        record["request_id"], record["request_ok"], record["request_text"] = number, granted, records.encode(why)
        self._write_status(now)

    def note(self, mode: str, cause: str, latched: bool, now: float) -> None:
        """Keep a change of the safety state with its time, for the next status."""
        record = self.record
        for name in ("change_stamps", "change_modes", "change_causes", "change_latched"):
            record[name][1:] = record[name][:-1].copy()
        record["change_stamps"][0], record["change_modes"][0] = now, mode.encode()
        record["change_causes"][0], record["change_latched"][0] = records.encode(cause), latched
        record["since"] = now
        record["changes"] += 1

    def stopped(self, why: str) -> None:
        """The last word: the process has stopped the robot and ends."""
        self.note("stopped", why, True, time.monotonic())
        self.record["mode"], self.record["follow"] = b"stopped", b"brake"
        self.record["cause"] = records.encode(why)
        self._status.write(self.record)

    def say_realtime(self, words: str) -> None:
        """What the system permitted, for the status."""
        self.record["realtime"] = records.encode(words)

    def close(self) -> None:
        """Let go of the memory."""
        for slot in (self._status, self._timing, self._report):
            slot.close()

    def _write_status(self, now: float) -> None:
        self.record["ticks"], self.record["lost_periods"] = self.loop.ticks, self.loop.lost_periods
        self._status.write(self.record, now)

    def _write_timing(self) -> None:
        record, loop = records.new(records.TIMING), self.loop
        record["rate_hz"], record["ticks"], record["lost_periods"] = loop.rate_hz, loop.ticks, loop.lost_periods
        for name in records.HISTOGRAMS:
            records.fill_histogram(record, name, getattr(loop if hasattr(loop, name) else self, name))
        self._timing.write(record)
