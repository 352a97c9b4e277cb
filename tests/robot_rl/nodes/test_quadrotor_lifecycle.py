"""The quadrotor's managed nodes: a manager leads them, refusals are one sentence, deactivated ones are quiet."""

import re
import time

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")

from lifecycle_msgs.msg import Transition  # noqa: E402
from lifecycle_msgs.srv import ChangeState, GetState  # noqa: E402
from std_srvs.srv import SetBool  # noqa: E402

from robot_rl.nodes.policy import PolicyNode  # noqa: E402
from robot_rl.nodes.running import StartError  # noqa: E402
from robot_rl.nodes.setpoint import SetpointNode  # noqa: E402
from robot_rl.nodes.simulator import Simulator  # noqa: E402
from robot_rl.nodes.supervisor import SupervisorNode  # noqa: E402

CONFIGURE, ACTIVATE = Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE
DEACTIVATE, CLEANUP = Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP
NODES = {
    "simulator": (),
    "supervisor": ("driver:=sim", "policy:=quadrotor-track"),
    "policy": ("policy:=quadrotor-track",),
    "setpoint": ("mission:=hover", "height:=0.5"),
}


def change(probe, node, number):
    return probe.call(ChangeState, f"{node}/change_state", timeout=30.0, transition=Transition(id=number)).success


def state(probe, node):
    return probe.call(GetState, f"{node}/get_state", timeout=30.0).current_state.label


@pytest.fixture(scope="module")
def waiting(processes, probe):
    """All four, unconfigured."""
    for name, arguments in NODES.items():
        processes.start(name, "autostart:=false", *arguments)
    for name in NODES:
        assert state(probe, name) == "unconfigured"
    return processes


@pytest.mark.slow
def test_a_manager_leads_a_flight(waiting, probe):
    """Nothing is said before activation; then they fly; each falls silent when it is deactivated."""
    assert not probe.states and not probe.motors and not probe.statuses
    for name in NODES:
        assert change(probe, name, CONFIGURE)
        assert state(probe, name) == "inactive"
    time.sleep(0.5)
    assert not probe.states and not probe.motors
    refused = probe.call(SetBool, "arm", data=True)
    assert not refused.success and "not active" in refused.message
    for name in NODES:
        assert change(probe, name, ACTIVATE)
    probe.wait(lambda: probe.states and probe.statuses, 10.0, "odometry and status")
    assert not any(np.any(values) for _, values in probe.motors)
    probe.arm()
    probe.wait(lambda: abs(probe.height - 0.5) < 0.1, 10.0, "hover")

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
    probe.arm()
    probe.wait(lambda: abs(probe.height - 0.5) < 0.1, 10.0, "hover")

    # Without the supervisor nobody speaks to the motors, and the vehicle lands by itself.
    assert change(probe, "supervisor", DEACTIVATE)
    time.sleep(0.2)
    last = len(probe.motors)
    probe.wait(lambda: probe.height < 0.01, 8.0, "landing")
    assert probe.diagnostics["vehicle"][1]["crashed"] == "False"
    time.sleep(0.3)
    assert len(probe.motors) == last


@pytest.mark.slow
def test_a_deactivated_simulator_stands_still(waiting, probe):
    """Stamps go on with the clock afterwards, and the vehicle is where it was."""
    assert change(probe, "simulator", DEACTIVATE)
    time.sleep(0.3)
    count, place = len(probe.states), probe.state.position
    time.sleep(0.5)
    assert len(probe.states) == count
    assert change(probe, "simulator", ACTIVATE)
    probe.wait(lambda: len(probe.states) > count + 5, 5.0, "odometry")
    assert abs(probe.states[-1][0] - time.time()) < 0.2
    assert np.linalg.norm(probe.states[count][1].position - place) < 0.05


@pytest.mark.slow
def test_they_configure_anew_after_cleanup(waiting, probe):
    """Down to unconfigured and up again, and all end with status 0."""
    for name in NODES:
        if state(probe, name) == "active":
            assert change(probe, name, DEACTIVATE)
        assert change(probe, name, CLEANUP)
        assert state(probe, name) == "unconfigured"
    for name in NODES:
        assert change(probe, name, CONFIGURE) and change(probe, name, ACTIVATE)
    begin = time.time()
    probe.wait(lambda: probe.states[-1][0] > begin, 5.0, "odometry")
    probe.arm()
    assert waiting.end() == dict.fromkeys(NODES, 0)
    for name in NODES:
        assert "Traceback" not in waiting.log(name)


@pytest.mark.parametrize(
    ("node_type", "arguments", "complaint"),
    [
        (PolicyNode, ("policy:=no-such-bundle",), "no policy bundle 'no-such-bundle'"),
        (PolicyNode, ("policy:=arm-reach",), "arm"),
        (SupervisorNode, ("policy:=arm-reach",), "arm"),
        (SupervisorNode, ("driver:=mavlink", "auto_arm:=true"), "auto_arm is for the simulator only"),
        (SetpointNode, ("mission:=waypoints", "points:=[1.0, 2.0]"), "points"),
        (Simulator, ("rate:=2.0",), "without publish_clock:=true no node would follow"),
        (Simulator, ("overrides:=[mass]",), "is not of the form name=value"),
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
