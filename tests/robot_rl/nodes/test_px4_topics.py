"""The node `px4` and its driver against a stand-in of PX4 that speaks px4_msgs: real processes, real DDS."""

import os
import random
import threading
import time

import numpy as np
import pytest

pytest.importorskip("px4_msgs", reason="px4_msgs is not installed: docs/drivers_quadrotors.md says how")

from lifecycle_msgs.msg import Transition  # noqa: E402
from lifecycle_msgs.srv import ChangeState  # noqa: E402
from listening import ListeningNode  # noqa: E402
from px4_vehicle import LAND, LOITER, OFFBOARD, Px4Vehicle  # noqa: E402

from hardware.descriptions import load_quadrotor  # noqa: E402
from hardware.drivers.registry import open_driver  # noqa: E402
from hardware.realtime.seqlock import SlotFolder  # noqa: E402
from policies import rotation  # noqa: E402
from policies.types import BodyRatesThrust  # noqa: E402

CRAZYFLIE = load_quadrotor("crazyflie")
LEVEL = BodyRatesThrust(np.zeros(3), np.array(9.81))
SET_MODE, ARM = 176, 400
CONFIGURE, CLEANUP, ACTIVATE, DEACTIVATE = 1, 2, 3, 4
"""Of lifecycle_msgs/Transition."""


class Flight:
    """The vehicle, the node in a process, and the driver with somebody who writes at 100 Hz."""

    def __init__(self, vehicle, processes, slots):
        self.vehicle, self.processes, self.slots = vehicle, processes, slots
        self.command, self.written = None, 0
        self.end = threading.Event()
        self.driver = open_driver("px4", CRAZYFLIE, {"folder": str(slots.path), "timeout": "30"})
        self.thread = threading.Thread(target=self._write, daemon=True)

    def start_node(self):
        self.processes.start("px4", "hover_throttle:=0.42", "link_timeout:=0.8")

    def _write(self):
        while not self.end.wait(0.01):
            if (command := self.command) is not None:
                self.driver.write(command)
                self.written += 1

    def wait(self, condition, timeout, what):
        deadline = time.monotonic() + timeout
        while not (found := condition()):
            known = f"arming {self.driver.arming} {self.driver.arming_problem!r}, {self.driver.read()}"
            assert time.monotonic() < deadline, f"no {what}; {known}; {self.vehicle.commands}"
            time.sleep(0.005)
        return found

    def ready(self):
        """On the ground, disarmed, as it came; nobody writes."""
        vehicle, self.command = self.vehicle, None
        vehicle.armed = vehicle.failsafe = vehicle.mute = vehicle.no_position = vehicle.deaf = False
        vehicle.preflight, vehicle.frame, vehicle.system = True, 1, 1
        vehicle.set_mode(LOITER)
        vehicle.body.__init__()
        time.sleep(0.3)
        self.wait(lambda: not self.driver.read().armed and self.driver.arming in ("idle", "failed"), 3.0, "rest")
        for noted in (vehicle.commands, vehicle.setpoints, vehicle.thrusts, vehicle.modes_seen):
            noted.clear()

    def arm(self, command=LEVEL):
        self.command = command
        self.driver.request_arming()
        self.wait(lambda: self.driver.arming == "done" and self.driver.read().accepting, 5.0, "arming")

    def climb(self):
        self.arm(BodyRatesThrust(np.zeros(3), np.array(12.0)))
        self.wait(lambda: self.vehicle.body.height > 0.4, 3.0, "climb")
        self.command = LEVEL


@pytest.fixture(scope="module")
def started(processes, domain):
    processes.namespace = namespace = f"p{os.getpid()}_{random.SystemRandom().randint(0, 99999)}"
    vehicle = Px4Vehicle(domain, namespace)
    with SlotFolder(f"{namespace}.crazyflie") as slots:
        flight = Flight(vehicle, processes, slots)
        flight.start_node()
        flight.driver.connect()
        flight.thread.start()
        yield flight
        flight.end.set()
        flight.thread.join(2.0)
        flight.driver.close()
        processes.end()
    vehicle.close()


@pytest.fixture
def started_probe(started, domain):
    probe = ListeningNode("asking", domain, started.processes.namespace)
    probe.start()
    yield probe
    probe.close()


@pytest.fixture
def flight(started):
    started.ready()
    return started


