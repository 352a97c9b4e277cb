"""Franka Hand: its commands take seconds and its states keep Python's lock waiting, so a process of its own has it.

Targets go there and widths come back as lines through pipes; both ends never wait. The process ends with its input, so
that none is left behind when the control process dies.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from pathlib import Path

from hardware.descriptions import GripperDescription
from hardware.drivers.driver import DriverError

PROCESS = Path(__file__).with_name("franka_hand_process.py")


class FrankaHand:
    """`command` and `poll` return at once; the newest target wins."""

    def __init__(self, host: str, description: GripperDescription, step: float = 0.02) -> None:
        self.host = host
        self.description = description
        self.step = step
        """Change of the command in [-1, 1] from which the hand is moved."""
        self.width = 0.0
        """m, newest."""
        self.fault = ""
        """Why the last command was not carried out."""
        self._process: subprocess.Popen[bytes] | None = None
        self._target: float | None = None
        self._rest = b""

    def connect(self, timeout: float = 15.0) -> None:
        """Start the process and wait for a first width; the fingers stay. Home the hand in Desk before."""
        limits = (self.description.max_width, self.description.max_speed, self.description.max_force)
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(PROCESS), self.host, *map(str, limits)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        for pipe in (self._process.stdin, self._process.stdout):
            os.set_blocking(pipe.fileno(), False)
        ready, _, _ = select.select([self._process.stdout], [], [], timeout)
        self.poll()
        if not ready or self.fault or self._process.poll() is not None:
            self.close()
            raise DriverError(f"no Franka Hand at {self.host}: {self.fault or 'its process says nothing'}")

    def poll(self) -> float:
        """The newest width in m."""
        if self._process is None or self._process.stdout is None:
            return self.width
        data = self._process.stdout.read(65536)
        *lines, self._rest = (self._rest + (data or b"")).split(b"\n")
        if lines:
            state = json.loads(lines[-1])
            self.width, self.fault = state["width"], state["fault"]
        if data == b"":
            self.fault = "the process of the Franka Hand has ended: close and connect again"
        return self.width

    def command(self, opening: float) -> None:
        """Opening in [-1, 1], closed to open."""
        opening = min(1.0, max(-1.0, opening))
        process = self._process
        if process is None or (self._target is not None and abs(opening - self._target) <= self.step):
            return
        try:
            assert process.stdin is not None
            process.stdin.write(f"{opening:.4f}\n".encode())
            self._target = opening
        except OSError:
            return  # `poll` says that the process has ended

    def close(self) -> None:
        """End the process; the fingers stay."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None and process.stdout is not None
        process.stdin.close()
        try:
            process.wait(timeout=2.0)
        except subprocess.TimeoutExpired:  # in the middle of a motion
            process.kill()
            process.wait()
        process.stdout.close()
