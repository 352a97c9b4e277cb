"""Every fault of the time limits on real processes: which failsafe acts, when, and how the flight ends.

Times are compared with stamps of one clock. Early is a bug on any machine; late is allowed up to
`LATE`, because these tests share their cores with others.
"""

import os
import signal
import time

import numpy as np
import pytest
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from std_srvs.srv import SetBool
from trajectory_msgs.msg import MultiDOFJointTrajectory

import policies
from hardware.realtime.seqlock import SlotFolder
from policies.types import QuadrotorSetpoint
from robot_rl.bench.faults import spoiled_commands
from robot_rl.nodes import messages, qos

BUNDLE = "quadrotor-hover"
LATE = 0.15
"""s that a reaction may come late on a loaded machine without real-time priority."""
SUPERVISOR = ("driver:=sim", f"policy:={BUNDLE}")
HOVER = np.array([0.0, 0.0, 0.8])
GROUND = np.zeros(3)


def start(nodes, name):
    """Start a node as the others expect it."""
    if name == "simulator":
        return nodes.start("simulator")
    if name == "supervisor":
        return nodes.start("supervisor", *SUPERVISOR)
    return nodes.start("policy", f"policy:={BUNDLE}", code=spoiled_commands.NODE)


@pytest.fixture(scope="module")
def nodes(processes, probe):
    """Simulator, supervisor and policy, running."""
    for name in ("simulator", "supervisor", "policy"):
        start(processes, name)
    probe.wait(lambda: probe.states and probe.statuses, 30.0, "odometry and supervisor status")
    return processes


@pytest.fixture
def flying(nodes, probe):
    """The vehicle hovers, whatever the test before has left behind."""
    for name in ("simulator", "supervisor", "policy"):
        if name not in nodes.running or nodes.running[name].poll() is not None:
            start(nodes, name)
    probe.call(SetBool, "arm", timeout=10.0, data=False)
    probe.inject("")
    probe.target = None
    probe.go(GROUND, GROUND, 1.0)
    deadline = time.monotonic() + 20.0
    while not (answer := probe.trigger("sim/reset")).success:  # a new one may not have loaded yet
        assert time.monotonic() < deadline, answer.message
        probe.call(SetBool, "arm", timeout=10.0, data=False)
        time.sleep(0.2)
    begin = time.time()
    probe.wait(lambda: probe.states[-1][0] > begin and probe.height < 0.01, 20.0, "reset")
    time.sleep(0.3)  # the supervisor has to get used to the new place: it was carried there
    while probe.statuses[-1].mode != "disarmed":
        answer = probe.trigger("recover")
        assert answer.success or time.monotonic() < deadline, answer.message
        time.sleep(0.1)
    probe.arm()
    probe.go(GROUND, HOVER, 1.5)
    probe.wait(lambda: np.linalg.norm(probe.state.position - HOVER) < 0.1, 10.0, "hover")
    time.sleep(0.3)
    assert probe.statuses[-1].mode == "active"
    return probe


def off(probe, since):
    """First motor command of zeros after `since`."""
    return probe.wait(
        lambda: next((t for t, values in probe.motors if t >= since and not np.any(values)), None),
        12.0,
        "motors off",
    )


def last_state_before(probe, now):
    return max(stamp for stamp, _ in probe.states if stamp <= now)


def change(probe, number):
    """Whether the supervisor has made a transition of its life cycle."""
    request = {"transition": Transition(id=number)}
    return probe.call(ChangeState, "supervisor/change_state", timeout=10.0, **request).success


def tilt_of(state):
    return np.arccos(np.clip(1 - 2 * (state.orientation[1] ** 2 + state.orientation[2] ** 2), -1, 1))


def assert_upright_and_soft(probe, since):
    """Never far from level on the way down as far as it was told, and the simulator saw no crash."""
    assert max((tilt_of(s) for stamp, s in probe.states if stamp >= since), default=0.0) < 0.6
    assert probe.diagnostics["vehicle"][1]["crashed"] == "False"


def trips(probe):
    """How often the vehicle's own watchdog has gone to the next of its stages: level, descending, off."""
    return int(probe.diagnostics["vehicle"][1]["watchdog_trips"])


