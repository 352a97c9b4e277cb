"""The quadrotor's managed nodes: a manager leads them, refusals are one sentence, deactivated ones are quiet."""

import re
import time

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")

from lifecycle_msgs.msg import Transition  # noqa: E402
from lifecycle_msgs.srv import ChangeState, GetState  # noqa: E402
from std_srvs.srv import SetBool  # noqa: E402

from hardware.realtime.seqlock import SlotFolder  # noqa: E402
from robot_rl.nodes.policy import PolicyNode  # noqa: E402
from robot_rl.nodes.running import StartError  # noqa: E402
from robot_rl.nodes.setpoint import SetpointNode  # noqa: E402
from robot_rl.nodes.simulator import SimulatorNode  # noqa: E402
from robot_rl.nodes.supervisor import SupervisorNode  # noqa: E402
from robot_rl.nodes.topics import TopicsNode  # noqa: E402

CONFIGURE, ACTIVATE = Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE
DEACTIVATE, CLEANUP = Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP
MODULES = {
    "supervisor": ("supervisor", "driver:=sim", "policy:=quadrotor-track"),
    "sim": ("simulator",),
    "policy": ("policy", "policy:=quadrotor-track"),
    "setpoint": ("setpoint", "mission:=hover", "height:=0.5"),
}
"""Of each node the module and its parameters."""


def change(probe, node, number):
    return probe.call(ChangeState, f"{node}/change_state", timeout=30.0, transition=Transition(id=number)).success


def state(probe, node):
    return probe.call(GetState, f"{node}/get_state", timeout=30.0).current_state.label


def memory(probe):
    """Whether there is shared memory of the robot."""
    return SlotFolder(f"{probe.namespace}.crazyflie").path.exists()


@pytest.fixture(scope="module")
def waiting(processes, probe):
    """All four, unconfigured."""
    for name, (module, *arguments) in MODULES.items():
        processes.start(module, "autostart:=false", *arguments, name=name)
    for name in MODULES:
        assert state(probe, name) == "unconfigured"
    return processes


def hover(probe):
    """Arm and wait for the mission's height."""
    probe.arm()
    probe.wait(lambda: abs(probe.height - 0.5) < 0.1, 10.0, "hover")


def landed(probe):
    """By what the vehicle says itself: nobody may be left to tell its odometry."""
    vehicle = probe.diagnostics["vehicle"][1]
    assert vehicle["crashed"] == "False"
    return vehicle["on_ground"] == "True"


@pytest.mark.slow
def test_a_manager_leads_a_flight(waiting, probe):
    """Nothing is said before activation; then they fly; each falls silent when it is deactivated."""
    assert not probe.states and not probe.motors and not probe.statuses and not memory(probe)
    for name in MODULES:
        assert change(probe, name, CONFIGURE)
        assert state(probe, name) == "inactive"
    time.sleep(0.5)
    assert not probe.states and not probe.motors and memory(probe)
    refused = probe.call(SetBool, "arm", data=True)
    assert not refused.success and "not active" in refused.message
    for name in MODULES:
        assert change(probe, name, ACTIVATE)
    probe.wait(lambda: probe.states and probe.statuses[-1].mode == "disarmed", 20.0, "odometry and status")
    assert [status.mode for status in probe.statuses][0] == "starting"
    assert not any(np.any(values) for _, values in probe.motors)
    hover(probe)

    # Without set-points the policy stands still at the last one.
    assert change(probe, "setpoint", DEACTIVATE)
    time.sleep(1.0)
    assert probe.statuses[-1].mode == "active" and abs(probe.height - 0.5) < 0.1

    # Without the policy the supervisor holds, and then brings the vehicle down.
    begin = time.time()
    assert change(probe, "policy", DEACTIVATE)
    probe.wait_mode("holding", 2.0, since=begin)
    fault = probe.wait_mode("fault", 8.0, since=begin)
    assert "landed" in fault.cause
    assert probe.diagnostics["vehicle"][1]["crashed"] == "False"

    # Active again, from the beginning of the mission.
    assert change(probe, "policy", ACTIVATE) and change(probe, "setpoint", ACTIVATE)
    time.sleep(0.3)
    assert probe.trigger("recover").success
    hover(probe)

    # Without the supervisor nobody speaks to the motors, and the vehicle lands by itself.
    assert change(probe, "supervisor", DEACTIVATE)
    assert probe.statuses[-1].mode == "inactive"
    time.sleep(0.2)
    last = len(probe.motors), len(probe.states)
    assert not landed(probe)
    probe.wait(lambda: landed(probe), 8.0, "landing")
    time.sleep(0.3)
    assert (len(probe.motors), len(probe.states)) == last

    # Another one meets it where it stands.
    begin = time.time()
    assert change(probe, "supervisor", ACTIVATE)
    probe.wait(lambda: probe.statuses[-1].mode == "disarmed" and probe.states[-1][0] > begin, 20.0, "supervisor")
    hover(probe)
    assert probe.call(SetBool, "arm", data=False).success


