"""What a quadrotor's driver reads, and what it can do beside reading and writing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np

from hardware.drivers.driver import Command, Driver
from policies.types import QuadrotorState

QUADROTOR_DRIVERS = ("sim", "mavlink", "crazyflie", "topics", "px4", "crazyswarm2")
"""Names in `hardware.drivers.registry.DRIVERS` that drive quadrotors."""
BEHIND_MEMORY = ("sim", "topics", "px4", "crazyswarm2")
"""Those that are told where the robot's slots are: another process is at their other end."""
ArmingPhase: TypeAlias = Literal["idle", "streaming", "mode", "arming", "done", "failed"]
"""Where a request to fly is: none; sending idle set-points, changing the mode, arming; it follows; it was refused."""


@dataclass(frozen=True, kw_only=True, eq=False)
class QuadrotorSample:
    """What a quadrotor says of itself; all stamps are `time.monotonic()` of this machine."""

    stamp: float
    """s, when the state was measured: the oldest of its parts. It stops growing when the position is lost."""
    state: QuadrotorState | None
    """World ENU, body FLU; None until a position has come."""
    attitude_stamp: float
    """s, when the attitude was measured; it may be newer than the state."""
    orientation: np.ndarray | None = None
    """Shape (4,), unit quaternion wxyz, body to world: the inertial sensor's attitude, without a position."""
    angular_velocity: np.ndarray | None = None
    """Shape (3,), rad/s, body frame, of the same instant as `orientation`."""
    specific_force: np.ndarray | None = None
    """Shape (3,), m/s², body frame, of the same instant: what an accelerometer feels, or None."""
    battery_voltage: float | None = None
    """V, of the whole battery, or None where it is not measured."""
    battery_remaining: float | None = None
    """0 to 1, or None where the vehicle does not estimate it."""
    armed: bool = False
    """Whether the vehicle's own safety lets the motors turn."""
    accepting: bool = False
    """Whether the vehicle follows what `write` sends now: armed and in the mode that listens."""
    fault: str = ""
    """Why the vehicle takes no commands or warns, in words; empty while it does not."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """What else it says of itself, for diagnostics."""


class QuadrotorDriver(Driver[QuadrotorSample, Command], Protocol[Command]):
    """A vehicle whose own firmware arms, refuses, and helps itself when nobody writes any more.

    `write` sends nothing until `request_arming`, and idle set-points until the vehicle is armed; when it disarms or
    leaves the mode by itself, nothing is sent until the next request.
    """

    def request_arming(self) -> None:
        """Begin to arm; go on calling `write` and watch `arming`."""

    @property
    def arming(self) -> ArmingPhase:
        """Where the request is; `done`: the vehicle follows what is written."""

    @property
    def arming_problem(self) -> str:
        """Why it was refused, in the vehicle's words."""

    def kill(self) -> None:
        """Motors off now, also in the air: it falls."""
