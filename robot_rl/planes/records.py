"""What the processes of an arm tell each other: one record a slot, for an arm with n joints.

| slot | written by | record |
|---|---|---|
| `state` | control process | what the arm measured, and where its tool is |
| `status` | control process | the safety state: mode, cause, answer to the newest request, its last changes |
| `timing` | control process | histograms of its loop |
| `report` | control process | counters of the safety layer, as JSON |
| `command` | policy process | what the policy wants |
| `policy` | policy process | whether it runs, and how fast |
| `face` | the face (ROS node, benchmark, test) | its sign of life, and whether the policy shall run |
| `setpoint`, `twist`, `request`, `objects` | the face, or a part of it | goal, teleoperation, arming, perception |
| `simulation` | simulated robot | the episode, brakes, fault |
| `simulation_request`, `simulation_wire` | the face | the wish for a new episode; latency, loss, faults |

All stamps are `time.monotonic()` in s. Numbers are in SI units and frames as in `policies.types`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from hardware.realtime.histogram import Histogram
from policies.types import ArmSetpoint, ArmState, CartesianTwist, JointPositions, JointTorques

ArmCommand = CartesianTwist | JointPositions | JointTorques

MAX_OBJECTS = 32
CHANGES = 16
"""Changes of the safety state that a status remembers."""
HISTOGRAMS = ("wake_error", "work", "period", "state_age", "command_age")
"""Of the control process: lateness of its wake-ups, its work in a tick, time between ticks, age of what it acts on."""
REQUESTS = ("arm", "disarm", "recover", "estop")
"""What may be asked of the control process; a record has the index, from 1."""
_KINDS: tuple[type, ...] = (CartesianTwist, JointPositions, JointTorques)

_TEXT, _LONG = "S48", "S240"

FACE = np.dtype([
    ("policy_active", "?"),  # whether the policy process shall give commands
    ("episode", "u8"),  # another number: the policy forgets what it remembers
])  # fmt: skip
SETPOINT = np.dtype([("has_tool_pose", "?"), ("tool_pose", "f8", 7)])
REQUEST = np.dtype([("id", "u8"), ("kind", "u1"), ("estops", "u8")])
"""`estops` counts emergency stops: one is never lost behind a later request."""
OBJECTS = np.dtype([
    ("count", "u4"), ("names", _TEXT, MAX_OBJECTS), ("stamps", "f8", MAX_OBJECTS), ("poses", "f8", (MAX_OBJECTS, 7)),
])  # fmt: skip
STATUS = np.dtype([
    ("mode", "S16"), ("cause", _LONG), ("follow", "S16"), ("blend", "f8"),
    ("latched", "?"),  # only `recover` leads on
    ("since", "f8"),  # stamp of the newest change of mode or cause
    ("changes", "u8"),  # how many there were
    ("change_stamps", "f8", CHANGES), ("change_modes", "S16", CHANGES), ("change_causes", _LONG, CHANGES),
    ("change_latched", "?", CHANGES),
    ("command_sequence", "u8"),  # of the newest command that was taken, 0: none
    ("command_source", "S16"),
    ("state_age", "f8"), ("command_age", "f8"),
    ("request_id", "u8"), ("request_ok", "?"), ("request_text", _LONG),
    ("driver_fault", _LONG),
    ("interventions", "u8"), ("explanation", _LONG),  # of the filter before the driver
    ("ticks", "u8"), ("lost_periods", "u8"),
    ("realtime", _LONG),  # what the system permitted, in words
])  # fmt: skip
"""Newest changes come first in `change_*`."""
TIMING = np.dtype(
    [("rate_hz", "f8"), ("ticks", "u8"), ("lost_periods", "u8")]
    + [(f"{name}_{part}", kind, *shape) for name in HISTOGRAMS
       for part, kind, shape in (("counts", "u8", (Histogram.BINS,)), ("sum", "f8", ()), ("max", "f8", ()))]
)  # fmt: skip
REPORT = np.dtype([("json", "S8192")])
POLICY = np.dtype([
    ("bundle", "S128"), ("rate_hz", "f8"), ("ready", "?"), ("active", "?"), ("reason", _LONG),
    ("ticks", "u8"), ("commands", "u8"), ("lost_periods", "u8"), ("resets", "u8"),
    ("inference_counts", "u8", Histogram.BINS), ("inference_sum", "f8"), ("inference_max", "f8"),
    ("realtime", _LONG),
])  # fmt: skip
SIMULATION_REQUEST = np.dtype([
    ("id", "u8"),
    ("start", "u4"),  # which of the drawn starts to begin an episode from
])  # fmt: skip
SIMULATION_WIRE = np.dtype([("json", "S2048")])
"""A `WireConfig`."""
SIMULATION = np.dtype([
    ("ready", "?"), ("request_id", "u8"), ("start", "u4"),
    ("has_goal", "?"), ("goal", "f8", 7),
    ("time", "f8"),  # s of the episode, from its first torque on
    ("over", "?"), ("success", "?"), ("failed", "?"),
    ("braked", "?"), ("fault", _LONG),
    ("peak_force", "f8"), ("lost_periods", "u8"), ("failed_physics", "?"),
])  # fmt: skip


def state_dtype(joints: int) -> np.dtype:
    """Of `state`."""
    return np.dtype([
        ("stamp", "f8"),  # of the measurement; that of the slot is when it was written
        ("joint_positions", "f8", joints), ("joint_velocities", "f8", joints),
        ("has_joint_torques", "?"), ("joint_torques", "f8", joints),
        ("commanded_torques", "f8", joints),  # what was sent to the driver last, gravity not included
        ("tool_pose", "f8", 7), ("tool_twist", "f8", 6), ("gripper_width", "f8"),
        ("has_wrench", "?"), ("wrench", "f8", 6),
        ("target_pose", "f8", 7),
    ])  # fmt: skip


def command_dtype(joints: int) -> np.dtype:
    """Of `command` and `twist`."""
    return np.dtype([
        ("stamp", "f8"),  # when it was computed, or of the person's input
        ("held", "?"),  # dead-man switch of teleoperation; true for a policy
        ("kind", "u1"), ("in_tool_frame", "?"), ("values", "f8", max(6, joints)), ("gripper", "f8"),
        ("period", "f8"),  # s until the next one is expected
    ])  # fmt: skip


def new(dtype: np.dtype) -> np.ndarray:
    """A record of zeros (shape ()), to fill and write."""
    return np.zeros((), dtype)


def text(value: bytes) -> str:
    """A text field."""
    return value.decode(errors="ignore")


def encode(words: str, size: int = 240) -> bytes:
    """A text that fits a field of `size` bytes."""
    return words.encode()[:size]


def fill_command(record: np.ndarray, command: ArmCommand, stamp: float, period: float, held: bool = True) -> np.ndarray:
    """Write a command into a record of `command_dtype`; returns the record."""
    values = np.asarray(command.values, dtype=np.float64).ravel()
    record["stamp"], record["held"], record["kind"] = stamp, held, _KINDS.index(type(command))
    record["in_tool_frame"] = isinstance(command, CartesianTwist) and command.frame == "tool"
    record["values"][: values.size] = values
    record["gripper"], record["period"] = float(np.asarray(command.gripper).ravel()[0]), period
    return record


def to_command(record: np.void, joints: int) -> ArmCommand:
    """The command in a record of `command_dtype`."""
    kind, gripper = _KINDS[min(int(record["kind"]), len(_KINDS) - 1)], record["gripper"]
    if kind is CartesianTwist:
        frame = "tool" if record["in_tool_frame"] else "base"
        return CartesianTwist(values=record["values"][:6].copy(), frame=frame, gripper=gripper)  # type: ignore[arg-type]
    return kind(values=record["values"][:joints].copy(), gripper=gripper)


def to_state(record: np.void, objects: Mapping[str, np.ndarray] | None = None) -> ArmState:
    """The state that a policy sees, float32 as in training."""

    def array(name: str) -> np.ndarray:
        return np.asarray(record[name], dtype=np.float32)

    return ArmState(
        joint_positions=array("joint_positions"),
        joint_velocities=array("joint_velocities"),
        tool_pose=array("tool_pose"),
        tool_twist=array("tool_twist"),
        gripper_width=array("gripper_width"),
        joint_torques=array("joint_torques") if record["has_joint_torques"] else None,
        wrench=array("wrench") if record["has_wrench"] else None,
        objects={name: np.asarray(pose, dtype=np.float32) for name, pose in (objects or {}).items()},
    )


def fill_objects(record: np.ndarray, poses: Mapping[str, np.ndarray], stamps: Mapping[str, float]) -> np.ndarray:
    """Write poses (7,) by name, base frame, with the stamps of their measurement; returns the record."""
    if len(poses) > MAX_OBJECTS:
        raise ValueError(f"{len(poses)} objects; a record has room for {MAX_OBJECTS}")
    record["count"] = len(poses)
    for index, (name, pose) in enumerate(poses.items()):
        if len(name.encode()) > 48:
            raise ValueError(f"object name {name!r} is longer than 48 bytes")
        record["names"][index], record["stamps"][index], record["poses"][index] = name.encode(), stamps[name], pose
    return record


def to_objects(record: np.void) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Poses (7,) and stamps by name."""
    names = [text(name) for name in record["names"][: int(record["count"])]]
    poses = {name: record["poses"][index].copy() for index, name in enumerate(names)}
    return poses, {name: float(record["stamps"][index]) for index, name in enumerate(names)}


