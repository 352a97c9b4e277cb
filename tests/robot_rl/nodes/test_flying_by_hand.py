"""A person flies the simulated quadrotor: a gamepad's bytes, the node `teleop`, and all nodes of a flight over DDS."""

import os
import re
import struct
import threading
import time
import tty

import numpy as np
import pytest

pytest.importorskip("rclpy")

from geometry_msgs.msg import TwistStamped  # noqa: E402
from std_msgs.msg import String  # noqa: E402

from hardware.teleop.gamepad_mapping import FOLDER, load_mapping  # noqa: E402
from hardware.teleop.joydev import AXIS, BUTTON, INITIAL  # noqa: E402
from robot_rl.nodes import arm_messages, qos  # noqa: E402

XBOX = load_mapping(FOLDER / "xbox.yaml")


class Pad:
    """A gamepad's bytes on a pseudo-terminal."""

    def __init__(self):
        self.master, self.slave = os.openpty()
        tty.setraw(self.slave)
        self.path = os.ttyname(self.slave)
        for code in (*XBOX.axes, *XBOX.buttons):
            self.put(code, 0, INITIAL)

    def put(self, code, value, kind=0):
        what = AXIS if code.startswith("ABS") else BUTTON
        number = (XBOX.axes if what == AXIS else XBOX.buttons).index(code)
        raw = round(32767 * value) if what == AXIS else int(value)
        os.write(self.master, struct.pack("=IhBB", 0, raw, what | kind, number))

    def close(self):
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture(scope="module")
def flight(processes, probe):
    """(processes, probe, gamepad, phases as they come), hovering at 1 m with the hover mission."""
    pad, phases = Pad(), []
    probe.node.create_subscription(String, "setpoint/phase", lambda m: phases.append(m.data), qos.STATUS)
    processes.start("simulator")
    processes.start("supervisor", "driver:=sim")
    processes.start("policy")
    processes.start("setpoint", "mission:=hover", "height:=1.0", "policy:=quadrotor-track")
    processes.start("teleop", f"device:=gamepad:{pad.path}", "kind:=quadrotor", "linear:=0.6")
    probe.wait(lambda: probe.states and probe.diagnostics.get("mission"), 60.0, "odometry and mission")
    probe.arm()
    probe.wait(lambda: phases and phases[-1] == "hover", 20.0, "hover")
    settle(probe)
    yield processes, probe, pad, phases
    assert set(processes.end().values()) <= {0}
    pad.close()


def settle(probe, timeout=8.0):
    """Wait until the vehicle stands still, and say where."""
    probe.wait(lambda: np.linalg.norm(probe.state.linear_velocity) < 0.06, timeout, "rest")
    time.sleep(0.5)
    return probe.state.position.copy()


def track(probe, seconds, since=None):
    """States of the next seconds."""
    begin = len(probe.states)
    time.sleep(seconds)
    return [state for _, state in probe.states[begin:]]


def test_the_stick_moves_it_and_let_go_it_stands(flight):
    _, probe, pad, phases = flight
    start = settle(probe)
    pad.put("ABS_Y", -1.0)
    time.sleep(0.6)
    assert phases[-1] == "hover"  # the stick alone moves nothing
    np.testing.assert_allclose(probe.state.position, start, atol=0.12)
    pad.put("BTN_TR", 1)
    probe.wait(lambda: phases[-1] == "person", 5.0, "person")
    probe.wait(lambda: probe.state.linear_velocity[0] > 0.35, 5.0, "speed")
    probe.wait(lambda: probe.state.position[0] > start[0] + 0.6, 5.0, "way ahead")
    pad.put("BTN_TR", 0)
    end = settle(probe)
    assert phases[-1] == "held"
    assert end[0] - start[0] > 0.7 and abs(end[1] - start[1]) < 0.25 and abs(end[2] - start[2]) < 0.25
    moved = [np.linalg.norm(state.position - end) for state in track(probe, 2.0)]
    assert max(moved) < 0.15
    pad.put("ABS_Y", 0.0)


@pytest.mark.slow
def test_sideways_and_up_and_a_turn(flight):
    _, probe, pad, phases = flight
    start = settle(probe)
    pad.put("BTN_TR", 1)
    pad.put("ABS_X", -1.0)
    pad.put("ABS_RY", -1.0)
    probe.wait(lambda: probe.state.position[1] > start[1] + 0.4, 6.0, "way to the left")
    probe.wait(lambda: probe.state.position[2] > start[2] + 0.3, 6.0, "way up")
    pad.put("ABS_X", 0.0)
    pad.put("ABS_RY", 0.0)
    time.sleep(1.5)  # centred, the dead-man still held: it stands
    end = settle(probe)
    assert end[1] - start[1] > 0.3 and end[2] - start[2] > 0.2
    pad.put("BTN_TR", 0)
    probe.wait(lambda: phases[-1] == "held", 5.0, "held")


