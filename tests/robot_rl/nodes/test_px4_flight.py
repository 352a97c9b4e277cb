"""A policy flies a stand-in of PX4 through its ROS 2 topics: policy, supervisor, control process, node `px4`."""

import time

import numpy as np
import pytest

pytest.importorskip("px4_msgs", reason="px4_msgs is not installed: docs/drivers_quadrotors.md says how")

from px4_vehicle import LAND, LOITER, OFFBOARD, Px4Vehicle  # noqa: E402
from std_srvs.srv import SetBool  # noqa: E402

from hardware import setpoints  # noqa: E402

HOVER, NORTH = np.array([0.3, 0.2, 0.8]), 0.5 * np.pi
BUNDLE = "policy:=quadrotor-track"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def vehicle(processes, probe, domain):
    made = Px4Vehicle(domain, probe.namespace)
    processes.start("px4", "hover_throttle:=0.4")  # 5 % wrong
    processes.start("supervisor", "driver:=px4", BUNDLE)
    processes.start("policy", BUNDLE)
    yield made
    processes.end()
    made.close()


def position(vehicle):
    north, east, down = vehicle.body.position
    return np.array([east, north, -down])


def hover(vehicle, probe):
    """Armed by its service, at `HOVER`."""
    probe.target = lambda now: setpoints.hover(np.zeros(3), NORTH, like=HOVER)
    probe.wait(lambda: probe.states and probe.statuses, 30.0, "odometry and status")
    probe.wait(lambda: not vehicle.armed, 15.0, "vehicle at rest")
    vehicle.body.__init__()
    vehicle.set_mode(LOITER)
    time.sleep(1.0)
    deadline = time.monotonic() + 15.0
    while not (answer := probe.trigger("recover")).success and "nothing to recover" not in answer.message:
        assert time.monotonic() < deadline, answer.message
        time.sleep(0.1)
    probe.arm()
    begin = time.time()
    probe.target = lambda now: setpoints.hover(min(1.0, (now - begin) / 2.0) * HOVER, NORTH, like=HOVER)
    probe.wait(lambda: np.linalg.norm(position(vehicle) - HOVER) < 0.15, 12.0, "hover")
    time.sleep(0.5)
    assert probe.statuses[-1].mode == "active" and vehicle.mode == OFFBOARD
    return time.time()


def test_a_shipped_policy_hovers_and_lands(vehicle, probe):
    hover(vehicle, probe)
    track, begin, heard = [], time.monotonic(), len(vehicle.setpoints)
    while time.monotonic() - begin < 4.0:
        track.append(position(vehicle) - HOVER)
        time.sleep(0.02)
    rate = (len(vehicle.setpoints) - heard) / 4.0
    rms = float(np.sqrt(np.mean(np.sum(np.square(track), axis=-1))))
    print(f"hover error rms {1e3 * rms:.0f} mm at {rate:.0f} set-points a second")
    assert rms < 0.12 and rate > 50.0
    assert probe.call(SetBool, "arm", data=False).success
    probe.wait(lambda: vehicle.mode == LAND, 2.0, "landing")
    probe.wait(lambda: not vehicle.armed, 12.0, "landed")
    assert vehicle.body.on_ground


def test_a_pilot_takes_it_back(vehicle, probe):
    begin = hover(vehicle, probe)
    vehicle.set_mode(LOITER)
    taken, modes = time.monotonic(), len(vehicle.modes_seen)
    probe.wait_mode("disarmed", 3.0, since=begin)
    time.sleep(1.0)
    assert vehicle.armed and vehicle.mode == LOITER and len(vehicle.modes_seen) == modes
    assert vehicle.setpoints[-1] < taken + 0.6
    vehicle.set_mode(LAND)
    probe.wait(lambda: not vehicle.armed, 12.0, "landed")


def test_the_nodes_are_killed_one_after_the_other(vehicle, probe, processes):
    """Without the relay nothing is sent, and PX4's failsafe lands; without the supervisor it is told to."""
    hover(vehicle, probe)
    processes.kill("px4")
    probe.wait(lambda: vehicle.mode == LAND, 3.0, "failsafe")
    processes.start("px4", "hover_throttle:=0.4")
    probe.wait(lambda: not vehicle.armed, 12.0, "landed")
    hover(vehicle, probe)
    processes.kill("supervisor")
    killed = time.monotonic()
    probe.wait(lambda: vehicle.mode == LAND, 3.0, "landing")
    assert time.monotonic() - killed < 0.9 and not vehicle.failsafe  # it was told to
    probe.wait(lambda: not vehicle.armed, 12.0, "landed")
