import importlib
import subprocess
import sys
from dataclasses import dataclass
from typing import Literal

import pytest

from hardware.descriptions import load_arm, load_quadrotor
from hardware.drivers.driver import DriverError
from hardware.drivers.registry import DRIVERS, open_driver
from hardware.drivers.support import RobotClock, command_values, import_sdk, read_settings


@dataclass(frozen=True, kw_only=True)
class Config:
    host: str
    rate: float = 1.0
    count: int = 3
    fast: bool = False
    mode: Literal["a", "b"] = "a"


def test_settings_become_what_the_config_says():
    settings = {"host": "10.0.0.2", "rate": "2.5", "count": "7", "fast": "true", "mode": "b"}
    assert read_settings("x", Config, settings) == Config(host="10.0.0.2", rate=2.5, count=7, fast=True, mode="b")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "driver 'x' needs the setting 'host'"),
        ({"host": "h", "hots": "h"}, "has no setting 'hots'; it has: host, rate, count, fast, mode"),
        ({"host": "h", "rate": "fast"}, "setting 'rate' of driver 'x' is 'fast', no float"),
        ({"host": "h", "rate": "nan"}, "must be finite"),
        ({"host": "h", "count": "1.5"}, "setting 'count' of driver 'x' is '1.5', no int"),
        ({"host": "h", "fast": "1"}, "'fast' of driver 'x' is '1'; true or false"),
        ({"host": "h", "mode": "c"}, "'mode' of driver 'x' is 'c'; one of a, b"),
    ],
)
def test_wrong_settings_are_named(settings, words):
    with pytest.raises(DriverError, match=words):
        read_settings("x", Config, settings)


def test_a_value_out_of_range_names_the_range():
    with pytest.raises(DriverError, match=r"driver 'ur': gain is 5.0; it must lie within \[100.0, 2000.0\]"):
        open_driver("ur", load_arm("ur5e"), {"host": "h", "gain": "5"})


def test_unknown_driver_lists_the_known():
    with pytest.raises(DriverError, match="no driver 'kuka'; known drivers: sim, ur, franka, xarm, mavlink, crazyflie"):
        open_driver("kuka", load_arm("panda"))


@pytest.mark.parametrize("name", ["ur", "franka", "xarm"])
def test_an_arms_driver_refuses_a_quadrotor(name):
    with pytest.raises(DriverError, match="drives arms; crazyflie is none"):
        open_driver(name, load_quadrotor("crazyflie"), {"host": "h"})


def test_missing_library_is_one_sentence():
    with pytest.raises(
        DriverError, match=r"driver 'x' needs nothing-sdk, which is not installed: pip install 'robot_rl\[x\]'"
    ):
        import_sdk("no_such_module_at_all", driver="x", package="nothing-sdk", extra="x")


@pytest.mark.parametrize(
    ("name", "robot", "module", "extra"),
    [
        ("ur", "ur5e", "rtde_control", "ur"),
        ("franka", "panda", "panda_py", "franka"),
        ("xarm", "xarm7", "xarm", "xarm"),
    ],
)
def test_each_driver_names_its_extra(monkeypatch, name, robot, module, extra):
    for loaded in [key for key in sys.modules if key.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    driver = open_driver(name, load_arm(robot), {"host": "127.9.9.9"})
    with pytest.raises(DriverError, match=rf"pip install 'robot_rl\[{extra}\]'"):
        driver.connect()


def test_opening_imports_no_vendors_library():
    code = (
        "import sys; from hardware.descriptions import load_arm; from hardware.drivers.registry import open_driver\n"
        "for name, robot in (('ur', 'ur5e'), ('franka', 'panda'), ('xarm', 'xarm7')):\n"
        "    assert open_driver(name, load_arm(robot), {'host': 'h'}).read() is None\n"
        "bad = {'rtde_control', 'panda_py', 'xarm', 'torch', 'mujoco', 'rclpy'} & set(sys.modules)\n"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_driver_names_a_function():
    for name, target in DRIVERS.items():
        module, function = target.split(":")
        assert module.startswith("robot_rl." if name == "ros2_control" else "hardware.drivers.")
        assert callable(getattr(importlib.import_module(module), function))


def test_commands_of_another_shape_or_not_finite_are_refused():
    assert command_values("x", [1, 2], 2).tolist() == [1.0, 2.0]
    with pytest.raises(DriverError, match=r"shape \(3,\); expected \(2,\)"):
        command_values("x", [1, 2, 3], 2)
    with pytest.raises(DriverError, match="not finite"):
        command_values("x", [1.0, float("inf")], 2)


def test_robot_clock_finds_the_shortest_delay_and_never_the_future():
    clock, offset = RobotClock(), 123.0
    delays = [0.004, 0.001, 0.006, 0.002]
    stamps = [clock.stamp(0.002 * i, 0.002 * i + offset + delay) for i, delay in enumerate(delays)]
    assert all(stamp <= 0.002 * i + offset + delays[i] for i, stamp in enumerate(stamps))
    assert stamps[-1] == pytest.approx(0.006 + offset + 0.001, abs=1e-5)  # within the shortest delay


def test_robot_clock_follows_drift_and_a_restart():
    clock = RobotClock()
    for i in range(20_000):  # 40 s, the robot's quartz is 100 ppm slow
        now = 0.002 * i * (1 + 1e-4) + 0.001
        stamp = clock.stamp(0.002 * i, now)
    assert now - stamp < 0.002
    assert clock.stamp(0.0, now + 1.0) == now + 1.0