def wait_watchdog(probe, begin, before):
    """Wait until it has levelled the vehicle and brings it down: 500 ms after `begin` s, `before` trips until then."""
    probe.wait(lambda: trips(probe) >= before + 2, 3.0, "descent by the watchdog")
    assert time.time() - begin >= 0.5
    wait_landed(probe)


def wait_landed(probe, timeout=8.0):
    """Wait until the vehicle stands, by what it says itself: nobody may be left to tell its odometry."""
    probe.wait(lambda: probe.diagnostics["vehicle"][1]["on_ground"] == "True", timeout, "landing")


def test_policy_process_frozen(nodes, flying):
    """SIGSTOP: holding after 3 periods, a descent for good after 500 ms, also when the policy is back."""
    policy = nodes.plane("policy")
    begin = time.time()
    os.kill(policy, signal.SIGSTOP)
    holding = flying.wait_mode("holding", 2.0, since=begin)
    descending = flying.wait_mode("descending", 2.0, since=begin)
    os.kill(policy, signal.SIGCONT)
    assert 0.015 <= holding.stamp - begin <= 0.03 + LATE
    assert 0.45 <= descending.stamp - begin <= 0.5 + LATE
    assert "policy output" in descending.cause and descending.latched
    fault = flying.wait_mode("fault", 8.0, since=begin)
    assert "landed" in fault.cause
    assert off(flying, fault.stamp - 0.1) >= begin
    assert_upright_and_soft(flying, begin)
    assert not flying.call(SetBool, "arm", data=True).success
    assert "active" not in flying.modes(begin)


@pytest.mark.parametrize("who", ["process", "node"])
def test_policy_killed_and_restarted(nodes, flying, who):
    """SIGKILL: as frozen; a new one flies again after recover and arm (the next test does)."""
    pid = nodes.plane("policy")
    begin = time.time()
    if who == "node":
        nodes.kill("policy")
    else:
        os.kill(pid, signal.SIGKILL)
    holding = flying.wait_mode("holding", 2.0, since=begin)
    descending = flying.wait_mode("descending", 2.0, since=begin)
    assert 0.015 <= holding.stamp - begin <= 0.03 + LATE
    assert 0.45 <= descending.stamp - begin <= 0.5 + LATE
    flying.wait_mode("fault", 8.0, since=begin)
    assert_upright_and_soft(flying, begin)
    if who == "process":
        assert nodes.running.pop("policy").wait(5.0) == 3
        assert "the policy process was killed by SIGKILL" in nodes.log("policy")


def test_frozen_faces_of_policy_and_vehicle_change_nothing(nodes, flying):
    """Nothing that flies depends on them: without its face the policy stands still where it was told to be last."""
    begin = time.time()
    for name in ("policy", "simulator"):
        nodes.signal(name, signal.SIGSTOP)
    time.sleep(1.5)
    for name in ("policy", "simulator"):
        nodes.signal(name, signal.SIGCONT)
    assert flying.modes(begin) == []
    assert np.linalg.norm(flying.state.position - HOVER) < 0.2


def test_supervisor_node_frozen(nodes, flying):
    """Without its sign of life no command is taken after 500 ms: it is held, comes down, and says why later."""
    begin = time.time()
    nodes.signal("supervisor", signal.SIGSTOP)
    try:
        wait_landed(flying)
    finally:
        nodes.signal("supervisor", signal.SIGCONT)
    holding = flying.wait_mode("holding", 3.0, since=begin)
    descending = flying.wait_mode("descending", 3.0, since=begin)
    fault = flying.wait_mode("fault", 8.0, since=begin)
    assert 0.45 <= holding.stamp - begin <= 0.55 + LATE
    assert 0.4 <= descending.stamp - holding.stamp <= 0.5 + LATE
    assert "the face of the control process gave no sign of life" in holding.cause
    assert "landed" in fault.cause and fault.latched
    assert_upright_and_soft(flying, begin)
    assert not flying.call(SetBool, "arm", data=True).success


