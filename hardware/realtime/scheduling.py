"""What makes a Linux process keep time: real-time priority, locked memory, no garbage collector, its own processor.

Each needs a permission that an ordinary user does not have. What is refused is said in words, with what grants it, and
the process goes on without.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass

LIMITS_FILE = "config/99-robot-rl-realtime.conf"
"""Grants an ordinary user what is asked for here."""
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4


@dataclass(frozen=True, kw_only=True)
class RealtimeConfig:
    """What to ask for."""

    priority: int = 80
    """Of SCHED_FIFO, 1 to 99; 0 stays at normal priority. Interrupt threads of a PREEMPT_RT kernel have 50."""
    lock_memory: bool = True
    """Keep all memory, also what is taken later, from being paged out."""
    collector: bool = False
    """Whether Python's garbage collector may run in the loop; without it, the loop must make no reference cycles."""
    cpu: int = -1
    """Processor that the process shall stay on, e.g. an isolated one; -1: any."""


@dataclass(frozen=True, kw_only=True)
class Granted:
    """What the system permitted."""

    priority: int
    """Of SCHED_FIFO; 0: normal."""
    memory_locked: bool
    """Whether memory cannot be paged out."""
    text: str
    """All of it in words, with what would permit what was refused."""


def become_realtime(config: RealtimeConfig) -> Granted:
    """Ask for what `config` says, for this thread; children start at normal priority. Call it before the loop."""
    words = []
    priority = 0
    if config.priority > 0:
        try:
            flags = os.SCHED_FIFO | getattr(os, "SCHED_RESET_ON_FORK", 0)
            os.sched_setscheduler(0, flags, os.sched_param(config.priority))
            priority = config.priority
            words.append(f"real-time priority {priority}")
        except (OSError, ValueError) as error:
            words.append(f"normal priority: SCHED_FIFO {config.priority} is refused ({error}), see {LIMITS_FILE}")
    else:
        words.append("normal priority as asked for")
    locked = False
    if config.lock_memory:
        problem = _lock_memory()
        locked = not problem
        words.append(problem or "memory locked")
    if config.cpu >= 0:
        try:
            os.sched_setaffinity(0, {config.cpu})
            words.append(f"on processor {config.cpu}")
        except OSError as error:
            words.append(f"on any processor: {config.cpu} is refused ({error})")
    if not config.collector:
        gc.collect()
        gc.freeze()
        gc.disable()
        words.append("collector off")
    return Granted(priority=priority, memory_locked=locked, text="; ".join(words))


def _lock_memory() -> str:
    """Lock all memory of now and later; returns why not, or ""."""
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    # Under a limit the lock may succeed, and an allocation fail later, in the loop: rather none.
    if limit != resource.RLIM_INFINITY and os.geteuid() != 0:
        return f"memory not locked: the limit is {limit // 1024} kB, not unlimited, see {LIMITS_FILE}"
    libc = ctypes.CDLL(None, use_errno=True)
    # What is never touched need not be in memory: libraries reserve far more than they use.
    if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) != 0:
        return f"memory not locked: {os.strerror(ctypes.get_errno())}, see {LIMITS_FILE}"
    return ""


@contextlib.contextmanager
def scheduling_kept() -> Iterator[None]:
    """Undo what the calls inside do to how threads of this process are scheduled.

    Some libraries take the highest real-time priority without asking, for their threads and for the caller's, which
    every later child inherits. Afterwards threads that were there are as before, and new ones at normal priority.
    """
    before = _scheduling()
    try:
        yield
    finally:
        for thread, now in _scheduling().items():
            policy, priority = before.get(thread, (os.SCHED_OTHER, 0))
            if now != (policy, priority):
                with contextlib.suppress(ProcessLookupError):  # it has ended since
                    os.sched_setscheduler(thread, policy, os.sched_param(priority))


def _scheduling() -> dict[int, tuple[int, int]]:
    """Policy and priority of every thread of this process; empty where the system does not tell."""
    found = {}
    threads = [int(name) for name in os.listdir("/proc/self/task")] if os.path.isdir("/proc/self/task") else []
    for thread in threads:
        with contextlib.suppress(ProcessLookupError):
            found[thread] = os.sched_getscheduler(thread), os.sched_getparam(thread).sched_priority
    return found
