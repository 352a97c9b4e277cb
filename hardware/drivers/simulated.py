"""The `sim` driver: a robot that another process simulates in real time, behind shared memory as behind a wire.

Quadrotors have it from `hardware.drivers.bridged_quadrotor`; arms have it here.

The simulated robot (`robot_rl.planes.simulated_arm`) has brakes and a watchdog of its own: it stops when no torque has
come for a while, says so, and takes no torques until it is told to recover.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hardware.descriptions import ArmDescription, QuadrotorDescription
from hardware.drivers import bridged_quadrotor
from hardware.drivers.bridged_quadrotor import BridgedQuadrotor
from hardware.drivers.driver import ArmSample, Capabilities, DriverError
from hardware.drivers.support import ContextManager, command_values, read_settings
from hardware.realtime.seqlock import SlotError, SlotReader, SlotWriter
from policies.types import JointTorques

WATCHDOG = 0.02
"""s without a torque after which the simulated robot brakes."""
RATE_HZ = 500.0
SENSORS, TORQUES = "robot_sensors", "robot_torques"
"""Names of the two slots."""
ORDERS = ("torque", "stop")


def sensors_dtype(joints: int) -> np.dtype:
    """What the robot says; the slot's stamp is that of the measurement."""
    return np.dtype([
        ("joint_positions", "f8", joints), ("joint_velocities", "f8", joints), ("joint_torques", "f8", joints),
        ("gripper_width", "f8"), ("has_wrench", "?"), ("wrench", "f8", 6),
        ("braked", "?"), ("fault", "S240"),
    ])  # fmt: skip


def torques_dtype(joints: int) -> np.dtype:
    """What it is told."""
    return np.dtype([
        ("order", "u1"),  # index into `ORDERS`
        ("torques", "f8", joints), ("gripper", "f8"),
        ("recoveries", "u8"),  # one more: forget the fault
    ])  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SimulatedConfig:
    """Settings of the `sim` driver."""

    folder: str
    """Of the robot's slots."""
    timeout: float = 10.0
    """s to wait for the simulated robot."""


class SimulatedArm(ContextManager):
    """A simulated arm with n joints, as a driver."""

    def __init__(self, description: ArmDescription, config: SimulatedConfig) -> None:
        self.description, self.config = description, config
        self._joints = description.num_joints
        self._sensors: SlotReader | None = None
        self._torques: SlotWriter | None = None
        self._sample: ArmSample | None = None
        self._order = np.zeros((), torques_dtype(self._joints))

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        signals: tuple[str, ...] = ("joint_positions", "joint_velocities", "joint_torques", "gripper_width")
        if self._sample is not None and self._sample.wrench is not None:
            signals = (*signals, "wrench")
        return Capabilities(
            name="sim",
            kind="arm",
            actuators=self.description.interface.actuators,
            commands=("JointTorques",),
            signals=signals,
            rate_hz=RATE_HZ,
            realtime=True,
            simulated=True,
            watchdog_s=WATCHDOG,
        )

    def connect(self) -> None:
        """Attach to the simulated robot and wait for a sample that is younger than this call."""
        folder, begin = Path(self.config.folder), time.monotonic()
        try:
            self._sensors = SlotReader(folder, SENSORS, sensors_dtype(self._joints))
            self._torques = SlotWriter(folder, TORQUES, torques_dtype(self._joints))
            before = SlotReader(folder, TORQUES, torques_dtype(self._joints))
            with before:
                if (reading := before.read()) is not None:
                    self._order["recoveries"] = reading.record["recoveries"]
            while (sample := self.read()) is None or sample.stamp < begin - 0.1:
                if time.monotonic() - begin > self.config.timeout:
                    raise DriverError(
                        f"driver 'sim': no sample from the simulated robot within {self.config.timeout:g} s; is "
                        "robot_rl.planes.simulated_arm running?"
                    )
                time.sleep(0.001)
        except SlotError as error:
            self._detach()
            raise DriverError(f"driver 'sim': {error}") from error
        except BaseException:
            self._detach()
            raise

    def read(self) -> ArmSample | None:
        """The newest sample; the same one again where there is none newer."""
        if self._sensors is None:
            raise DriverError("driver 'sim' is not connected")
        reading = self._sensors.read_new()
        if reading is not None:
            record = reading.record
            fault = bytes(record["fault"])
            self._sample = ArmSample(
                stamp=reading.stamp,
                joint_positions=record["joint_positions"].copy(),
                joint_velocities=record["joint_velocities"].copy(),
                joint_torques=record["joint_torques"].copy(),
                gripper_width=float(record["gripper_width"]),
                wrench=record["wrench"].copy() if record["has_wrench"] else None,
                fault=fault.decode(errors="ignore") if fault else "",
                details={"braked": bool(record["braked"])},
            )
        return self._sample

    def write(self, command: JointTorques) -> None:
        """Send torques, gravity not included; they release the brakes unless the robot is at fault."""
        if not isinstance(command, JointTorques):
            raise DriverError(f"driver 'sim' takes JointTorques, not {type(command).__name__}")
        values = command_values("sim", command.values, self._joints)
        gripper = float(np.asarray(command.gripper).reshape(-1)[0])
        if not np.isfinite(gripper):
            raise DriverError(f"driver 'sim' got a gripper command that is not finite: {gripper}")
        self._order["order"], self._order["torques"], self._order["gripper"] = 0, values, gripper
        self._send()

    def stop(self) -> None:
        """Brake; the next torque releases the brakes."""
        if self._torques is not None:
            self._order["order"], self._order["torques"] = 1, 0.0
            self._torques.write(self._order)

    def recover(self) -> None:
        """Let the robot forget its fault; it stays braked."""
        self._order["order"], self._order["torques"] = 1, 0.0
        self._order["recoveries"] += 1
        self._send()

    def close(self) -> None:
        """Stop and detach."""
        self.stop()
        self._detach()

    def _send(self) -> None:
        if self._torques is None:
            raise DriverError("driver 'sim' is not connected")
        self._torques.write(self._order)

    def _detach(self) -> None:
        for slot in (self._sensors, self._torques):
            if slot is not None:
                slot.close()
        self._sensors = self._torques = None
        self._sample = None


def open_driver(
    description: ArmDescription | QuadrotorDescription, settings: Mapping[str, str]
) -> SimulatedArm | BridgedQuadrotor:
    """The driver of an arm or a quadrotor, not connected yet; see `hardware.drivers.registry`."""
    if isinstance(description, QuadrotorDescription):
        return bridged_quadrotor.open_simulated(description, settings)
    return SimulatedArm(description, read_settings("sim", SimulatedConfig, settings))
