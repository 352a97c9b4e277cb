"""Records a flight for the report: `flight.npz` and `timing.json`, rewritten whole every few seconds.

Each file is written beside its place and moved there, so that a kill at any instant leaves the last
complete one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import Odometry
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from trajectory_msgs.msg import MultiDOFJointTrajectory

from hardware.descriptions import load_description
from policies.writing import whole_file, write_text
from robot_rl.nodes import messages, parameters, qos
from robot_rl.nodes.parameters import parameter
from robot_rl.nodes.running import Face, StartError, run

_NAN3, _NAN4 = np.full(3, np.nan), np.full(4, np.nan)
_TIMING = "timing."
"""Diagnostic values under this prefix are histograms."""


@dataclass(frozen=True, kw_only=True)
class RecorderConfig:
    """Parameters of the node."""

    folder: str = parameter("runs/flight", "Folder to write to; made if it does not exist.")
    robot: str = parameter("crazyflie", "Robot description: a name, or the path of a YAML file.")
    write_period: float = parameter(2.0, "s between two writes.", low=0.2, high=3600.0)


class Recorder(Face):
    """One row per odometry message, with what else was newest then."""

    period = 0.2

    def __init__(self) -> None:
        super().__init__("recorder")
        self.config = config = parameters.read(self, RecorderConfig)
        self.folder = Path(config.folder).expanduser()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StartError(f"cannot write to {self.folder}: {error.strerror}") from error
        self.interface = load_description(config.robot).interface
        self.log = FlightLog()
        self._newest: dict[str, Any] = {
            "setpoint_position": _NAN3,
            "setpoint_velocity": _NAN3,
            "motor_commands": _NAN4,
            "phase": "waiting",
            "mode": "unknown",
        }
        self._timing: dict[str, Any] = {}
        self._write_at = time.monotonic() + config.write_period
        qos.subscription(self, Odometry, "odom", self._on_odometry, qos.SENSOR_READER)
        qos.subscription(self, MultiDOFJointTrajectory, "setpoint", self._on_setpoint, qos.COMMAND_READER)
        qos.subscription(self, JointState, "motor_commands", self._on_motors, qos.COMMAND_READER)
        qos.subscription(self, String, "setpoint/phase", self._on_phase, qos.STATUS)
        qos.subscription(self, String, "supervisor/status", self._on_status, qos.STATUS)
        qos.subscription(self, DiagnosticArray, "/diagnostics", self._on_diagnostics, qos.COMMAND_READER)
        self.get_logger().info(f"recording to {self.folder}")

    def tick(self) -> None:
        """Write now and then."""
        if time.monotonic() >= self._write_at:
            begin = time.monotonic()
            self._write()
            # A long flight takes longer to write: spend at most a tenth of the time on it.
            self._write_at = time.monotonic() + max(self.config.write_period, 10.0 * (time.monotonic() - begin))

    def close(self) -> None:
        """Write what is there."""
        self._write()

    def _on_odometry(self, message: Odometry) -> None:
        try:
            state, stamp = messages.state_from_odometry(message)
        except messages.MessageError as error:
            self.get_logger().warning(f"odometry not recorded: {error}", throttle_duration_sec=1.0)
            return
        row = {
            "time": stamp,
            "position": state.position,
            "orientation": state.orientation,
            "linear_velocity": state.linear_velocity,
            "angular_velocity": state.angular_velocity,
        }
        self.log.append(row | self._newest)

    def _on_setpoint(self, message: MultiDOFJointTrajectory) -> None:
        try:
            setpoint, _ = messages.setpoint_from_trajectory(message)
        except messages.MessageError as error:
            self.get_logger().warning(f"set-point not recorded: {error}", throttle_duration_sec=1.0)
            return
        self._newest |= {"setpoint_position": setpoint.position, "setpoint_velocity": setpoint.velocity}

    def _on_motors(self, message: JointState) -> None:
        try:
            command, _ = messages.motor_speeds_from_joint_state(message, self.interface.actuators)
        except messages.MessageError as error:
            self.get_logger().warning(f"motor command not recorded: {error}", throttle_duration_sec=1.0)
            return
        self._newest["motor_commands"] = command.values

    def _on_phase(self, message: String) -> None:
        self._newest["phase"] = message.data

    def _on_status(self, message: String) -> None:
        self._newest["mode"] = messages.status_from_message(message).mode

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            for pair in status.values:
                if pair.key.startswith(_TIMING):
                    self._timing[pair.key.removeprefix(_TIMING)] = json.loads(pair.value)

    def _write(self) -> None:
        if self.log.rows:
            arrays = self.log.arrays()
            with whole_file(self.folder / "flight.npz") as path:
                _save(path, arrays)
        if self._timing:
            write_text(self.folder / "timing.json", json.dumps(self._timing, indent=1))


class FlightLog:
    """Rows of a flight, and their arrays; `phase` and `mode` are numbered in order of appearance."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def append(self, row: dict[str, Any]) -> None:
        """Add one sample; a stamp that does not advance is left out."""
        if not self.rows or row["time"] > self.rows[-1]["time"]:
            self.rows.append(row)

    def arrays(self) -> dict[str, np.ndarray]:
        """What `flight.npz` holds."""
        arrays = {}
        for key in self.rows[0]:
            values = [row[key] for row in self.rows]
            if key in {"phase", "mode"}:
                names = list(dict.fromkeys(values))
                numbers = {name: number for number, name in enumerate(names)}
                arrays[key] = np.array([numbers[value] for value in values], dtype=np.uint8)
                arrays[f"{key}_names"] = np.array(names)
            else:
                arrays[key] = np.array(values, dtype=np.float64)
        return arrays


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node."""
    return run(Recorder, argv)
