"""Rotor speeds for vehicles that take body rates and thrust: what the failsafe says, in words an autopilot knows.

Rotor speeds make a thrust and a torque. An autopilot's inner loop turns the body at (commanded rate - rate) / lag, so
that the rate which makes it turn at torque / inertia is

    commanded rate = rate + lag × inertia⁻¹ (torque - rate × inertia rate)

This carries slow commands well: the supervisor's fallbacks, `hold_position`, Lee's controller. A policy that was
trained to command rotors acts faster than the inner loop and should not fly through this: train it with rates and
thrust, or put it into the firmware.
"""

from __future__ import annotations

import numpy as np

from hardware.controllers.quadrotor import thrust_from_motor_speeds
from hardware.descriptions import QuadrotorDescription
from policies.types import BodyRatesThrust, MotorSpeeds


def rates_from_motor_speeds(
    description: QuadrotorDescription,
    command: MotorSpeeds,
    angular_velocity: np.ndarray,
    inner_lag: float = 0.05,
    max_rate: float = 6.0,
) -> BodyRatesThrust:
    """Body rates and thrust that do what these rotor speeds would do to the described vehicle.

    Args:
        description: The vehicle that the rotor speeds were made for.
        command: Rotor speeds (4,) rad/s; all zero: no thrust, no rates.
        angular_velocity: Shape (3,), rad/s, body frame, now.
        inner_lag: s, time constant of the autopilot's rate loop; 0.03 to 0.1 for small vehicles.
        max_rate: rad/s, longest commanded rate.

    Returns:
        For one vehicle, numpy.
    """
    speeds = np.asarray(command.values, dtype=np.float64)
    if not np.any(speeds):
        return BodyRatesThrust(np.zeros(3), np.array(0.0))
    parameters = description.parameters
    thrust = thrust_from_motor_speeds(parameters, speeds)
    place, inertia = parameters["rotor_positions"], parameters["inertia"]
    yaw = parameters["rotor_yaw_signs"] * parameters["yaw_torque_ratio"]
    torque = np.array([place[:, 1] @ thrust, -place[:, 0] @ thrust, yaw @ thrust])
    turning = (torque - np.cross(angular_velocity, inertia * angular_velocity)) / inertia
    rates = angular_velocity + inner_lag * turning
    length = float(np.linalg.norm(rates))
    return BodyRatesThrust(
        rates * min(1.0, max_rate / max(length, 1e-9)), np.asarray(np.sum(thrust) / parameters["mass"])
    )
