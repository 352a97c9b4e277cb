"""What the nodes `px4` and `crazyswarm2` share, with the driver at the other end of real slots; a vehicle in a list."""

import os
import random
import time

import numpy as np
import pytest
import rclpy

from hardware.descriptions import load_quadrotor
from hardware.drivers.mavlink_arming import ARM, SET_MODE, ArmingConfig
from hardware.drivers.registry import open_driver
from hardware.realtime.seqlock import SlotFolder
from policies.types import BodyRatesThrust
from robot_rl.nodes.quadrotor_face import QuadrotorFaceConfig
from robot_rl.nodes.relay import RelayNode
from robot_rl.nodes.schedule import Schedule
from robot_rl.nodes.transport import without_shared_memory

CRAZYFLIE = load_quadrotor("crazyflie")
HOVER = BodyRatesThrust(np.array([0.1, 0.2, 0.3]), np.array(9.81))
STEP = 0.004


class Relay(RelayNode):
    """Does at once what it is asked for, unless `obeys` lacks it."""

    part = "relay"
    arming_config = ArmingConfig(stream_time=0.05, stream_gap=0.2, step_timeout=0.3, repeat=0.1)

    def __init__(self):
        self.calls, self.setpoints, self.obeys = [], [], {"mode", "arm"}
        super().__init__("relay", QuadrotorFaceConfig)
        self.schedule = Schedule(STEP, time.monotonic())

    def ask(self, what):
        self.calls.append(what)
        self.heard.in_mode |= what == "mode" and what in self.obeys
        self.heard.armed |= what == "arm" and what in self.obeys

    def land(self):
        self.calls.append("land")

    def kill(self):
        self.calls.append("kill")

    def send(self, rates, thrust):
        self.setpoints.append((rates.tolist(), thrust))

    def details(self):
        return {"mode": "waiting"}

    def measure(self):
        now = time.monotonic()
        self.heard.state_stamp = self.heard.attitude_stamp = now
        self.heard.position, self.heard.orientation = np.array([1.0, 2.0, 3.0]), np.array([1.0, 0.0, 0.0, 0.0])
        self.heard.linear_velocity, self.heard.angular_velocity = np.array([0.1, 0.2, 0.3]), np.array([0.4, 0.5, 0.6])


@pytest.fixture(scope="module")
def namespace(domain):
    """One rclpy for all nodes here, which are ticked by hand."""
    without_shared_memory()
    name = f"r{os.getpid()}_{random.SystemRandom().randint(0, 99999)}"
    rclpy.init(args=["--ros-args", "-r", f"__ns:=/{name}"], domain_id=domain)
    yield name
    rclpy.shutdown()


class Pair:
    """The node and the driver, each a step at a time."""

    def __init__(self, namespace):
        self.slots = SlotFolder(f"{namespace}.crazyflie")
        self.slots.claim()
        self.node, self.drivers = self.make_node(), []
        self.driver = self.connect()

    def make_node(self):
        self.node = node = Relay()
        node.started()
        node.measure()
        node.tick()
        return node

    def connect(self):
        driver = open_driver("px4", CRAZYFLIE, {"folder": str(self.slots.path), "timeout": "1"})
        self.node.measure()
        self.node.tick()
        driver.connect()
        self.drivers.append(driver)
        return driver

    def tick(self):
        self.node.tick()
        time.sleep(0.5 * STEP)
        if self.driver._said is not None:
            self.driver.read()

    def run(self, seconds, write=True):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if write:
                self.driver.write(HOVER)
            self.tick()

    def until(self, condition, write=True):
        end = time.monotonic() + 5.0
        while not condition():
            assert time.monotonic() < end, (self.driver.arming, self.driver.arming_problem, self.node.calls)
            if write:
                self.driver.write(HOVER)
            self.tick()

    def fly(self):
        self.driver.request_arming()
        self.until(lambda: self.driver.arming == "done")
        self.run(0.02)
        self.node.calls.clear()
        self.node.setpoints.clear()

    def end_node(self):
        self.node.close()
        self.node.destroy_node()

    def close(self):
        for driver in self.drivers:
            driver.close()
        self.end_node()
        self.slots.release()


@pytest.fixture
def pair(namespace):
    made = Pair(namespace)
    yield made
    made.close()


