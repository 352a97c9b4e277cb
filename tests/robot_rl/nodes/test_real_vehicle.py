"""A policy flies a vehicle that speaks MAVLink, through the nodes and real packets, and every way to end it."""

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
from std_srvs.srv import SetBool  # noqa: E402

from hardware import setpoints  # noqa: E402
from hardware.drivers.quadrotor import QUADROTOR_DRIVERS  # noqa: E402
from hardware.drivers.registry import DRIVERS  # noqa: E402
from robot_rl.bringup import load_bringup, parse, selected  # noqa: E402
from robot_rl.nodes.running import StartError  # noqa: E402
from robot_rl.nodes.vehicle import VehicleNode  # noqa: E402

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

    def __init__(self, processes, probe, vehicle, port):
        self.processes, self.probe, self.vehicle = processes, probe, vehicle
        self.measured = 0
        self.arguments = {
            "vehicle": ("driver:=mavlink", f"driver_settings:=['connection=udp:127.0.0.1:{port}']"),
            "supervisor": ("driver:=mavlink", f"policy:={BUNDLE}"),
            "policy": (f"policy:={BUNDLE}",),
        }

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

    def sent(self, since):
        """Times (monotonic) of set-points after `since`."""
        return [moment for moment, _ in list(self.vehicle.setpoints) if moment > since]

    def ask(self, name, **request):
        """A service's answer; a killed node's service may still seem to be there for a while."""
        for attempt in range(10):
            try:
                return self.probe.call(SetBool, name, timeout=4.0, **request)
            except AssertionError:
                if attempt == 9:
                    raise

    def wait(self, condition, timeout, what):
        return self.probe.wait(condition, timeout, what)

    def hover(self):
        """Ready on the ground, armed by its service, hovering."""
        self.start()
        vehicle, probe = self.vehicle, self.probe
        probe.target = lambda now: setpoints.hover(np.zeros(3), NORTH, like=HOVER)
        self.ask("arm", data=False)
        self.wait(lambda: not vehicle.armed and vehicle.body.on_ground, 20.0, "vehicle at rest")
        vehicle.body.__init__()  # put back to where it came from
        if not vehicle.offboard:
            vehicle.set_mode(PX4_LOITER)
        self.wait(lambda: probe.states and np.linalg.norm(probe.state.position) < 0.05, 20.0, "odometry")
        self.wait(lambda: probe.statuses, 20.0, "supervisor")
        time.sleep(0.6)
        deadline = time.monotonic() + 15.0
        while not (answer := probe.trigger("recover")).success and "nothing to recover" not in answer.message:
            assert time.monotonic() < deadline, answer.message
            time.sleep(0.1)
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


@pytest.fixture(scope="module")
def stack(processes, probe):
    port = free_port()
    with MavlinkVehicle(port) as vehicle:
        running = Stack(processes, probe, vehicle, port)
        measure = vehicle._measure

        def counting(number, now):
            running.measured += number == 32
            return measure(number, now)

        vehicle._measure = counting
        yield running
        processes.end()


