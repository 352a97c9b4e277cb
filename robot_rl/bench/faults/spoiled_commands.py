"""The policy process of a quadrotor with commands that can be spoiled on their way: for tests and the matrix of faults.

`spoil` says how, by a file beside the slots, which the process looks for at every command.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from robot_rl.nodes.process import StopRequest
from robot_rl.planes.quadrotor_policy import QuadrotorPolicy, open_policy, run_policy
from robot_rl.planes.quadrotor_settings import QuadrotorPolicyConfig
from robot_rl.rebuild import from_json

FAULTS = ("nan", "inf", "beyond", "jump", "stamp=SECONDS")
NODE = """
import sys
from robot_rl.nodes.process import die_with_parent, ignore_signals, stop_request
stop_request()
die_with_parent()
from robot_rl.nodes import policy, running
policy.PolicyNode.module = "robot_rl.bench.faults.spoiled_commands"
status = running.run(policy.PolicyNode, sys.argv[1:])
ignore_signals()
sys.exit(status)
"""
"""Python that runs the policy's node with this process behind it."""
_FILE = "spoil.txt"
Spoil = Callable[[np.ndarray, float, int], tuple[np.ndarray, float]]


def spoil(folder: Path, fault: str) -> None:
    """Have the process of these slots spoil its commands from the next one on; an empty text ends it.

    Raises:
        ValueError: There is no such fault.
    """
    command_fault(fault)
    fresh = folder / f".{_FILE}"
    fresh.write_text(fault)
    fresh.rename(folder / _FILE)  # whole at once


def command_fault(text: str) -> Spoil:
    """What spoils rotor speeds (4,) and their stamp at the n-th command, one of `FAULTS`; nothing for an empty text.

    Raises:
        ValueError: There is no such fault.
    """
    name, _, value = text.partition("=")
    if name and name not in [fault.partition("=")[0] for fault in FAULTS]:
        raise ValueError(f"no fault {text!r}; there are {', '.join(FAULTS)}")
    ahead = float(value) if name == "stamp" else 0.0
    wrong = {"nan": math.nan, "inf": math.inf, "beyond": 1e5}.get(name)

    def spoiled(values: np.ndarray, stamp: float, count: int) -> tuple[np.ndarray, float]:
        if wrong is not None:
            values = values.copy()
            values[1] = wrong
        elif name == "jump" and count % 20 == 0:  # every fifth of a second, for one period
            values = np.zeros(4)
        return values, stamp + ahead

    return spoiled


class SpoiledPolicy(QuadrotorPolicy):
    """Commands as its parent does, until the file says otherwise."""

    file = Path()
    _text, _count = "", 0
    _spoiled: Spoil = staticmethod(command_fault(""))

    def send(self, values: np.ndarray, stamp: float) -> None:
        """Give what the fault leaves of a command to the control process."""
        self._count += 1
        found = self.file.read_text() if self.file.exists() else ""
        if found != self._text:
            self._text, self._spoiled = found, command_fault(found)
        super().send(*self._spoiled(values, stamp, self._count))


def main(argument: str, stop: StopRequest) -> int:
    """Run the policy until told to end; `argument` is a `QuadrotorPolicyConfig` as JSON."""
    config = from_json(QuadrotorPolicyConfig, argument)
    policy = SpoiledPolicy(open_policy(config), config)
    policy.file = Path(config.folder) / _FILE
    run_policy(config, policy, stop)
    return 0
