"""What every node does at its start, seen from outside."""

import subprocess
import sys

import pytest

pytest.importorskip("rclpy")

from rcl_interfaces.srv import DescribeParameters, GetParameters, SetParameters  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from std_msgs.msg import String  # noqa: E402


@pytest.fixture(scope="module")
def node(processes, probe):
    """The set-point node: it starts fast."""
    process = processes.start("setpoint", "height:=2.0")
    probe.call(GetParameters, "setpoint/get_parameters", timeout=20.0, names=["height"])
    return process


def test_parameters_are_described_and_fixed(node, probe):
    height, mission = probe.call(
        DescribeParameters, "setpoint/describe_parameters", names=["height", "mission"]
    ).descriptors
    assert height.read_only and mission.read_only
    assert height.description.startswith("m above the start")
    assert (height.floating_point_range[0].from_value, height.floating_point_range[0].to_value) == (
        0.1,
        100.0,
    )
    assert "figure-eight" in mission.additional_constraints
    values = probe.call(GetParameters, "setpoint/get_parameters", names=["height", "mission"]).values
    assert (values[0].double_value, values[1].string_value) == (2.0, "hover")
    change = Parameter("height", value=1.0).to_parameter_msg()
    assert not probe.call(SetParameters, "setpoint/set_parameters", parameters=[change]).results[0].successful


def test_qos_that_does_not_fit_is_logged(node, processes, probe):
    publisher = probe.node.create_publisher(String, "supervisor/status", 5)  # volatile, not transient local
    sentence = (
        f"a publisher of /{probe.namespace}/supervisor/status is not connected: its QoS does not fit (durability)"
    )
    probe.wait(lambda: sentence in processes.log("setpoint"), 10.0, "log line")
    probe.node.destroy_publisher(publisher)


@pytest.mark.parametrize(
    ("module", "argument", "complaint"),
    [
        ("setpoint", "heigth:=1.0", "has no parameter 'heigth'; did you mean 'height'?"),
        ("setpoint", "height:=1000.0", "out of range"),
        ("setpoint", "height:=high", "expecting type 'DOUBLE'"),
        ("setpoint", "points:=[1.0, 2.0]", "way-points have 2 values"),
        ("simulator", "overrides:=[mas=0.03]", "unknown parameter 'mas'"),
        ("simulator", "rate:=2.0", "has no parameter 'rate'"),
        ("simulator", "position:=[0.0, 0.0]", "expected x, y, z"),
        ("policy", "robot:=crazyfly", "no robot description 'crazyfly'"),
        ("supervisor", "driver:=real", "choose from sim, mavlink, crazyflie, topics"),
        ("supervisor", "driver:=none", "choose from sim, mavlink, crazyflie, topics"),
        ("supervisor", "use_sim_time:=true", "the robot runs in real time"),
        ("topics", "rate:=5.0", "out of range"),
        ("recorder", "folder:=/proc/nowhere", "cannot write to /proc/nowhere"),
    ],
)
def test_a_wrong_parameter_is_refused_in_one_sentence(environment, module, argument, complaint):
    code = f"import sys; from robot_rl.nodes.process import start; sys.exit(start({module!r}))"
    command = [sys.executable, "-c", code, "--ros-args", "-p", argument]
    if "points" in argument:  # only looked at by the mission that flies them
        command += ["-p", "mission:=waypoints"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30.0, check=False)
    assert done.returncode == 1
    assert complaint in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
