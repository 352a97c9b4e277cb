"""A vehicle's clock on ours by question and answer: when something was measured, on `time.monotonic()`.

The vehicle's stamp belongs between our sending and our receiving. Of the newest exchanges the quickest is believed;
its error is at most half its round trip. The window lets it follow the drift of two quartzes. Until there is an
answer, `RobotClock` estimates from arrivals alone: right up to the shortest delay of the link, which nobody sees.
"""

from __future__ import annotations

import math
from collections import deque

from hardware.drivers.support import RobotClock


class RemoteClock:
    """Offset between a vehicle's clock and ours, from what was exchanged lately. All times in s."""

    def __init__(self, window: int = 30) -> None:
        """Know nothing; remember `window` exchanges."""
        self._trips: deque[tuple[float, float]] = deque(maxlen=window)
        """Round trip and offset."""
        self._best = (math.inf, 0.0)
        self._arrivals = RobotClock()

    def round_trip(self, sent: float, remote: float, received: float) -> None:
        """An exchange: our clock at sending, theirs at answering, ours at receiving."""
        trip, offset = received - sent, 0.5 * (sent + received) - remote
        if trip < 0.0 or not math.isfinite(offset):
            return
        if self._trips and abs(offset - self._best[1]) > 0.5 * (trip + self._best[0]) + 0.5:
            self._trips.clear()  # it contradicts the past: the vehicle has booted anew
        self._trips.append((trip, offset))
        self._best = min(self._trips)

    @property
    def synchronized(self) -> bool:
        """Whether an exchange is known."""
        return bool(self._trips)

    @property
    def uncertainty(self) -> float:
        """The most by which a stamp may be wrong; inf without an exchange."""
        return 0.5 * self._best[0]

    def local(self, remote: float, received: float) -> float:
        """`remote` of their clock on ours; never later than `received`, when it was heard of."""
        arrived = self._arrivals.stamp(remote, received)
        return min(remote + self._best[1], received) if self._trips else arrived
