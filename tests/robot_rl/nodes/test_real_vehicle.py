"""A policy flies a vehicle that speaks MAVLink, through the nodes and real packets, and every way to end it."""

import json
import os
import re
import signal
import socket
import sys
import time
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "hardware" / "drivers"))
rclpy = pytest.importorskip("rclpy")
pytest.importorskip("pymavlink", reason="MAVLink packets: pip install 'robot_rl[mavlink]'")

from mavlink_vehicle import PX4_LAND, PX4_LOITER, PX4_OFFBOARD, MavlinkVehicle  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from std_srvs.srv import SetBool  # noqa: E402

from hardware import setpoints  # noqa: E402
from hardware.drivers.quadrotor import QUADROTOR_DRIVERS  # noqa: E402
from hardware.drivers.registry import DRIVERS  # noqa: E402
from robot_rl.bringup import load_bringup, parse, selected  # noqa: E402
from robot_rl.nodes import qos  # noqa: E402
from robot_rl.nodes.process import is_running  # noqa: E402
from robot_rl.nodes.running import StartError  # noqa: E402
from robot_rl.nodes.supervisor import SupervisorNode  # noqa: E402

BUNDLE = "quadrotor-track"
HOVER = np.array([0.3, 0.2, 0.8])
NORTH = 0.5 * np.pi
LATE = 0.2
"""s that a reaction may come late on a loaded machine without real-time priority."""
slow = pytest.mark.slow


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Stack:
    """The nodes and the vehicle that they fly."""

    def __init__(self, processes, probe, vehicle, driver, *settings):
        self.processes, self.probe, self.vehicle = processes, probe, vehicle
        self.measured, self.told = 0, []
        supervisor = (f"driver:={driver}", f"driver_settings:={list(settings)}", f"policy:={BUNDLE}")
        self.arguments = {"supervisor": supervisor, "policy": (f"policy:={BUNDLE}",)}
        listen = probe.node.create_subscription
        listen(String, "vehicle/status", lambda message: self.told.append(json.loads(message.data)), qos.STATUS)

    def start(self):
        """Every node that does not run."""
        for name, arguments in self.arguments.items():
            if name not in self.processes.running:
                self.processes.start(name, *arguments)

    @property
    def position(self):
        """ENU, of the body itself."""
        north, east, down = self.vehicle.body.position
        return np.array([east, north, -down])

    @property
    def control(self):
        """Process id of the control process."""
        return self.processes.plane("supervisor")

    def sent(self, since):
        """Times (monotonic) of set-points after `since`."""
        return [moment for moment, _ in list(self.vehicle.setpoints) if moment > since]

    def wait(self, condition, timeout, what):
        return self.probe.wait(condition, timeout, what)

    def wait_cause(self, words, timeout, since):
        """The first status whose cause has these words."""
        said = self.probe.statuses
        return self.wait(lambda: next((s for s in said if s.stamp >= since and words in s.cause), None), timeout, words)

    def terminate(self, name):
        """SIGTERM to a node, and to nothing else; returns its status."""
        process = self.processes.running.pop(name)
        process.send_signal(signal.SIGTERM)
        return process.wait(8.0)

    def ready(self):
        """On the ground, disarmed, measured."""
        self.start()
        vehicle, probe, begin = self.vehicle, self.probe, time.time()
        probe.target = lambda now: setpoints.hover(np.zeros(3), NORTH, like=HOVER)
        self.wait(lambda: probe.states and probe.states[-1][0] > begin, 30.0, "odometry")
        probe.call(SetBool, "arm", timeout=10.0, data=False)
        self.wait(lambda: not vehicle.armed and vehicle.body.on_ground, 20.0, "vehicle at rest")
        vehicle.body.__init__()  # put back to where it came from
        if not vehicle.offboard:
            vehicle.set_mode(PX4_LOITER)
        self.wait(lambda: np.linalg.norm(probe.state.position) < 0.05, 5.0, "odometry from the start")
        time.sleep(0.6)
        deadline = time.monotonic() + 15.0
        while not (answer := probe.trigger("recover")).success and "nothing to recover" not in answer.message:
            assert time.monotonic() < deadline, answer.message
            time.sleep(0.1)

    def hover(self):
        """Armed by its service, at `HOVER`; returns when, on both clocks."""
        self.ready()
        probe = self.probe
        probe.arm()
        begin = time.time()

        def climb(now):
            share = min(1.0, (now - begin) / 2.0)
            return setpoints.hover(share * HOVER, NORTH, like=HOVER)

        probe.target = climb
        self.wait(lambda: np.linalg.norm(self.position - HOVER) < 0.15, 12.0, f"hover, at {self.position}")
        time.sleep(0.5)
        assert probe.statuses[-1].mode == "active", probe.statuses[-1]
        return time.time(), time.monotonic()

    def landed(self, within=12.0):
        """Disarmed on the ground, without a fall."""
        fastest = 0.0

        def down():
            nonlocal fastest
            fastest = max(fastest, float(self.vehicle.body.velocity[2]))
            return not self.vehicle.armed

        self.wait(down, within, "landing")
        assert self.vehicle.body.on_ground and fastest < 1.2


