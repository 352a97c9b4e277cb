"""The real processes: what every death does to the arm, and that none leaves a process or memory behind.

Times are safety limits with room for a busy machine, not speed.
"""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from hardware.controllers.arm_config import ArmControllerConfig
from policies.types import CartesianTwist
from robot_rl.nodes.process import is_running
from robot_rl.planes.process_group import PlanesError
from robot_rl.planes.processes import Planes, PlanesConfig
from robot_rl.planes.settings import PolicyConfig, SceneConfig, SimulationConfig, WireConfig

pytestmark = pytest.mark.timeout(300)


def config(name, **scene):
    return PlanesConfig(name=f"test-{name}-{os.getpid()}", simulation=SimulationConfig(scene=SceneConfig(**scene)))


@pytest.fixture(scope="module")
def planes():
    with Planes(config("bare")) as started:
        yield started


def until(planes, condition, timeout=5.0):
    """Wait, with signs of life; returns the s that it took, or fails."""
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < timeout, (planes.status(), planes.simulation())
        planes.beat()
        time.sleep(0.002)
    return time.monotonic() - begin


def come_to_rest(planes):
    """Idle and braked again, with a control process that runs."""
    planes.set_wire(WireConfig())
    if not planes.running().get("control", False):
        planes.start_control()
    until(planes, lambda: time.monotonic() - planes.status().stamp < 0.1)

    def rests():
        status = planes.status()
        if status.driver_fault or status.mode in ("fault", "holding"):
            planes.ask("recover")
        elif status.mode != "idle":
            planes.ask("disarm")
        return status.mode == "idle" and status.follow == "brake" and not status.driver_fault

    until(planes, rests, 10.0)


@pytest.fixture
def armed(planes):
    come_to_rest(planes)
    planes.beat()
    granted, why = planes.ask("arm")
    assert granted, why
    until(planes, lambda: not planes.simulation()["braked"])
    return planes


def test_starting_arms_nothing(planes):
    come_to_rest(planes)
    assert planes.simulation()["braked"] and planes.status().mode == "idle"
    assert planes.running() == {"simulation": True, "control": True}
    assert "collector off" in planes.status().realtime


def test_armed_it_holds_still(armed):
    begin = armed.state().state.joint_positions.copy()
    until(armed, lambda: armed.status().ticks > 500 and armed.status().mode == "armed")
    assert np.abs(armed.state().state.joint_positions - begin).max() < 0.01


