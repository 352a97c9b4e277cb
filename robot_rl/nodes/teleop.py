"""A person's device as a managed node: what it says becomes `command/twist`, while the dead-man is held.

A message is a held dead-man: when it is let go, one last twist of zeros is sent and then none, so that the arm stands
at once and the supervisor, which takes no twist older than 150 ms, knows it. The gripper is a button that toggles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import TwistStamped
from std_msgs.msg import Float64

from hardware.teleop.device import Device, DeviceConfig
from hardware.teleop.gamepad import Gamepad, GamepadConfig
from hardware.teleop.keyboard import Keyboard, KeyboardConfig
from robot_rl.nodes import arm_messages, qos
from robot_rl.nodes.arm_messages import BASE_FRAME
from robot_rl.nodes.managed import Managed, ManagedConfig
from robot_rl.nodes.parameters import parameter
from robot_rl.nodes.running import run

STALE = DeviceConfig().stale_after


@dataclass(frozen=True, kw_only=True)
class TeleopConfig(ManagedConfig):
    """Parameters of the node."""

    device: str = parameter("gamepad", "keyboard, gamepad, or one of them with a path: gamepad:/dev/input/js1.")
    rate: float = parameter(20.0, "Hz of command/twist.", low=7.0, high=100.0)
    linear: float = parameter(0.15, "m/s at full deflection.", low=0.001, high=1.0)
    angular: float = parameter(0.8, "rad/s at full deflection.", low=0.001, high=3.0)
    frame_prefix: str = parameter("", "Before the names of frames, e.g. left/.")


class TeleopNode(Managed):
    """See the module."""

    part = "teleoperation"

    def __init__(self) -> None:
        super().__init__("teleop", TeleopConfig)
        self.period = 1.0 / self.settings.rate
        self._device: Device | None = None
        self._held = False
        self._open = True
        self._twists = qos.publisher(self, TwistStamped, "command/twist", qos.command_publisher(self.period))
        self._grippers = qos.publisher(self, Float64, "command/gripper", qos.command_publisher(self.period))

    def configure(self) -> None:
        """Open the device."""
        self._device = open_device(self.settings)
        self.get_logger().info(f"{self._device.name}:\n{self._device.help()}")

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
        if "gripper" in sample.pressed and held:
            self._open = not self._open
            self._grippers.publish(Float64(data=1.0 if self._open else -1.0))
        if held or self._held:
            self._send(sample.twist if held else np.zeros(6))
        self._held = held

    def describe(self) -> tuple[bytes, str, Mapping[str, Any]]:
        """Whether the device is there, and held."""
        assert self._device is not None
        values = {"device": self._device.name, "held": self._held, "skipped periods": self.schedule.skipped}
        return DiagnosticStatus.OK, "driving" if self._held else "dead-man not held", values

    def _send(self, twist: np.ndarray) -> None:
        frame = f"{self.settings.frame_prefix}{BASE_FRAME}"
        self._twists.publish(arm_messages.twist_message(twist, self.now(), frame))


def open_device(config: TeleopConfig) -> Device:
    """The device that the parameters name.

    Raises:
        ValueError: There is no such kind; `DeviceError`, which is an OSError: it cannot be opened.
    """
    kind, _, path = config.device.partition(":")
    linear, angular = config.linear, config.angular
    if kind == "keyboard":
        keyboard = KeyboardConfig(linear=linear, angular=angular)
        return Keyboard(keyboard, path) if path else Keyboard(keyboard)
    if kind == "gamepad":
        path = path or GamepadConfig().path
        return Gamepad(GamepadConfig(linear=linear, angular=angular, path=path))
    raise ValueError(f"parameter device is {config.device!r}; choose keyboard or gamepad, each perhaps with :PATH")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node."""
    return run(TeleopNode, argv)
