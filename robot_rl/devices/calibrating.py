"""The calibration of a leader arm: put it in a pose that the follower knows, then move each joint the positive way."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from hardware.teleop.device import DeviceError
from hardware.teleop.leader_calibration import (
    PROTOCOLS,
    LeaderCalibration,
    LeaderJoint,
    Trigger,
    load_calibration,
    to_text,
)
from hardware.teleop.servo import open_port
from policies.writing import write_text

_LEAST = 100
"""Ticks that a joint must have moved for its sign to be told: 9 degrees."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be calibrated."""

    port: str
    """Serial port."""
    protocol: Literal["feetech", "dynamixel"]
    """Of the servos."""
    servos: tuple[int, ...]
    """Numbers in the order of the follower's joints."""
    trigger: int | None = None
    """Number of the trigger's servo."""
    baud: int = 1_000_000
    """Speed of the port."""
    pose: tuple[float, ...] = ()
    """rad of the follower's joints in the first pose; empty: all 0."""


def calibrate(plan: Plan, out: Path, wait: Callable[[str], object] = input) -> None:
    """Ask for poses and write the calibration to `out`.

    Args:
        plan: What is calibrated.
        out: File.
        wait: Asks the person for something and returns when it is done.

    Raises:
        DeviceError: The port cannot be opened, a servo does not answer, or a joint was not moved.
        ValueError: The pose has another number of joints.
    """
    if not plan.port:
        raise DeviceError("which port? e.g. robot-rl devices calibrate /dev/ttyACM0; `robot-rl devices` shows them")
    pose = plan.pose or (0.0,) * len(plan.servos)
    if len(pose) != len(plan.servos):
        raise ValueError(f"pose has {len(pose)} angles, but there are {len(plan.servos)} servos")
    descriptor = open_port(plan.port, plan.baud)
    servos = (*plan.servos, *((plan.trigger,) if plan.trigger is not None else ()))
    try:
        wait(f"Put the leader in the follower's pose {list(pose)} rad, the trigger let go; then press Enter. ")
        first = read_ticks(descriptor, plan.protocol, servos)
        wait("Turn every joint a hand's breadth in the follower's positive direction; then press Enter. ")
        moved = read_ticks(descriptor, plan.protocol, servos)
        squeezed = first
        if plan.trigger is not None:
            wait("Squeeze the trigger and hold it; then press Enter. ")
            squeezed = read_ticks(descriptor, plan.protocol, servos)
    finally:
        os.close(descriptor)
    calibration = solve(plan, pose, first, moved, squeezed)
    write_text(out, to_text(calibration))
    load_calibration(out)


def solve(
    plan: Plan, pose: Sequence[float], first: Mapping[int, int], moved: Mapping[int, int], squeezed: Mapping[int, int]
) -> LeaderCalibration:
    """Zeros and signs from ticks by servo: in the known pose, moved the positive way, and with the trigger squeezed.

    Raises:
        DeviceError: A joint or the trigger was hardly moved.
    """
    resolution = PROTOCOLS[plan.protocol].resolution
    joints = []
    for place, (servo, angle) in enumerate(zip(plan.servos, pose, strict=True)):
        way = (moved[servo] - first[servo] + resolution // 2) % resolution - resolution // 2
        if abs(way) < _LEAST:
            raise DeviceError(
                f"joint {place + 1} (servo {servo}) was moved by {abs(way)} ticks, which does not tell its direction; "
                f"begin again, and move it by at least {_LEAST}"
            )
        sign = int(np.sign(way))
        zero = first[servo] - sign * round(angle * resolution / (2.0 * np.pi))
        joints.append(LeaderJoint(servo=servo, zero=zero % resolution, sign=sign))
    trigger = None
    if plan.trigger is not None:
        trigger = Trigger(servo=plan.trigger, open=first[plan.trigger], closed=squeezed[plan.trigger])
        if abs(trigger.open - trigger.closed) < 20:
            raise DeviceError(f"the trigger (servo {plan.trigger}) was not squeezed: begin again")
    return LeaderCalibration(
        protocol=plan.protocol, port=plan.port, baud=plan.baud, joints=tuple(joints), trigger=trigger
    )


def read_ticks(descriptor: int, protocol: str, servos: Sequence[int], seconds: float = 1.0) -> dict[int, int]:
    """Where the servos are now.

    Raises:
        DeviceError: Not all of them answer.
    """
    speaker, ticks, buffer = PROTOCOLS[protocol], dict[int, int](), bytearray()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        os.write(descriptor, speaker.read(servos))
        until = time.monotonic() + 0.1
        while len(ticks) < len(servos) and (left := until - time.monotonic()) > 0.0:
            if select.select([descriptor], [], [], left)[0]:
                buffer += os.read(descriptor, 4096)
                ticks.update({a.servo: a.ticks for a in speaker.parse(buffer) if a.servo in servos})
        if len(ticks) == len(servos):
            return ticks
    silent = ", ".join(str(servo) for servo in servos if servo not in ticks)
    raise DeviceError(f"no answer from servo {silent}; check power, numbers, protocol ({protocol}) and baud")