def test_it_hears_where_the_vehicle_is(flight):
    body, driver = flight.vehicle.body, flight.driver
    flight.vehicle.armed = True  # by a pilot, in position mode
    body.position = np.array([1.0, 2.0, -3.0])
    flight.wait(lambda: driver.read().armed, 2.0, "armed")
    sample = driver.read()
    np.testing.assert_allclose(sample.state.position, [2.0, 1.0, 3.0], atol=0.3)
    forward = rotation.rotate(sample.orientation, np.array([1.0, 0.0, 0.0]))
    np.testing.assert_allclose(forward, [0.0, 1.0, 0.0], atol=1e-3)  # north
    assert not sample.accepting and sample.details["mode"] == "AUTO.LOITER" and sample.fault == ""
    assert sample.stamp == sample.attitude_stamp <= time.monotonic()
    flight.wait(lambda: time.monotonic() - driver.read().stamp < 0.05, 1.0, "a fresh sample")
    flight.wait(lambda: driver.read().battery_voltage == pytest.approx(15.2), 2.0, "battery")
    assert driver.read().battery_remaining == pytest.approx(0.83)
    assert not flight.vehicle.commands and not flight.vehicle.setpoints


def test_it_arms_flies_lands_and_disarms(flight):
    vehicle, driver = flight.vehicle, flight.driver
    turning = BodyRatesThrust(np.array([0.1, 0.2, 0.3]), np.array(9.0))
    flight.arm(turning)
    assert vehicle.modes_seen == [OFFBOARD] and vehicle.commands == [(SET_MODE, 1.0, 6.0, 0.0), (ARM, 1.0, 0.0, 0.0)]
    assert all(thrust == [0.0, 0.0, 0.0] for thrust in vehicle.thrusts[:100])  # idle until it is armed
    flight.wait(lambda: vehicle.throttle > 0.0, 1.0, "thrust")
    np.testing.assert_allclose(vehicle.thrusts[-1], [0.0, 0.0, -0.42 * 9.0 / 9.81], atol=1e-6)
    np.testing.assert_allclose(vehicle.rates, [0.1, -0.2, -0.3], atol=1e-6)
    flight.command = BodyRatesThrust(np.zeros(3), np.array(12.0))
    flight.wait(lambda: vehicle.body.height > 0.4, 3.0, "climb")
    assert flight.driver.read().state.linear_velocity[2] > 0.0
    written, heard = flight.written, len(vehicle.setpoints)
    flight.command = LEVEL
    time.sleep(0.5)
    assert abs((flight.written - written) - (len(vehicle.setpoints) - heard)) <= 3  # each once
    driver.stop()
    flight.wait(lambda: vehicle.mode == LAND, 1.0, "landing")
    assert vehicle.commands[-1] == (SET_MODE, 1.0, 4.0, 6.0)
    sent = len(vehicle.setpoints)
    flight.wait(lambda: not vehicle.armed and not driver.read().armed, 8.0, "landed")
    assert vehicle.body.on_ground and len(vehicle.setpoints) <= sent + 2 and driver.arming == "idle"


def test_on_the_ground_it_is_disarmed(flight):
    flight.arm(BodyRatesThrust(np.zeros(3), np.array(1.0)))
    flight.driver.stop()
    flight.wait(lambda: not flight.vehicle.armed, 2.0, "disarmed")
    assert flight.vehicle.commands[-1][:3] == (ARM, 0.0, 0.0) and flight.vehicle.mode == OFFBOARD


def test_a_refusal_is_told_with_what_px4_says(flight):
    flight.vehicle.preflight = False
    time.sleep(0.3)
    flight.command = LEVEL
    flight.driver.request_arming()
    flight.wait(lambda: flight.driver.arming == "failed", 5.0, "refusal")
    assert flight.driver.arming_problem == (
        "arming: temporarily rejected; the autopilot says: its pre-flight checks do not pass; flags attitude invalid"
    )
    assert not flight.vehicle.armed


def test_an_answer_to_somebody_else_is_none(flight):
    flight.vehicle.deaf = True
    flight.command = LEVEL
    flight.driver.request_arming()
    flight.wait(lambda: flight.driver.arming == "mode", 5.0, "mode")
    flight.vehicle.acknowledge(SET_MODE, 2, 255, 190)  # a ground station's
    time.sleep(0.2)
    assert flight.driver.arming == "mode"
    flight.vehicle.acknowledge(SET_MODE, 2, 1, 191)
    flight.wait(lambda: flight.driver.arming == "failed", 1.0, "refusal")
    assert flight.driver.arming_problem.startswith("change of mode: denied")