def test_what_is_heard_is_the_sample(pair):
    heard = pair.node.heard
    heard.battery_voltage, heard.fault = 15.2, "it is cold"
    pair.node.measure()
    pair.tick()
    sample = pair.driver.read()
    assert sample.stamp == heard.state_stamp and sample.state.position.tolist() == [1.0, 2.0, 3.0]
    assert sample.state.linear_velocity.tolist() == [0.1, 0.2, 0.3]
    assert sample.angular_velocity.tolist() == sample.state.angular_velocity.tolist() == [0.4, 0.5, 0.6]
    assert sample.battery_voltage == 15.2 and sample.battery_remaining is None and sample.fault == "it is cold"
    assert sample.details == {"mode": "waiting"} and not sample.armed and not sample.accepting


def test_nothing_is_asked_or_sent_before_a_request(pair):
    pair.run(0.15)
    assert not pair.node.calls and not pair.node.setpoints and pair.driver.arming == "idle"


def test_it_arms_step_by_step_with_idle_set_points(pair):
    pair.driver.request_arming()
    assert pair.driver.arming == "streaming"
    seen = []

    def done():
        seen.append(pair.driver.arming)
        return seen[-1] == "done"

    pair.until(done)
    assert pair.node.calls == ["mode", "arm"] and pair.driver.read().accepting
    assert list(dict.fromkeys(seen)) in (["streaming", "done"], ["streaming", "mode", "arming", "done"])
    pair.run(0.05)
    changes = [s for i, s in enumerate(pair.node.setpoints) if i == 0 or s != pair.node.setpoints[i - 1]]
    assert changes == [([0.0, 0.0, 0.0], 0.0), ([0.1, 0.2, 0.3], 9.81)]  # the moment it is armed


def test_in_the_air_it_is_handed_over_with_real_set_points(pair):
    pair.node.heard.armed = True  # by a pilot
    pair.driver.request_arming()
    pair.until(lambda: pair.driver.arming == "done")
    assert pair.node.calls == ["mode"] and all(thrust == 9.81 for _, thrust in pair.node.setpoints)


def test_no_effect_is_a_refusal_in_words_and_asks_again_until_then(pair):
    pair.node.obeys = {"mode"}
    pair.driver.request_arming()
    pair.until(lambda: pair.driver.arming == "failed")
    assert pair.driver.arming_problem == "arming: no effect within 0.3 s"
    assert pair.node.calls[0] == "mode" and 2 <= pair.node.calls.count("arm") <= 4
    sent = len(pair.node.setpoints)
    pair.run(0.1)
    assert len(pair.node.setpoints) == sent


@pytest.mark.parametrize(("lacks", "command", "step"), [
    ("mode", SET_MODE, "change of mode"), ("arm", ARM, "arming")
])  # fmt: skip
def test_a_no_is_told_at_once(pair, lacks, command, step):
    pair.node.obeys = {"mode", "arm"} - {lacks}
    pair.driver.request_arming()
    pair.until(lambda: lacks in pair.node.calls)
    now = time.monotonic()
    pair.node.arming.observe_ack(command, 2, now)
    pair.node.arming.observe_text("the compass", now)
    pair.tick()
    assert pair.driver.arming == "failed"
    assert pair.driver.arming_problem == f"{step}: denied; the autopilot says: the compass"
    pair.node.obeys = {"mode", "arm"}
    pair.driver.request_arming()  # and a new request begins anew
    pair.until(lambda: pair.driver.arming == "done")
    assert pair.driver.arming_problem == ""


def test_a_set_point_is_sent_once(pair):
    pair.fly()
    for count in range(1, 6):
        pair.driver.write(HOVER)
        for _ in range(4):
            pair.tick()
        assert len(pair.node.setpoints) == count


def test_an_old_set_point_is_not_sent(pair):
    pair.fly()
    pair.driver.write(HOVER)
    time.sleep(0.12)
    pair.tick()
    assert not pair.node.setpoints


@pytest.mark.parametrize("lacks", [set(), {"arm"}])
def test_silence_ends_the_stream_for_good(pair, lacks):
    pair.node.obeys -= lacks
    if lacks:
        pair.node.arming_config = pair.node.arming.config = ArmingConfig(stream_time=0.05, step_timeout=2.0)
        pair.driver.request_arming()
        pair.until(lambda: pair.driver.arming == "arming")
    else:
        pair.fly()
    pair.until(lambda: pair.driver.arming == "idle", write=False)
    assert "commands had stopped for 0.25 s" in pair.driver.arming_problem
    pair.node.calls.clear()
    pair.node.setpoints.clear()
    pair.run(0.1)
    assert not pair.node.setpoints and not pair.node.calls  # the vehicle's own failsafe acts
    pair.node.obeys = {"mode", "arm"}
    pair.driver.request_arming()
    pair.until(lambda: pair.driver.arming == "done")


