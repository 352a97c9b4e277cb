"""One driver at a time: whoever takes the seat while it is free; the others watch."""

from __future__ import annotations

import time
from collections.abc import Callable

SILENT = 3.0
"""s without a word from the driver after which the seat is free: their page is dead, though its connection is not."""


class Seat:
    """Who drives."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heard = 0.0
        self.driver: str = ""
        """Who sits in it; empty while it is free."""

    def take(self, who: str) -> str:
        """Sit down. Returns why not, or nothing where they sit now."""
        self.expire()
        if self.driver and self.driver != who:
            return f"{self.driver} drives; the seat has to be left before somebody else can take it"
        self.driver, self._heard = who, self._clock()
        return ""

    def leave(self, who: str) -> bool:
        """Stand up; whether they sat."""
        if self.driver != who or not who:
            return False
        self.driver = ""
        return True

    def hear(self, who: str) -> bool:
        """The driver is still there; false where that is somebody else."""
        if self.driver != who:
            return False
        self._heard = self._clock()
        return True

    def expire(self) -> bool:
        """Free the seat of a silent driver; whether that was needed."""
        if self.driver and self._clock() - self._heard > SILENT:
            self.driver = ""
            return True
        return False