@pytest.fixture(scope="module")
def stack(processes, probe):
    port = free_port()
    with MavlinkVehicle(port) as vehicle:
        running = Stack(processes, probe, vehicle, "mavlink", f"connection=udp:127.0.0.1:{port}")
        measure = vehicle._measure

        def counting(number, now):
            running.measured += number == 32
            return measure(number, now)

        vehicle._measure = counting
        yield running
        processes.end()


def rms(points):
    return float(np.sqrt(np.mean(np.sum(np.square(points), axis=-1))))


@slow
def test_a_shipped_policy_hovers_through_packets(stack):
    """Nothing moves before the service is called; then it arms by PX4's rules, climbs and hovers."""
    vehicle, probe = stack.vehicle, stack.probe
    stack.start()
    probe.target = lambda now: setpoints.hover(np.zeros(3), NORTH, like=HOVER)
    stack.wait(lambda: probe.states and probe.statuses and stack.told, 30.0, "odometry and status")
    time.sleep(1.5)
    assert not vehicle.setpoints and not vehicle.armed and vehicle.mode == PX4_LOITER
    assert stack.told[-1]["driver"] == "mavlink" and stack.told[-1]["arming"] == "idle"
    deadline = time.monotonic() + 10.0
    while "asked to arm" not in (first := probe.call(SetBool, "arm", data=True)).message:
        assert time.monotonic() < deadline, first.message
        time.sleep(0.2)
    assert not first.success  # it takes seconds, and the answer does not pretend
    stack.hover()
    assert vehicle.armed and vehicle.mode == PX4_OFFBOARD
    idle = [m for _, m in vehicle.setpoints[:80]]
    assert all(m.thrust == 0.0 for m in idle)  # until it was armed
    track, begin, measured = [], time.monotonic(), stack.measured
    heard = len(probe.states)
    while time.monotonic() - begin < 4.0:
        track.append(stack.position - HOVER)
        time.sleep(0.02)
    stream, measured = len(stack.sent(begin)) / 4.0, (stack.measured - measured) / 4.0
    heard = (len(probe.states) - heard) / 4.0
    print(
        f"hover error rms {1e3 * rms(track):.0f} mm; the vehicle measures {measured:.0f} Hz and hears {stream:.0f} Hz; "
        f"the test hears {heard:.0f} Hz of odom"
    )
    assert rms(track) < 0.12
    assert stream > 50.0
    values = probe.diagnostics["supervisor"][1]
    assert values["vehicle following"] == "True" and float(values["vehicle battery voltage"]) == pytest.approx(15.2)
    assert {"streaming", "mode", "arming", "done"} & {told["arming"] for told in stack.told}
    assert stack.told[-1]["following"] and stack.told[-1]["armed"] and not stack.told[-1]["problem"]


