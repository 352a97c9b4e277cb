"""The drivers `px4` and `crazyswarm2`: a quadrotor with a safety of its own that a ROS node speaks to.

ROS has no place in the control process. The node (`robot_rl.nodes.relay`) carries samples one way, body rates and
thrust the other, arms when it is asked, and says how that goes. It repeats nothing: when this driver falls silent, so
does the node, and the vehicle's own failsafe acts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from hardware.descriptions import ArmDescription, QuadrotorDescription
from hardware.drivers.driver import Capabilities, DriverError
from hardware.drivers.memory_quadrotor import MOTION, MemoryQuadrotor, motion_of
from hardware.drivers.quadrotor import ArmingPhase, QuadrotorSample
from hardware.drivers.support import check_range, command_values, read_settings
from hardware.realtime.seqlock import SlotReader
from policies.types import BodyRatesThrust

SAID, TOLD = "relay_said", "relay_told"
"""Names of the two slots."""
SAID_RECORD = np.dtype([
    *MOTION,
    ("battery_voltage", "f8"), ("battery_remaining", "f8"),  # nan: not known
    ("armed", "?"), ("accepting", "?"),
    ("phase", "S16"), ("problem", "S240"), ("fault", "S240"),
    ("requests", "u8"), ("stops", "u8"),  # the newest ones that are being done
    ("json", "S512"),  # what else the vehicle says of itself
])  # fmt: skip
"""What the node has heard; `phase` is an `ArmingPhase`."""
TOLD_RECORD = np.dtype([
    ("has_command", "?"), ("rates", "f8", 3), ("thrust", "f8"),
    ("requests", "u8"), ("stops", "u8"), ("kills", "u8"),  # one more: arm; land and disarm; motors off
])  # fmt: skip
"""What the node shall do; rates in rad/s FLU, thrust in m/s²."""


@dataclass(frozen=True, kw_only=True)
class RelayedConfig:
    """Settings of the drivers `px4` and `crazyswarm2`; the vehicle's own are parameters of their nodes."""

    folder: str
    """Of the robot's slots; the supervisor gives it."""
    rate_hz: float = 100.0
    """Of set-points, at most."""
    watchdog: float = 1.0
    """s without set-points after which the vehicle helps itself, as it is set there."""
    timeout: float = 10.0
    """s to wait for the first sample."""

    def __post_init__(self) -> None:
        check_range("rate_hz", self.rate_hz, 10.0, 250.0)
        check_range("watchdog", self.watchdog, 0.05, 60.0)


class RelayedQuadrotor(MemoryQuadrotor):
    """One vehicle behind its node."""

    said, told = (SAID, SAID_RECORD), (TOLD, TOLD_RECORD)

    def __init__(self, name: str, description: QuadrotorDescription, config: RelayedConfig) -> None:
        """Nothing is opened yet."""
        super().__init__(name, description, config)
        self.config = config
        self._record = np.zeros((), TOLD_RECORD)

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        return Capabilities(
            name=self.name,
            kind="quadrotor",
            actuators=self.description.interface.actuators,
            commands=("BodyRatesThrust",),
            signals=("position", "orientation", "linear_velocity", "angular_velocity"),
            rate_hz=self.config.rate_hz,
            realtime=True,
            simulated=False,
            own_arming=True,
            watchdog_s=self.config.watchdog,
        )

    def resume(self, folder: Path) -> None:
        """What was asked through an earlier control process is not asked again."""
        with SlotReader(folder, TOLD, TOLD_RECORD) as before:
            if (reading := before.read()) is not None:
                for name in ("requests", "stops", "kills"):
                    self._record[name] = reading.record[name]

    def nothing_came(self, limit: str) -> str:
        """Who knows why."""
        return f"no sample within {limit}: see what node {self.name} says"

    def to_sample(self, record: np.void) -> QuadrotorSample:
        """The sample, with what the vehicle says of itself."""
        voltage, remaining = float(record["battery_voltage"]), float(record["battery_remaining"])
        return QuadrotorSample(
            **motion_of(record),
            battery_voltage=None if np.isnan(voltage) else voltage,
            battery_remaining=None if np.isnan(remaining) else remaining,
            armed=bool(record["armed"]),
            accepting=bool(record["accepting"]),
            fault=bytes(record["fault"]).decode(errors="ignore"),
            details=json.loads(bytes(record["json"]) or b"{}"),
        )

    def write(self, command: BodyRatesThrust) -> None:
        """Send one set-point, which the node passes on once."""
        if not isinstance(command, BodyRatesThrust):
            raise DriverError(f"driver {self.name!r} takes BodyRatesThrust, not {type(command).__name__}")
        self._record["rates"] = command_values(self.name, command.rates, 3)
        self._record["thrust"] = command_values(self.name, np.reshape(command.thrust, (1,)), 1)[0]
        self._record["has_command"] = True
        self.tell(self._record)

    def request_arming(self) -> None:
        """Have the node arm it; go on calling `write`, and watch `arming`."""
        self._record["requests"] += 1
        self._order()

    @property
    def arming(self) -> ArmingPhase:
        """Where the newest request is, as the node says."""
        if self._newest is None or self._newest["stops"] < self._record["stops"]:
            return "idle"
        if self._newest["requests"] < self._record["requests"]:
            return "streaming"
        return cast(ArmingPhase, bytes(self._newest["phase"]).decode())

    @property
    def arming_problem(self) -> str:
        """Why it was refused or has ended, in the vehicle's words."""
        return "" if self._newest is None else bytes(self._newest["problem"]).decode(errors="ignore")

    def stop(self) -> None:
        """Land and disarm, by the vehicle's own means; the node sees to it."""
        if self._told is not None:
            self._record["stops"] += 1
            self._order()

    def kill(self) -> None:
        """Motors off now, also in the air: it falls."""
        self._record["kills"] += 1
        self._order()

    def _order(self) -> None:
        self._record["has_command"] = False
        self.tell(self._record)


def open_px4(description: ArmDescription | QuadrotorDescription, settings: Mapping[str, str]) -> RelayedQuadrotor:
    """The driver `px4`, not connected yet; see `hardware.drivers.registry`."""
    return _open("px4", description, settings)


def open_crazyswarm2(
    description: ArmDescription | QuadrotorDescription, settings: Mapping[str, str]
) -> RelayedQuadrotor:
    """The driver `crazyswarm2`, not connected yet."""
    return _open("crazyswarm2", description, settings)


def _open(
    name: str, description: ArmDescription | QuadrotorDescription, settings: Mapping[str, str]
) -> RelayedQuadrotor:
    if not isinstance(description, QuadrotorDescription):
        raise DriverError(f"driver {name!r} flies quadrotors; {description.interface.name} is none")
    return RelayedQuadrotor(name, description, read_settings(name, RelayedConfig, settings))
