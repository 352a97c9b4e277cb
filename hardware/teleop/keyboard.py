"""The keyboard of a terminal: works over SSH and on Wayland, needs no rights and no package.

A terminal says when a key goes down and repeats it while it is held, but never that it is up. A key counts as held
until `repeat_hold` s have passed without a repeat. Terminals wait 250 to 660 ms before the first repeat, so that a key
that is held moves, rests and moves on; `first_hold` bridges the rest at the price that every tap moves for as long.
Only the key pressed last repeats. Over a slow link keys come in bursts, which count once: motion never queues up.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import signal
import termios
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import numpy as np

from hardware.teleop.device import BUTTONS, DeviceConfig, DeviceError, Motion, Sample, check_buttons, scaled
from hardware.teleop.keys import KeyDecoder
from hardware.teleop.reader import Reader

MOST_AT_ONCE = 6
"""Different keys in one read; more were pasted or are noise, and none of them counts."""

AXES = ("x", "y", "z", "rx", "ry", "rz")

MOTIONS: Mapping[str, str] = {
    "w": "+x", "s": "-x", "a": "+y", "d": "-y", "r": "+z", "f": "-z",
    "q": "+rz", "e": "-rz", "i": "+ry", "k": "-ry", "j": "-rx", "l": "+rx",
    "up": "+x", "down": "-x", "left": "+y", "right": "-y", "page_up": "+z", "page_down": "-z",
}  # fmt: skip
"""Directions by key: x forward, y to the left, z up, r… turns about that axis."""

KEY_BUTTONS: Mapping[str, str] = {
    "space": "gripper", "enter": "take_over", "backspace": "hand_back", "p": "pause", "escape": "pause",
    "tab": "next_arm", "c": "slow", "Y": "success", "N": "failure", "X": "discard", "R": "reset",
}  # fmt: skip
"""Buttons by key; what ends an episode takes the shift key."""


@dataclass(frozen=True, kw_only=True)
class KeyboardConfig(DeviceConfig):
    """How a keyboard drives."""

    first_hold: float = 0.15
    """s for which the first press of a key moves; 0.7 bridges the wait for its first repeat."""
    repeat_hold: float = 0.15
    """s for which a repeat moves, longer than the 30 to 92 ms between repeats."""
    press_gap: float = 0.7
    """s that a button's key must be silent before it counts as pressed anew: longer than any wait for a repeat."""
    clutch_hold: float = 1.0
    """s after the last key for which the person still counts as driving."""
    motions: Mapping[str, str] = field(default_factory=lambda: MOTIONS)
    """Direction, such as `+x` or `-rz`, by key."""
    buttons: Mapping[str, str] = field(default_factory=lambda: KEY_BUTTONS)
    """Button, see `device.BUTTONS`, by key."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_buttons(self.buttons.values(), "keyboard")
        for key, direction in self.motions.items():
            if direction[:1] not in ("+", "-") or direction[1:] not in AXES:
                raise ValueError(f"keyboard: key {key!r} moves {direction!r}; expected + or - and one of {AXES}")
        if both := set(self.motions) & set(self.buttons):
            raise ValueError(f"keyboard: key {min(both)!r} is both a motion and a button")


class Keyboard:
    """A terminal's keyboard in raw mode, until `close`, the end of the program, SIGTERM or SIGHUP.

    Ctrl-C still interrupts; Ctrl-Z is off, because it would freeze the process that drives the robot.
    """

    name = "keyboard"
    motion: Motion = "twist"

    def __init__(self, config: KeyboardConfig | None = None, path: str = "/dev/tty") -> None:
        """Take over the terminal at `path`.

        Raises:
            DeviceError: There is no terminal, or this process runs in its background.
        """
        self.config = config or KeyboardConfig()
        self._path = path
        self._lock = threading.Lock()
        self._decoder = KeyDecoder()
        self._until: dict[str, float] = {}
        self._last: dict[str, float] = {}
        self._pressed: set[str] = set()
        self._engaged_until = -1.0
        self._slow = False
        self._terminal = _RawTerminal(path)
        try:
            self._reader = Reader(self.name, self._open, self._feed, self._forget)
        except OSError:
            self._terminal.restore()
            raise

    def read(self) -> Sample:
        """The newest sample. Never blocks."""
        age, connected = self._reader.age, self._reader.connected
        with self._lock:
            now = time.monotonic()
            self._take(self._decoder.flush(now), now)
            held = {key for key, until in self._until.items() if until > now}
            pressed, self._pressed = frozenset(self._pressed), set()
            engaged = connected and now < self._engaged_until
            slow = self._slow
        direction = np.zeros(6)
        for key in held & set(self.config.motions):
            sign, axis = self.config.motions[key][0], self.config.motions[key][1:]
            direction[AXES.index(axis)] += 1.0 if sign == "+" else -1.0
        fresh = connected and age <= self.config.stale_after
        down = {self.config.buttons[key] for key in held & set(self.config.buttons)}
        return Sample(
            twist=scaled(direction, self.config, slow) if fresh and engaged else np.zeros(6),
            buttons=frozenset(down),
            pressed=pressed if connected else frozenset(),
            engaged=engaged,
            dead_man=engaged,
            age=age,
            connected=connected,
        )

    def help(self) -> str:
        """Its keys."""
        moves: dict[str, list[str]] = {}
        for key, direction in self.config.motions.items():
            moves.setdefault(direction, []).append(key)
        lines = [f"  {' or '.join(keys):<18}{direction}" for direction, keys in moves.items()]
        presses: dict[str, list[str]] = {}
        for key, name in self.config.buttons.items():
            presses.setdefault(name, []).append(f"shift+{key.lower()}" if key.isupper() else key)
        lines += [f"  {' or '.join(keys):<18}{BUTTONS[name]}" for name, keys in presses.items()]
        stop = f"motion ends {self.config.repeat_hold:g} s after a key is let go"
        return "\n".join([f"keyboard (x forward, y left, z up, r… turns; {stop}):", *lines])

    def close(self) -> None:
        """Give the terminal back."""
        self._reader.close()
        self._terminal.restore()

    def _open(self) -> int:
        return os.open(self._path, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)

    def _feed(self, data: bytes, now: float) -> None:
        with self._lock:
            self._take(self._decoder.feed(data, now), now)

    def _forget(self) -> None:
        with self._lock:
            self._until, self._pressed, self._engaged_until = {}, set(), -1.0

    def _take(self, keys: list[str], now: float) -> None:
        if len(set(keys)) > MOST_AT_ONCE:
            return
        config = self.config
        for key in dict.fromkeys(keys):
            repeated = self._until.get(key, -1.0) > now
            self._until[key] = now + (config.repeat_hold if repeated else config.first_hold)
            button = config.buttons.get(key)
            if button is not None and now - self._last.get(key, -1e9) > config.press_gap:
                self._pressed.add(button)
                self._slow ^= button == "slow"
            if key in config.motions or button == "gripper":
                self._engaged_until = now + config.clutch_hold
            self._last[key] = now


class _RawTerminal:
    """A terminal without echo and line editing, and the way back."""

    def __init__(self, path: str) -> None:
        self._descriptor = -1
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY)
            self._saved: list[Any] | None = termios.tcgetattr(self._descriptor)
        except (OSError, termios.error) as error:
            if self._descriptor >= 0:
                os.close(self._descriptor)
            raise DeviceError(
                f"no terminal at {path} ({error.args[-1]}): the keyboard is that of the terminal in which the program "
                "runs; start it in one (over SSH with `ssh -t`), not from a service or a detached process"
            ) from error
        if _in_background(self._descriptor):
            os.close(self._descriptor)
            raise DeviceError(
                "this process runs in the background of its terminal, where it gets no keys; bring it to the "
                "foreground (`fg`) or start it without `&`"
            )
        raw = termios.tcgetattr(self._descriptor)
        raw[0] &= ~(termios.IXON | termios.ICRNL)
        raw[3] &= ~(termios.ICANON | termios.ECHO)
        raw[6] = [*raw[6]]
        raw[6][termios.VMIN], raw[6][termios.VTIME] = 1, 0
        raw[6][termios.VSUSP] = b"\x00"
        termios.tcsetattr(self._descriptor, termios.TCSAFLUSH, raw)
        self._owner = os.getpid()
        atexit.register(self.restore)
        self._handlers: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGHUP):
                self._handlers[number] = signal.signal(number, self._on_signal)

    def restore(self) -> None:
        """As it was; a forked child leaves it to its parent."""
        if self._saved is None or os.getpid() != self._owner:
            return
        saved, self._saved = self._saved, None
        with contextlib.suppress(OSError, termios.error):  # the terminal may have been closed
            termios.tcsetattr(self._descriptor, termios.TCSANOW, saved)
        os.close(self._descriptor)
        atexit.unregister(self.restore)
        if threading.current_thread() is threading.main_thread():
            for number, before in self._handlers.items():
                if signal.getsignal(number) == self._on_signal:
                    signal.signal(number, before if before is not None else signal.SIG_DFL)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """Restore, then do what would have been done."""
        self.restore()
        before = self._handlers[number]
        if callable(before):
            before(number, frame)
        elif before != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


def _in_background(descriptor: int) -> bool:
    try:
        return os.tcgetpgrp(descriptor) != os.getpgrp()
    except OSError as error:
        if error.errno == errno.ENOTTY:  # not our controlling terminal: nobody sends us to its background
            return False
        raise
