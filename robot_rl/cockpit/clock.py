"""The page's clock on ours: a command that lay in the network for a second must not look fresh when it arrives.

The server asks for the page's time now and then. The answer was given between question and receipt, so that the
offset of the clocks is known to within half the way there and back; the quickest of the last answers is believed.
"""

from __future__ import annotations

import math
from collections import deque

_KEPT = 30
"""Answers that count: with one a second, drift of the clocks does not matter."""
_SLOW = 2.0
"""s there and back above which an answer says nothing."""


class ClockOffset:
    """Estimates what has to be added to the page's time, s."""

    def __init__(self) -> None:
        self._answers: deque[tuple[float, float]] = deque(maxlen=_KEPT)

    def answer(self, asked: float, theirs: float, received: float) -> None:
        """The page answered.

        Args:
            asked: Our time at which it was asked, s.
            theirs: What it said, s.
            received: Our time at which its answer came, s.
        """
        way = received - asked
        if 0.0 <= way <= _SLOW and math.isfinite(theirs):
            self._answers.append((way, 0.5 * (asked + received) - theirs))

    @property
    def known(self) -> bool:
        """Whether there is an estimate."""
        return bool(self._answers)

    @property
    def round_trip(self) -> float:
        """Shortest way there and back, s; infinite without an estimate."""
        return min((way for way, _ in self._answers), default=math.inf)

    def ours(self, theirs: float, received: float) -> float:
        """Our time of an event that the page stamped `theirs`, never after its receipt; -inf without an estimate."""
        if not self._answers or not math.isfinite(theirs):
            return -math.inf
        _, offset = min(self._answers)
        return min(theirs + offset, received)