def test_stop_lands_until_it_is_disarmed(pair):
    pair.fly()
    pair.driver.stop()
    assert pair.driver.arming == "idle"
    pair.run(0.6)
    assert pair.node.calls == ["land", "land"] and not pair.node.setpoints
    pair.node.heard.in_mode, pair.node.heard.landing = False, True
    pair.run(0.5)
    assert pair.node.calls == ["land"] * 3
    pair.node.heard.armed = False
    pair.run(0.6)
    pair.node.heard.armed, pair.node.heard.landing = True, False  # by a pilot
    pair.run(0.6)
    assert pair.node.calls == ["land"] * 3


def test_a_pilot_may_take_over_while_it_lands(pair):
    pair.fly()
    pair.driver.stop()
    pair.tick()
    pair.node.heard.in_mode = False
    pair.run(0.6)
    assert pair.node.calls == ["land"]


def test_a_pilot_who_takes_over_is_never_told_to_land(pair):
    pair.fly()
    pair.node.heard.in_mode = False
    pair.tick()
    assert pair.driver.arming == "idle" and "left the mode by itself" in pair.driver.arming_problem
    pair.driver.stop()
    pair.run(0.6)
    assert not pair.node.calls and not pair.node.setpoints
    pair.end_node()
    assert not pair.node.calls
    pair.make_node()


def test_a_vehicle_that_disarms_is_not_asked_again(pair):
    pair.fly()
    pair.node.heard.armed = False
    pair.run(0.3)
    assert "disarmed by itself" in pair.driver.arming_problem and not pair.node.calls


@pytest.mark.parametrize("way", ["stop", "kill"])
def test_one_that_arms_after_a_stop_is_stopped(pair, way):
    """The request was on its way, or what the vehicle says comes late."""
    pair.node.obeys = {"mode"}
    pair.driver.request_arming()
    pair.until(lambda: "arm" in pair.node.calls)
    getattr(pair.driver, way)()
    pair.run(0.1)
    assert "land" not in pair.node.calls
    pair.node.heard.armed = True
    pair.run(0.05)
    assert pair.node.calls[-1] == "land"


def test_kill(pair):
    pair.fly()
    pair.driver.kill()
    pair.run(0.1)
    assert pair.node.calls == ["kill"] and not pair.node.setpoints and pair.driver.arming == "idle"


def test_without_its_memory_it_lands(pair):
    pair.fly()
    pair.driver.close()
    pair.slots.release()
    pair.run(0.1, write=False)
    assert pair.node.calls == ["land"]
    pair.node.heard.armed = False
    pair.slots.claim()
    pair.node.calls.clear()
    pair.driver = pair.connect()
    pair.run(0.1)
    assert not pair.node.calls and pair.driver.arming == "idle"
    pair.fly()


def test_a_node_that_ends_lands_and_one_that_comes_back_asks_nothing(pair):
    pair.fly()
    old = pair.node
    pair.end_node()
    assert old.calls == ["land"]
    pair.make_node()
    pair.node.heard.armed = pair.node.heard.in_mode = True
    pair.run(0.4)
    assert not pair.node.calls and not pair.node.setpoints and pair.driver.arming == "idle"


def test_a_node_that_was_inactive_asks_nothing(pair):
    pair.fly()
    pair.node.trigger_deactivate()
    assert pair.node.calls == ["land"]
    pair.node.calls.clear()
    pair.driver.write(HOVER)
    pair.node.trigger_activate()
    pair.node.heard.armed = pair.node.heard.in_mode = True
    pair.run(0.3)
    assert not pair.node.calls and not pair.node.setpoints and pair.driver.arming == "idle"


def test_a_new_control_process_asks_nothing(pair):
    pair.fly()
    pair.driver.close()
    pair.run(0.3, write=False)
    pair.driver = pair.connect()
    pair.run(0.2)
    assert not pair.node.calls and not pair.node.setpoints and pair.driver.arming == "idle"


def test_diagnostics(pair):
    level, summary, values = pair.node.describe()
    assert summary == "connected; arming idle" and values()["vehicle mode"] == "waiting"
    pair.node.heard.state_stamp = pair.node.heard.attitude_stamp = 0.0
    assert pair.node.describe()[1] == "nothing is heard of the vehicle"
    pair.node.measure()
    pair.fly()
    pair.node.heard.armed = False
    pair.tick()
    assert "disarmed by itself" in pair.node.describe()[1]