@slow
def test_the_policy_is_killed(stack):
    """The supervisor holds with its fallback, sinks at 0.5 m/s, and the vehicle disarms on the ground."""
    begin, _ = stack.hover()
    stack.processes.kill("policy")
    holding = stack.probe.wait_mode("holding", 2.0, since=begin)
    descending = stack.probe.wait_mode("descending", 2.0, since=begin)
    assert 0.45 <= descending.stamp - holding.stamp + 0.03 <= 0.5 + LATE
    fault = stack.probe.wait_mode("fault", 8.0, since=begin)
    assert "landed" in fault.cause
    stack.landed(3.0)
    sinking = [s.linear_velocity[2] for stamp, s in stack.probe.states if descending.stamp < stamp < fault.stamp]
    assert -0.9 < min(sinking) < -0.3
    print(f"descent from {HOVER[2]} m in {fault.stamp - descending.stamp:.1f} s, fastest {-min(sinking):.2f} m/s")


@slow
def test_the_control_process_is_killed(stack):
    """The stream ends with it, PX4's own failsafe lands, and the node ends and says why."""
    stack.hover()
    os.kill(stack.control, signal.SIGKILL)
    killed = time.monotonic()
    assert stack.processes.running.pop("supervisor").wait(5.0) == 3
    assert "the control process was killed by SIGKILL" in stack.processes.log("supervisor")
    stack.wait(lambda: stack.vehicle.mode == PX4_LAND, 3.0, "failsafe")
    print(f"failsafe {time.monotonic() - killed:.2f} s after the kill (COM_OF_LOSS_T 1 s)")
    assert not stack.sent(killed + 0.05)
    stack.landed()


@slow
def test_the_supervisors_node_is_killed(stack):
    """The control process ends with it and lands the vehicle; a new node takes nothing back."""
    stack.hover()
    control = stack.control
    stack.processes.kill("supervisor")
    killed = time.monotonic()
    stack.wait(lambda: stack.vehicle.mode == PX4_LAND, 3.0, "landing")
    stack.start()
    stack.landed()
    assert not stack.sent(killed + 0.5)
    stack.wait(lambda: not is_running(control), 5.0, "end of the control process")


@slow
def test_the_control_process_is_frozen(stack):
    """Its vehicle's failsafe lands; when it comes back it takes nothing back and says what it found."""
    stack.hover()
    control = stack.control
    os.kill(control, signal.SIGSTOP)
    frozen = time.monotonic()
    stack.wait(lambda: stack.vehicle.mode == PX4_LAND, 3.0, "failsafe")
    time.sleep(0.2)
    os.kill(control, signal.SIGCONT)
    woken = time.monotonic()
    assert not [moment for moment in stack.sent(frozen + 0.05) if moment < woken]
    stack.wait(lambda: "by itself" in stack.told[-1]["problem"], 3.0, "the vehicle's words")
    stack.wait(lambda: stack.probe.statuses[-1].mode in ("disarmed", "fault"), 3.0, "supervisor without flight")
    stack.landed()
    assert stack.vehicle.modes_seen[-1] == PX4_LAND
    assert not stack.sent(woken + 0.5 + LATE)  # until the next heartbeat it could not know


@slow
def test_the_supervisors_node_is_frozen(stack):
    """Nobody could stop the vehicle any more: commands are not taken, and it comes down."""
    begin, _ = stack.hover()
    stack.processes.signal("supervisor", signal.SIGSTOP)
    try:
        stack.landed()
    finally:
        stack.processes.signal("supervisor", signal.SIGCONT)
    stack.wait_cause("commands are not taken: the face of the control process", 3.0, begin)
    stack.probe.wait_mode("descending", 3.0, since=begin)
    assert "landed" in stack.probe.wait_mode("fault", 3.0, since=begin).cause