@pytest.mark.parametrize("deadly", [signal.SIGKILL, signal.SIGSTOP])
def test_the_robot_brakes_by_itself_when_the_control_process_is_gone(armed, deadly):
    control = armed.process("control")
    control.send_signal(deadly)
    took = until(armed, lambda: armed.simulation()["braked"])
    assert took < 0.5
    assert "no torque for 20 ms" in armed.simulation()["fault"]
    if deadly == signal.SIGSTOP:
        control.send_signal(signal.SIGCONT)
        # The robot takes no torques until someone recovers, and the control process says why.
        until(armed, lambda: armed.status().mode == "fault" and "watchdog" in armed.status().cause)
        assert armed.simulation()["braked"]
    else:
        control.wait()
        armed.start_control()
        assert armed.status().mode == "idle" and "watchdog" in armed.status().driver_fault
        assert not armed.ask("arm")[0]
    assert armed.ask("recover")[0]
    until(armed, lambda: armed.status().mode == "idle" and not armed.status().driver_fault)
    assert armed.ask("arm")[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_control_process_that_is_told_to_end_stops_the_arm_first(armed, number):
    control = armed.process("control")
    control.send_signal(number)
    assert control.wait(5) == 0
    assert armed.status().mode == "stopped" and number.name in armed.status().cause
    until(armed, lambda: armed.simulation()["braked"], 0.5)
    assert armed.simulation()["fault"] == ""  # stopped by its driver, not by its watchdog


def test_a_silent_face_holds_the_arm_and_takes_no_commands(armed):
    time.sleep(0.7)
    assert armed.status().mode == "armed"
    armed.send_twist(CartesianTwist(values=np.full(6, 0.1), frame="base", gripper=1.0), 0.1)
    time.sleep(0.1)
    assert armed.status().mode == "armed" and armed.status().command_sequence == 0


def test_samples_that_stop_end_in_brakes(armed):
    armed.set_wire(WireConfig(freeze_state=True))
    until(armed, lambda: armed.status().mode == "holding" or armed.status().mode == "fault")
    until(armed, lambda: armed.status().follow == "brake")
    assert "state is" in armed.status().cause
    until(armed, lambda: armed.simulation()["braked"])


def test_a_fault_of_the_robot_has_its_words_in_the_status(armed):
    armed.set_wire(WireConfig(fault="protective stop: joint 4"))
    until(armed, lambda: armed.status().mode == "fault")
    assert "protective stop: joint 4" in armed.status().cause
    assert not armed.ask("recover")[0]


def test_a_second_robot_of_the_same_name_is_refused(planes):
    with pytest.raises(Exception, match="is in use by process"):
        Planes(planes.config).start()


def test_a_bundle_that_is_refused_is_a_sentence(planes):
    with pytest.raises(PlanesError, match="no policy bundle 'arm-raech'; did you mean 'arm-reach'"):
        planes.start_policy(PolicyConfig(bundle="arm-raech"))
    assert planes.running()["control"]


OWNER = """
import sys, time
from robot_rl.planes.processes import Planes, PlanesConfig
from robot_rl.planes.settings import SimulationConfig
with Planes(PlanesConfig(name=sys.argv[1], simulation=SimulationConfig())) as planes:
    planes.ask("arm")
    print(planes.folder, *(planes.process(name).pid for name in planes.running()), flush=True)
    while True:
        planes.beat()
        time.sleep(0.05)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_the_owners_death_leaves_neither_process_nor_memory(number):
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, f"test-owner-{os.getpid()}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    folder, *pids = owner.stdout.readline().split()
    assert len(pids) == 2 and os.path.isdir(folder)
    os.kill(int(pids[1]), signal.SIGSTOP)  # even a stopped one ends
    owner.send_signal(number)
    owner.wait(20)
    end = time.monotonic() + 20
    while time.monotonic() < end and (any(is_running(int(pid)) for pid in pids) or os.path.exists(folder)):
        time.sleep(0.05)
    assert not [pid for pid in pids if is_running(int(pid))]
    assert not os.path.exists(folder)


@pytest.fixture(scope="module")
def pressing():
    with Planes(config("wall", wall=0.6)) as started:
        yield started


@pytest.mark.slow
def test_the_force_on_a_wall_is_bounded_also_when_nobody_commands_any_more(pressing):
    planes = pressing
    assert planes.ask("arm")[0]
    gains = ArmControllerConfig().compliant
    bound = 1.1 * gains.translational_stiffness[0] * gains.clip_upper[0]
    forward = CartesianTwist(values=np.array([0.5, 0, 0, 0, 0, 0]), frame="base", gripper=-1.0)
    gentle = CartesianTwist(values=np.array([0.1, 0, 0, 0, 0, 0]), frame="base", gripper=-1.0)

    def press(seconds, command):
        found, end = [], time.monotonic() + seconds
        while time.monotonic() < end:
            planes.beat()
            planes.send_twist(command, 0.1)
            time.sleep(0.02)
            found.append(float(np.linalg.norm(planes.read("state").record["wrench"][:3])))
        return np.array(found)

    press(2.5, gentle)
    forces = press(1.5, forward)[-25:]  # 50 mm into the wall
    assert 2.0 < forces.max() <= bound, (forces, bound, planes.status())
    until(planes, lambda: planes.status().mode == "holding")
    time.sleep(0.5)
    planes.beat()
    left = float(np.linalg.norm(planes.read("state").record["wrench"][:3]))
    assert left <= bound


@pytest.mark.slow
def test_a_dead_policy_is_only_an_old_command():
    from robot_rl.planes.tasks import planes_of_task

    with Planes(planes_of_task("arm-reach", "arm-reach", name=f"test-policy-{os.getpid()}")) as planes:
        from policies.types import ArmSetpoint

        planes.send_setpoint(ArmSetpoint(tool_pose=planes.simulation()["goal"]))
        planes.activate_policy()
        assert planes.ask("arm")[0]
        until(planes, lambda: planes.status().mode == "active")
        lost = planes.status().lost_periods
        planes.process("policy").send_signal(signal.SIGSTOP)
        assert until(planes, lambda: planes.status().mode == "holding") < 0.8
        assert "policy output is" in planes.status().cause
        planes.process("policy").send_signal(signal.SIGKILL)
        planes.process("policy").wait()
        time.sleep(0.3)
        planes.beat()
        assert planes.running() == {"simulation": True, "control": True, "policy": False}
        assert not planes.simulation()["braked"] and planes.status().lost_periods - lost < 300
        planes.start_policy(planes.config.policy)
        planes.activate_policy()
        planes.ask("recover")
        until(planes, lambda: planes.status().mode == "active")
        planes.process("policy").send_signal(signal.SIGSTOP)
        begin = time.monotonic()
    assert time.monotonic() - begin < 10.0  # a stopped process does not hold up the end
    assert not planes.folder.exists()