@slow
def test_a_shipped_policy_hovers_through_packets(stack):
    """Nothing moves before the service is called; then it arms by PX4's rules, climbs and hovers."""
    vehicle, probe = stack.vehicle, stack.probe
    stack.start()
    probe.target = lambda now: setpoints.hover(np.zeros(3), NORTH, like=HOVER)
    stack.wait(lambda: probe.states and probe.statuses, 30.0, "odometry and status")
    time.sleep(1.5)
    assert not vehicle.setpoints and not vehicle.armed and vehicle.mode == PX4_LOITER
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
    error = float(np.sqrt(np.mean(np.sum(np.square(track), axis=-1))))
    stream, measured = len(stack.sent(begin)) / 4.0, (stack.measured - measured) / 4.0
    heard = (len(probe.states) - heard) / 4.0
    values = probe.diagnostics["vehicle"][1]
    rates = {name: round(float(values[f"{name} rate"])) for name in ("odom", "imu", "commands")}
    print(
        f"hover error rms {1e3 * error:.0f} mm; the vehicle measures {measured:.0f} Hz and hears {stream:.0f} Hz; "
        f"the node says {rates}; the test hears {heard:.0f} Hz of odom"
    )
    assert error < 0.12
    assert stream > 50.0
    assert rates["odom"] > 0.6 * measured  # its own thread may be starved here, the node's work may not
    assert values["following"] == "True" and float(values["battery voltage"]) == pytest.approx(15.2)


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
    stack.wait(lambda: not stack.vehicle.armed, 3.0, "disarming")
    assert stack.vehicle.body.on_ground
    sinking = [s.linear_velocity[2] for stamp, s in stack.probe.states if descending.stamp < stamp < fault.stamp]
    assert -0.9 < min(sinking) < -0.3
    print(f"descent from {HOVER[2]} m in {fault.stamp - descending.stamp:.1f} s, fastest {-min(sinking):.2f} m/s")


@slow
def test_the_vehicle_node_is_killed(stack):
    """The stream ends with it, and PX4's own failsafe lands; the supervisor ends in a fault."""
    begin, moment = stack.hover()
    stack.processes.kill("vehicle")
    killed = time.monotonic()
    stack.wait(lambda: stack.vehicle.mode == PX4_LAND, 3.0, "failsafe")
    print(f"failsafe {time.monotonic() - killed:.2f} s after the kill (COM_OF_LOSS_T 1 s)")
    assert not stack.sent(killed + 0.05)
    stack.wait(lambda: not stack.vehicle.armed, 8.0, "landing")
    assert stack.vehicle.body.on_ground
    stack.probe.wait_mode("fault", 5.0, since=begin)


@slow
def test_the_supervisor_is_killed(stack):
    """Nobody repeats its last command; one that comes back meanwhile does not drop the vehicle."""
    _, _ = stack.hover()
    stack.processes.kill("supervisor")
    killed = time.monotonic()
    stack.start()
    stack.wait(lambda: not stack.vehicle.armed, 12.0, "landing")
    assert stack.vehicle.mode == PX4_LAND
    assert not [t for t in stack.sent(killed + 0.1) if t < killed + 1.0]
    sinking = [s.linear_velocity[2] for _, s in stack.probe.states[-1200:]]
    assert min(sinking) > -1.2


@slow
def test_the_supervisor_is_frozen(stack):
    """Late commands are no commands: the stream does not begin again, the vehicle lands, and the cause is said."""
    begin, _ = stack.hover()
    stack.processes.signal("supervisor", signal.SIGSTOP)
    frozen = time.monotonic()
    time.sleep(0.6)
    stack.processes.signal("supervisor", signal.SIGCONT)
    stack.wait(lambda: stack.vehicle.mode == PX4_LAND, 2.0, "landing")
    assert not stack.sent(frozen + 0.1)
    # Its own state was as old as it was frozen, which may be the first cause that it finds.
    stack.wait(lambda: stack.probe.statuses[-1].mode in ("disarmed", "fault"), 3.0, "supervisor without flight")
    assert set(stack.probe.modes(begin)) & {"level", "descending", "disarmed", "fault"}
    stack.wait(lambda: not stack.vehicle.armed, 8.0, "landing")


