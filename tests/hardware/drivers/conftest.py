import itertools
import json
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER))
_addresses = itertools.count(1)


class StandInProcess:
    """A stand-in of a robot in a process of its own, at a loopback address of its own."""

    def __init__(self, script, *arguments):
        number = next(_addresses)
        self.host = f"127.{os.getpid() // 200 % 200 + 10}.{os.getpid() % 200 + 10}.{number % 250 + 2}"
        self.process = subprocess.Popen(
            [sys.executable, str(FOLDER / script), self.host, *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._answer(20.0) == {"ready": True}

    def _answer(self, seconds=5.0):
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        line = self.process.stdout.readline() if ready else ""
        if not line:
            raise RuntimeError(f"the stand-in at {self.host} does not answer, exit status {self.process.poll()}")
        return json.loads(line)

    def get(self, name):
        self.process.stdin.write(json.dumps({"get": [name]}) + "\n")
        self.process.stdin.flush()
        return self._answer()[name]

    def set(self, **values):
        self.process.stdin.write(json.dumps({"set": values}) + "\n")
        self.process.stdin.flush()
        self._answer()

    def end(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def _start():
    started = []

    def start(script, *arguments):
        started.append(StandInProcess(script, *arguments))
        return started[-1]

    yield start
    for process in started:
        process.end()


@pytest.fixture
def stand_in():
    """Starts stand-ins: `stand_in("ur_controller.py", …)`; they end with the test."""
    yield from _start()


@pytest.fixture(scope="module")
def lasting_stand_in():
    """The same; they end with the module."""
    yield from _start()
