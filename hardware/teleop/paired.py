"""Two devices as one: the first one moves, the buttons of both count.

So a leader arm, which has no buttons, gets the dead-man and the clutch of a keyboard, a pedal or a gamepad, and a
SpaceMouse with two buttons those that end an episode.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hardware.teleop.device import Device, Follower, Motion, Sample


class Paired:
    """Both devices, until `close`."""

    def __init__(self, mover: Device, buttons: Device) -> None:
        """Take both over; closing this closes them."""
        self._mover, self._buttons = mover, buttons
        self.name = f"{mover.name} with {buttons.name}"
        self.motion: Motion = mover.motion

    def read(self) -> Sample:
        """Where the first wants to go; what either has pressed. Either one's loss is the loss of both."""
        moved, pressed = self._mover.read(), self._buttons.read()
        own = bool(getattr(self._mover, "has_dead_man", True))
        held = moved if own else pressed
        fresh = moved.connected and pressed.connected
        return replace(
            moved,
            twist=moved.twist if held.dead_man and fresh else np.zeros(6),
            gripper=moved.gripper,
            buttons=moved.buttons | pressed.buttons,
            pressed=moved.pressed | pressed.pressed,
            engaged=held.engaged and fresh,
            dead_man=held.dead_man and fresh,
            age=max(moved.age, pressed.age),
            connected=fresh,
        )

    def follow(self, joints: np.ndarray | None) -> None:
        """See `leader_arm.LeaderArm.follow`; nothing, where the first has no motors."""
        if isinstance(self._mover, Follower):
            self._mover.follow(joints)

    def help(self) -> str:
        """What both can do."""
        return f"{self._mover.help()}\n{self._buttons.help()}"

    def close(self) -> None:
        """Let both go."""
        self._mover.close()
        self._buttons.close()
