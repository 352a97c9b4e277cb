"""What the system permits is used and said; what it refuses is said, with what grants it."""

import json
import os
import subprocess
import sys
import threading

import pytest

from hardware.realtime.scheduling import scheduling_kept

PROGRAM = """
import dataclasses, gc, json, os, resource, sys
from hardware.realtime.scheduling import RealtimeConfig, become_realtime
if "limited" in sys.argv:
    resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (1 << 23, 1 << 23))
    if os.geteuid() == 0:
        os.setgid(65534); os.setuid(65534)
granted = become_realtime(RealtimeConfig(priority=5, cpu=0))
child = os.fork()
if child == 0:
    os._exit(os.sched_getscheduler(0) & ~getattr(os, "SCHED_RESET_ON_FORK", 0))
inherited = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
locked = next(line for line in open("/proc/self/status") if line.startswith("VmLck")).split()[1]
print(json.dumps({**dataclasses.asdict(granted), "policy": os.sched_getscheduler(0) & 0xFFFF, "kb": int(locked),
                  "collector": gc.isenabled(), "cpus": sorted(os.sched_getaffinity(0)), "inherited": inherited}))
"""


def run(*arguments):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, timeout=60, check=True
    )
    return json.loads(done.stdout)


def test_what_is_said_is_so():
    found = run()
    assert found["policy"] == (os.SCHED_FIFO if found["priority"] else os.SCHED_OTHER)
    assert found["inherited"] == os.SCHED_OTHER
    assert (found["kb"] > 1000) == found["memory_locked"]
    assert not found["collector"] and found["cpus"] == [0]
    assert "collector off" in found["text"] and "processor 0" in found["text"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up its rights for the test")
def test_what_is_refused_is_said_with_what_grants_it():
    found = run("limited")
    assert found["priority"] == 0 and not found["memory_locked"]
    assert found["policy"] == os.SCHED_OTHER and found["kb"] == 0
    assert "SCHED_FIFO 5 is refused" in found["text"] and "memory not locked" in found["text"]
    assert found["text"].count("config/99-robot-rl-realtime.conf") == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is sure to get real-time priority")
def test_what_a_library_takes_is_given_back():
    def now(thread):
        return os.sched_getscheduler(thread), os.sched_getparam(thread).sched_priority

    release = threading.Event()
    waiting = [threading.Thread(target=release.wait) for _ in range(2)]
    here, (old, new) = threading.get_native_id(), waiting
    old.start()
    try:
        os.sched_setscheduler(old.native_id, os.SCHED_RR, os.sched_param(3))
        with pytest.raises(KeyError), scheduling_kept():
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(99))
            os.sched_setscheduler(old.native_id, os.SCHED_FIFO, os.sched_param(99))
            new.start()  # takes what the one that starts it has
            assert now(new.native_id) == (os.SCHED_FIFO, 99)
            raise KeyError
        assert now(old.native_id) == (os.SCHED_RR, 3)
        assert now(new.native_id) == now(here) == (os.SCHED_OTHER, 0)
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        release.set()
