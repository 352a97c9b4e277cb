"""The drivers `px4` and `crazyswarm2`: a quadrotor with a safety of its own that a ROS node speaks to.

ROS has no place in the control process. The node (`robot_rl.nodes.relay`) carries samples one way, body rates and
thrust the other, arms when it is asked, and says how that goes. It repeats nothing: when this driver falls silent, so
does the node, and the vehicle's own failsafe acts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from hardware.descriptions import ArmDescription, QuadrotorDescription
from hardware.drivers.driver import Capabilities, DriverError
from hardware.drivers.quadrotor import ArmingPhase, QuadrotorSample
from hardware.drivers.support import ContextManager, check_range, command_values, read_settings
from hardware.realtime.seqlock import SlotError, SlotReader, SlotWriter
from policies.types import BodyRatesThrust, QuadrotorState

SAID, TOLD = "relay_said", "relay_told"
"""Names of the two slots."""
SAID_RECORD = np.dtype([
    ("state_stamp", "f8"),  # of the measurement; 0: there was none yet
    ("position", "f8", 3), ("orientation", "f8", 4), ("linear_velocity", "f8", 3), ("angular_velocity", "f8", 3),
    ("attitude_stamp", "f8"), ("attitude", "f8", 4), ("rates", "f8", 3),  # likewise
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


class RelayedQuadrotor(ContextManager):
    """One vehicle behind its node."""

    def __init__(self, name: str, description: QuadrotorDescription, config: RelayedConfig) -> None:
        """Nothing is opened yet."""
        self.name, self.description, self.config = name, description, config
        self._said: SlotReader | None = None
        self._told: SlotWriter | None = None
        self._newest: np.void | None = None
        self._sample: QuadrotorSample | None = None
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

    def connect(self) -> None:
        """Attach to the node and wait for a sample that is younger than this call; nothing moves."""
        folder, begin = Path(self.config.folder), time.monotonic()
        try:
            self._said = SlotReader(folder, SAID, SAID_RECORD)
            with SlotReader(folder, TOLD, TOLD_RECORD) as before:
                if (reading := before.read()) is not None:  # of an earlier control process: nothing is asked again
                    for name in ("requests", "stops", "kills"):
                        self._record[name] = reading.record[name]
            self._told = SlotWriter(folder, TOLD, TOLD_RECORD)
            while (sample := self.read()) is None or max(sample.stamp, sample.attitude_stamp) < begin - 0.1:
                if time.monotonic() - begin > self.config.timeout:
                    limit = f"{self.config.timeout:g} s"
                    raise DriverError(f"driver {self.name!r}: no sample within {limit}: see what node {self.name} says")
                time.sleep(0.002)
        except SlotError as error:
            self.close()
            raise DriverError(f"driver {self.name!r}: {error}") from error
        except BaseException:
            self.close()
            raise

    def read(self) -> QuadrotorSample | None:
        """The newest sample; the same one again where there is none newer."""
        if self._said is None:
            raise DriverError(f"driver {self.name!r} is not connected")
        reading = self._said.read_new()
        if reading is not None:
            self._newest = r = reading.record
            state = None
            if r["state_stamp"] > 0.0:
                names = ("position", "orientation", "linear_velocity", "angular_velocity")
                state = QuadrotorState(*(r[name].copy() for name in names))
            felt = r["attitude_stamp"] > 0.0
            voltage, remaining = float(r["battery_voltage"]), float(r["battery_remaining"])
            self._sample = QuadrotorSample(
                stamp=float(r["state_stamp"]),
                state=state,
                attitude_stamp=float(r["attitude_stamp"]),
                orientation=r["attitude"].copy() if felt else None,
                angular_velocity=r["rates"].copy() if felt else None,
                battery_voltage=None if np.isnan(voltage) else voltage,
                battery_remaining=None if np.isnan(remaining) else remaining,
                armed=bool(r["armed"]),
                accepting=bool(r["accepting"]),
                fault=bytes(r["fault"]).decode(errors="ignore"),
                details=json.loads(bytes(r["json"]) or b"{}"),
            )
        return self._sample

    def write(self, command: BodyRatesThrust) -> None:
        """Send one set-point, which the node passes on once."""
        if not isinstance(command, BodyRatesThrust):
            raise DriverError(f"driver {self.name!r} takes BodyRatesThrust, not {type(command).__name__}")
        self._record["rates"] = command_values(self.name, command.rates, 3)
        self._record["thrust"] = command_values(self.name, np.reshape(command.thrust, (1,)), 1)[0]
        self._record["has_command"] = True
        self._send()

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

    def close(self) -> None:
        """Say nothing more."""
        for slot in (self._said, self._told):
            if slot is not None:
                slot.close()
        self._said = self._told = None
        self._sample = self._newest = None

    def __exit__(self, *_: object) -> None:
        """Close; whoever wants it to land says so before."""
        self.close()

    def _order(self) -> None:
        self._record["has_command"] = False
        self._send()

    def _send(self) -> None:
        if self._told is None:
            raise DriverError(f"driver {self.name!r} is not connected")
        self._told.write(self._record)


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