def test_control_process_frozen(nodes, flying):
    """The vehicle's own watchdog brings it down; diagnostics say so; thawed, it stays in fault."""
    control = nodes.plane("supervisor")
    begin, before = time.time(), trips(flying)
    os.kill(control, signal.SIGSTOP)
    try:
        wait_watchdog(flying, begin, before)
        assert "the control process has said nothing for" in flying.diagnostics["supervisor"][0]
        answer = flying.trigger("estop")
        assert not answer.success and "did not answer 'estop'" in answer.message
    finally:
        os.kill(control, signal.SIGCONT)
    fault = flying.wait_mode("fault", 5.0, since=begin)
    assert fault.latched
    assert "active" not in flying.modes(begin)
    assert flying.diagnostics["vehicle"][1]["crashed"] == "False"


def test_control_process_killed(nodes, flying):
    """The same, and the node ends and says why; a new one does not arm by itself (the next test flies it)."""
    control = nodes.plane("supervisor")
    begin, before = time.time(), trips(flying)
    os.kill(control, signal.SIGKILL)
    assert nodes.running.pop("supervisor").wait(5.0) == 3
    assert "the control process was killed by SIGKILL" in nodes.log("supervisor")
    wait_watchdog(flying, begin, before)
    assert_upright_and_soft(flying, begin)
    assert not any(stamp > begin + 0.2 for stamp, _ in flying.motors)


def test_policy_sends_nan(nodes, flying):
    """Not one NaN reaches the motors; the cause names it; well again within 500 ms, it flies on."""
    folder = SlotFolder(f"{nodes.namespace}.crazyflie").path
    begin = time.time()
    spoiled_commands.spoil(folder, "nan")
    holding = flying.wait_mode("holding", 2.0, since=begin)
    assert 0.015 <= holding.stamp - begin <= 0.03 + LATE
    assert "nan" in holding.cause
    spoiled_commands.spoil(folder, "")
    flying.wait_mode("active", 2.0, since=holding.stamp)
    again = time.time()
    spoiled_commands.spoil(folder, "nan")
    descending = flying.wait_mode("descending", 2.0, since=again)
    assert 0.45 <= descending.stamp - again <= 0.5 + LATE
    flying.wait_mode("fault", 8.0, since=again)
    spoiled_commands.spoil(folder, "")
    assert not flying.refused  # where motor commands would be that are no numbers
    assert_upright_and_soft(flying, begin)


def test_odometry_stops_for_250_ms(flying):
    """Level at 100 ms on the inertial sensor, back by itself."""
    begin = flying.inject("freeze_state=0.25")
    level = flying.wait_mode("level", 2.0, since=begin)
    active = flying.wait_mode("active", 2.0, since=level.stamp)
    age = level.stamp - last_state_before(flying, level.stamp)
    assert 0.1 <= age <= 0.1 + LATE
    assert active.stamp - begin <= 0.25 + LATE
    assert "state is" in level.cause
    flying.wait(lambda: np.linalg.norm(flying.state.position - HOVER) < 0.1, 5.0, "hover again")
    assert "descending" not in flying.modes(begin)
    assert_upright_and_soft(flying, begin)


def test_odometry_stops_for_600_ms(flying):
    """A descent for good at 500 ms, although the odometry comes back."""
    begin = flying.inject("freeze_state=0.6")
    descending = flying.wait_mode("descending", 2.0, since=begin)
    assert 0.5 <= descending.stamp - last_state_before(flying, descending.stamp) <= 0.5 + LATE
    assert descending.latched
    flying.wait_mode("fault", 8.0, since=begin)
    assert "active" not in flying.modes(begin)
    assert_upright_and_soft(flying, begin)


def test_odometry_stops_for_2100_ms(flying):
    """Motors off at 2000 ms, and they stay off."""
    begin = flying.inject("freeze_state=2.1")
    level = flying.wait_mode("level", 2.0, since=begin)
    fault = flying.wait_mode("fault", 4.0, since=begin)
    last = last_state_before(flying, level.stamp)
    assert 2.0 <= fault.stamp - last <= 2.0 + LATE
    assert off(flying, fault.stamp - 1e-3) <= fault.stamp + LATE
    time.sleep(0.5)
    assert not any(np.any(values) for stamp, values in flying.motors if stamp > fault.stamp + 0.05)
    assert "state is" in fault.cause