def test_a_killed_teleop_node_leaves_it_hovering(flight):
    processes, probe, pad, phases = flight
    pad.put("BTN_TR", 1)
    pad.put("ABS_Y", 1.0)  # back
    probe.wait(lambda: probe.state.linear_velocity[0] < -0.35, 5.0, "motion")
    processes.kill("teleop")
    killed = probe.state.position.copy()
    end = settle(probe)
    assert phases[-1] == "held"
    assert np.linalg.norm(end - killed) < 0.6  # 150 ms, and a way to brake from 0.6 m/s
    assert all(np.linalg.norm(state.position - end) < 0.15 for state in track(probe, 1.5))
    assert probe.statuses[-1].mode == "active"
    pad.put("BTN_TR", 0)
    pad.put("ABS_Y", 0.0)
    processes.start("teleop", f"device:=gamepad:{pad.path}", "kind:=quadrotor", "linear:=0.6")
    probe.diagnostics.pop("teleoperation")
    probe.wait(lambda: probe.diagnostics.get("teleoperation"), 30.0, "teleop again")


def test_handed_back_it_returns_to_the_mission_without_a_jump(flight):
    _, probe, pad, phases = flight
    settle(probe)
    begin = len(probe.states)
    for _ in range(20):  # the new node has to find the service: a person presses again
        pad.put("BTN_EAST", 1)
        time.sleep(0.3)
        pad.put("BTN_EAST", 0)
        time.sleep(0.2)
        if phases[-1] in ("returning", "hover"):
            break
    probe.wait(lambda: phases[-1] == "hover", 15.0, "mission again")
    end = settle(probe)
    np.testing.assert_allclose(end, [0.0, 0.0, 1.0], atol=0.2)
    speeds = np.array([state.linear_velocity for _, state in probe.states[begin:]])
    assert np.linalg.norm(speeds, axis=1).max() < 1.2


@pytest.mark.parametrize(
    ("offset", "words"),
    [(-0.3, r"twist is 0\.3\d s old"), pytest.param(0.2, r"twist is -0\.[12]\d s old", marks=pytest.mark.slow)],
)
def test_stale_and_future_twists_are_refused(flight, offset, words):
    _, probe, _, phases = flight
    # Not destroyed afterwards: that would race with the thread that spins the node.
    publisher = probe.node.create_publisher(TwistStamped, "command/twist", qos.command_publisher(0.05))
    probe.wait(publisher.get_subscription_count, 5.0, "reader of command/twist")
    before = len(phases)
    for _ in range(12):
        message = arm_messages.twist_message(np.array([0.5, 0, 0, 0, 0, 0]), time.time() + offset, "base_link")
        publisher.publish(message)
        time.sleep(0.05)
    assert phases[before:] == []
    probe.wait(lambda: re.search(words, probe.diagnostics["mission"][1]["last refused twist"]), 3.0, words)
    time.sleep(1.2)


@pytest.mark.slow
def test_it_stops_before_the_geofence_however_long_the_stick_is_pushed(flight):
    _, probe, pad, phases = flight
    pad.put("BTN_TR", 1)
    pad.put("ABS_Y", -1.0)
    probe.wait(lambda: probe.state.position[0] > 2.4, 20.0, "the edge")
    places = [state.position[0] for state in track(probe, 3.0)]
    assert max(places) < 3.0 and abs(places[-1] - 2.7) < 0.2
    assert phases[-1] == "person" and probe.statuses[-1].mode == "active"
    pad.put("ABS_Y", 0.0)
    pad.put("BTN_TR", 0)
    settle(probe)
    time.sleep(1.2)


@pytest.mark.slow
def test_a_second_person_is_refused(flight):
    _, probe, pad, phases = flight
    pad.put("BTN_TR", 1)
    pad.put("ABS_Y", -0.4)
    probe.wait(lambda: phases[-1] == "person", 3.0, "the first one")
    # Not destroyed afterwards: that would race with the thread that spins the node.
    publisher = probe.node.create_publisher(TwistStamped, "command/twist", qos.command_publisher(0.05))
    done = threading.Event()

    def intrude():
        while not done.wait(0.05):
            publisher.publish(arm_messages.twist_message(np.array([0, 1.0, 0, 0, 0, 0]), time.time(), "base_link"))

    thread = threading.Thread(target=intrude)
    thread.start()
    begin = probe.state.position[1]
    time.sleep(1.0)
    done.set()
    thread.join()
    assert abs(probe.state.position[1] - begin) < 0.25
    probe.wait(lambda: "second one" in probe.diagnostics["mission"][1]["last refused twist"], 3.0, "refusal")
    pad.put("BTN_TR", 0)
    pad.put("ABS_Y", 0.0)
