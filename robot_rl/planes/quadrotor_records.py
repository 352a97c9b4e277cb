"""What the processes of a quadrotor tell each other, beside what those of every robot do (`robot_rl.planes.records`).

| slot | written by | record |
|---|---|---|
| `state` | control process | what the vehicle measured |
| `motors` | control process | rotor speeds that were sent to the driver, and who decided them |
| `vehicle` | control process | what a vehicle with a safety of its own says of arming |
| `command` | policy process | rotor speeds that the policy wants |
| `action` | policy process | its normalized action |
| `setpoint` | the face of the policy | where to be |
| `simulation` | simulated vehicle | its watchdog, and whether it has crashed |
| `simulation_request`, `simulation_wire` | the face | the wish to stand at the start again; latency, loss, faults |

`vehicle_sensors` and `vehicle_motors` lie between driver and vehicle: `hardware.drivers.bridged_quadrotor`. All stamps
are `time.monotonic()` in s, numbers in SI units and frames as in `policies.types`.
"""

from __future__ import annotations

import numpy as np

from hardware.drivers.memory_quadrotor import STATE_FIELDS
from hardware.drivers.quadrotor import QuadrotorSample
from policies.types import QuadrotorSetpoint
from robot_rl.planes import records

MAX_ACTION = 16
"""Numbers of an action that are passed on."""
_LONG = "S240"

STATE = np.dtype([
    ("has_state", "?"), ("stamp", "f8"),
    ("position", "f8", 3), ("orientation", "f8", 4), ("linear_velocity", "f8", 3), ("angular_velocity", "f8", 3),
    ("has_attitude", "?"), ("attitude_stamp", "f8"),
    ("attitude", "f8", 4), ("rates", "f8", 3), ("has_specific_force", "?"), ("specific_force", "f8", 3),
])  # fmt: skip
MOTORS = np.dtype([("stamp", "f8"), ("values", "f8", 4), ("mode", "S16")])
COMMAND = np.dtype([("stamp", "f8"), ("values", "f8", 4)])
ACTION = np.dtype([("size", "u4"), ("values", "f4", MAX_ACTION)])
SETPOINT = np.dtype([
    ("stamp", "f8"), ("position", "f8", 3), ("velocity", "f8", 3), ("acceleration", "f8", 3), ("yaw", "f8"),
])  # fmt: skip
VEHICLE = np.dtype([
    ("driver", "S32"), ("arming", "S16"), ("requests", "u8"), ("armed", "?"), ("following", "?"),
    ("problem", _LONG), ("airborne", "?"), ("json", "S2048"),
])  # fmt: skip
"""`json`: battery and what else it says of itself."""
SIMULATION = np.dtype([
    ("ready", "?"), ("request_id", "u8"), ("watchdog", "S16"), ("crashed", "?"), ("on_ground", "?"),
    ("refusal", _LONG), ("refused", "u8"), ("lost_periods", "u8"), ("left_out", "f8"), ("json", "S1024"),
])  # fmt: skip
"""`left_out`: s that the process was held up for longer than it may catch up; `json`: counters."""

LAYOUTS: dict[str, np.dtype] = {
    "state": STATE, "motors": MOTORS, "vehicle": VEHICLE,
    "status": records.STATUS, "timing": records.TIMING, "report": records.REPORT,
    "command": COMMAND, "action": ACTION, "policy": records.POLICY,
    "face": records.FACE, "request": records.REQUEST, "setpoint": SETPOINT,
    "simulation": SIMULATION, "simulation_request": records.SIMULATION_REQUEST,
    "simulation_wire": records.SIMULATION_WIRE,
}  # fmt: skip
"""Of every slot."""


def fill_state(record: np.ndarray, sample: QuadrotorSample) -> np.ndarray:
    """Write a sample; returns the record."""
    record["has_state"], record["has_attitude"] = sample.state is not None, sample.orientation is not None
    record["stamp"], record["attitude_stamp"] = sample.stamp, sample.attitude_stamp
    if sample.state is not None:
        for name in STATE_FIELDS:
            record[name] = getattr(sample.state, name)
    if sample.orientation is not None:
        record["attitude"] = sample.orientation
        record["rates"] = 0.0 if sample.angular_velocity is None else sample.angular_velocity
    record["has_specific_force"] = sample.specific_force is not None
    if sample.specific_force is not None:
        record["specific_force"] = sample.specific_force
    return record


def fill_setpoint(record: np.ndarray, setpoint: QuadrotorSetpoint, stamp: float) -> np.ndarray:
    """Write a set-point of the instant `stamp` s; returns the record."""
    record["stamp"], record["yaw"] = stamp, float(np.asarray(setpoint.yaw))
    for name in ("position", "velocity", "acceleration"):
        record[name] = np.asarray(getattr(setpoint, name), dtype=np.float64)
    return record


def to_setpoint(record: np.void) -> QuadrotorSetpoint:
    """Back again."""
    return QuadrotorSetpoint(
        record["position"].copy(), record["velocity"].copy(), record["acceleration"].copy(), np.asarray(record["yaw"])
    )
