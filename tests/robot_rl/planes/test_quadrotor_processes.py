"""The real processes of a quadrotor: one flight, what every death does to it, and that none leaves anything behind.

Times are safety limits with room for a busy machine, not speed.
"""

import dataclasses
import os
import signal
import time

import numpy as np
import pytest

from policies.types import QuadrotorSetpoint
from robot_rl.planes.process_group import PlanesError
from robot_rl.planes.quadrotor_processes import QuadrotorPlanes, QuadrotorPlanesConfig
from robot_rl.planes.quadrotor_settings import QuadrotorControlConfig, QuadrotorPolicyConfig, QuadrotorWireConfig

pytestmark = pytest.mark.timeout(300)
HEIGHT = 0.5


class Flight:
    """Processes and what a face does: signs of life and a set-point at 50 Hz."""

    def __init__(self, planes):
        self.planes, self.goal = planes, np.zeros(3)

    @property
    def position(self):
        return self.planes.sample().state.position

    def attend(self):
        still = np.zeros(3)
        self.planes.beat()
        self.planes.send_setpoint(QuadrotorSetpoint(self.goal, still, still, np.asarray(0.0)))
        time.sleep(0.02)

    def until(self, condition, timeout=10.0):
        """Wait; returns the s that it took, or fails."""
        begin = time.monotonic()
        while not condition():
            planes = self.planes
            assert time.monotonic() - begin < timeout, (planes.status(), planes.simulation(), planes.policy())
            self.attend()
        return time.monotonic() - begin

    def come_to_rest(self):
        """Standing at the start, disarmed, with processes that run."""
        planes = self.planes
        planes.set_wire(QuadrotorWireConfig())
        self.goal = np.zeros(3)
        for name, start in (("control", planes.start_control), ("policy", planes.start_policy)):
            if not planes.group.running()[name]:
                start()
        self.until(lambda: time.monotonic() - planes.status().stamp < 0.1)
        planes.ask("disarm")
        planes.reset_vehicle()

        def ready():
            if planes.status().mode == "fault":
                planes.ask("recover")
            return planes.status().mode == "disarmed" and planes.simulation()["on_ground"]

        self.until(ready)

    def hover(self):
        self.come_to_rest()
        self.until(lambda: self.planes.ask("arm")[0])
        self.goal = np.array([0.0, 0.0, HEIGHT])
        self.until(lambda: np.linalg.norm(self.position - self.goal) < 0.1)
        assert self.planes.status().mode == "active"


@pytest.fixture(scope="module")
def flight():
    name = f"test-quadrotor-{os.getpid()}"
    with QuadrotorPlanes(QuadrotorPlanesConfig(name=name)) as planes:
        yield Flight(planes)


def test_starting_arms_nothing(flight):
    flight.come_to_rest()
    planes = flight.planes
    assert planes.group.running() == {"simulation": True, "control": True, "policy": True}
    assert planes.simulation()["watchdog"] == "off" and planes.status().mode == "disarmed"
    assert planes.vehicle()["driver"] == "sim"
    assert "collector off" in planes.status().realtime


def test_a_flight_whose_policy_dies(flight):
    """Armed, hovering; then it holds, sinks, and lands with its motors off."""
    flight.hover()
    planes, errors = flight.planes, []
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        flight.attend()
        errors.append(flight.position - flight.goal)
    assert np.sqrt(np.mean(np.sum(np.square(errors), axis=-1))) < 0.1
    assert planes.policy()["commands"] > 100 and planes.motors().mode == "active"
    planes.group.process("policy").send_signal(signal.SIGKILL)
    flight.until(lambda: planes.status().mode in ("holding", "descending"), 2.0)
    flight.until(lambda: planes.status().mode == "descending", 2.0)
    assert "policy output is" in planes.status().cause
    flight.until(lambda: planes.status().mode == "fault")
    assert "landed" in planes.status().cause
    flight.until(lambda: planes.simulation()["watchdog"] == "off", 1.0)
    assert planes.simulation()["on_ground"] and not planes.simulation()["crashed"]
    modes = [change.mode for change in planes.status().changes][-4:]
    assert modes == ["active", "holding", "descending", "fault"]
    assert planes.group.running() == {"simulation": True, "control": True, "policy": False}


