"""Rotor speeds as body rates and thrust."""

import numpy as np
import pytest

from hardware.controllers.quadrotor import motor_speeds_from_wrench
from hardware.descriptions import load_description
from hardware.drivers.rate_command import rates_from_motor_speeds
from policies.types import MotorSpeeds

DRONE = load_description("crazyflie")
P = DRONE.parameters


def test_hover_is_gravity_and_no_rates():
    speeds = motor_speeds_from_wrench(P, np.array(9.81 * P["mass"]), np.zeros(3))
    command = rates_from_motor_speeds(DRONE, MotorSpeeds(speeds), np.zeros(3))
    assert float(command.thrust) == pytest.approx(9.81)
    np.testing.assert_allclose(command.rates, 0.0, atol=1e-9)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_an_inner_loop_with_that_lag_turns_as_the_rotors_would(axis):
    """(commanded rate - rate) / lag is the angular acceleration of the torque, gyroscopic part included."""
    rates, lag = np.array([1.0, -0.5, 0.7]), 0.04
    torque = np.zeros(3)
    torque[axis] = 0.1 * P["mass"] * 9.81 * (P["yaw_torque_ratio"] if axis == 2 else 0.028)
    speeds = motor_speeds_from_wrench(P, np.array(9.81 * P["mass"]), torque)
    command = rates_from_motor_speeds(DRONE, MotorSpeeds(speeds), rates, inner_lag=lag, max_rate=100.0)
    expected = (torque - np.cross(rates, P["inertia"] * rates)) / P["inertia"]
    np.testing.assert_allclose((command.rates - rates) / lag, expected, rtol=1e-6)


def test_rates_are_bounded_and_standing_rotors_are_off():
    speeds = np.array([0.0, 0.0, 2000.0, 2000.0])
    command = rates_from_motor_speeds(DRONE, MotorSpeeds(speeds), np.zeros(3), max_rate=3.0)
    assert np.linalg.norm(command.rates) == pytest.approx(3.0)
    off = rates_from_motor_speeds(DRONE, MotorSpeeds(np.zeros(4)), np.ones(3))
    assert float(off.thrust) == 0.0
    assert not np.any(off.rates)
