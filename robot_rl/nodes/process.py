"""How a node process is told to end, and why it never outlives the one who started it.

No rclpy here: `start` runs before the slow imports, so that a node which is still loading already
ends cleanly on a signal or with its parent.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import sys
from pathlib import Path
from types import FrameType

PARENT_VARIABLE = "ROBOT_RL_PARENT_PID"
"""Environment variable that a launcher sets to its own process id: nodes end when it does."""
REALTIME_VARIABLE = "ROBOT_RL_REALTIME"
"""Environment variable that, set to 0, keeps nodes from asking for real-time priority."""
REFUSED = 1
"""Exit status of a node that refused to start."""
TOLD_TO_STOP = 143
"""Exit status of a worker that ended before its work was done because it was told to: the shell's for SIGTERM."""
_PR_SET_PDEATHSIG = 1
_LAST_RESORT = 10
"""s that a clean end may take; then the kernel ends the process, whatever hangs in it."""


class StopRequest:
    """Set by SIGINT, SIGTERM or SIGHUP; loops poll it."""

    def __init__(self) -> None:
        self.requested = False
        self.reason = ""

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """Signal handler: repeats change nothing, so a second Ctrl-C cannot break the clean end."""
        if not self.requested:
            self.requested = True
            self.reason = signal.Signals(number).name
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(_LAST_RESORT)


_STOP = StopRequest()  # signals belong to the process, so does this


def stop_request() -> StopRequest:
    """The process's stop request, its handlers installed (also where SIGINT was inherited as ignored)."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != _STOP.handle:
            signal.signal(number, _STOP.handle)
    return _STOP


def die_with_parent(own_group: bool = True) -> None:
    """Let the kernel send SIGTERM when the parent dies, if a launcher asked for it in the environment.

    Args:
        own_group: Leave the launcher's process group, see below; not for one that reads the launcher's terminal.
    """
    launcher = os.environ.get(PARENT_VARIABLE, "")
    if not launcher:
        return
    # Its own group, in the launcher's session: should this process be stopped (SIGSTOP) when the launcher
    # dies, its group becomes an orphaned one, and then the kernel wakes it, so that it can end.
    if own_group and os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    # The parent may have died before the call above, and then no signal comes.
    if os.getppid() != int(launcher) and not is_running(int(launcher)):
        raise SystemExit(f"the process {launcher} that started this node has ended")


def ask_for_priority(priority: int) -> str:
    """Real-time scheduling for this thread and those that it starts, where the system allows it.

    Without it a callback comes 5 to 20 ms late on a busy machine, with it 0.1 to 0.3 ms.

    Returns:
        How the thread is scheduled now, for the log.
    """
    if priority <= 0 or os.environ.get(REALTIME_VARIABLE) == "0":
        return "normal priority"
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except OSError:
        return "normal priority (real time is not permitted: see rtprio in limits.conf)"
    return f"real-time priority {priority}"


def give_up_priority() -> None:
    """Back to normal priority, for a thread that would take all the time it can get."""
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def ignore_signals() -> None:
    """For the end: the interpreter restores default handlers, and a late signal would spoil the status."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def is_running(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in {"Z", "X"}


def start(module: str) -> int:
    """Run `robot_rl.nodes.<module>`; the executables and `robot-rl up` come in here."""
    stop_request()
    die_with_parent()
    status = int(importlib.import_module(f"robot_rl.nodes.{module}").main(sys.argv[1:]))
    ignore_signals()
    return status
