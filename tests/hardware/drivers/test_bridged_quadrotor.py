"""The drivers `sim` and `topics` of quadrotors, against a vehicle that is a thread behind shared memory."""

import threading
import time

import numpy as np
import pytest

from hardware.descriptions import load_arm, load_quadrotor
from hardware.drivers.bridged_quadrotor import MOTORS, MOTORS_RECORD, SENSORS, SENSORS_RECORD
from hardware.drivers.check import check_driver
from hardware.drivers.driver import DriverError
from hardware.drivers.registry import open_driver
from hardware.realtime.seqlock import SlotReader, SlotWriter
from policies.types import BodyRatesThrust, MotorSpeeds

CRAZYFLIE = load_quadrotor("crazyflie")
HOVER = np.array([1700.0, 1710.0, 1720.0, 1730.0])


def sensors(state=True, attitude=True, fault=b""):
    """A record of now."""
    record, now = np.zeros((), SENSORS_RECORD), time.monotonic()
    if state:
        record["state_stamp"], record["position"], record["orientation"] = now, (1.0, 2.0, 3.0), (1.0, 0.0, 0.0, 0.0)
        record["linear_velocity"], record["angular_velocity"] = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    if attitude:
        record["attitude_stamp"], record["attitude"], record["rates"] = now, (1.0, 0.0, 0.0, 0.0), (0.4, 0.5, 0.6)
        record["specific_force"] = (0.0, 0.0, 9.81)
    record["fault"] = fault
    return record


class Vehicle:
    """Speaks at 100 Hz."""

    def __init__(self, folder):
        self.slot, self.motors = SlotWriter(folder, SENSORS, SENSORS_RECORD), SlotReader(folder, MOTORS, MOTORS_RECORD)
        self.options, self.end = {}, threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        while not self.end.wait(0.01):
            self.slot.write(sensors(**self.options))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.end.set()
        self.thread.join(2.0)
        self.slot.close()
        self.motors.close()


@pytest.fixture
def vehicle(tmp_path):
    with Vehicle(tmp_path) as running:
        yield running


@pytest.fixture
def make(tmp_path):
    def make_driver(name="sim", **settings):
        return open_driver(name, CRAZYFLIE, {"folder": str(tmp_path), **settings})

    return make_driver


def soon(condition):
    end = time.monotonic() + 5.0
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


@pytest.mark.parametrize("name", ["sim", "topics"])
def test_it_keeps_the_contract(vehicle, make, name):
    # The rate is that of commands; samples come at the vehicle's, a fifth of it.
    assert check_driver(make(name), CRAZYFLIE, min_rate=0.1, slack=3.0) == []


@pytest.mark.parametrize(("name", "watchdog"), [("sim", 0.1), ("topics", np.inf)])
def test_only_what_is_simulated_may_be_armed_by_a_launch(vehicle, make, name, watchdog):
    """Nobody knows the watchdog of a vehicle behind topics."""
    able = make(name).capabilities
    assert able.name == name and able.simulated == (name == "sim") and not able.own_arming
    assert able.commands == ("MotorSpeeds",) and able.realtime and able.watchdog_s == watchdog


def test_a_sample_is_what_the_vehicle_said_and_the_same_until_it_says_more(vehicle, make):
    with make() as driver:
        sample = driver.read()
        assert sample.state.position.tolist() == [1.0, 2.0, 3.0]
        assert sample.state.angular_velocity.tolist() == sample.angular_velocity.tolist() == [0.4, 0.5, 0.6]
        assert sample.specific_force.tolist() == [0.0, 0.0, 9.81] and sample.armed and sample.accepting
        assert sample.stamp == sample.attitude_stamp
        vehicle.end.set()
        vehicle.thread.join()
        last = driver.read()
        assert driver.read() is last


def test_it_connects_without_a_position_and_without_an_inertial_sensor(vehicle, make):
    for missing in ("state", "attitude"):
        vehicle.options = {missing: False}
        time.sleep(0.05)
        with make() as driver:
            sample = driver.read()
            assert (sample.state is None, sample.orientation is None) == (missing == "state", missing == "attitude")


