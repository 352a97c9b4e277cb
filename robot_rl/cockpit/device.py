"""The page as a teleoperation device: what the driver's hands said last, and how old that is.

Ages count from the moment at which the page looked at hands and sticks, on the server's clock. A command without a
place on that clock, out of order or already stale when it arrives moves nothing. A page that is gone, or silent for
150 ms, is a device without a held dead-man: the robot stops.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hardware.teleop.device import BUTTONS, DeviceConfig, Motion, Sample, scaled
from robot_rl.cockpit.clock import ClockOffset
from robot_rl.cockpit.messages import Command

_ALWAYS = frozenset({"pause"})
"""Buttons that count however late they come: whoever wants the robot to rest gets it."""


@dataclass
class Counts:
    """What became of the commands of the page."""

    taken: int = 0
    """Obeyed."""
    stale: int = 0
    """Refused: older than `stale_after` when they came, or of unknown age."""
    disordered: int = 0
    """Refused: overtaken by a later one."""


class PageDevice:
    """What the driver's page says; fed by the server's thread, read by the robot's."""

    name = "page"
    motion: Motion = "twist"

    def __init__(self, config: DeviceConfig | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """Nobody drives yet.

        Args:
            config: Speeds, and when input is stale.
            clock: s, that of the server.
        """
        self.config = config or DeviceConfig()
        self.counts = Counts()
        self.latency = math.nan
        """s from hands to here of the last command."""
        self._clock = clock
        self._lock = threading.Lock()
        self._occupied = False
        self._last: Command | None = None
        self._at = -math.inf
        self._sequence = -1
        self._pressed: set[str] = set()
        self._closer: Callable[[], None] | None = None
        self.paused: Callable[[], bool] = lambda: False
        """Whether the robot rests already; set by whoever reads the device."""

    # From the server

    def occupy(self, occupied: bool) -> None:
        """Somebody has taken the seat or left it: what was held before is let go."""
        with self._lock:
            self._occupied = occupied
            self._last, self._at, self._sequence = None, -math.inf, -1
            self._pressed.clear()

    def feed(self, command: Command, received: float, offset: ClockOffset) -> str:
        """Take a command of the driver. Returns why it moves nothing, or nothing."""
        at = offset.ours(command.at, received)
        with self._lock:
            if not self._occupied:
                return "nobody has the seat"
            if command.sequence <= self._sequence:
                self.counts.disordered += 1
                return f"command {command.sequence} came after {self._sequence}"
            self._sequence = command.sequence
            if received - at > self.config.stale_after:
                self.counts.stale += 1
                self._pressed |= command.pressed & _ALWAYS
                return f"command {command.sequence} was {received - at:.2f} s old when it came"
            self._last, self._at = command, at
            self._pressed |= command.pressed
            self.counts.taken += 1
            self.latency = received - at
            return ""

    def stop(self) -> None:
        """Somebody who watches wants the robot to rest."""
        if not self.paused():  # pause is a toggle
            with self._lock:
                self._pressed.add("pause")

    # As a device

    def read(self) -> Sample:
        """The newest sample. Never blocks."""
        with self._lock:
            last, pressed, occupied = self._last, frozenset(self._pressed), self._occupied
            self._pressed.clear()
            age = self._clock() - self._at
        if not occupied or last is None:
            return Sample(pressed=pressed & _ALWAYS, connected=False)
        moves = last.dead_man and last.clutch and age <= self.config.stale_after
        return Sample(
            twist=scaled(np.array(last.motion), self.config, "slow" in last.held) if moves else np.zeros(6),
            buttons=last.held,
            pressed=pressed,
            engaged=last.clutch and last.dead_man,
            dead_man=last.dead_man and age <= self.config.stale_after,
            age=age,
            connected=True,
        )

    def help(self) -> str:
        """How the page drives."""
        lines = ["page: take the seat, then HOLD the space bar, a stick or a gamepad's shoulder button to drive"]
        return "\n".join([*lines, *(f"  {name:<24}{meaning}" for name, meaning in BUTTONS.items())])

    def on_close(self, closer: Callable[[], None]) -> None:
        """What `close` ends, such as a server of its own."""
        self._closer = closer

    def close(self) -> None:
        """Let it go."""
        self.occupy(False)
        closer, self._closer = self._closer, None
        if closer is not None:
            closer()
