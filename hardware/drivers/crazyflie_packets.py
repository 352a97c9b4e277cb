"""What goes to and comes from a Crazyflie in its own units and signs, without the library.

The firmware's body frame is FLU as ours, its angles are degrees, and its legacy pitch is nose up: the opposite of a
rotation about y. Signs below are those of the firmware (main branch at 2a18fc2), each with the file that decides it:

| what | sign |
|---|---|
| `stateEstimateZ.ratePitch`, mrad/s | minus the gyroscope's y (stabilizer.c) |
| manual set-point, pitch rate, deg/s | minus y; the library negates its argument (crtp_commander_generic.c) |
| manual set-point, yaw rate | z |
| roll-pitch-yaw-thrust set-point, yaw rate | minus z (crtp_commander_rpyt.c) |
| full-state set-point, body rates | mrad/s on the wire, the library multiplies by 1000: rad/s are given |
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from policies.types import QuadrotorState

STATE_VARIABLES = (
    ("stateEstimateZ.x", "int16_t"),
    ("stateEstimateZ.y", "int16_t"),
    ("stateEstimateZ.z", "int16_t"),
    ("stateEstimateZ.vx", "int16_t"),
    ("stateEstimateZ.vy", "int16_t"),
    ("stateEstimateZ.vz", "int16_t"),
    ("stateEstimateZ.quat", "uint32_t"),
    ("stateEstimateZ.rateRoll", "int16_t"),
    ("stateEstimateZ.ratePitch", "int16_t"),
    ("stateEstimateZ.rateYaw", "int16_t"),
)
"""One log block of 22 bytes (26 fit): mm, mm/s, compressed quaternion, mrad/s, all of one instant."""
STATUS_VARIABLES = (("pm.vbat", "float"), ("pm.batteryLevel", "uint8_t"), ("supervisor.info", "uint16_t"))
"""Battery and what the firmware's supervisor thinks."""
ARMABLE, ARMED, AUTO_ARMED, FLYING, TUMBLED, LOCKED, CRASHED = 1, 2, 4, 16, 32, 64, 128
"""Bits of `supervisor.info`."""
FULL_THRUST, LOWEST_THRUST, HIGHEST_THRUST = 65535, 10001, 60000
"""Of the firmware's 16-bit thrust: all, and what the library's manual set-point can say."""


def read_state(values: Mapping[str, float]) -> QuadrotorState:
    """A `STATE_VARIABLES` block as a state."""
    take = [float(values[name]) for name, _ in STATE_VARIABLES]
    orientation = decompress_quaternion(int(values["stateEstimateZ.quat"]))
    return QuadrotorState(
        np.array(take[0:3]) * 1e-3,
        orientation,
        np.array(take[3:6]) * 1e-3,
        np.array([take[7], -take[8], take[9]]) * 1e-3,
    )


def decompress_quaternion(packed: int) -> np.ndarray:
    """Quaternion wxyz of the firmware's 32 bits: index of the largest of xyzw, then three of 9 bits and a sign."""
    largest = packed >> 30
    values = [0.0] * 4
    rest = 1.0
    for index in (3, 2, 1, 0):
        if index == largest:
            continue
        size = (packed & 0x1FF) / 0x1FF * math.sqrt(0.5)
        values[index] = -size if packed & 0x200 else size
        rest -= size * size
        packed >>= 10
    values[largest] = math.sqrt(max(0.0, rest))
    return np.array([values[3], values[0], values[1], values[2]])


def thrust_percentage(throttle: float) -> float:
    """The library's 0 to 100, which means 10001 to 60000 of 65535, for a throttle of 0 to 1."""
    share = (throttle * FULL_THRUST - LOWEST_THRUST) / (HIGHEST_THRUST - LOWEST_THRUST)
    return 100.0 * min(max(share, 0.0), 1.0)


def fault_of(info: int) -> str:
    """Why it does not fly, in words, from `supervisor.info`."""
    words = {
        TUMBLED: "tumbled: turn it upright",
        CRASHED: "crashed: check it, then request recovery or restart it",
        LOCKED: "locked after an emergency stop: restart it",
    }
    return "; ".join(text for bit, text in words.items() if info & bit)
