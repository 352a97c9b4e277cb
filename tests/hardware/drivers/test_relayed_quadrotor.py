"""The drivers `px4` and `crazyswarm2`, against a node that is a thread behind shared memory."""

import json
import threading
import time

import numpy as np
import pytest

from hardware.descriptions import load_arm, load_quadrotor
from hardware.drivers.check import check_driver
from hardware.drivers.driver import DriverError
from hardware.drivers.registry import open_driver
from hardware.drivers.relayed_quadrotor import SAID, SAID_RECORD, TOLD, TOLD_RECORD
from hardware.realtime.seqlock import SlotReader, SlotWriter
from policies.types import BodyRatesThrust, MotorSpeeds

CRAZYFLIE = load_quadrotor("crazyflie")
COMMAND = BodyRatesThrust(np.array([0.1, 0.2, 0.3]), np.asarray(9.81))


def said(state=True, attitude=True, **fields):
    """A record of now."""
    record, now = np.zeros((), SAID_RECORD), time.monotonic()
    record["battery_voltage"] = record["battery_remaining"] = np.nan
    if state:
        record["state_stamp"], record["position"], record["orientation"] = now, (1.0, 2.0, 3.0), (1.0, 0.0, 0.0, 0.0)
        record["linear_velocity"], record["angular_velocity"] = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    if attitude:
        record["attitude_stamp"], record["attitude"], record["rates"] = now, (1.0, 0.0, 0.0, 0.0), (0.4, 0.5, 0.6)
    record["phase"] = b"idle"
    for name, value in fields.items():
        record[name] = value
    return record


class Node:
    """Speaks at 100 Hz; takes requests as they come unless `deaf`."""

    def __init__(self, folder):
        self.slot, self.told = SlotWriter(folder, SAID, SAID_RECORD), SlotReader(folder, TOLD, TOLD_RECORD)
        self.options, self.deaf, self.end = {}, False, threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        counts = {"requests": 0, "stops": 0}
        while not self.end.wait(0.01):
            if not self.deaf and (reading := self.told.read()) is not None:
                counts = {name: reading.record[name] for name in counts}
            self.slot.write(said(**counts, **self.options))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.end.set()
        self.thread.join(2.0)
        self.slot.close()
        self.told.close()

    @property
    def record(self):
        reading = self.told.read()
        return None if reading is None else reading.record


@pytest.fixture
def node(tmp_path):
    with Node(tmp_path) as running:
        yield running


@pytest.fixture
def make(tmp_path):
    def make_driver(name="px4", **settings):
        return open_driver(name, CRAZYFLIE, {"folder": str(tmp_path), **settings})

    return make_driver


def soon(condition):
    end = time.monotonic() + 5.0
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def heard(driver, condition):
    soon(lambda: driver.read() is not None and condition())


@pytest.mark.parametrize("name", ["px4", "crazyswarm2"])
def test_it_keeps_the_contract(node, make, name):
    assert check_driver(make(name), CRAZYFLIE, min_rate=0.5, slack=3.0) == []


@pytest.mark.parametrize("name", ["px4", "crazyswarm2"])
def test_what_it_can_do(make, name):
    able = make(name, rate_hz="50", watchdog="0.5").capabilities
    assert able.name == name and able.commands == ("BodyRatesThrust",) and able.own_arming and not able.simulated
    assert able.rate_hz == 50.0 and able.watchdog_s == 0.5


def test_a_sample_is_what_the_node_said_and_the_same_until_it_says_more(node, make):
    node.options = {
        "battery_voltage": 15.2, "battery_remaining": 0.8, "armed": True, "accepting": True,
        "fault": "zu heiß".encode(), "json": json.dumps({"mode": "OFFBOARD"}).encode(),
    }  # fmt: skip
    with make() as driver:
        heard(driver, lambda: driver.read().armed)
        sample = driver.read()
        assert sample.state.position.tolist() == [1.0, 2.0, 3.0] and sample.accepting and sample.fault == "zu heiß"
        assert sample.state.angular_velocity.tolist() == sample.angular_velocity.tolist() == [0.4, 0.5, 0.6]
        assert (sample.battery_voltage, sample.battery_remaining) == (15.2, 0.8)
        assert sample.details == {"mode": "OFFBOARD"} and sample.stamp == sample.attitude_stamp
        node.end.set()
        node.thread.join()
        last = driver.read()
        assert driver.read() is last


def test_words_that_are_cut_in_a_letter_and_what_is_not_known(node, make):
    node.options = {"problem": ("x" * 239 + "ß").encode()[:240], "phase": b"failed"}
    with make() as driver:
        heard(driver, lambda: driver.arming == "failed")
        assert driver.arming_problem == "x" * 239
        assert driver.read().battery_voltage is None and driver.read().battery_remaining is None