@pytest.mark.slow
def test_a_deactivated_simulator_ends_its_vehicle(waiting, probe):
    """The supervisor sees that its state is old; activated again there is a new vehicle, at the start."""
    assert change(probe, "sim", DEACTIVATE)
    time.sleep(0.3)
    count = len(probe.states)
    time.sleep(0.5)
    assert len(probe.states) == count
    refused = probe.call(SetBool, "arm", data=True)
    assert not refused.success and "state is" in refused.message
    assert change(probe, "sim", ACTIVATE)
    probe.wait(lambda: len(probe.states) > count + 5, 20.0, "odometry")
    assert abs(probe.states[-1][0] - time.time()) < 0.2
    assert np.linalg.norm(probe.states[-1][1].position) < 0.05


@pytest.mark.slow
def test_they_configure_anew_after_cleanup(waiting, probe):
    """Down to unconfigured and up again, and all end with status 0."""
    for name in reversed(MODULES):
        if state(probe, name) == "active":
            assert change(probe, name, DEACTIVATE)
        assert change(probe, name, CLEANUP)
        assert state(probe, name) == "unconfigured"
    assert not memory(probe)
    for name in MODULES:
        assert change(probe, name, CONFIGURE) and change(probe, name, ACTIVATE)
    begin = time.time()
    probe.wait(lambda: probe.states[-1][0] > begin, 20.0, "odometry")
    probe.arm()
    assert waiting.end() == dict.fromkeys(MODULES, 0)
    for name in MODULES:
        assert "Traceback" not in waiting.log(name)
    assert not memory(probe)


@pytest.mark.parametrize(
    ("node_type", "arguments", "complaint"),
    [
        (PolicyNode, ("policy:=no-such-bundle",), "no policy bundle 'no-such-bundle'"),
        (PolicyNode, ("policy:=arm-reach",), "arm"),
        (SupervisorNode, ("policy:=arm-reach",), "arm"),
        (SupervisorNode, ("driver:=mavlink", "auto_arm:=true"), "auto_arm is for the simulator only"),
        (SupervisorNode, ("driver:=mavlink", "driver_settings:=[connection]"), "is not of the form name=value"),
        (SupervisorNode, ("driver:=topics", "driver_settings:=[speed=9]"), "speed"),
        (SupervisorNode, ("rules:=[nonsense]",), "nonsense"),
        (SetpointNode, ("mission:=waypoints", "points:=[1.0, 2.0]"), "points"),
        (SimulatorNode, ("overrides:=[mass]",), "is not of the form name=value"),
        (SimulatorNode, ("position:=[0.0, 0.0, -1.0]",), "with z at or above 0"),
        (TopicsNode, ("robot:=panda",), "panda"),
        *((kind, ("use_sim_time:=true",), "runs in real time") for kind in (SupervisorNode, PolicyNode, SimulatorNode)),
    ],
)
def test_configuring_names_what_does_not_fit(node_type, arguments, complaint):
    """One sentence; the node stays unconfigured."""
    rclpy.init(args=["--ros-args", *(word for text in arguments for word in ("-p", text))])
    node = None
    try:
        with pytest.raises(StartError, match=re.escape(complaint)):
            node = node_type()
            node.started()
        if node is not None:
            assert node.problem and "\n" not in node.problem
            node.close()
            node.destroy_node()
    finally:
        rclpy.shutdown()
