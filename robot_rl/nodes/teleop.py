"""A person's device as a managed node: what it says becomes `command/twist`, while the dead-man is held.

A message is a held dead-man: when it is let go, one last twist of zeros is sent and then none, so that the robot stands
at once, and whoever follows, which takes no twist older than 150 ms, knows it. The gripper of an arm is a button that
toggles, or a trigger; with a quadrotor the button `hand_back` lets its mission go on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import TwistStamped
from std_msgs.msg import Float64
from std_srvs.srv import Trigger

from hardware.teleop.device import Device, DeviceConfig, Sample
from robot_rl.devices.opening import KINDS, open_device
from robot_rl.nodes import arm_messages, messages, qos
from robot_rl.nodes.arm_messages import BASE_FRAME
from robot_rl.nodes.managed import Managed, ManagedConfig
from robot_rl.nodes.parameters import parameter
from robot_rl.nodes.running import StartError, run

STALE = DeviceConfig().stale_after
_SPEEDS = {"arm": (0.15, 0.8), "quadrotor": (1.0, 1.0)}
"""m/s and rad/s at full deflection, by kind of robot."""


@dataclass(frozen=True, kw_only=True)
class TeleopConfig(ManagedConfig):
    """Parameters of the node."""

    device: str = parameter(
        "gamepad", "A device by name, e.g. spacemouse or gamepad:/dev/input/js1; `robot-rl devices` shows them."
    )
    kind: str = parameter("arm", "What is driven.", choices=tuple(_SPEEDS))
    rate: float = parameter(20.0, "Hz of command/twist.", low=7.0, high=100.0)
    linear: float = parameter(
        0.0, "m/s at full deflection; 0: as fits the kind of robot (0.15, 1 for a quadrotor).", low=0.0, high=20.0
    )
    angular: float = parameter(
        0.0, "rad/s at full deflection; 0: as fits the kind of robot (0.8, 1 for a quadrotor).", low=0.0, high=6.0
    )
    frame_prefix: str = parameter("", "Before the names of frames, e.g. left/.")


class TeleopNode(Managed):
    """See the module."""

    part = "teleoperation"
    priority = 5

    def __init__(self) -> None:
        super().__init__("teleop", TeleopConfig)
        self.period = 1.0 / self.settings.rate
        self._device: Device | None = None
        self._held = False
        self._gripper = 1.0
        frame = BASE_FRAME if self.settings.kind == "arm" else messages.BODY_FRAME
        self._frame = f"{self.settings.frame_prefix}{frame}"
        command = qos.command_publisher(self.period)
        self._twists = qos.publisher(self, TwistStamped, "command/twist", command)
        if self.settings.kind == "arm":
            self._grippers = qos.publisher(self, Float64, "command/gripper", command)
        else:
            self._hand_back = self.create_client(Trigger, "hand_back")

    def configure(self) -> None:
        """Open the device."""
        speeds = _SPEEDS[self.settings.kind]
        linear, angular = self.settings.linear or speeds[0], self.settings.angular or speeds[1]
        device = open_device(self.settings.device, linear=linear, angular=angular)
        if device.motion != "twist":
            device.close()
            raise StartError(
                f"{device.name} says {device.motion}; this node sends velocities, choose one of "
                f"{', '.join(kind for kind in KINDS if kind != 'leader')}"
            )
        self._device = device
        self.get_logger().info(f"{device.name}:\n{device.help()}")

    def activate(self) -> None:
        """What was pressed before does not count."""
        assert self._device is not None
        self._device.read()
        self._held = False

    def deactivate(self) -> None:
        """Stand."""
        if self._held:
            self._send(np.zeros(6))
            self._held = False

    def cleanup(self) -> None:
        """Let the device go."""
        if self._device is not None:
            self._device.close()
            self._device = None

    def work(self) -> None:
        """One look at the device."""
        assert self._device is not None
        sample = self._device.read()
        held = sample.dead_man and sample.connected and sample.age <= STALE
        if held or self._held:
            self._send(sample.twist if held else np.zeros(6))
        if self.settings.kind == "arm":
            self._move_gripper(sample, held)
        elif "hand_back" in sample.pressed and sample.connected:
            if self._hand_back.service_is_ready():
                self._hand_back.call_async(Trigger.Request())
            else:
                self.get_logger().warning(f"nobody to hand back to: no service {self._hand_back.service_name}")
        self._held = held

    def _move_gripper(self, sample: Sample, held: bool) -> None:
        wanted = self._gripper
        if sample.gripper is not None:
            wanted = sample.gripper
        elif "gripper" in sample.pressed:
            wanted = -1.0 if self._gripper > 0.0 else 1.0
        if held and wanted != self._gripper:
            self._gripper = wanted
            self._grippers.publish(Float64(data=wanted))

    def describe(self) -> tuple[bytes, str, Mapping[str, Any]]:
        """Whether the device is there, and held."""
        assert self._device is not None
        values = {"device": self._device.name, "held": self._held, "skipped periods": self.schedule.skipped}
        return DiagnosticStatus.OK, "driving" if self._held else "dead-man not held", values

    def _send(self, twist: np.ndarray) -> None:
        self._twists.publish(arm_messages.twist_message(twist, self.now(), self._frame))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node."""
    return run(TeleopNode, argv)