@pytest.mark.slow
def test_silence_is_the_vehicles_own_failsafe(flight):
    flight.climb()
    flight.command = None
    flight.wait(lambda: flight.driver.arming == "idle", 1.0, "end of the stream")
    flight.command = LEVEL
    time.sleep(0.1)
    last = flight.vehicle.setpoints[-1]
    flight.wait(lambda: flight.vehicle.mode == LAND, 2.0, "failsafe")
    assert time.monotonic() - last > 0.9 and flight.vehicle.setpoints[-1] == last  # COM_OF_LOSS_T
    flight.wait(lambda: "PX4 is in failsafe" in flight.driver.read().fault, 1.0, "fault")
    assert "commands had stopped" in flight.driver.arming_problem


@pytest.mark.slow
def test_a_pilot_who_takes_it_back_keeps_it(flight):
    flight.climb()
    flight.vehicle.set_mode(LOITER)
    flight.wait(lambda: flight.driver.arming == "idle", 1.0, "end of the stream")
    assert "left the mode by itself" in flight.driver.arming_problem
    asked, sent = len(flight.vehicle.commands), len(flight.vehicle.setpoints)
    flight.driver.stop()
    time.sleep(0.7)
    assert len(flight.vehicle.commands) == asked and len(flight.vehicle.setpoints) <= sent + 1
    assert flight.vehicle.armed and flight.vehicle.mode == LOITER


def test_kill(flight):
    flight.climb()
    flight.driver.kill()
    flight.wait(lambda: not flight.vehicle.armed, 1.0, "motors off")
    assert not flight.vehicle.body.on_ground and flight.vehicle.commands[-1] == (ARM, 0.0, 21196.0, 0.0)


def test_a_lost_position_ages_and_the_attitude_goes_on(flight):
    flight.vehicle.no_position = True
    words = "PX4 does not know where it is (x, y; velocity in x, y)"
    flight.wait(lambda: words in flight.driver.read().fault, 1.0, "fault")
    time.sleep(0.2)
    sample = flight.driver.read()
    assert sample.attitude_stamp - sample.stamp > 0.15
    flight.vehicle.no_position = False
    flight.wait(lambda: (s := flight.driver.read()).stamp == s.attitude_stamp and not s.fault, 1.0, "position")


def test_another_frame_is_refused_in_words(flight):
    flight.vehicle.frame = 2
    flight.wait(lambda: "not north-east-down" in flight.driver.read().fault, 1.0, "fault")
    time.sleep(0.1)
    assert time.monotonic() - flight.driver.read().attitude_stamp > 0.08


def test_another_system_s_number_is_told(flight):
    flight.vehicle.system = 3
    words = "PX4's MAV_SYS_ID is 3, and target_system is 1"
    flight.wait(lambda: words in flight.driver.read().fault, 1.0, "fault")


@pytest.mark.slow
def test_a_life_cycle_later_it_hears_again(flight, started_probe):
    """Topics are made anew; while it is not active it is deaf."""
    for transition in (DEACTIVATE, CLEANUP, CONFIGURE, ACTIVATE):
        request = {"transition": Transition(id=transition)}
        assert started_probe.call(ChangeState, "px4/change_state", **request).success
        if transition == CLEANUP:
            time.sleep(0.3)
            assert time.monotonic() - flight.driver.read().attitude_stamp > 0.25
    began = time.monotonic()
    flight.wait(lambda: flight.driver.read().stamp > began, 5.0, "samples again")
    flight.arm()


def test_nothing_heard_is_told(flight):
    flight.vehicle.mute = True
    flight.wait(lambda: "check that MicroXRCEAgent runs" in flight.driver.read().fault, 3.0, "fault")
    assert "fmu/out/vehicle_status" in flight.driver.read().fault


@pytest.mark.slow
def test_a_node_that_is_killed_and_comes_back_asks_nothing(flight):
    flight.climb()
    flight.processes.kill("px4")
    asked, sent = len(flight.vehicle.commands), len(flight.vehicle.setpoints)
    flight.start_node()
    flight.wait(lambda: flight.vehicle.mode == LAND, 2.0, "failsafe")
    began = time.monotonic()
    flight.wait(lambda: flight.driver.read().stamp > began, 5.0, "samples again")
    time.sleep(0.3)
    assert len(flight.vehicle.commands) == asked and len(flight.vehicle.setpoints) == sent
    assert flight.driver.arming == "idle"


@pytest.mark.slow
def test_a_node_that_ends_lands(flight):
    flight.climb()
    assert flight.processes.running["px4"].poll() is None
    flight.processes.end()
    flight.wait(lambda: (SET_MODE, 1.0, 4.0, 6.0) in flight.vehicle.commands, 1.0, "landing")
