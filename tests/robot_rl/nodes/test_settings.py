"""Parameters that are lists of name=value."""

import pytest

pytest.importorskip("rclpy")

from robot_rl.nodes.parameters import ParameterError, settings_of  # noqa: E402
from robot_rl.nodes.running import StartError  # noqa: E402
from robot_rl.nodes.simulator import parse_overrides  # noqa: E402
from robot_rl.planes.quadrotor_settings import QuadrotorSimulationConfig  # noqa: E402


def test_a_drivers_settings_are_text_by_name():
    texts = ["", "connection=udp:0.0.0.0:14540", " rate_hz = 50 ", "password=a=b"]
    assert settings_of(texts) == {"connection": "udp:0.0.0.0:14540", "rate_hz": "50", "password": "a=b"}
    assert settings_of([""]) == {}


def test_a_setting_without_a_value_is_refused():
    with pytest.raises(ParameterError, match="driver_settings: 'connection' is not of the form name=value"):
        settings_of(["connection"])


def test_overrides_are_text_whose_numbers_the_config_reads():
    overrides = parse_overrides(["", "mass=0.035", " drag = [0, 0, 0.1] "])
    assert overrides == {"mass": "0.035", "drag": "[0, 0, 0.1]"}
    assert QuadrotorSimulationConfig(overrides=overrides).numbers == {"mass": 0.035, "drag": [0, 0, 0.1]}


def test_an_override_without_a_value_is_refused():
    with pytest.raises(StartError, match="override 'mass' is not of the form name=value"):
        parse_overrides(["mass"])