@pytest.mark.parametrize("deadly", [signal.SIGKILL, signal.SIGTERM])
def test_its_own_watchdog_lands_it_when_the_control_process_is_gone(flight, deadly):
    """Told to end in the air it says nothing more, too: zeros are a fall."""
    flight.hover()
    planes = flight.planes
    planes.group.process("control").send_signal(deadly)
    planes.group.process("control").wait(10)
    flight.until(lambda: planes.simulation()["watchdog"] in ("level", "descending"), 1.0)
    flight.until(lambda: planes.simulation()["on_ground"])
    assert not planes.simulation()["crashed"]
    if deadly == signal.SIGTERM:
        assert planes.status().mode == "stopped" and "SIGTERM" in planes.status().cause


def test_a_new_control_process_in_the_air_says_nothing_until_it_is_asked(flight):
    flight.hover()
    planes = flight.planes
    planes.group.process("control").send_signal(signal.SIGKILL)
    planes.group.process("control").wait(10)
    before = planes.motors().sequence
    flight.until(lambda: planes.simulation()["on_ground"])
    planes.start_control()
    assert planes.status().mode == "disarmed" and planes.motors().sequence >= before
    flight.until(lambda: planes.motors().sequence > before, 3.0)  # it knows that it stands
    assert not np.any(planes.motors().values)


def test_an_emergency_stop_is_a_fall(flight):
    flight.hover()
    planes = flight.planes
    assert planes.ask("estop")[0]
    flight.until(lambda: planes.simulation()["watchdog"] == "off", 1.0)
    assert planes.status().mode == "fault" and planes.status().latched
    flight.until(lambda: planes.simulation()["on_ground"], 3.0)


def test_a_silent_face_brings_it_down(flight):
    """Whoever watches over the flight has gone: commands are not taken any more."""
    flight.hover()
    planes = flight.planes
    end = time.monotonic() + 5.0
    while planes.status().mode != "descending":
        assert time.monotonic() < end, planes.status()
        time.sleep(0.02)
    assert "commands are not taken: the face" in planes.status().cause


def test_a_bundle_that_does_not_fit_is_a_sentence(flight):
    planes = flight.planes
    config = dataclasses.replace(planes.config, policy=QuadrotorPolicyConfig(policy="quadrotor-trakc"))
    planes.config, before = config, planes.config
    try:
        with pytest.raises(PlanesError, match="no policy bundle 'quadrotor-trakc'; did you mean 'quadrotor-track'"):
            planes.start_policy()
    finally:
        planes.config = before
    assert planes.group.running()["control"]


@pytest.mark.parametrize(("control", "words"), [
    ({"driver": "mavlnk"}, "no driver 'mavlnk'"),
    ({"driver_settings": {"timeout": "0.2"}}, "nothing came from the simulated vehicle within 0.2 s"),
    ({"rules": ("slow: always (spede < 1)",)}, "unknown signal spede"),
])  # fmt: skip
def test_a_control_process_that_cannot_begin_says_why_and_leaves_nothing(control, words):
    config = QuadrotorPlanesConfig(
        name=f"test-refused-{os.getpid()}", control=QuadrotorControlConfig(**control), simulation=None, policy=None
    )
    planes = QuadrotorPlanes(config)
    with pytest.raises(PlanesError, match=words):
        planes.start()
    assert not planes.folder.exists() and planes.group.running() == {}


def test_the_end_of_a_flight_leaves_neither_process_nor_memory():
    planes = QuadrotorPlanes(QuadrotorPlanesConfig(name=f"test-end-{os.getpid()}"))
    planes.start()
    pids = [planes.group.process(name).pid for name in planes.group.running()]
    Flight(planes).hover()
    planes.group.process("policy").send_signal(signal.SIGSTOP)  # even a stopped one ends
    begin = time.monotonic()
    planes.stop()
    assert time.monotonic() - begin < 15.0
    assert not planes.folder.exists()
    assert not [pid for pid in pids if os.path.exists(f"/proc/{pid}")]