def fill_setpoint(record: np.ndarray, setpoint: ArmSetpoint) -> np.ndarray:
    """Write a set-point; returns the record.

    Raises:
        ValueError: It has parameters by name, for which there is no room.
    """
    if setpoint.parameters:
        raise ValueError(f"set-point has parameters {', '.join(setpoint.parameters)}; only a tool pose is passed on")
    record["has_tool_pose"] = setpoint.tool_pose is not None
    if setpoint.tool_pose is not None:
        record["tool_pose"] = np.asarray(setpoint.tool_pose, dtype=np.float64).reshape(7)
    return record


def to_setpoint(record: np.void) -> ArmSetpoint:
    """The set-point, float32 as in training."""
    return ArmSetpoint(tool_pose=np.asarray(record["tool_pose"], np.float32) if record["has_tool_pose"] else None)


def fill_histogram(record: np.ndarray, name: str, histogram: Histogram) -> None:
    """Write a histogram into the fields `<name>_counts`, `_sum` and `_max`."""
    record[f"{name}_counts"][...] = histogram.counts
    record[f"{name}_sum"], record[f"{name}_max"] = histogram.sum, histogram.max


def to_histogram(record: np.void, name: str) -> Histogram:
    """Back again."""
    return Histogram.restore(record[f"{name}_counts"], float(record[f"{name}_sum"]), float(record[f"{name}_max"]))


def fill_report(record: np.ndarray, values: Mapping[str, Any]) -> np.ndarray:
    """Write plain data as JSON; what does not fit is left out, and the record says so."""
    data = json.dumps(values, separators=(",", ":")).encode()
    record["json"] = data if len(data) <= 8192 else b'{"problem":"the report is longer than 8192 bytes"}'
    return record


def to_report(record: np.void) -> dict[str, Any]:
    """Back again."""
    loaded: dict[str, Any] = json.loads(bytes(record["json"]) or b"{}")
    return loaded
