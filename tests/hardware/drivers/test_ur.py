import functools
import json
import subprocess
import sys
import time
from pathlib import Path

import commanding
import numpy as np
import pytest

from hardware.descriptions import load_arm
from hardware.drivers.check import check_driver
from hardware.drivers.driver import DriverError
from hardware.drivers.registry import open_driver
from hardware.kinematics import forward_kinematics
from policies import rotation
from policies.types import JointPositions, JointTorques

write_for = functools.partial(commanding.write_for, period=0.004)

pytest.importorskip("rtde_control", reason="ur-rtde is not installed: pip install 'robot_rl[ur]'")

UR5E = load_arm("ur5e")


@pytest.fixture
def controller(stand_in):
    return stand_in("ur_controller.py", json.dumps(UR5E.home.tolist()))


@pytest.fixture(scope="module")
def connected(lasting_stand_in):
    """One connection for many tests: the library takes a second to end one."""
    controller = lasting_stand_in("ur_controller.py", json.dumps(UR5E.home.tolist()))
    with open_ur(controller, lookahead_time="0.05", gain="300") as driver:
        yield controller, driver


@pytest.fixture
def arm(connected):
    """As it is after connecting."""
    controller, driver = connected
    controller.set(safety_mode=1, setpoint=None, actual_q=UR5E.home.tolist(), watchdog_trips=0, stops=0)
    time.sleep(0.1)
    if driver.read().fault:
        driver.recover()
    driver.stop()
    controller.set(scripts=[])
    return controller, driver


def open_ur(controller, **settings):
    patient = {"watchdog_hz": "2", "stale_s": "0.5"}  # of a busy machine
    return open_driver("ur", UR5E, {"host": controller.host, **patient, **settings})


def positions(values, gripper=1.0):
    return JointPositions(np.asarray(values), np.array(gripper))


@pytest.mark.parametrize("mode", ["positions", "torques"])
def test_keeps_the_contract(controller, mode):
    assert check_driver(open_ur(controller, mode=mode), UR5E, seconds=0.2, slack=20.0) == []


def test_reads_what_the_controller_sends(arm):
    controller, driver = arm
    q = (UR5E.home + 0.1).tolist()
    controller.set(actual_q=q, actual_qd=[0.0] * 6)
    sample = commanding.read_until(driver, lambda sample: np.allclose(sample.joint_positions, q))
    assert np.allclose(sample.joint_positions, q)
    assert sample.fault == "" and sample.joint_torques is None
    assert 0.0 <= time.monotonic() - sample.stamp < 0.05


def test_wrench_is_in_the_tool_frame(arm):
    """The controller gives the TCP's orientation in its own base; our kinematics says where that is in ours."""
    controller, driver = arm
    kinematics = forward_kinematics(UR5E, UR5E.home)
    half_turn = rotation.from_yaw(np.array(np.pi))  # the controller's base against base_link
    yaw = rotation.from_yaw(np.array(-UR5E.gripper.mount_yaw))
    flange = rotation.multiply(rotation.multiply(half_turn, kinematics.tool_orientation), yaw)
    down = np.array([0.0, 0.0, -10.0])  # a weight, in either base
    controller.set(
        actual_TCP_pose=[0.0, 0.0, 0.0, *rotation.to_rotation_vector(flange).tolist()],
        actual_TCP_force=[*down.tolist(), 0.0, 0.5, 0.0],
    )
    wrench = commanding.read_until(driver, lambda sample: np.any(sample.wrench)).wrench
    assert np.allclose(wrench[:3], rotation.rotate_inverse(kinematics.tool_orientation, down), atol=1e-6)
    assert wrench[2] > 9.0  # the tool points down: its z axis is the weight's
    torque = rotation.rotate_inverse(kinematics.tool_orientation, np.array([0.0, -0.5, 0.0]))
    assert np.allclose(wrench[3:], torque, atol=1e-6)


def test_servoj_reaches_the_target(arm):
    controller, driver = arm
    target = UR5E.home + np.array([0.1, -0.1, 0.05, 0.0, 0.2, -0.3])
    sample = write_for(driver, positions(target), 0.6)
    assert np.allclose(sample.joint_positions, target, atol=0.01)
    registers = controller.get("last_command")
    assert np.allclose(registers[:6], target) and np.allclose(registers[8:11], [0.002, 0.05, 300.0])


def test_torques_arrive_in_order(controller):
    with open_ur(controller, mode="torques") as driver:
        torques = np.array([1.0, 2.0, -3.0, 0.4, 0.5, -0.6])
        sample = write_for(driver, JointTorques(torques, np.array(0.0)), 0.3)
        assert np.allclose(controller.get("last_command")[:6], torques)
        assert np.all(np.sign(sample.joint_velocities) == np.sign(torques))


def test_torques_need_a_new_controller(controller):
    controller.set(version=[5, 12, 0, 0])
    with pytest.raises(DriverError, match=r"PolyScope \(5, 12\); torques need \(5, 26\)"):
        open_ur(controller, mode="torques").connect()


def test_watchdog_stops_a_silent_process(arm):
    controller, driver = arm
    write_for(driver, positions(UR5E.home + 0.3), 0.1)
    assert controller.get("watchdog") == 2.0 and controller.get("running")
    time.sleep(1.0)  # as if the process were frozen
    assert controller.get("watchdog_trips") == 1 and not controller.get("running")
    assert "recover" in driver.read().fault
    with pytest.raises(DriverError, match="control program does not run"):
        driver.write(positions(UR5E.home))
    driver.recover()
    assert driver.read().fault == "" and len(controller.get("scripts")) == 1
    assert np.allclose(write_for(driver, positions(UR5E.home), 0.5).joint_positions, UR5E.home, atol=0.01)


