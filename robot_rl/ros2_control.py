"""The `ros2_control` driver: any arm whose controllers run under ros2_control, behind shared memory.

ROS has no place in the control process, so the topics are spoken by a node, `robot_rl.nodes.ros2_control`, and this
driver exchanges samples and joint positions with it. Through Python callbacks that is honestly 100 Hz, not 500, with
samples a few ms old; position control only, since torques at such a rate would be none.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hardware.descriptions import ArmDescription, QuadrotorDescription
from hardware.drivers.driver import ArmSample, Capabilities, DriverError
from hardware.drivers.support import ContextManager, check_range, command_values, read_settings
from hardware.realtime.seqlock import SlotError, SlotReader, SlotWriter
from policies.types import JointPositions

MEASURED, WANTED = "ros2_control_measured", "ros2_control_wanted"
"""Names of the two slots."""
RATE_HZ = 100.0
"""What Python callbacks reach at normal priority on a machine that does other work too."""


def measured_dtype(joints: int) -> np.dtype:
    """What the node has heard; the slot's stamp is that of the measurement."""
    return np.dtype([
        ("joint_positions", "f8", joints), ("joint_velocities", "f8", joints),
        ("has_joint_torques", "?"), ("joint_torques", "f8", joints), ("fault", "S240"),
    ])  # fmt: skip


def wanted_dtype(joints: int) -> np.dtype:
    """What the node shall send; `stop` is to stand where the arm is."""
    return np.dtype([("stop", "?"), ("joint_positions", "f8", joints), ("gripper", "f8")])


@dataclass(frozen=True, kw_only=True)
class BridgedConfig:
    """Settings of the driver `ros2_control`."""

    folder: str
    """Of the robot's slots; the supervisor gives it."""
    rate_hz: float = RATE_HZ
    """Of reading and writing, that of the node."""
    timeout: float = 10.0
    """s to wait for the first sample."""

    def __post_init__(self) -> None:
        check_range("rate_hz", self.rate_hz, 10.0, 250.0)


class BridgedArm(ContextManager):
    """An arm with n joints behind the node."""

    def __init__(self, description: ArmDescription, config: BridgedConfig) -> None:
        self.description, self.config = description, config
        self._joints = description.num_joints
        self._measured: SlotReader | None = None
        self._wanted: SlotWriter | None = None
        self._sample: ArmSample | None = None
        self._order = np.zeros((), wanted_dtype(self._joints))

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        return Capabilities(
            name="ros2_control",
            kind="arm",
            actuators=self.description.interface.actuators,
            commands=("JointPositions",),
            signals=("joint_positions", "joint_velocities"),
            rate_hz=self.config.rate_hz,
            realtime=True,
            simulated=False,
            watchdog_s=math.inf,  # its controllers hold the last position for ever
        )

    def connect(self) -> None:
        """Attach to the node and wait for a sample that is younger than this call."""
        folder, begin = Path(self.config.folder), time.monotonic()
        try:
            self._measured = SlotReader(folder, MEASURED, measured_dtype(self._joints))
            self._wanted = SlotWriter(folder, WANTED, wanted_dtype(self._joints))
            while (sample := self.read()) is None or sample.stamp < begin - 0.1:
                if time.monotonic() - begin > self.config.timeout:
                    raise DriverError(
                        f"driver 'ros2_control': no joint states within {self.config.timeout:g} s; does the node "
                        "ros2_control run, and does it hear the joint_state_broadcaster?"
                    )
                time.sleep(0.002)
        except SlotError as error:
            self._detach()
            raise DriverError(f"driver 'ros2_control': {error}") from error
        except BaseException:
            self._detach()
            raise

    def read(self) -> ArmSample | None:
        """The newest sample."""
        if self._measured is None:
            raise DriverError("driver 'ros2_control' is not connected")
        reading = self._measured.read_new()
        if reading is not None:
            record = reading.record
            self._sample = ArmSample(
                stamp=reading.stamp,
                joint_positions=record["joint_positions"].copy(),
                joint_velocities=record["joint_velocities"].copy(),
                joint_torques=record["joint_torques"].copy() if record["has_joint_torques"] else None,
                fault=bytes(record["fault"]).decode(errors="ignore"),
            )
        return self._sample

    def write(self, command: JointPositions) -> None:
        """Say where the joints shall be; the node sends it with its next tick."""
        if not isinstance(command, JointPositions):
            raise DriverError(f"driver 'ros2_control' takes JointPositions, not {type(command).__name__}")
        self._order["stop"] = False
        self._order["joint_positions"] = command_values("ros2_control", command.values, self._joints)
        self._order["gripper"] = float(np.asarray(command.gripper).reshape(-1)[0])
        if self._wanted is None:
            raise DriverError("driver 'ros2_control' is not connected")
        self._wanted.write(self._order)

    def stop(self) -> None:
        """Stand where the arm is, held by its controllers."""
        if self._wanted is not None:
            self._order["stop"] = True
            self._wanted.write(self._order)

    def close(self) -> None:
        """Stop and detach."""
        self.stop()
        self._detach()

    def _detach(self) -> None:
        for slot in (self._measured, self._wanted):
            if slot is not None:
                slot.close()
        self._measured = self._wanted = None
        self._sample = None


def open_driver(description: ArmDescription | QuadrotorDescription, settings: Mapping[str, str]) -> BridgedArm:
    """The driver, not connected yet; see `hardware.drivers.registry`."""
    if not isinstance(description, ArmDescription):
        raise DriverError(f"driver 'ros2_control' moves arms; {description.interface.name} is none")
    return BridgedArm(description, read_settings("ros2_control", BridgedConfig, settings))
