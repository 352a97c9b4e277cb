"""Actor and learner are killed again and again while records flow over a bad network; nothing is lost or doubled."""

import json
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from proxy import Proxy
from workers import LENGTH, make_record, make_schema

from robot_rl.hil.frames import LogReader, read
from robot_rl.hil.keys import local_keys
from robot_rl.hil.records import decode, encode

WORKERS = Path(__file__).with_name("workers.py")


class Worker:
    """A process that is killed and started again."""

    def __init__(self, folder, *arguments):
        self.arguments, self.output = arguments, folder / f"{arguments[0]}.txt"
        self.start()

    def start(self):
        with open(self.output, "a") as output:
            command = [sys.executable, str(WORKERS), *map(str, self.arguments)]
            self.process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)

    def kill(self):
        assert self.process.poll() is None, self.output.read_text()[-2000:]
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def status_of(folder, key):
    path = folder / "status.json"
    return json.loads(path.read_text())[key] if path.exists() else 0


def number_in(path):
    return int(path.read_text()) if path.exists() else 0


def versions_taken(folder):
    path = folder / "versions.txt"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def wait_until(condition, timeout=60.0):
    """Wait for what a process will do in its own time: how fast it starts is the machine's business."""
    until = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("kills", "lives", "total", "bad"),
    [
        pytest.param(2, (0.6, 1.1), 80, {"drop": 0.05, "delay": 0.002, "outages": (1.0, 0.5)}, id="two-kills"),
        pytest.param(
            *(10, (1.0, 2.0), 500, {"drop": 0.05, "delay": 0.01, "outages": (2.0, 0.5)}),
            id="ten-kills",
            marks=[pytest.mark.slow, pytest.mark.timeout(300)],
        ),
    ],
)
def test_no_kill_loses_or_doubles_a_record(tmp_path, kills, lives, total, bad):
    local_keys(tmp_path / "keys")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    proxy = Proxy(port, seed=4, **bad)
    moments = random.Random(7)
    learner = Worker(tmp_path, "learner", tmp_path, port)
    actor = Worker(tmp_path, "actor", tmp_path, proxy.port, total, 0.04)
    try:
        for _ in range(kills):
            stored = status_of(tmp_path, "count")
            time.sleep(moments.uniform(*lives))
            # In the middle of an episode: each life begins one of its own.
            wait_until(
                lambda s=stored: (count := status_of(tmp_path, "count")) == total or 0 < (count - s) % LENGTH < 18
            )
            actor.kill()
            time.sleep(moments.uniform(0.0, 0.2))
            actor.start()
            published = number_in(tmp_path / "published.txt")
            time.sleep(moments.uniform(*lives))
            wait_until(lambda p=published: number_in(tmp_path / "published.txt") > p)
            learner.kill()
            time.sleep(moments.uniform(0.0, 0.2))
            learner.start()
        wait_until(lambda: status_of(tmp_path, "acknowledged") == total)
        known = tmp_path / "known.txt"
        wait_until(lambda: number_in(known) == total)
        # Learning goes on: the actor takes what the learner published after all kills.
        published = number_in(tmp_path / "published.txt")
        wait_until(lambda: max(versions_taken(tmp_path), default=0) > published)
        time.sleep(0.5)
        assert number_in(known) == total  # what the learner has in memory: each record once
    finally:
        actor.kill()
        learner.kill()
        proxy.stop()

    own = tmp_path / "actor.log"
    with LogReader(own) as reader:
        copy = tmp_path / "learner" / f"{reader.log_id}.log"
    assert [path.name for path in (tmp_path / "learner").iterdir()] == [copy.name]
    assert copy.read_bytes() == own.read_bytes()
    stored = [decode(payload, make_schema()) for _, payload in read(own)]
    assert len(stored) == total
    assert len({(one.episode, one.index) for one in stored}) == total
    assert all(encode(one) == encode(make_record(make_schema(), one.episode, one.index)) for one in stored)
    cut_off = sum(b.episode != a.episode and not a.ended for a, b in zip(stored, stored[1:], strict=False))
    assert 0 < cut_off <= kills, f"{cut_off} of {total // LENGTH} episodes were cut off by {kills} kills"
    # Weights: the actor checks each that it takes, and ends with an error if one is not whole.
    versions = versions_taken(tmp_path)
    assert versions == sorted(versions)
    for output in (tmp_path / "actor.txt", tmp_path / "learner.txt"):
        assert "Traceback" not in output.read_text()
    assert proxy.broken > 0
    assert proxy.outage_waits > 0
