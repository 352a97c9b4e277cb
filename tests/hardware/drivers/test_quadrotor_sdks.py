"""Quadrotor drivers by name, and without their libraries."""

import sys

import pytest

from hardware.descriptions import load_description
from hardware.drivers.driver import DriverError
from hardware.drivers.registry import open_driver


@pytest.mark.parametrize(
    ("driver", "module", "extra"),
    [("mavlink", "pymavlink.dialects.v20.ardupilotmega", "mavlink"), ("crazyflie", "cflib.crtp", "crazyflie")],
)
def test_a_missing_library_is_one_sentence_with_the_command(monkeypatch, driver, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DriverError, match=rf"pip install 'robot_rl\[{extra}\]'"):
        open_driver(driver, load_description("crazyflie"), {})


@pytest.mark.parametrize(("driver", "module"), [("mavlink", "pymavlink"), ("crazyflie", "cflib")])
def test_they_open_by_name_and_are_closed_until_connected(driver, module):
    pytest.importorskip(module, reason=f"{module}: pip install 'robot_rl[{driver}]'")
    opened = open_driver(driver, load_description("crazyflie"), {})
    assert opened.capabilities.kind == "quadrotor"
    opened.stop()
    with pytest.raises(DriverError, match="connect"):
        opened.read()
    opened.close()
