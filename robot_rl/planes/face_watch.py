"""The control process's view of its face: whether it lives, and what it asks for."""

from __future__ import annotations

import math
from pathlib import Path

from hardware.realtime.seqlock import SlotReader
from robot_rl.planes import records


class FaceWatch:
    """The control process's view of its face: whether it lives, and what it asks for."""

    def __init__(self, folder: Path, timeout: float) -> None:
        """Attach; what was asked of an earlier control process is not asked of this one.

        Args:
            folder: Of the slots.
            timeout: s without a sign of life after which the face counts as dead; 0: it needs to give none.
        """
        self.timeout = timeout
        self._face = SlotReader(folder, "face", records.FACE)
        self._requests = SlotReader(folder, "request", records.REQUEST)
        self._seen = -math.inf
        reading = self._requests.read_new()
        self._estops = 0 if reading is None else int(reading.record["estops"])

    def problem(self, now: float) -> str:
        """Why the face counts as dead at `now` s of `time.monotonic()`, or ""."""
        if self.timeout <= 0.0:
            return ""
        face = self._face.sequence
        if face != self._face.last_sequence and (reading := self._face.read_new()) is not None:
            self._seen = min(reading.stamp, now)
        age = now - self._seen
        if age <= self.timeout:
            return ""
        said = "never gave a sign of life" if math.isinf(age) else f"gave no sign of life for {1e3 * age:.0f} ms"
        return f"the face of the control process {said} (limit {1e3 * self.timeout:.0f} ms)"

    def take(self) -> tuple[int, str, bool] | None:
        """A new request, or None.

        Returns:
            Its number, for the answer; its name as in `records.REQUESTS`, "" where there is no such request; whether
            an emergency stop came since the one before, perhaps hidden behind this one.
        """
        reading = self._requests.read_new()
        if reading is None:
            return None
        number, kind, estops = (int(reading.record[name]) for name in ("id", "kind", "estops"))
        stopped, self._estops = estops != self._estops, estops
        name = records.REQUESTS[kind - 1] if 1 <= kind <= len(records.REQUESTS) else ""
        return number, name, stopped

    def close(self) -> None:
        """Let go of the memory."""
        self._face.close()
        self._requests.close()
