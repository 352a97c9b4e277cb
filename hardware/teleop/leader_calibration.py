"""Calibration files of leader arms: which servo is which joint, where its angle is 0, and which way it counts.

protocol: feetech                     or dynamixel
port: /dev/ttyACM0                    better a name that does not change: /dev/serial/by-id/…
baud: 1000000
joints:                               in the order of the follower's
  - {servo: 1, zero: 2048, sign: 1, gear: 1.0}
trigger: {servo: 7, open: 2900, closed: 2100, role: gripper}     or role dead_man; null where there is none
strength: 0                           of its motors while it follows the robot, in the maker's unit; 0: never
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from hardware.descriptions.fields import check_keys
from hardware.teleop.dynamixel import Dynamixel
from hardware.teleop.feetech import Feetech
from hardware.teleop.mapping_files import read_file
from hardware.teleop.servo import ServoProtocol

PROTOCOLS: dict[str, ServoProtocol] = {"dynamixel": Dynamixel(), "feetech": Feetech()}


@dataclass(frozen=True, kw_only=True)
class LeaderJoint:
    """A joint and its servo."""

    servo: int
    """Number on the bus."""
    zero: int
    """Ticks where the follower's joint is at 0 rad."""
    sign: int = 1
    """1, or -1 where it counts the other way."""
    gear: float = 1.0
    """Turns of the servo for a turn of the joint."""

    def angle(self, ticks: int, resolution: int) -> float:
        """Angle in rad. Without a gear it is the one within half a turn of 0, wherever the servo's count jumps."""
        away = ticks - self.zero
        if self.gear == 1.0:
            away = (away + resolution // 2) % resolution - resolution // 2
        return self.sign * away * math.tau / resolution / self.gear

    def goal(self, angle: float, ticks: int, protocol: ServoProtocol) -> int:
        """Ticks of an angle in rad on the shorter way from the present ticks, never across the seam of the count."""
        turn = angle - self.angle(ticks, protocol.resolution)
        goal = ticks + round(self.sign * turn * self.gear * protocol.resolution / math.tau)
        return goal if protocol.goes_round else int(np.clip(goal, 0, protocol.resolution - 1))


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """A handle that is squeezed."""

    servo: int
    """Number on the bus."""
    open: int
    """Ticks when it is let go."""
    closed: int
    """Ticks when it is squeezed."""
    role: Literal["gripper", "dead_man"] = "gripper"
    """Whether it moves the gripper, or is the dead-man while it is squeezed."""

    def opening(self, ticks: int) -> float:
        """0 squeezed to 1 let go."""
        return min(1.0, max(0.0, (ticks - self.closed) / (self.open - self.closed)))


@dataclass(frozen=True, kw_only=True)
class LeaderCalibration:
    """A leader arm."""

    protocol: Literal["dynamixel", "feetech"]
    """Of its servos."""
    port: str
    """Serial port."""
    joints: tuple[LeaderJoint, ...]
    """In the order of the follower's."""
    trigger: Trigger | None = None
    """Its handle."""
    baud: int = 1_000_000
    """Speed of the port in bit/s."""
    strength: int = 0
    """Of its motors while it follows the robot, in the maker's unit; 0: they are never switched on."""

    @property
    def servos(self) -> tuple[int, ...]:
        """All numbers on the bus."""
        return (*(joint.servo for joint in self.joints), *((self.trigger.servo,) if self.trigger else ()))


def load_calibration(path: Path) -> LeaderCalibration:
    """Read a calibration file.

    Raises:
        ValueError: The file is none; says what is wrong with it.
    """
    return read_file("calibration", path, lambda _, data: _calibration(data))


def to_text(calibration: LeaderCalibration) -> str:
    """The file's text."""
    data = asdict(calibration)
    data["joints"] = [dict(joint) for joint in data["joints"]]
    return yaml.safe_dump(data, sort_keys=False, default_flow_style=None)


def _calibration(data: Any) -> LeaderCalibration:
    check_keys("entry", data, ("protocol", "port", "baud", "joints", "trigger", "strength"))
    if data["protocol"] not in PROTOCOLS:
        raise ValueError(f"protocol is {data['protocol']!r}; choose from {', '.join(PROTOCOLS)}")
    if not isinstance(data["joints"], list) or not data["joints"]:
        raise ValueError(f"joints are {data['joints']!r}; expected a list of servos, in the order of the follower's")
    joints = tuple(LeaderJoint(**entry) for entry in data["joints"])
    for joint in joints:
        if joint.sign not in (-1, 1) or not (math.isfinite(joint.gear) and joint.gear > 0.0):
            raise ValueError(
                f"servo {joint.servo} has sign {joint.sign} and gear {joint.gear}; expected ±1 and above 0"
            )
    trigger = Trigger(**data["trigger"]) if data["trigger"] else None
    if trigger and (trigger.role not in ("gripper", "dead_man") or abs(trigger.open - trigger.closed) < 20):
        raise ValueError(
            f"trigger has role {trigger.role!r}, open {trigger.open} and closed {trigger.closed}; expected gripper or "
            "dead_man, and at least 20 ticks between"
        )
    calibration = LeaderCalibration(**{**data, "joints": joints, "trigger": trigger})
    servos = calibration.servos
    if len(set(servos)) != len(servos) or not all(isinstance(s, int) and 0 <= s <= 252 for s in servos):
        raise ValueError(f"servos are {list(servos)}; expected different numbers from 0 to 252")
    if not 0 <= calibration.strength <= 2000:
        raise ValueError(f"strength is {calibration.strength}; expected 0 to 2000")
    return calibration