def test_odometry_is_no_number(nodes, flying):
    """It counts as none: level at 100 ms, back by itself. A fault that there is none of changes nothing."""
    flying.inject("gremlins")
    flying.wait(lambda: "no fault 'gremlins'; there are freeze_state" in nodes.log("simulator"), 3.0, "log line")
    begin = flying.inject("nan_state")
    level = flying.wait_mode("level", 2.0, since=begin)
    flying.inject("")
    flying.wait_mode("active", 2.0, since=level.stamp)
    assert 0.1 - 0.02 <= level.stamp - begin <= 0.1 + LATE
    assert "state is" in level.cause
    flying.wait(lambda: odometry_refusal(flying) == "state has non-finite position", 3.0, "diagnosis")
    assert "descending" not in flying.modes(begin)


def odometry_refusal(probe):
    """Why the control process did not believe odometry last."""
    return probe.diagnostics["supervisor"][1].get("report.last refused odometry")


def test_geofence(flying):
    """A set-point outside leads to a descent at the fence, at once."""
    fence = policies.load(BUNDLE).manifest.envelope.geofence[0][1]
    begin = time.time()
    flying.go(HOVER, HOVER + np.array([fence + 2.0, 0.0, 0.0]), 1.5 * fence + 3.0)
    descending = flying.wait_mode("descending", 3.0 * fence + 6.0, since=begin)
    flying.go(HOVER, HOVER, 1.0)
    assert "geofence" in descending.cause
    crossed = flying.wait(
        lambda: next((stamp for stamp, state in flying.states if stamp > begin and state.position[0] > fence), None),
        2.0,
        "odometry beyond the fence",
    )
    assert descending.stamp - crossed <= LATE
    flying.wait_mode("fault", 12.0, since=begin)
    assert "active" not in flying.modes(descending.stamp)
    assert flying.state.position[0] < fence + 2.0
    assert_upright_and_soft(flying, begin)


def test_emergency_stop_by_topic(flying):
    begin = flying.publish_estop()
    fault = flying.wait_mode("fault", 2.0, since=begin - 0.05)
    assert fault.stamp - begin <= LATE
    assert off(flying, begin - 0.05) - begin <= LATE
    assert "emergency stop" in fault.cause


def test_emergency_stop_by_service(flying):
    begin = time.time()
    assert flying.trigger("estop").success
    assert off(flying, begin) - begin <= LATE
    assert not flying.call(SetBool, "arm", data=True).success


def test_second_publisher_of_set_points_is_refused(flying):
    """The first one keeps leading the vehicle, and diagnostics name the second."""
    begin = time.time()
    # Not destroyed afterwards: that would race with the thread that spins the node.
    publisher = flying.node.create_publisher(MultiDOFJointTrajectory, "setpoint", qos.command_publisher(0.01))
    away = QuadrotorSetpoint(HOVER + [2.0, 0.0, 0.0], np.zeros(3), np.zeros(3), np.array(0.0))
    for _ in range(100):
        publisher.publish(messages.trajectory_from_setpoint(away, time.time()))
        time.sleep(0.01)
    assert flying.modes(begin) in ([], ["active"])
    assert np.linalg.norm(flying.state.position - HOVER) < 0.2
    flying.wait(
        lambda: "is a second one" in flying.diagnostics["policy"][1]["last refused set-point"], 3.0, "diagnosis"
    )


def test_second_nodes_are_refused(nodes, flying):
    """In a sentence; the first ones fly on."""
    begin = time.time()
    seconds = {"supervisor": SUPERVISOR, "policy": (f"policy:={BUNDLE}",), "simulator": ()}
    words = {"supervisor": "is in use by process", "policy": "'command' in", "simulator": "'vehicle_sensors' in"}
    started = {name: nodes.start(name, *seconds[name], name=f"second_{name}") for name in seconds}
    for name, process in started.items():
        status = process.wait(60.0)
        nodes.running.pop(f"second_{name}")
        log = nodes.log(f"second_{name}")
        assert words[name] in log, log
        assert (status, "[FATAL]" in log, "failed: Traceback" in log) == (1 if name == "supervisor" else 3, True, False)
    assert flying.modes(begin) == []
    assert np.linalg.norm(flying.state.position - HOVER) < 0.2