def test_it_connects_without_a_position_and_without_an_attitude(node, make):
    for missing in ("state", "attitude"):
        node.options = {missing: False}
        time.sleep(0.05)
        with make() as driver:
            sample = driver.read()
            assert (sample.state is None, sample.orientation is None) == (missing == "state", missing == "attitude")


def test_a_set_point_arrives_with_everything_that_was_asked(node, make):
    with make() as driver:
        driver.request_arming()
        assert not node.record["has_command"] and node.record["requests"] == 1
        driver.write(COMMAND)
        record = node.record
        assert record["has_command"] and record["rates"].tolist() == [0.1, 0.2, 0.3] and record["thrust"] == 9.81
        assert (record["requests"], record["stops"], record["kills"]) == (1, 0, 0)
        driver.stop()
        driver.kill()
        record = node.record
        assert not record["has_command"] and (record["requests"], record["stops"], record["kills"]) == (1, 1, 1)


@pytest.mark.parametrize(("command", "words"), [
    (MotorSpeeds(np.zeros(4)), "takes BodyRatesThrust, not MotorSpeeds"),
    (BodyRatesThrust(np.zeros(4), np.asarray(1.0)), r"shape \(4,\); expected \(3,\)"),
    (BodyRatesThrust(np.array([np.nan, 0.0, 0.0]), np.asarray(1.0)), "not finite"),
    (BodyRatesThrust(np.zeros(3), np.asarray(np.inf)), "not finite"),
])  # fmt: skip
def test_what_is_no_command_is_refused(node, make, command, words):
    with make() as driver, pytest.raises(DriverError, match=words):
        driver.write(command)
    assert node.record is None or not node.record["has_command"]


def test_arming_is_what_the_node_says_of_the_newest_request(node, make):
    """An answer to an earlier request is none to this one."""
    node.options = {"phase": b"done"}
    with make() as driver:
        heard(driver, lambda: driver.arming == "done")
        node.deaf = True
        time.sleep(0.03)
        driver.request_arming()
        time.sleep(0.03)
        driver.read()
        assert driver.arming == "streaming"
        node.deaf = False
        heard(driver, lambda: driver.arming == "done")
        node.deaf = True
        time.sleep(0.03)
        driver.stop()
        driver.read()
        assert driver.arming == "idle"


def test_a_new_control_process_goes_on_counting(node, make):
    """What an earlier one has asked for is not asked again."""
    with make() as driver:
        driver.request_arming()
        driver.stop()
        driver.write(COMMAND)
    with make() as driver:
        driver.write(COMMAND)
        assert (node.record["requests"], node.record["stops"], node.record["kills"]) == (1, 1, 0)
        driver.request_arming()
        assert node.record["requests"] == 2


@pytest.mark.parametrize("end", [lambda driver: driver.close(), lambda driver: driver.__exit__(None, None, None)])
def test_close_says_nothing_more(node, make, end):
    driver = make()
    driver.connect()
    driver.write(COMMAND)
    sequence = node.told.sequence
    end(driver)
    driver.stop()  # without memory there is nobody to tell
    assert node.told.sequence == sequence
    for ask in (driver.read, driver.kill, driver.request_arming, lambda: driver.write(COMMAND)):
        with pytest.raises(DriverError, match="not connected"):
            ask()


@pytest.mark.parametrize("name", ["px4", "crazyswarm2"])
def test_nobody_there_is_a_sentence(make, name):
    driver = make(name, timeout="0.1")
    with pytest.raises(DriverError, match=f"driver '{name}': no sample within 0.1 s: see what node {name} says"):
        driver.connect()
    with pytest.raises(DriverError, match="not connected"):  # and nothing stays open
        driver.write(COMMAND)


def test_what_was_said_before_does_not_count_as_somebody_there(tmp_path, make):
    with SlotWriter(tmp_path, SAID, SAID_RECORD) as slot:
        slot.write(said())
    time.sleep(0.15)
    with pytest.raises(DriverError, match="no sample within"):
        make(timeout="0.1").connect()


def test_a_second_driver_is_refused(node, make):
    with make(), pytest.raises(DriverError, match="is written by process"):
        make().connect()


def test_wrong_settings_and_robots_are_refused(tmp_path):
    with pytest.raises(DriverError, match="driver 'px4' needs the setting 'folder'"):
        open_driver("px4", CRAZYFLIE, {})
    with pytest.raises(DriverError, match="rate_hz is 1000.0; it must lie within"):
        open_driver("px4", CRAZYFLIE, {"folder": "/x", "rate_hz": "1000"})
    with pytest.raises(DriverError, match="'crazyswarm2' flies quadrotors; panda is none"):
        open_driver("crazyswarm2", load_arm("panda"), {"folder": "/x"})
    with pytest.raises(DriverError, match="there is no folder"):
        open_driver("px4", CRAZYFLIE, {"folder": str(tmp_path / "gone")}).connect()
