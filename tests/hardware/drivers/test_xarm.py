import functools
import json
import socket
import time

import commanding
import numpy as np
import pytest

from hardware.descriptions import load_arm
from hardware.drivers.check import check_driver
from hardware.drivers.driver import DriverError
from hardware.drivers.registry import open_driver
from policies.types import JointPositions

write_for = functools.partial(commanding.write_for, period=0.01)

pytest.importorskip("xarm.wrapper", reason="xarm-python-sdk is not installed: pip install 'robot_rl[xarm]'")

XARM7 = load_arm("xarm7")
PORT = 15502
"""Instead of 502, for which one must be root."""


@pytest.fixture
def box(stand_in, monkeypatch):
    from xarm.core.config.x_config import XCONF

    monkeypatch.setattr(XCONF.SocketConf, "TCP_CONTROL_PORT", PORT)
    return stand_in("xarm_controller.py", json.dumps(XARM7.home.tolist()), str(PORT))


def open_xarm(box, **settings):
    return open_driver("xarm", XARM7, {"host": box.host, "timeout": "1.0", **settings})


def positions(values, gripper=1.0):
    return JointPositions(np.asarray(values), np.array(gripper))


def test_keeps_the_contract(box):
    assert check_driver(open_xarm(box), XARM7, seconds=0.3, slack=20.0) == []


def test_connecting_switches_on_and_moves_nothing(box):
    socket.setdefaulttimeout(None)
    with open_xarm(box) as driver:
        assert box.get("enabled") and box.get("mode") == 1
        assert box.get("functions").get("29", 0) == 0  # no servo target
        assert np.allclose(driver.read().joint_positions, XARM7.home, atol=1e-6)
        assert socket.getdefaulttimeout() is None


def test_reads_radians_and_the_joints_torques(box):
    box.set(qd=[0.01] * 7)
    with open_xarm(box) as driver:
        sample = driver.read()
        assert sample.joint_torques.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
        assert sample.wrench is None and 0.0 <= time.monotonic() - sample.stamp < 0.5


def test_servo_targets_arrive(box):
    target = XARM7.home + np.array([0.1, -0.1, 0.2, 0.05, -0.05, 0.1, -0.2])
    with open_xarm(box) as driver:
        sample = write_for(driver, positions(target), 0.8)
        assert np.allclose(sample.joint_positions, target, atol=0.01)
        assert np.allclose(box.get("target"), target, atol=1e-6)


def test_error_is_said_in_words_and_needs_recover(box):
    with open_xarm(box) as driver:
        write_for(driver, positions(XARM7.home), 0.05)
        box.set(error=31)
        fault = commanding.read_until(driver, lambda sample: sample.fault).fault
        assert fault.startswith("C31: Collision Caused Abnormal Current")
        with pytest.raises(DriverError, match="C31"):
            driver.write(positions(XARM7.home))
        box.set(stays=True)
        with pytest.raises(DriverError, match="does not recover: C31"):
            driver.recover()
        box.set(stays=False)
        driver.recover()
        assert write_for(driver, positions(XARM7.home), 0.05).fault == ""


@pytest.mark.parametrize(("change", "words"), [({"state": 4}, "stopped from elsewhere"), ({"mode": 2}, "set mode 2")])
def test_somebody_else_took_over(box, change, words):
    with open_xarm(box) as driver:
        box.set(**change)
        assert words in commanding.read_until(driver, lambda sample: sample.fault).fault
        driver.recover()
        assert driver.read().fault == ""


def test_stop_stands_and_the_next_command_engages(box):
    with open_xarm(box) as driver:
        write_for(driver, positions(XARM7.home + 0.3), 0.05)
        driver.stop()
        driver.stop()
        assert box.get("stops") == 2 and box.get("state") == 4
        where = driver.read().joint_positions
        time.sleep(0.1)
        sample = driver.read()
        assert sample.fault == "" and np.allclose(sample.joint_positions, where, atol=0.01)
        assert write_for(driver, positions(XARM7.home), 0.8).joint_positions == pytest.approx(XARM7.home, abs=0.01)


def test_exit_by_exception_stops(box):
    with pytest.raises(KeyError), open_xarm(box) as driver:
        write_for(driver, positions(XARM7.home + 0.5), 0.05)
        raise KeyError
    assert box.get("stops") >= 1


def test_silent_box_hangs_no_longer_than_the_timeout(box):
    with open_xarm(box, timeout="0.3") as driver:
        first = driver.read()
        box.set(silent=True)
        before = time.monotonic()
        sample = driver.read()
        assert time.monotonic() - before < 0.8
        assert "no answer in time" in sample.fault and sample.stamp == first.stamp
        with pytest.raises(DriverError, match="no answer in time"):
            driver.write(positions(XARM7.home))
        box.set(silent=False)
        assert driver.read().fault == ""


def test_gripper(box):
    with open_xarm(box, gripper="xarm", gripper_period="0.05") as driver:
        assert driver.read().gripper_width == pytest.approx(0.042)
        sample = write_for(driver, positions(XARM7.home, gripper=-1.0), 0.5)
        assert box.get("gripper")[str(0x0700)] == 0 and sample.gripper_width == 0.0
        assert write_for(driver, positions(XARM7.home, gripper=0.0), 0.5).gripper_width == pytest.approx(0.042)


def test_error_before_connecting_is_refused(box):
    box.set(error=2)
    with pytest.raises(DriverError, match="C2: The Emergency IO of the Control Box"):
        open_xarm(box).connect()


def test_wrong_number_of_joints(stand_in, monkeypatch):
    from xarm.core.config.x_config import XCONF

    monkeypatch.setattr(XCONF.SocketConf, "TCP_CONTROL_PORT", PORT)
    box = stand_in("xarm_controller.py", "[0, 0, 0, 0, 0, 0]", str(PORT))
    with pytest.raises(DriverError, match="has 6 joints; 7 are expected"):
        open_xarm(box).connect()


def test_nobody_there():
    with pytest.raises(DriverError, match=r"no connection to the xArm control box at 127\.9\.9\.9"):
        open_driver("xarm", XARM7, {"host": "127.9.9.9"}).connect()


def test_a_report_from_before_engaging_is_no_stop(box):
    """The library takes the state from its own command at once, and then from reports that were on their way."""
    with open_xarm(box) as driver:
        driver.stop()
        driver.write(positions(XARM7.home))
        driver._arm._arm._state = 4
        assert driver.read().fault == ""
        box.set(state=4)
        assert "stopped from elsewhere" in commanding.read_until(driver, lambda sample: sample.fault).fault
