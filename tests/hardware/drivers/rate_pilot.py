"""The failsafe's position controller, flown through body rates and thrust."""

import time

import numpy as np
import pytest

from hardware.controllers.quadrotor import QuadrotorControllerConfig, hold_position
from hardware.drivers.rate_command import rates_from_motor_speeds
from policies.types import MotorSpeeds, QuadrotorSetpoint

# Stiffer than the failsafe's own: the autopilot's inner loops are quicker than a Crazyflie's rotors.
GAINS = QuadrotorControllerConfig(
    position_gain=6.0, velocity_gain=4.0, integral_gain=4.0, tilt_gain=200.0, tilt_rate_gain=20.0
)


class RatePilot:
    def __init__(self, description, position, yaw=0.5 * np.pi):
        self._description = description
        self._integral = np.zeros(3)
        self.setpoint = QuadrotorSetpoint(np.array(position, dtype=float), np.zeros(3), np.zeros(3), np.array(yaw))

    def command(self, state, dt):
        speeds, self._integral = hold_position(
            self._description.parameters, state, self.setpoint, self._integral, dt, GAINS
        )
        return rates_from_motor_speeds(self._description, MotorSpeeds(speeds), state.angular_velocity)


def fly(driver, pilot, seconds, period=0.01):
    """Close the loop through a driver; returns the positions of every tick and the longest pause between two."""
    track, longest = [], 0.0
    end = time.monotonic() + seconds
    last = time.monotonic() - period
    while last < end:
        now = time.monotonic()
        sample = driver.read()
        driver.write(pilot.command(sample.state, min(now - last, 0.05)))
        track.append(sample.state.position)
        longest, last = max(longest, now - last), now
        time.sleep(max(0.0, now + period - time.monotonic()))
    return np.array(track), longest


def hover_error(flight, goal, limit):
    """rms distance of the last 0.7 s from the goal, m; a machine that starved the loop proves nothing."""
    track, longest = flight
    error = float(np.sqrt(np.mean(np.sum((track[-70:] - goal) ** 2, axis=-1))))
    if error >= limit and longest > 0.1:
        pytest.skip(f"this machine paused the control loop for {1e3 * longest:.0f} ms; it needs 10 ms")
    return error
