"""What every driver is: connect, read, write, stop.

A driver turns one robot's wire into samples and commands in SI units and back; joint order, frames and signs are
converted here and nowhere else. It decides nothing: limits, staleness and fallback belong to `hardware.safety`, which
stands in front of every `write`. A driver marked `realtime` keeps `read` and `write` short and free of allocation that
grows, so that the control process may call them at its rate; any other says its rate in `Capabilities.rate_hz`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Protocol, TypeVar

import numpy as np

Sample = TypeVar("Sample", covariant=True)
Command = TypeVar("Command", contravariant=True)


class DriverError(Exception):
    """What went wrong between here and the robot, in one sentence: what, the limit, what to do."""


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What a connected robot can do through its driver."""

    name: str
    """The driver's name, as `open_driver` takes it."""
    kind: Literal["arm", "quadrotor"]
    """What is driven."""
    actuators: tuple[str, ...]
    """Joint or motor names in the order of every array."""
    commands: tuple[str, ...]
    """Action types that `write` takes: names of `policies.types`, e.g. `JointTorques`, `BodyRatesThrust`."""
    signals: tuple[str, ...]
    """Fields of a sample that are measured; the others are None."""
    rate_hz: float
    """Rate that reading and writing honestly reach."""
    realtime: bool
    """Whether the control process may call it in its loop."""
    simulated: bool
    """Whether there is no hardware behind it: only then may a launch arm it by itself."""
    watchdog_s: float
    """s without a command after which the robot stops by its own means; inf: it does not."""
    own_arming: bool = False
    """Whether the robot has a safety of its own that is asked to arm; `stop` then lands or disarms by its own means."""
    gravity_compensated: bool = True
    """Whether torques are taken without gravity, which the robot adds."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ArmSample:
    """What an arm measured."""

    stamp: float
    """s, `time.monotonic()` of this machine at the measurement, or at the receipt where the robot has no clock."""
    joint_positions: np.ndarray
    """Shape (n,), rad, order of `Capabilities.actuators`."""
    joint_velocities: np.ndarray
    """Shape (n,), rad/s."""
    joint_torques: np.ndarray | None = None
    """Shape (n,), N m, measured at the joints; gravity included as the robot says it."""
    gripper_width: float = 0.0
    """m, between the fingers."""
    wrench: np.ndarray | None = None
    """Shape (6,), N and N m, on the tool, tool frame, or None."""
    fault: str = ""
    """Why the robot takes no commands, in words; empty while it does."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """What else the robot says of itself, for diagnostics."""


class Driver(Protocol[Sample, Command]):
    """A robot; also a context manager that connects on entry, stops and disconnects on exit, whatever happened."""

    @property
    def capabilities(self) -> Capabilities:
        """What the robot can do; complete after `connect`."""

    def connect(self) -> None:
        """Open the wire and wait for a first sample; nothing moves. Raises `DriverError`."""

    def read(self) -> Sample | None:
        """The newest sample, None if there was none yet; never waits longer than a period."""

    def write(self, command: Command) -> None:
        """Send one command, already safe. Raises `DriverError` if the robot cannot be reached or does not take it."""

    def stop(self) -> None:
        """The robot's own safe stop: brakes, or motors off. May be called at any time, more than once."""

    def close(self) -> None:
        """Stop and free the wire."""

    def __enter__(self) -> Driver[Sample, Command]:
        """Connect."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop and close."""