@slow
def test_a_pilot_takes_it_back(stack):
    """Not one set-point more, no landing against the pilot's will, and the cause is said."""
    begin, _ = stack.hover()
    stack.vehicle.set_mode(PX4_LOITER)
    taken, modes = time.monotonic(), len(stack.vehicle.modes_seen)
    stack.probe.wait_mode("disarmed", 3.0, since=begin)
    stack.wait_cause("by itself", 1.0, begin)
    time.sleep(1.5)
    assert not stack.sent(taken + 0.6)
    assert stack.vehicle.mode == PX4_LOITER and stack.vehicle.armed
    assert stack.position[2] > 0.4
    # Nor when the node ends.
    assert stack.terminate("supervisor") == 0
    time.sleep(0.3)
    assert stack.vehicle.mode == PX4_LOITER and stack.vehicle.armed and len(stack.vehicle.modes_seen) == modes
    restarted = time.time()
    stack.start()
    stack.wait(lambda: stack.probe.states[-1][0] > restarted, 20.0, "odometry")
    time.sleep(1.0)
    assert not stack.sent(taken + 0.6)
    # And given back in the air: it does not fall while it is handed over.
    stack.probe.target = lambda now: setpoints.hover(HOVER, NORTH, like=HOVER)
    stack.probe.arm()
    lowest, deadline = 9.0, time.monotonic() + 2.0
    while time.monotonic() < deadline:
        lowest = min(lowest, stack.position[2])
        time.sleep(0.01)
    assert stack.vehicle.mode == PX4_OFFBOARD and lowest > 0.3
    print(f"lowest {lowest:.2f} m while it was handed over at {HOVER[2]} m")
    assert stack.probe.call(SetBool, "arm", data=False).success  # lands by itself
    stack.wait(lambda: stack.vehicle.mode == PX4_LAND, 2.0, "landing")


@slow
def test_the_position_is_lost(stack):
    """Level, then sinking, then a fault: the autopilot lands."""
    begin, _ = stack.hover()
    stack.vehicle.no_position = True
    try:
        stack.probe.wait_mode("level", 2.0, since=begin)
        stack.probe.wait_mode("fault", 4.0, since=begin)
        stack.wait(lambda: stack.vehicle.mode == PX4_LAND, 2.0, "landing")
    finally:
        stack.vehicle.no_position = False


@slow
@pytest.mark.parametrize("way", ["service", "topic"])
def test_emergency_stop(stack, way):
    """Motors off, in the air."""
    begin, _ = stack.hover()
    if way == "topic":
        stack.probe.publish_estop()
    else:
        assert stack.probe.trigger("estop").success
    stack.wait(lambda: not stack.vehicle.armed, 0.5, "motors off")
    assert stack.position[2] > 0.3
    assert "emergency stop" in stack.probe.wait_mode("fault", 1.0, since=begin).cause


@slow
def test_the_vehicle_refuses(stack):
    """Its own words come back, and nothing stays armed."""
    stack.ready()
    stack.vehicle.preflight_problem = "compass not calibrated"
    try:
        deadline, answer = time.monotonic() + 15.0, None
        while answer is None or "compass" not in answer.message:
            assert time.monotonic() < deadline, answer
            answer = stack.probe.call(SetBool, "arm", data=True)
            assert not answer.success
            time.sleep(0.3)
        assert stack.probe.statuses[-1].mode == "disarmed"
        assert "compass" in stack.probe.statuses[-1].cause
        assert not stack.vehicle.armed
    finally:
        stack.vehicle.preflight_problem = ""


@slow
def test_a_signal_lands_it(stack):
    """SIGTERM to the node in flight: it tells the vehicle to land before it ends, with status 0."""
    stack.hover()
    assert stack.terminate("supervisor") == 0
    assert stack.vehicle.mode == PX4_LAND
    stack.landed()
    assert "Traceback" not in stack.processes.log("supervisor")


@slow
def test_a_crazyflie_hovers_behind_the_same_nodes(processes, probe):
    """The driver is a parameter: here cflib's packets, the shipped policy, and the firmware's own landing."""
    pytest.importorskip("cflib", reason="CRTP packets: pip install 'robot_rl[crazyflie]'")
    from crazyflie_vehicle import CrazyflieVehicle

    processes.end()  # those of the tests before
    with CrazyflieVehicle() as vehicle:
        running = Stack(processes, probe, vehicle, "crazyflie", f"uri={vehicle.uri}", "on_stop=land")
        begin = time.time()
        running.start()
        probe.target = lambda now: setpoints.hover(np.zeros(3), NORTH, like=HOVER)
        probe.wait(lambda: probe.states[-1:] and probe.states[-1][0] > begin, 30.0, "odometry")
        probe.wait_mode("disarmed", 20.0, since=begin)
        time.sleep(1.0)
        assert not vehicle.armed
        probe.arm()
        probe.target = lambda now: setpoints.hover(HOVER, NORTH, like=HOVER)
        running.wait(lambda: np.linalg.norm(running.position - HOVER) < 0.15, 12.0, "hover")
        time.sleep(1.0)
        track, end = [], time.monotonic() + 3.0
        while time.monotonic() < end:
            track.append(running.position - HOVER)
            time.sleep(0.02)
        print(f"Crazyflie: hover error rms {1e3 * rms(track):.0f} mm")
        assert rms(track) < 0.12
        assert probe.trigger("disarm").success
        running.wait(lambda: vehicle.body.on_ground, 8.0, "landing")
        assert processes.end() == dict.fromkeys(running.arguments, 0)


