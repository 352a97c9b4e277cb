"""`robot-rl up` as a process that a cell can hurt: its nodes, what they have started, what it leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from robot_rl.nodes.process import is_running


class Launched:
    """A running `robot-rl up NAME` in a namespace and ROS domain of its own; a context manager that leaves nothing."""

    def __init__(self, name: str, domain: int, *arguments: str) -> None:
        """Start it."""
        self.namespace = f"faults_{os.getpid()}_{time.monotonic_ns() % 1_000_000}"
        self._folder = tempfile.TemporaryDirectory()
        self._output = Path(self._folder.name) / "output.txt"
        environment = {
            **os.environ,
            "ROS_DOMAIN_ID": str(domain),
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
            "ROS_LOG_DIR": str(Path(self._folder.name) / "log"),
        }
        command = [sys.executable, "-m", "robot_rl.up", name, f"namespace:={self.namespace}", *arguments]
        with self._output.open("w") as file:
            self.process = subprocess.Popen(
                command, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
            )

    @property
    def text(self) -> str:
        """All that was said."""
        return self._output.read_text()

    def pid(self, node: str) -> int:
        """Process of a node, or of the launcher itself."""
        if node == "launcher":
            return self.process.pid
        line = next(line for line in self.text.splitlines() if line.startswith(f"[up] {node}: process"))
        return int(line.split()[-1])

    def child(self, node: str) -> int:
        """The process that a node has started."""
        return child_of(self.pid(node))

    def family(self) -> list[int]:
        """Every process of this run."""
        marks = f"-{self.namespace}.".encode(), f"__ns:=/{self.namespace}".encode()
        lines = {pid: _command_line(pid) for pid in _processes()}
        found = [pid for pid, line in lines.items() if any(mark in line for mark in marks)]
        return [pid for pid in found if b"faults.observer" not in lines[pid]]  # who looks on is no part of it

    def left(self) -> list[Any]:
        """Processes, and folders of memory, that there still are."""
        memory = list(Path("/dev/shm").glob(f"robot_rl-*-{self.namespace}.*"))
        return [*self.family(), *memory, *([self.process.pid] if self.process.poll() is None else [])]

    def ends(self, within: float) -> bool:
        """Whether nothing is left after at most so many s."""
        end = time.monotonic() + within
        while time.monotonic() < end:
            if not self.left():
                return True
            time.sleep(0.02)
        return False

    def close(self) -> None:
        """End it whatever it does."""
        for pid in self.family():
            _send(pid, signal.SIGCONT)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(15.0)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for pid in self.family():
            _send(pid, signal.SIGKILL)
        self._folder.cleanup()

    def __enter__(self) -> Launched:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def child_of(pid: int) -> int:
    """The process that a process has started."""
    return next(child for child in _processes() if _parent(child) == pid)


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _processes() -> list[int]:
    numbers = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return [number for number in numbers if is_running(number)]


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