@slow
def test_a_pilot_takes_it_back(stack):
    """Not one set-point more, no landing against the pilot's will, and the cause is said."""
    begin, _ = stack.hover()
    stack.vehicle.set_mode(PX4_LOITER)
    taken = time.monotonic()
    status = stack.probe.wait_mode("disarmed", 3.0, since=begin)
    assert "by itself" in status.cause
    time.sleep(1.5)
    assert not stack.sent(taken + 0.6)
    assert stack.vehicle.mode == PX4_LOITER and stack.vehicle.armed
    assert stack.position[2] > 0.4
    # Nor when the node ends.
    process = stack.processes.running.pop("vehicle")
    process.send_signal(signal.SIGTERM)
    assert process.wait(8.0) == 0
    time.sleep(0.3)
    assert stack.vehicle.mode == PX4_LOITER and stack.vehicle.armed
    stack.start()
    stack.wait(lambda: time.time() - stack.probe.states[-1][0] < 0.2, 20.0, "odometry")
    time.sleep(1.0)
    stack.probe.trigger("recover")
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
    stack.start()
    stack.wait(lambda: not stack.vehicle.armed and stack.vehicle.body.on_ground, 10.0, "vehicle at rest")
    stack.vehicle.preflight_problem = "compass not calibrated"
    try:
        stack.probe.trigger("recover")
        stack.probe.target = lambda now: setpoints.hover(np.zeros(3), NORTH, like=HOVER)
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
    process = stack.processes.running.pop("vehicle")
    process.send_signal(signal.SIGTERM)
    assert process.wait(8.0) == 0
    assert stack.vehicle.mode == PX4_LAND
    stack.wait(lambda: not stack.vehicle.armed, 8.0, "landing")
    assert "Traceback" not in stack.processes.log("vehicle")


@slow
def test_a_crazyflie_hovers_behind_the_same_node(processes, probe):
    """The driver is a parameter: here cflib's packets, the shipped policy, and the firmware's own landing."""
    pytest.importorskip("cflib", reason="CRTP packets: pip install 'robot_rl[crazyflie]'")
    from crazyflie_vehicle import CrazyflieVehicle

    processes.end()  # those of the tests before
    with CrazyflieVehicle() as vehicle:
        running = Stack(processes, probe, vehicle, 0)
        running.arguments["vehicle"] = ("driver:=crazyflie", f"driver_settings:=['uri={vehicle.uri}', 'on_stop=land']")
        running.arguments["supervisor"] = ("driver:=crazyflie", f"policy:={BUNDLE}")
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
        error = float(np.sqrt(np.mean(np.sum(np.square(track), axis=-1))))
        print(f"Crazyflie: hover error rms {1e3 * error:.0f} mm")
        assert error < 0.12
        assert probe.trigger("disarm").success
        running.wait(lambda: vehicle.body.on_ground, 8.0, "landing")
        assert processes.end() == dict.fromkeys(running.arguments, 0)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("driver:=mavlnk",), "no driver 'mavlnk'; known drivers: "),
        (("driver:=ur", "driver_settings:=['host=127.0.0.1']"), "arm"),
        (("driver_settings:=['conection=udp:0.0.0.0:1']",), "has no setting 'conection'"),
        (("driver_settings:=['connection']",), "is not of the form name=value"),
        (("driver_settings:=['connection=udp:127.0.0.1:{port}', 'timeout=0.3']",), "no heartbeat of an autopilot"),
        (("use_sim_time:=true",), "a real vehicle's time is the system's"),
    ],
)
def test_what_cannot_be_flown_is_refused(arguments, complaint):
    """In one sentence, before anything is published."""
    words = [word for text in arguments for word in ("-p", text.replace("{port}", str(free_port())))]
    rclpy.init(args=["--ros-args", *words])
    try:
        node = VehicleNode()
        with pytest.raises(StartError, match=re.escape(complaint)):
            node.started()
        node.close()
        node.destroy_node()
    finally:
        rclpy.shutdown()


def test_the_launch_offers_the_quadrotors_of_the_registry():
    """One of the two plays the vehicle, and only with a real driver the node `vehicle`."""
    bringup = load_bringup("quadrotor")
    assert bringup.arguments["driver"].choices == ("sim", *QUADROTOR_DRIVERS, "none")
    assert set(QUADROTOR_DRIVERS) <= set(DRIVERS)
    for name in bringup.arguments["driver"].choices:
        values = parse(bringup, [f"driver:={name}"])
        started = {entry.name for entry in bringup.nodes if selected(entry, values)}
        assert ("vehicle" in started, "simulator" in started) == (name in QUADROTOR_DRIVERS, name == "sim")