def test_what_the_vehicle_says_of_itself_is_its_fault(vehicle, make):
    with make() as driver:
        vehicle.options = {"fault": b"crashed into the ground"}
        soon(lambda: driver.read().fault == "crashed into the ground")


def test_rotor_speeds_arrive_with_their_time(vehicle, make):
    with make() as driver:
        before = time.monotonic()
        driver.write(MotorSpeeds(HOVER))
        record = vehicle.motors.read().record
        assert record["values"].tolist() == HOVER.tolist() and before <= record["stamp"] <= time.monotonic()


@pytest.mark.parametrize(("command", "words"), [
    (BodyRatesThrust(np.zeros(3), np.asarray(9.81)), "takes MotorSpeeds, not BodyRatesThrust"),
    (MotorSpeeds(np.zeros(3)), r"shape \(3,\); expected \(4,\)"),
    (MotorSpeeds(np.full(4, np.nan)), "not finite"),
])  # fmt: skip
def test_what_is_no_command_is_refused(vehicle, make, command, words):
    with make() as driver, pytest.raises(DriverError, match=words):
        driver.write(command)
    assert vehicle.motors.read() is None


def test_it_is_never_asked_to_arm(vehicle, make):
    with make() as driver:
        driver.request_arming()
        assert driver.arming == "done" and driver.arming_problem == "" and vehicle.motors.read() is None


@pytest.mark.parametrize("way", ["stop", "kill"])
def test_stop_and_kill_turn_the_motors_off(vehicle, make, way):
    with make() as driver:
        driver.write(MotorSpeeds(HOVER))
        getattr(driver, way)()
        assert not np.any(vehicle.motors.read().record["values"])


@pytest.mark.parametrize("end", [lambda driver: driver.close(), lambda driver: driver.__exit__(None, None, None)])
def test_close_says_nothing_more(vehicle, make, end):
    """In the air zeros are a fall, and silence is the vehicle's own watchdog."""
    driver = make()
    driver.connect()
    driver.write(MotorSpeeds(HOVER))
    end(driver)
    reading = vehicle.motors.read()
    assert reading.sequence == 1 and reading.record["values"].tolist() == HOVER.tolist()
    with pytest.raises(DriverError, match="not connected"):
        driver.read()


@pytest.mark.parametrize(("name", "words"), [("sim", "the simulated vehicle"), ("topics", "odom")])
def test_nobody_there_is_a_sentence(make, name, words):
    driver = make(name, timeout="0.1")
    with pytest.raises(DriverError, match=f"driver '{name}': nothing came from {words} within 0.1 s: is it there"):
        driver.connect()
    with pytest.raises(DriverError, match="not connected"):  # and nothing stays open
        driver.write(MotorSpeeds(HOVER))


def test_what_was_said_before_does_not_count_as_somebody_there(tmp_path, make):
    with SlotWriter(tmp_path, SENSORS, SENSORS_RECORD) as slot:
        slot.write(sensors())
    time.sleep(0.15)
    with pytest.raises(DriverError, match="is it there"):
        make(timeout="0.1").connect()


def test_a_second_driver_is_refused(vehicle, make):
    with make(), pytest.raises(DriverError, match="is written by process"):
        make().connect()


def test_memory_that_has_gone_is_a_sentence(make, tmp_path):
    with pytest.raises(DriverError, match="there is no folder"):
        make(folder=str(tmp_path / "gone")).connect()


def test_wrong_settings_and_robots_are_refused():
    with pytest.raises(DriverError, match="driver 'topics' needs the setting 'folder'"):
        open_driver("topics", CRAZYFLIE, {})
    with pytest.raises(DriverError, match="driver 'sim' has no setting 'foldr'"):
        open_driver("sim", CRAZYFLIE, {"foldr": "/x"})
    with pytest.raises(DriverError, match="'topics' flies quadrotors; panda is none"):
        open_driver("topics", load_arm("panda"), {"folder": "/x"})
