"""Rotor speeds through a mixer that takes roll, pitch, yaw and throttle: PX4 up to 1.13."""

from __future__ import annotations

import numpy as np

from hardware.controllers.quadrotor import thrust_from_motor_speeds
from hardware.descriptions import QuadrotorDescription
from hardware.drivers.thrust_scale import ThrustScale


def mixer_controls(description: QuadrotorDescription, scale: ThrustScale, speeds: np.ndarray) -> np.ndarray:
    """Roll, pitch, yaw, throttle (4,) in FRD that PX4's quad-x mixer turns into these rotor speeds (4,) rad/s.

    The mixer's output of a rotor is throttle ± √½ roll ± √½ pitch ± yaw. The description's yaw signs are about z up,
    the mixer's about z down.
    """
    parameters = description.parameters
    thrust = 4.0 * thrust_from_motor_speeds(parameters, speeds) / parameters["mass"]
    outputs = np.array([scale.throttle(float(value)) for value in thrust])
    place = np.sign(parameters["rotor_positions"])
    half = np.sqrt(0.5)
    # FRD: rolling right needs the left rotors (y > 0 in FLU), pitching up the front ones.
    mix = np.stack([half * place[:, 1], half * place[:, 0], -parameters["rotor_yaw_signs"], np.ones(4)], axis=-1)
    return np.clip(np.linalg.solve(mix, outputs), -1.0, 1.0)
