"""What a person who looks on can do, and the clock that keeps to real time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

SPEEDS = (0.1, 8.0)
"""Slowest and fastest factor of real time."""
_LATE = 0.2
"""s behind real time from which on the clock gives up catching up."""
_POLL = 0.05


class Controls:
    """Pause, single step, next episode, speed, end; set by the threads of windows and browsers."""

    def __init__(self, speed: float = 1.0) -> None:
        """Not paused.

        Args:
            speed: Factor of real time.
        """
        self._changed = threading.Condition()
        self._paused = False
        self._steps = 0
        self._speed = speed
        self._next = False
        self._closed = False

    @property
    def paused(self) -> bool:
        """Whether time stands still."""
        return self._paused

    @property
    def speed(self) -> float:
        """Factor of real time."""
        return self._speed

    @property
    def closed(self) -> bool:
        """Whether it is over."""
        return self._closed

    def pause(self, paused: bool | None = None) -> None:
        """Stop or go on; without argument the other one of the two."""
        self._set("_paused", not self._paused if paused is None else paused)

    def step(self) -> None:
        """Stop, and play one control period."""
        with self._changed:
            self._paused = True
            self._steps += 1
            self._changed.notify_all()

    def next(self) -> None:
        """End this episode and begin another one."""
        self._set("_next", True)

    def close(self) -> None:
        """End everything."""
        self._set("_closed", True)

    def set_speed(self, speed: float) -> None:
        """Change the factor of real time, kept within `SPEEDS`."""
        self._set("_speed", min(max(speed, SPEEDS[0]), SPEEDS[1]))

    def take_next(self) -> bool:
        """Whether another episode was asked for since the last call."""
        with self._changed:
            asked, self._next = self._next, False
            return asked

    @property
    def hurried(self) -> bool:
        """Whether somebody waits for this episode to end."""
        return self._next or self._closed

    def gate(self, alive: Callable[[], bool]) -> bool:
        """Wait while paused. Returns whether time stood still.

        Args:
            alive: Asked now and then; waiting ends where it says no.
        """
        waited = False
        with self._changed:
            while self._paused and not self._steps and not self.hurried and alive():
                waited = True
                self._changed.wait(_POLL)
            self._steps = max(0, self._steps - 1)
        return waited

    def sleep(self, seconds: float) -> None:
        """Wait, unless somebody is in a hurry."""
        end = time.monotonic() + seconds
        with self._changed:
            while not self.hurried and (left := end - time.monotonic()) > 0.0:
                self._changed.wait(left)

    def _set(self, name: str, value: float | bool) -> None:
        with self._changed:
            setattr(self, name, value)
            self._changed.notify_all()


class Clock:
    """Keeps simulated time at real time: deadlines are absolute, so that errors do not add up."""

    def __init__(self, controls: Controls) -> None:
        """Begin.

        Args:
            controls: Their speed counts.
        """
        self._controls = controls
        self.restart(0.0)

    def restart(self, simulated: float) -> None:
        """It is `simulated` s now."""
        self._wall, self._simulated, self._speed = time.monotonic(), simulated, self._controls.speed

    def wait(self, simulated: float) -> None:
        """Sleep until it is `simulated` s; where that has long passed, go on from now."""
        if self._speed != self._controls.speed:
            self.restart(simulated)
            return
        left = self._wall + (simulated - self._simulated) / self._speed - time.monotonic()
        if left > 0.0:
            self._controls.sleep(left)
        elif left < -_LATE:
            self.restart(simulated)
