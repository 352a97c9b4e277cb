"""Faults of a running arm: what its safety state becomes, how fast, what it says, and the way back."""

import os
import signal
import time

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("mujoco")

from arm_probe import PATIENCE  # noqa: E402

from robot_rl.nodes import arm_messages  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def arm(bring_up_once):
    """An arm that reaches, idle."""
    running = bring_up_once("policy:=arm-reach", "task:=arm-reach").attach()
    running.probe.wait(lambda: running.client.policy().get("ready"), PATIENCE, "policy")
    return running


@pytest.fixture
def active(arm):
    """The same, following the policy; afterwards whole again."""
    arm.probe.inject("")
    make_idle(arm)
    arm.probe.trigger("sim/reset")
    time.sleep(0.1)
    arm.probe.arm()
    arm.probe.wait(lambda: arm.client.status().mode == "active", 10.0, "active")
    time.sleep(0.6)  # fully blended in
    yield arm
    arm.probe.inject("")


def make_idle(arm):
    for _ in range(100):
        status = arm.client.status()
        if status.mode == "idle" and not status.driver_fault:
            return
        arm.probe.trigger("recover" if status.mode == "fault" or status.driver_fault else "disarm")
        time.sleep(0.1)
    raise AssertionError(f"not idle: {arm.client.status()}")


def until(arm, modes, within):
    """s from now until the control process is in one of the modes, seen in its memory, and its cause."""
    begin = time.monotonic()
    while (status := arm.client.status()).mode not in modes:
        assert time.monotonic() - begin < within, f"still {status.mode}: {status.cause}"
        time.sleep(0.001)
    seconds = status.since - begin
    test = os.environ["PYTEST_CURRENT_TEST"].rpartition("::")[2]
    print(f"| {test} | {status.mode} | {1e3 * seconds:.0f} ms | {status.cause} |")
    return seconds, status.cause


def test_a_frozen_policy_process(active):
    """It holds within three control periods of 0.1 s, and goes on by itself."""
    policy = active.up.plane("policy")
    active.up.signal(policy, signal.SIGSTOP)
    try:
        seconds, cause = until(active, ["holding"], 2.0)
        assert seconds < 0.45 and "policy output is" in cause
        still = active.client.state()
        time.sleep(0.2)
        assert np.abs(active.client.state().state.joint_positions - still.state.joint_positions).max() < 0.05
    finally:
        active.up.signal(policy, signal.SIGCONT)
    active.probe.wait_message("holding: policy output is", 5.0)


def test_a_frozen_supervisor_node(active):
    """Its sign of life fails for 0.5 s: the control process holds and says who is missing."""
    node = active.up.pid("supervisor")
    active.up.signal(node, signal.SIGSTOP)
    try:
        seconds, cause = until(active, ["holding"], 3.0)
        assert 0.3 < seconds < 1.5
        assert active.client.status().follow == "hold", cause
    finally:
        active.up.signal(node, signal.SIGCONT)
    active.probe.wait(lambda: active.probe.trigger("disarm").success, 5.0, "answer")


@pytest.mark.parametrize("node", ["policy", "setpoint", "sim"])
def test_a_frozen_face_of_another_process_changes_nothing(active, node):
    pid = active.up.pid(node)
    active.up.signal(pid, signal.SIGSTOP)
    try:
        time.sleep(1.5)
        assert active.client.status().mode == "active"
    finally:
        active.up.signal(pid, signal.SIGCONT)


def test_a_frozen_control_process(active):
    """The robot's own watchdog brakes after 20 ms; thawed, the control process says so and stays in fault."""
    control = active.up.plane("supervisor")
    active.up.signal(control, signal.SIGSTOP)
    begin = time.monotonic()
    try:
        while not (found := active.client.simulation())["braked"]:
            assert time.monotonic() - begin < 1.0
            time.sleep(0.001)
        seconds = time.monotonic() - begin
        print(f"| frozen control process | brakes | {1e3 * seconds:.0f} ms | {found['fault']} |")
        assert seconds < 0.3 and "watchdog" in found["fault"]
        active.probe.wait_message("the control process has said nothing for", 5.0)
    finally:
        active.up.signal(control, signal.SIGCONT)
    _, cause = until(active, ["fault"], 2.0)
    assert "watchdog" in cause
    answer = active.probe.trigger("recover")
    assert answer.success, answer.message


@pytest.mark.parametrize(("seconds", "worst"), [(0.05, "active"), (0.25, "holding"), (0.7, "fault"), (2.2, "fault")])
def test_joint_states_stop(active, seconds, worst):
    """100 ms: hold; 500 ms: controlled stop; 2000 ms: brakes. Shorter than that changes nothing."""
    before = time.monotonic()
    active.probe.inject(f"freeze_state={seconds}")
    time.sleep(seconds + 0.3)
    changes = [change for change in active.client.status().changes if change.stamp > before]
    assert (changes[-1].mode if worst == "fault" else max([c.mode for c in changes], default="active")) == worst
    if worst != "active":
        assert all("state is" in change.cause for change in changes if change.mode != "active"), changes
    if seconds > 2.0:
        assert active.client.status().follow == "brake"
    if worst == "holding":
        assert active.client.status().mode == "active"  # it goes on by itself


def test_state_that_is_no_number(active):
    active.probe.inject("nan_state")
    seconds, cause = until(active, ["holding", "fault"], 2.0)
    assert seconds < 0.5 and "finite" in cause


def test_the_robot_says_fault(active):
    active.probe.inject("fault=brake worn out")
    seconds, cause = until(active, ["fault"], 2.0)
    assert "brake worn out" in cause
    assert active.client.status().follow == "brake"
    active.probe.wait_message("brake worn out", 5.0)
    assert not active.probe.trigger("recover").success  # it is still worn out
    active.probe.inject("")
    active.probe.wait(lambda: active.probe.trigger("recover").success, 3.0, "recovery")
    assert active.client.status().mode == "idle"


def test_emergency_stop_by_topic_and_by_service(active):
    active.probe.estop()
    seconds, cause = until(active, ["fault"], 1.0)
    assert seconds < 0.2 and "emergency stop" in cause
    assert active.client.status().follow == "brake"
    make_idle(active)
    active.probe.arm()
    assert active.probe.trigger("estop").success
    assert active.client.status().mode == "fault"


def test_a_person_goes_before_the_policy_and_a_second_one_is_refused(active):
    """Twists move the tool while they come; another publisher's are refused; 150 ms without any: the policy again."""
    probe = active.probe
    first, second = probe.twist_publisher(), probe.twist_publisher()
    up, down = np.array([0, 0, 0.05, 0, 0, 0.0]), np.array([0, 0, -0.3, 0, 0, 0.0])
    begin = active.client.state().state.tool_pose[2]
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        first.publish(arm_messages.twist_message(up, time.time()))
        time.sleep(0.025)
        second.publish(arm_messages.twist_message(down, time.time()))
        time.sleep(0.025)
    assert active.client.status().command_source == "teleop"
    risen = active.client.state().state.tool_pose[2] - begin
    assert 0.01 < risen < 0.09, risen
    probe.wait(lambda: "second one" in probe.diagnostics["supervisor"][2]["last refused twist"], 5.0, "refusal")
    probe.wait(lambda: active.client.status().command_source == "policy", 3.0, "policy")
    first.publish(arm_messages.twist_message(up, time.time() - 1.0))
    time.sleep(0.3)
    assert active.client.status().command_source == "policy"  # an old twist moves nothing
    for publisher in (first, second):
        probe.node.destroy_publisher(publisher)