@pytest.fixture
def refusal():
    """Parameters → why a supervisor's node refuses to start."""
    nodes = []

    def start(*arguments):
        namespace = f"__ns:=/t{os.getpid()}_refused"
        rclpy.init(args=["--ros-args", "-r", namespace, *(word for text in arguments for word in ("-p", text))])
        with pytest.raises((StartError, ValueError)) as error:
            nodes.append(SupervisorNode())
            nodes[-1].started()
        return str(error.value)

    yield start
    for node in nodes:
        node.close()
        node.destroy_node()
    rclpy.shutdown()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("driver:=mavlnk",), "parameter 'driver' is 'mavlnk'; choose from sim, mavlink, crazyflie, topics"),
        (("driver:=ur", "driver_settings:=['host=127.0.0.1']"), "choose from sim, mavlink, crazyflie, topics"),
        (("driver:=mavlink", "driver_settings:=['conection=udp:0.0.0.0:1']"), "has no setting 'conection'"),
        (("driver:=mavlink", "driver_settings:=['connection']"), "is not of the form name=value"),
        (("driver:=mavlink", "auto_arm:=true"), "auto_arm is for the simulator only, but driver is 'mavlink'"),
        (("driver:=mavlink", "use_sim_time:=true"), "leave use_sim_time false"),
    ],
)
def test_what_cannot_be_flown_is_refused(refusal, arguments, complaint):
    """In one sentence, before anything is started."""
    said = refusal(*arguments)
    assert complaint in said and "\n" not in said


@pytest.mark.parametrize(
    ("driver", "module", "words"),
    [
        ("mavlink", "pymavlink", r"needs pymavlink, which .*: pip install 'robot_rl\[mavlink\]'"),
        ("crazyflie", "cflib", r"needs cflib, which .*: pip install 'robot_rl\[crazyflie\]'"),
    ],
)
def test_a_missing_library_is_one_sentence(monkeypatch, refusal, driver, module, words):
    for loaded in [key for key in sys.modules if key.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    assert re.search(words, refusal(f"driver:={driver}", "driver_settings:=['rate_hz=50']"))


def test_a_vehicle_that_is_not_there_ends_the_node_with_a_sentence(processes, probe):
    settings = f"driver_settings:=['connection=udp:127.0.0.1:{free_port()}', 'timeout=0.3']"
    processes.start("supervisor", "driver:=mavlink", settings, name="alone", namespace=f"t{os.getpid()}_alone")
    assert processes.running.pop("alone").wait(30.0) == 3
    log = processes.log("alone")
    assert "no heartbeat of an autopilot on udp:127.0.0.1:" in log and "the control process ended with status 1" in log


def test_the_launch_offers_the_quadrotors_of_the_registry():
    """A simulated vehicle and what ROS topics lead to have nodes of their own; other real ones are the supervisor's."""
    bringup = load_bringup("quadrotor")
    assert bringup.arguments["driver"].choices == QUADROTOR_DRIVERS
    assert set(QUADROTOR_DRIVERS) <= set(DRIVERS)
    for name in bringup.arguments["driver"].choices:
        values = parse(bringup, [f"driver:={name}"])
        started = {entry.name for entry in bringup.nodes if selected(entry, values)}
        assert started & {"sim", "topics", "px4", "crazyswarm2"} == {name} - {"mavlink", "crazyflie"}
        assert {"supervisor", "policy", "setpoint"} <= started
