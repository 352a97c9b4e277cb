"""Starts and ends the processes of a robot, whatever robot it is; none is left behind.

Each asks the kernel for SIGTERM at the death of the thread that started it, so that one thread has to start them and
stay.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from robot_rl.nodes.process import PARENT_VARIABLE, REALTIME_VARIABLE
from robot_rl.rebuild import to_json

Process = Literal["simulation", "control", "policy"]
ORDER: tuple[Process, ...] = ("simulation", "control", "policy")
"""In which they start; they end the other way round."""
_ENDINGS = ((0.0, signal.SIGTERM), (3.0, signal.SIGKILL))
"""(s after the end was asked for, signal)."""


class PlanesError(Exception):
    """A process did not start, in one sentence with its own words."""


def module_of(name: str, config: Any) -> str:
    """What `python -m robot_rl.planes` calls a process.

    Its config's `module` where it has one; else `native` in place of `policy` where its config says so; else its name.
    """
    if module := getattr(config, "module", ""):
        return str(module)
    return "native" if name == "policy" and config.native else name


def command_line(name: str, config: Any) -> list[str]:
    """What starts a process; with `REALTIME_VARIABLE` set to 0 it asks for no real-time priority."""
    if os.environ.get(REALTIME_VARIABLE) == "0":
        ordinary = dataclasses.replace(config.realtime, priority=0, lock_memory=False)
        config = dataclasses.replace(config, realtime=ordinary)
    return [sys.executable, "-m", "robot_rl.planes", module_of(name, config), to_json(config)]


def environment() -> dict[str, str]:
    """Of a process that shall end with this one."""
    return {**os.environ, PARENT_VARIABLE: str(os.getpid()), "OMP_NUM_THREADS": "1"}


class ProcessGroup:
    """The processes of one robot; one thread, which must last as long as they do."""

    def __init__(self, folder: Path, beat: Callable[[], None]) -> None:
        """Nothing is started yet.

        Args:
            folder: Of the robot's slots; the processes' logs lie there too.
            beat: Gives the face's sign of life; called every 5 ms while waiting.
        """
        self.folder, self._beat = folder, beat
        self._processes: dict[Process, subprocess.Popen[bytes]] = {}

    def spawn(self, name: Process, config: Any) -> None:
        """Start a process, anew if it has ended.

        Args:
            name: What it is called here; `module_of` says which one it is.
            config: A dataclass with `folder`, which is filled in, and `realtime`.

        Raises:
            PlanesError: It runs already.
        """
        if name in self._processes and self._processes[name].poll() is None:
            raise PlanesError(f"the {name} process runs already")
        command = command_line(name, dataclasses.replace(config, folder=str(self.folder)))
        with self._log(name).open("wb") as log:
            self._processes[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment()
            )

    def wait(self, name: Process, ready: Callable[[], bool], timeout: float) -> None:
        """Wait until a process is ready, and go on with the face's signs of life meanwhile.

        Args:
            name: Of a started process.
            ready: Whether it is.
            timeout: s.

        Raises:
            PlanesError: It has ended, or was not ready in time; with its last words.
        """
        end = time.monotonic() + timeout
        process = self._processes[name]
        while not ready():
            self._beat()
            if process.poll() is not None:
                words = self.last_words(name)
                raise PlanesError(f"the {name} process ended with status {process.returncode}: {words or 'no word'}")
            if time.monotonic() > end:
                raise PlanesError(f"the {name} process was not ready within {timeout:g} s: {self.last_words(name)}")
            time.sleep(0.005)

    def stop(self) -> None:
        """End all of them in the reverse of `ORDER`; never raises."""
        for name in reversed(ORDER):
            self.stop_process(name)

    def stop_process(self, name: Process) -> int | None:
        """End one of the processes, also a stopped one; returns its exit status, None if it was not started."""
        process = self._processes.pop(name, None)
        if process is None:
            return None
        begin = time.monotonic()
        endings = list(_ENDINGS)
        while process.poll() is None:
            if endings and time.monotonic() - begin >= endings[0][0]:
                process.send_signal(endings.pop(0)[1])
                process.send_signal(signal.SIGCONT)  # a stopped process could not act on it
            time.sleep(0.005)
        return process.returncode

    def process(self, name: Process) -> subprocess.Popen[bytes] | None:
        """One of the processes; None if it was not started."""
        return self._processes.get(name)

    def running(self) -> dict[Process, bool]:
        """Which of the started processes run."""
        return {name: process.poll() is None for name, process in self._processes.items()}

    def last_words(self, name: Process) -> str:
        """The last line that a process has written to its standard error."""
        try:
            lines = self._log(name).read_text(errors="replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1] if lines else ""

    def _log(self, name: Process) -> Path:
        return self.folder / f"{name}.log"
