"""The checker against an arm that keeps the contract, and against ones that break it in one point each."""

import re
import time

import numpy as np
import pytest

from hardware.descriptions import load_arm
from hardware.drivers.check import check_driver
from hardware.drivers.driver import ArmSample, Capabilities, DriverError
from hardware.drivers.support import ContextManager, command_values
from policies.types import JointTorques

PANDA = load_arm("panda")
RATE = 100.0


class Arm(ContextManager):
    """Stands still, correctly."""

    def __init__(self, **changes):
        self.changes = changes
        self.open = False

    @property
    def capabilities(self):
        values = {
            "name": "test", "kind": "arm", "actuators": PANDA.interface.actuators, "commands": ("JointTorques",),
            "signals": ("joint_positions", "joint_velocities", "gripper_width"), "rate_hz": RATE, "realtime": True,
            "simulated": True, "watchdog_s": 0.1,
        }  # fmt: skip
        return Capabilities(**{key: self.changes.get(key, value) for key, value in values.items()})

    def connect(self):
        self.open = True

    def stop(self):
        pass

    def close(self):
        self.open = False

    def read(self):
        now = time.monotonic()
        values = {"joint_positions": PANDA.home, "joint_velocities": np.zeros(7), "gripper_width": 0.08, "fault": ""}
        values = {key: self.changes.get(key, value) for key, value in values.items()}
        return ArmSample(stamp=now - now % (1.0 / RATE) + self.changes.get("delay", 0.0), **values)

    def write(self, command):
        if not self.open:
            raise DriverError("not connected")
        if not isinstance(command, JointTorques):
            raise DriverError("torques only")
        command_values("test", command.values, 7)


def check(arm, **options):
    return check_driver(arm, PANDA, seconds=0.1, **options)


def test_a_good_driver_has_no_problems():
    assert check(Arm(), min_rate=0.2) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"joint_positions": np.degrees(PANDA.home)}, "degrees, or another joint?"),
        ({"joint_positions": PANDA.home[::-1].copy()}, "outside"),
        ({"joint_positions": np.zeros(6)}, r"expected an array of shape \(7,\)"),
        ({"joint_positions": np.full(7, np.nan)}, "must be finite"),
        ({"joint_velocities": np.full(7, 1.0)}, "its velocity says"),
        ({"joint_velocities": np.full(7, 90.0)}, "over 1.5 times its limit"),
        ({"gripper_width": 80.0}, "m: units?"),
        ({"fault": "reflex"}, "takes no commands: reflex"),
        ({"delay": 0.5}, "in the future"),
        ({"delay": -0.5}, "old, over 100 ms"),
        ({"actuators": ("a",) * 7}, "each once"),
        ({"actuators": tuple("abcdefg")}, "panda has"),
        ({"signals": ("joint_positions", "torque")}, "are no fields of a sample"),
        ({"signals": ("joint_positions", "wrench")}, "a sample says otherwise of wrench"),
        ({"commands": ("JointVelocities",)}, "expected some of"),
        ({"rate_hz": 1000.0}, "it claims 1000 Hz"),
        ({"watchdog_s": 0.0}, "expected seconds"),
        ({"kind": "quadrotor"}, "is an 'arm'"),
    ],
)
def test_each_fault_is_found(changes, words):
    problems = check(Arm(**changes))
    assert any(re.search(words, problem) for problem in problems), problems


class Swallows(Arm):
    def __exit__(self, *reason):
        super().__exit__(*reason)
        return True


class Careless(Arm):
    def write(self, command):
        pass


class StopsOnce(Arm):
    stopped = False

    def stop(self):
        if self.open and self.stopped:
            raise RuntimeError("again")
        self.stopped = True


class ForgetsToFree(Arm):
    def close(self):
        pass


class WaitsLong(Arm):
    def read(self):
        time.sleep(0.02)
        return super().read()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Swallows, "swallows exceptions"),
        (Careless, "write takes JointTorques that is not finite"),
        (Careless, "write before connect passes silently"),
        (ForgetsToFree, "write after close passes silently"),
        (WaitsLong, "read takes"),
    ],
)
def test_each_misbehaviour_is_found(kind, words):
    problems = check(kind())
    assert any(words in problem for problem in problems), problems


def test_a_stop_that_raises_is_not_hidden():
    with pytest.raises(RuntimeError, match="again"):
        check(StopsOnce())