def test_waiting_to_be_armed_keeps_the_program_alive(arm):
    controller, driver = arm
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        assert driver.read().fault == ""
        time.sleep(0.004)
    assert controller.get("watchdog_trips") == 0


def test_protective_stop_is_said_and_only_ends_when_told(arm):
    controller, driver = arm
    write_for(driver, positions(UR5E.home), 0.05)
    controller.set(safety_mode=3)
    assert "protective stop" in commanding.read_until(driver, lambda sample: sample.fault).fault
    with pytest.raises(DriverError, match="protective stop"):
        driver.write(positions(UR5E.home))
    controller.set(unlock_answer="Cannot unlock protective stop until 5s after occurrence.")
    with pytest.raises(DriverError, match="5s after occurrence"):
        driver.recover()
    controller.set(unlock_answer="Protective stop releasing")
    driver.recover()
    assert driver.read().fault == ""


def test_emergency_stop_cannot_be_recovered_from_here(arm):
    controller, driver = arm
    controller.set(safety_mode=7)
    assert commanding.read_until(driver, lambda sample: sample.fault).fault.startswith("emergency stop")
    with pytest.raises(DriverError, match="emergency stop"):
        driver.recover()


def test_pulled_cable_ages_the_state_and_blocks_nothing(arm):
    controller, driver = arm
    write_for(driver, positions(UR5E.home), 0.05)
    controller.set(silent=True)
    time.sleep(1.0)
    before = time.monotonic()
    sample = driver.read()
    assert "no state from the controller" in sample.fault and before - sample.stamp > 0.9
    with pytest.raises(DriverError, match="no state"):
        driver.write(positions(UR5E.home))
    driver.stop()
    assert time.monotonic() - before < 0.3
    controller.set(silent=False)
    time.sleep(0.2)
    assert "watchdog" in driver.read().fault  # the robot has stopped by itself meanwhile


DIES = """
import sys, time, numpy as np
from hardware.descriptions import load_arm
from hardware.drivers.driver import DriverError
from hardware.drivers.registry import open_driver
from policies.types import JointPositions
arm = load_arm("ur5e")
with open_driver("ur", arm, {"host": sys.argv[1], "stale_s": "0.5"}) as driver:
    print("connected", flush=True)
    sys.stdin.readline()
    time.sleep(0.8)
    print("fault:", driver.read().fault, flush=True)
    before = time.monotonic()
    try:
        driver.write(JointPositions(arm.home, np.array(0.0)))
    except DriverError as error:
        print("refused", flush=True)
print(f"closed after {time.monotonic() - before:.3f} s", flush=True)
"""


def test_controller_that_dies_hangs_nobody(controller):
    """In a process of its own: the library's threads go on trying to reconnect."""
    process = subprocess.Popen(
        [sys.executable, "-c", DIES, controller.host],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=Path.cwd(),
    )  # fmt: skip
    assert process.stdout.readline() == "connected\n"
    controller.end()
    out, _ = process.communicate("\n", timeout=30.0)
    ours = [line for line in out.splitlines() if line != "Reconnecting..."]  # that is the library's
    fault, refused, closed = ours
    assert fault.startswith("fault:") and ("lost" in fault or "no state" in fault)
    assert refused == "refused" and float(closed.split()[2]) < 3.0
    assert process.returncode == 0


def test_stop_decelerates_and_exit_ends_the_program(controller):
    with pytest.raises(KeyError), open_ur(controller) as driver:
        write_for(driver, positions(UR5E.home + 0.5), 0.05)
        raise KeyError
    assert controller.get("stops") >= 1 and not controller.get("running")
    assert np.allclose(controller.get("actual_qd"), 0.0, atol=0.1)


def test_brakes_on_is_refused(controller):
    controller.set(robot_mode=5)
    with pytest.raises(DriverError, match="brakes locked; switch it on and release the brakes"):
        open_ur(controller).connect()
    assert controller.get("scripts") == []


def test_nobody_there():
    with pytest.raises(DriverError, match=r"no connection to the UR controller at 127\.9\.9\.9"):
        open_driver("ur", UR5E, {"host": "127.9.9.9"}).connect()


def test_another_robot_is_refused():
    with pytest.raises(DriverError, match="panda is another robot"):
        open_driver("ur", load_arm("panda"), {"host": "127.9.9.9"})


def test_robotiq_gripper(controller):
    with open_ur(controller, gripper="robotiq") as driver:
        assert driver.read().gripper_width == pytest.approx(0.085 * (1.0 - 100 / 255))
        sample = write_for(driver, positions(UR5E.home, gripper=-1.0), 0.2)
        assert controller.get("gripper_orders") == ["SET GTO 1", "SET POS 255"]
        assert sample.gripper_width == pytest.approx(0.0)
        assert "gripper_width" in driver.capabilities.signals


def test_inactive_gripper_is_refused(controller):
    controller.set(gripper={"STA": 0, "POS": 0, "GTO": 0})
    with pytest.raises(DriverError, match="activate it on the pendant"):
        open_ur(controller, gripper="robotiq").connect()
