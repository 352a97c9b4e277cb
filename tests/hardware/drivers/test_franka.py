import functools
import json
import shutil
import subprocess
import time

import commanding
import numpy as np
import pytest

from hardware.descriptions import load_arm
from hardware.drivers.check import check_driver
from hardware.drivers.driver import DriverError
from hardware.drivers.registry import open_driver
from policies.types import JointPositions, JointTorques

write_for = functools.partial(commanding.write_for, period=0.002)

pytest.importorskip("panda_py", reason="panda-python is not installed: pip install 'robot_rl[franka]'")
if shutil.which("gcc") is None:
    pytest.skip("gcc is needed for the model library that libfranka downloads", allow_module_level=True)

PANDA = load_arm("panda")
SYMBOLS = [f"{name}{index}" for name in ("Ji_J_J", "O_J_J", "O_T_J") for index in range(1, 10)] + [
    "M_NE",
    "c_NE",
    "g_NE",
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """libfranka looks up these functions; none of them is called here."""
    folder = tmp_path_factory.mktemp("model")
    source = folder / "model.c"
    source.write_text("".join(f"void {symbol}(void) {{}}\n" for symbol in SYMBOLS))
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", folder / "model.so", source], check=True)
    return folder / "model.so"


@pytest.fixture
def box(stand_in, model):
    return stand_in("franka_controller.py", json.dumps(PANDA.home.tolist()), str(model))


def open_franka(box, **settings):
    return open_driver("franka", PANDA, {"host": box.host, "realtime": "ignore", "watchdog_s": "1.0", **settings})


def torques(values=(0.0,) * 7, gripper=1.0):
    return JointTorques(np.asarray(values), np.array(gripper))


@pytest.mark.parametrize("mode", ["torques", "positions"])
def test_keeps_the_contract(box, mode):
    assert check_driver(open_franka(box, mode=mode), PANDA, seconds=0.2, slack=20.0) == []


def test_reads_the_state_and_starts_no_motion(box):
    box.set(force=[0.0, 0.0, -5.0, 0.0, 1.0, 0.0])
    with open_franka(box) as driver:
        time.sleep(0.02)
        sample = driver.read()
        assert np.allclose(sample.joint_positions, PANDA.home, atol=1e-6)
        assert sample.joint_torques.tolist() == [0.0, -20.0, 0.0, 10.0, 0.0, 1.0, 0.0]  # gravity, as the sensors say
        assert np.allclose(sample.wrench, [0.0, 0.0, 5.0, 0.0, -1.0, 0.0])  # on the tool, not of the tool
        assert 0.0 <= time.monotonic() - sample.stamp < 0.5
        assert box.get("moves") == 0


def test_torques_arrive_at_1_khz_in_order(box):
    command = np.array([0.1, -0.2, 0.3, -0.4, 0.05, -0.06, 0.07])
    with open_franka(box) as driver:
        write_for(driver, torques(command), 0.1)
        before = box.get("commands_seen")
        sample = write_for(driver, torques(command), 0.5, period=0.05)
        assert np.allclose(box.get("last_tau"), command, atol=1e-6)
        assert box.get("commands_seen") - before > 40  # the library repeats what we said ten times
        assert np.all(np.sign(sample.joint_velocities) == np.sign(command))


def test_torque_rate_is_limited_below_us(box):
    """1000 N m/s: one step from 0 to 30 N m takes the thread 30 packets."""
    with open_franka(box) as driver:
        driver.write(torques())
        time.sleep(0.05)
        seen = box.get("commands_seen")
        driver.write(torques([30.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]))
        early, packets = box.get("last_tau")[0], box.get("commands_seen") - seen
        assert early <= 1.0 * (packets + 2) and early < 30.0


def test_positions_are_held_by_the_librarys_impedance(box):
    target = PANDA.home + np.array([0.02, 0.0, -0.02, 0.0, 0.0, 0.02, 0.0])
    with open_franka(box, mode="positions", stiffness="0.2") as driver:
        sample = write_for(driver, JointPositions(target, np.array(0.0)), 1.5)
        assert np.allclose(sample.joint_positions, target, atol=0.005)


def test_watchdog_ends_the_motion_of_a_silent_loop(box):
    with open_franka(box, watchdog_s="0.2") as driver:
        write_for(driver, torques([0.2, 0, 0, 0, 0, 0, 0]), 0.05)
        assert box.get("robot_mode") == 2
        time.sleep(0.5)
        assert box.get("robot_mode") == 1
        assert "no command for" in driver.read().fault
        with pytest.raises(DriverError, match="no command for"):
            driver.write(torques())
        driver.recover()
        assert write_for(driver, torques(), 0.05).fault == ""


def test_reflex_is_said_and_only_ends_when_told(box):
    with open_franka(box) as driver:
        write_for(driver, torques(), 0.05)
        box.set(errors=[6])
        time.sleep(0.3)
        fault = driver.read().fault
        assert "motion aborted by reflex" in fault and "joint reflex" in fault
        with pytest.raises(DriverError, match="reflex"):
            driver.write(torques())
        assert box.get("commands").get("12", 0) == 0  # nobody recovered yet
        before = driver.read().stamp
        time.sleep(0.02)
        assert driver.read().stamp > before  # the state goes on
        driver.recover()
        assert box.get("commands")["12"] == 1
        assert write_for(driver, torques(), 0.05).fault == ""


def test_user_stop_cannot_be_recovered_from_here(box):
    with open_franka(box) as driver:
        write_for(driver, torques(), 0.05)
        box.set(robot_mode=5)
        time.sleep(0.3)
        assert "user stop is pressed" in driver.read().fault
        with pytest.raises(DriverError, match="user stop is pressed"):
            driver.recover()


def test_stop_and_exceptions_end_the_motion(box):
    with pytest.raises(KeyError), open_franka(box) as driver:
        write_for(driver, torques(), 0.05)
        driver.stop()
        driver.stop()
        assert box.get("robot_mode") == 1
        write_for(driver, torques(), 0.05)
        assert box.get("moves") == 2
        raise KeyError
    assert box.get("robot_mode") == 1


def test_cable_pulled_in_motion(box):
    with open_franka(box) as driver:
        write_for(driver, torques(), 0.05)
        box.set(silent=True)
        time.sleep(1.5)  # libfranka waits a second for a packet
        before = time.monotonic()
        assert driver.read().fault != ""
        with pytest.raises(DriverError):
            driver.write(torques())
        driver.stop()
    assert time.monotonic() - before < 8.0


def test_another_interface_version_is_refused(box):
    box.set(version=6)
    with pytest.raises(DriverError, match="no connection to the Franka robot"):
        open_franka(box).connect()


def test_real_time_is_insisted_on(box):
    import panda_py

    if panda_py.libfranka.has_realtime_kernel():
        pytest.skip("this kernel is PREEMPT_RT")
    with pytest.raises(DriverError, match="PREEMPT_RT"):
        open_franka(box, realtime="enforce").connect()


def test_hand(box):
    with open_franka(box, gripper="franka") as driver:
        assert driver.read().gripper_width == pytest.approx(0.04)
        sample = write_for(driver, torques(gripper=-1.0), 1.0)
        assert box.get("hand_orders")[0][:2] == ["grasp", 0.0] and sample.gripper_width == 0.0
        sample = write_for(driver, torques(gripper=1.0), 1.0)
        assert box.get("hand_orders")[1] == ["move", 0.08, 0.1] and sample.gripper_width == pytest.approx(0.08)
        process = driver._hand._process
    assert process.poll() is not None


def test_nobody_there():
    with pytest.raises(DriverError, match=r"no connection to the Franka robot at 127\.9\.9\.9"):
        open_driver("franka", PANDA, {"host": "127.9.9.9", "realtime": "ignore"}).connect()
