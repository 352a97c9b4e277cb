"""Managed nodes one by one: they follow a manager, start by themselves, and refuse in one sentence."""

import json
import os
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytest.importorskip("rclpy")

from arm_probe import ArmProbe  # noqa: E402
from lifecycle_msgs.msg import Transition  # noqa: E402

import policies  # noqa: E402
from hardware.descriptions import load_arm  # noqa: E402
from policies.bundle import ZOO  # noqa: E402
from robot_rl.nodes.arm_policy import check_signals  # noqa: E402

CONFIGURE, ACTIVATE = Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE
DEACTIVATE, CLEANUP = Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP


@pytest.fixture(scope="module")
def probe(domain):
    listening = ArmProbe(domain, f"lone{os.getpid()}")
    yield listening
    listening.close()


@pytest.fixture
def start(processes, probe):
    """Start a node in the probe's namespace."""

    def starting(module, *parameters):
        code = (
            f"import sys; sys.argv += ['-r', '__ns:=/{probe.namespace}']; "
            f"from robot_rl.nodes.process import start; sys.exit(start({module!r}))"
        )
        return processes.start(module, *parameters, code=code)

    yield starting
    processes.end()


def memory(probe):
    return list(Path("/dev/shm").glob(f"robot_rl-*-{probe.namespace}.*"))


def test_a_manager_leads_a_policy_through_its_life(start, probe, processes):
    start("arm_policy", "policy:=arm-reach", "autostart:=false")
    for expected, transition in (
        ("unconfigured", CONFIGURE),
        ("inactive", ACTIVATE),
        ("active", DEACTIVATE),
        ("inactive", CLEANUP),
        ("unconfigured", CONFIGURE),
    ):
        assert probe.state("policy") == expected
        assert probe.transition("policy", transition)
    assert not probe.transition("policy", CONFIGURE)  # it is inactive: that is no transition of it
    assert processes.end() == {"arm_policy": 0}


@pytest.mark.parametrize(
    ("robot", "policy", "words"),
    [
        ("ur5e", "arm-reach", "robot 'ur5e' has no actuator 'joint1'; it has shoulder_pan_joint"),
        ("panda", "quadrotor-hover", "the policy is for a robot of kind 'quadrotor', but 'panda' is of kind 'arm'"),
        ("panda", "no-such-bundle", "no policy bundle 'no-such-bundle'"),
        ("crazyflie", "arm-reach", "crazyflie is a quadrotor; an arm is needed"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(start, processes, robot, policy, words):
    process = start("arm_policy", f"policy:={policy}", f"robot:={robot}")
    assert process.wait(60.0) == 1
    log = processes.log("arm_policy")
    assert words.replace(" a arm", "") in log.replace(" a arm", "")
    assert "Traceback" not in log


def broken(folder, **changes):
    """arm-reach with something else in its manifest."""
    shutil.copytree(ZOO / "arm-reach", folder)
    path = folder / "manifest.json"
    data = json.loads(path.read_text())
    for field, value in changes.items():
        *parents, last = field.split("__")
        inner = data
        for parent in parents:
            inner = inner[parent]
        inner[last] = value
    path.write_text(json.dumps(data))
    return folder


JOINTS = list(load_arm("panda").interface.actuators)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"robot__actuators": [*JOINTS[:5], JOINTS[6], JOINTS[5]]}, "actuator order"),
        ({"robot__signals": ["joint_positions"]}, "robot.signals lacks tool_pose"),
        ({"control_rate_hz": 5000.0}, "runs at 5000 Hz, but 'panda' takes commands at most at"),
        ({"robot__command": "motor_speeds"}, "robot.command is 'motor_speeds'"),
        ({"observation_size": 24}, "observation_size is 24, but the terms make 25"),
        ({"control_rate_hz": -1.0}, "control_rate_hz"),
    ],
)
def test_a_manager_learns_the_field_that_does_not_fit(start, probe, tmp_path, changes, words, processes):
    start("arm_policy", f"policy:={broken(tmp_path / 'wrong', **changes)}", "autostart:=false")
    probe.messages.clear()
    assert not probe.transition("policy", CONFIGURE)
    assert probe.state("policy") == "unconfigured"
    assert words in probe.wait_message("refused: policy", 10.0)
    assert processes.end() == {"arm_policy": 0}


def test_pictures_are_refused_until_they_come_through_memory():
    """The check by itself: a bundle with pictures takes minutes to make."""
    check_signals("arm-push", policies.load("arm-push").manifest.robot.signals)
    with pytest.raises(ValueError, match="robot.signals has images, which the nodes do not bring"):
        check_signals("arm-look", ("tool_pose", "images"))


def test_a_supervisor_takes_its_memory_and_gives_it_back(start, probe, processes):
    start("arm_supervisor", "autostart:=false")
    assert not memory(probe)
    assert probe.transition("supervisor", CONFIGURE)
    assert len(memory(probe)) == 1
    tree = ElementTree.fromstring(probe.wait(lambda: probe.urdf, 10.0, "robot_description")[-1])
    assert {link.get("name") for link in tree.iter("link")} > {"base", "tool", "joint1_link"}
    answer = probe.trigger("recover")
    assert not answer.success and "not active" in answer.message
    assert probe.transition("supervisor", CLEANUP)
    assert not memory(probe)
    assert processes.end() == {"arm_supervisor": 0}


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        (["driver:=ur", "auto_arm:=true"], "auto_arm is for the simulator only, but driver is 'ur'"),
        (["driver:=nobody"], "parameter driver is 'nobody'; choose from sim"),
        (["driver_settings:=[host]"], "'host' is not of the form name=value"),
        (["state_rate:=5000.0"], "state_rate"),
        (["contol_rate:=100.0"], "did you mean 'control_rate'"),
    ],
)
def test_a_supervisor_refuses_wrong_parameters(start, processes, probe, parameters, words):
    process = start("arm_supervisor", *parameters)
    assert process.wait(60.0) == 1
    assert words in processes.log("arm_supervisor")
    assert not memory(probe)
