"""The last process of a robot removes its memory, also where the owner's lock outlives its first thread."""

import os
import subprocess
import sys
import time

from hardware.realtime.seqlock import SlotFolder
from robot_rl.nodes.process import PARENT_VARIABLE
from robot_rl.planes.__main__ import leave

DEAD = subprocess.Popen([sys.executable, "-c", ""])
DEAD.wait()
HOLD = """
import fcntl, os, sys, time
file = os.open(sys.argv[1], os.O_RDWR)
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(0.4)
"""


def abandoned(tmp_path):
    """A robot's folder whose lock is held for 0.4 s more."""
    slots = SlotFolder("left", tmp_path)
    slots.claim()
    os.close(slots._lock)
    held = subprocess.Popen([sys.executable, "-c", HOLD, str(slots.path / "owner")], stdout=subprocess.PIPE)
    assert held.stdout.readline() == b"held\n"
    return slots.path, held


def test_it_waits_for_the_lock_of_an_owner_that_is_dead(tmp_path, monkeypatch):
    folder, held = abandoned(tmp_path)
    monkeypatch.setenv(PARENT_VARIABLE, str(DEAD.pid))
    leave(folder)
    assert not folder.exists()
    held.wait()


def test_it_does_not_wait_while_the_owner_lives(tmp_path, monkeypatch):
    folder, held = abandoned(tmp_path)
    monkeypatch.setenv(PARENT_VARIABLE, str(os.getpid()))
    begin = time.monotonic()
    leave(folder)
    assert time.monotonic() - begin < 0.2 and folder.exists()
    held.wait()