def test_what_is_refused_in_flight(flying):
    """In words, and it flies on."""
    begin = time.time()
    for answer, words in (
        (flying.trigger("sim/reset"), "the supervisor is active: disarm it first"),
        (flying.call(SetBool, "arm", data=True), "already armed"),
        (flying.trigger("recover"), "nothing to recover"),
    ):
        assert not answer.success and words in answer.message
    assert flying.modes(begin) == []


def test_set_points_stop(flying):
    """The vehicle stands still where it was told to be last, instead of chasing an old velocity."""
    begin = time.time()
    flying.target = lambda now: moving(now - begin)
    time.sleep(1.5)
    last = np.array([0.5 * (time.time() - begin), 0.0, HOVER[2]])
    flying.target = None
    time.sleep(3.0)
    assert flying.statuses[-1].mode == "active"
    assert np.linalg.norm(flying.state.position - last) < 0.25
    assert np.linalg.norm(flying.state.linear_velocity) < 0.2


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_supervisor_ends_in_flight(nodes, flying, number):
    """The vehicle's own watchdog levels, descends and lands it; a new supervisor does not arm by itself."""
    begin, before = time.time(), trips(flying)
    nodes.signal("supervisor", number)
    assert nodes.running.pop("supervisor").wait(5.0) == (-number if number == signal.SIGKILL else 0)
    wait_watchdog(flying, begin, before)
    assert_upright_and_soft(flying, begin)
    assert not any(stamp > begin + 0.2 for stamp, _ in flying.motors)
    start(nodes, "supervisor")
    flying.wait(lambda: flying.statuses[-1].stamp > begin and flying.statuses[-1].mode == "disarmed", 20.0, "status")
    time.sleep(0.5)
    assert flying.statuses[-1].mode == "disarmed"
    assert flying.height < 0.01


@pytest.mark.parametrize("who", ["node", "process"])
def test_supervisor_that_begins_in_flight_lets_it_land(nodes, flying, who):
    """It says nothing to motors that it has never seen at rest, until the vehicle stands."""
    before = trips(flying)
    if who == "node":
        nodes.kill("supervisor")
        begin = time.time()
        start(nodes, "supervisor")
    else:
        assert change(flying, Transition.TRANSITION_DEACTIVATE)
        begin = time.time()
        assert change(flying, Transition.TRANSITION_ACTIVATE)
    flying.wait(lambda: any(s.stamp > begin and s.mode == "disarmed" for s in flying.statuses), 20.0, "status")
    wait_landed(flying)
    assert trips(flying) >= before + 2
    assert_upright_and_soft(flying, begin)
    flying.wait(lambda: flying.motors[-1][0] > begin, 5.0, "commands")
    first = next(stamp for stamp, _ in flying.motors if stamp > begin)
    flying.wait(lambda: flying.states[-1][0] > first, 5.0, "odometry")
    assert min(state.position[2] for stamp, state in flying.states if begin < stamp <= first) < 0.05
    assert not any(np.any(values) for stamp, values in flying.motors if stamp > begin)


def test_all_end_cleanly(nodes, probe):
    """SIGINT: status 0 for each, no traceback, motors off."""
    probe.target = None
    begin = time.time()
    statuses = nodes.end()
    assert statuses == {"simulator": 0, "supervisor": 0, "policy": 0}
    for module in statuses:
        assert "Traceback" not in nodes.log(module)
    assert not any(np.any(values) for stamp, values in probe.motors if stamp > begin + 0.3)


def moving(elapsed):
    speed = 0.5 * min(1.0, elapsed)
    return QuadrotorSetpoint(
        np.array([0.5 * elapsed, 0.0, HOVER[2]]), np.array([speed, 0.0, 0.0]), np.zeros(3), np.array(0.0)
    )
