"""`python -m robot_rl.planes NAME CONFIG`: a process of a robot, started by its face or by `process_group.py`.

NAME is one of `PROCESSES`, or a module with dots in its name that has a `main(config, stop)` too.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path

from hardware.drivers.driver import DriverError
from hardware.realtime.seqlock import SlotError, remove_if_abandoned
from robot_rl.nodes.process import PARENT_VARIABLE, die_with_parent, ignore_signals, is_running, stop_request

PROCESSES = {
    "control": "robot_rl.planes.control_process",
    "policy": "robot_rl.planes.policy_process",
    "native": "robot_rl.native.arm",
    "simulation": "robot_rl.planes.simulated_arm",
    "quadrotor_control": "robot_rl.planes.quadrotor_control",
    "quadrotor_policy": "robot_rl.planes.quadrotor_policy",
    "simulated_quadrotor": "robot_rl.planes.simulated_quadrotor",
}


def main(arguments: list[str]) -> int:
    """Run a process until it is told to end, or its parent dies; returns its exit status."""
    if len(arguments) != 2 or (arguments[0] not in PROCESSES and "." not in arguments[0]):
        sys.stderr.write(f"usage: python -m robot_rl.planes {'|'.join(PROCESSES)} CONFIG, a JSON object\n")
        return 2
    name, config = arguments
    stop = stop_request()  # before the slow imports: a signal meanwhile ends in order too
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    die_with_parent()
    folder = Path(json.loads(config)["folder"])
    try:
        module = importlib.import_module(PROCESSES.get(name, name))
        return int(module.main(config, stop))
    except Exception as error:
        # One sentence for people; the rest where it is no refusal of a robot or of its memory.
        if not isinstance(error, (DriverError, SlotError)):
            import traceback

            traceback.print_exc()
        sys.stderr.write(f"{name} process: {error}\n")
        return 1
    finally:
        ignore_signals()
        leave(folder)


def leave(folder: Path, within: float = 3.0) -> None:
    """Whoever ends last after the owner's death leaves no memory behind.

    The kernel tells of the death of the owner's first thread. Its lock goes with the last one, which on a busy machine
    has much memory to give back before.
    """
    owner = int(os.environ.get(PARENT_VARIABLE) or 0)
    end = time.monotonic() + within
    while not remove_if_abandoned(folder) and owner and not is_running(owner) and time.monotonic() < end:
        time.sleep(0.01)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
