"""What a face of an arm's control process does: read state, status and timing; send goals, twists and requests."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from policies.types import ArmSetpoint, ArmState
from robot_rl.planes import records
from robot_rl.planes.slots_client import SlotsClient


@dataclass(frozen=True, kw_only=True, eq=False)
class StateReading:
    """What the arm measured last."""

    state: ArmState
    """Without objects and images."""
    stamp: float
    """s, `time.monotonic()` at the measurement."""
    sequence: int
    """Grows with every measurement."""
    target_pose: np.ndarray
    """Shape (7,), where the controller wants the tool at the end of its period."""
    torques: np.ndarray
    """Shape (n,), N m, sent to the driver last."""


class PlanesClient(SlotsClient):
    """An arm's: reads everything, writes what it is asked to; one thread."""

    def __init__(self, folder: Path, joints: int) -> None:
        """Attach to a robot's slots; the processes may come later.

        Args:
            folder: Of the slots, see `SlotFolder.path`.
            joints: Of the arm.
        """
        self.joints = joints
        super().__init__(
            folder,
            {
                "state": records.state_dtype(joints),
                "status": records.STATUS,
                "timing": records.TIMING,
                "report": records.REPORT,
                "command": records.command_dtype(joints),
                "policy": records.POLICY,
                "objects": records.OBJECTS,
                "face": records.FACE,
                "setpoint": records.SETPOINT,
                "twist": records.command_dtype(joints),
                "request": records.REQUEST,
                "simulation": records.SIMULATION,
                "simulation_request": records.SIMULATION_REQUEST,
                "simulation_wire": records.SIMULATION_WIRE,
            },
        )

    # What there is to see

    def state(self) -> StateReading | None:
        """The newest state; None before the first."""
        reading = self.read("state")
        if reading is None:
            return None
        record = reading.record
        return StateReading(
            state=records.to_state(record),
            stamp=float(record["stamp"]),
            sequence=reading.sequence,
            target_pose=record["target_pose"].copy(),
            torques=record["commanded_torques"].copy(),
        )

    def objects(self) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        """Poses (7,) and stamps by name of what perception, or the simulated robot, sees."""
        reading = self.read("objects")
        return ({}, {}) if reading is None else records.to_objects(reading.record)

    # What it says

    def send_setpoint(self, setpoint: ArmSetpoint, stamp: float | None = None) -> None:
        """Give the policy its goal; it stays until the next one."""
        self._writer("setpoint").write(records.fill_setpoint(records.new(records.SETPOINT), setpoint), stamp)

    def send_twist(
        self, command: records.ArmCommand, period: float, held: bool = True, stamp: float | None = None
    ) -> None:
        """A person's command, which goes before the policy's while the dead-man switch is held.

        Args:
            command: What to do.
            period: s until the next one is expected.
            held: Whether the dead-man switch is held.
            stamp: s, of the person's input; None: now.
        """
        now = time.monotonic() if stamp is None else stamp
        record = records.fill_command(records.new(self._layouts["twist"]), command, now, period, held)
        self._writer("twist").write(record)

    def send_objects(self, poses: Mapping[str, np.ndarray], stamps: Mapping[str, float]) -> None:
        """What perception sees: poses (7,) in the base frame, with the stamps of their measurement."""
        self._writer("objects").write(records.fill_objects(records.new(records.OBJECTS), poses, stamps))

    # The simulated robot

    def simulation(self) -> dict[str, Any]:
        """Episode of a simulated robot: `start`, `goal`, `time`, `over`, `success`, `failed`, `fault`; maybe empty."""
        reading = self.read("simulation")
        if reading is None:
            return {}
        record = reading.record
        names = ("ready", "request_id", "start", "time", "over", "success", "failed", "braked", "peak_force",
                 "lost_periods", "failed_physics")  # fmt: skip
        found: dict[str, Any] = {name: record[name].item() for name in names}
        goal = record["goal"].copy() if record["has_goal"] else None
        return {"stamp": reading.stamp, **found, "goal": goal, "fault": records.text(record["fault"])}

    def begin_episode(self, start: int, timeout: float = 5.0) -> dict[str, Any]:
        """Place the simulated robot and its objects anew; returns its `simulation` afterwards.

        Raises:
            TimeoutError: It does not answer.
        """
        writer = self._writer("simulation_request")
        record = records.new(records.SIMULATION_REQUEST)
        record["id"], record["start"] = writer.sequence + 1, start
        number = writer.write(record)
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            found = self.simulation()
            if found and found["request_id"] == number:
                return found
            time.sleep(0.001)
        raise TimeoutError(f"the simulated robot did not begin an episode within {timeout:g} s")
