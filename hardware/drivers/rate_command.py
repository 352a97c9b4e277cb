"""Rotor speeds for vehicles that take body rates and thrust: what the failsafe says, in words an autopilot knows.

Rotor speeds make a thrust and a torque. An autopilot's inner loop turns the body at (commanded rate - rate) / lag, so
that the rate which makes it turn at torque / inertia is

    commanded rate = rate + lag × inertia⁻¹ (torque - rate × inertia rate)

This carries slow commands well: the supervisor's fallbacks, `hold_position`, Lee's controller. A policy that was
trained to command rotors counts on their inertia, and chatters where there is none: `RotorsAsRates` gives commands a
share of it before they are converted. Better for a policy is still to be trained with rates and thrust, or to run in
the firmware.
"""

from __future__ import annotations

import numpy as np

from hardware.controllers.quadrotor import predict_motor_speeds, thrust_from_motor_speeds
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


class RotorsAsRates:
    """Rotor commands of one vehicle as body rates and thrust, through rotors that take their time.

    The autopilot's inner loop and its rotors are slow themselves, so that only a share of the described rotors' time
    constants is added: with 0.2 to 0.6 the shipped policies and the controllers all hover, with 0 the policies chatter,
    with 1 Lee's controller oscillates behind 30 ms of delay.
    """

    def __init__(
        self,
        description: QuadrotorDescription,
        inner_lag: float = 0.05,
        max_rate: float = 6.0,
        rotor_share: float = 0.3,
    ) -> None:
        """Rotors at rest.

        Args:
            description: The vehicle that the rotor speeds are made for.
            inner_lag: s, time constant of the autopilot's rate loop.
            max_rate: rad/s, longest commanded rate.
            rotor_share: Share of the described rotors' time constants, 0 to 1.
        """
        self._description = description
        self._inner_lag, self._max_rate = inner_lag, max_rate
        slow = ("rise_time", "fall_time")
        self._rotors = {
            name: value * max(rotor_share, 1e-6) if name in slow else value
            for name, value in description.parameters.items()
        }
        self._speeds = np.zeros(4)

    def convert(self, command: MotorSpeeds, angular_velocity: np.ndarray, dt: float) -> BodyRatesThrust:
        """Rates and thrust for rotor speeds (4,), `dt` s after the last ones; all zero is off at once."""
        wanted = np.asarray(command.values, dtype=np.float64)
        if np.any(wanted):
            self._speeds = np.asarray(predict_motor_speeds(self._rotors, self._speeds, wanted, dt))
        else:
            self._speeds = np.zeros(4)
        return rates_from_motor_speeds(
            self._description, MotorSpeeds(self._speeds), angular_velocity, self._inner_lag, self._max_rate
        )
