"""What a face of a quadrotor's control process does beside what every face does: see `robot_rl.planes.slots_client`."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hardware.drivers.memory_quadrotor import state_of
from policies.types import QuadrotorSetpoint, QuadrotorState
from robot_rl.planes import quadrotor_records, records
from robot_rl.planes.slots_client import SlotsClient


@dataclass(frozen=True, kw_only=True, eq=False)
class VehicleReading:
    """What the vehicle measured last."""

    sequence: int
    """Grows with every sample."""
    state: QuadrotorState | None
    """World ENU, body FLU; None until there is a position."""
    stamp: float
    """s, `time.monotonic()`, of the state's measurement."""
    orientation: np.ndarray | None
    """Shape (4,) wxyz, of the inertial sensor, or None."""
    rates: np.ndarray
    """Shape (3,), rad/s, body frame, likewise."""
    specific_force: np.ndarray | None
    """Shape (3,), m/s², body frame, likewise; None where it is not measured."""
    attitude_stamp: float
    """s, of the inertial sensor's measurement."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MotorsReading:
    """What the motors were sent last."""

    sequence: int
    """Grows with every command."""
    stamp: float
    """s, `time.monotonic()`, when it was decided."""
    values: np.ndarray
    """Shape (4,), rad/s."""
    mode: str
    """Of the supervisor that decided it."""


class QuadrotorClient(SlotsClient):
    """Reads everything, writes what it is asked to; one thread."""

    def __init__(self, folder: Path) -> None:
        """Attach to a quadrotor's slots; the processes may come later."""
        super().__init__(folder, quadrotor_records.LAYOUTS)

    # What there is to see

    def sample(self) -> VehicleReading | None:
        """The newest sample; None before the first."""
        reading = self.read("state")
        if reading is None:
            return None
        r = reading.record
        return VehicleReading(
            sequence=reading.sequence,
            state=state_of(r) if r["has_state"] else None,
            stamp=float(r["stamp"]),
            orientation=r["attitude"].copy() if r["has_attitude"] else None,
            rates=r["rates"].copy(),
            specific_force=r["specific_force"].copy() if r["has_specific_force"] else None,
            attitude_stamp=float(r["attitude_stamp"]),
        )

    def motors(self) -> MotorsReading | None:
        """What the motors were sent last; None before the first."""
        reading = self.read("motors")
        if reading is None:
            return None
        r = reading.record
        return MotorsReading(
            sequence=reading.sequence, stamp=float(r["stamp"]), values=r["values"].copy(), mode=records.text(r["mode"])
        )

    def action(self) -> tuple[int, np.ndarray] | None:
        """Sequence number and normalized action (A,) of the policy's last step."""
        reading = self.read("action")
        if reading is None:
            return None
        return reading.sequence, reading.record["values"][: int(reading.record["size"])].copy()

    def vehicle(self) -> dict[str, Any]:
        """What a vehicle says of itself: `driver`, `arming`, `armed`, `following`, `problem`, ...; maybe empty."""
        reading = self.read("vehicle")
        if reading is None:
            return {}
        r = reading.record
        words = {name: records.text(r[name]) for name in ("driver", "arming", "problem")}
        flags = {name: bool(r[name]) for name in ("armed", "following", "airborne")}
        return {**words, **flags, "requests": int(r["requests"]), "details": json.loads(bytes(r["json"]) or b"{}")}

    # What it says

    def send_setpoint(self, setpoint: QuadrotorSetpoint, stamp: float | None = None) -> None:
        """Where to be at `stamp` s of `time.monotonic()`; None: now."""
        now = time.monotonic() if stamp is None else stamp
        record = records.new(quadrotor_records.SETPOINT)
        self._writer("setpoint").write(quadrotor_records.fill_setpoint(record, setpoint, now))

    # The simulated vehicle

    def simulation(self) -> dict[str, Any]:
        """`watchdog`, `crashed`, `on_ground`, `refusal`, `refused`, `left_out`, counters; maybe empty."""
        reading = self.read("simulation")
        if reading is None:
            return {}
        r = reading.record
        names = ("ready", "request_id", "crashed", "on_ground", "refused", "lost_periods", "left_out")
        found: dict[str, Any] = {name: r[name].item() for name in names}
        words = {name: records.text(r[name]) for name in ("watchdog", "refusal")}
        return {"stamp": reading.stamp, **found, **words, "counters": json.loads(bytes(r["json"]) or b"{}")}

    def reset_vehicle(self, timeout: float = 1.0) -> None:
        """Place the simulated vehicle at its start again, rotors off.

        Raises:
            TimeoutError: It does not answer.
        """
        writer = self._writer("simulation_request")
        record = records.new(records.SIMULATION_REQUEST)
        record["id"] = writer.sequence + 1
        number = writer.write(record)
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if self.simulation().get("request_id") == number:
                return
            time.sleep(0.001)
        raise TimeoutError(f"the simulated quadrotor did not answer within {timeout:g} s")
