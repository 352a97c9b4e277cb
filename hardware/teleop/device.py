"""The one interface of teleoperation devices: a sample of what the person wants now, and how old it is.

A device never decides who drives; it says what is pressed. Whoever asks gets zero motion unless the dead-man is held
and the input is fresh: a lost or silent device leaves a robot that stands.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Literal, Protocol, runtime_checkable

import numpy as np

Motion = Literal["twist", "pose", "joints"]

BUTTONS = {
    "take_over": "take over and hold still, until you hand back",
    "hand_back": "hand back to the policy",
    "pause": "pause or go on",
    "gripper": "open or close the gripper",
    "next_arm": "drive the next arm",
    "slow": "drive slowly",
    "success": "end the episode: success",
    "failure": "end the episode: failure",
    "discard": "end the episode and throw it away",
    "reset": "end the episode without a verdict",
}
"""What buttons can mean, and how help says it. Every device maps its own keys to these names."""


class DeviceError(OSError):
    """A device cannot be used; the message says which, why and what to do about it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """What a device says at an instant."""

    twist: np.ndarray = field(default_factory=lambda: np.zeros(6))
    """Wanted velocity (6,), m/s and rad/s, the robot's base frame; zero unless engaged, held and fresh."""
    pose: np.ndarray | None = None
    """Pose (7,) of a device that is moved through space, position m and quaternion wxyz in its own frame, whose axes
    are parallel to the robot's base frame; None for others."""
    joints: np.ndarray | None = None
    """Joint angles (n,) rad of a leader arm; None for others."""
    gripper: float | None = None
    """Where the gripper shall be, from -1 closed to 1 open, of a device with a trigger for it; None where the gripper
    is a button."""
    buttons: frozenset[str] = frozenset()
    """Names from `BUTTONS` that are down now."""
    pressed: frozenset[str] = frozenset()
    """Those that went down since the last read, also if they are up again."""
    engaged: bool = False
    """The person has the clutch closed: motion is meant for the robot."""
    dead_man: bool = False
    """The dead-man is held; without it nothing may move."""
    age: float = math.inf
    """s since the device was last heard. A device that speaks only when something changes counts as heard when the
    kernel has last confirmed that it is still there."""
    connected: bool = False
    """The device is there."""


class Device(Protocol):
    """Something that a person drives a robot with."""

    name: str
    """For people."""
    motion: Motion
    """Which field of a sample says where to go."""

    def read(self) -> Sample:
        """The newest sample. Never blocks."""

    def help(self) -> str:
        """Its keys or buttons, as lines for people."""

    def close(self) -> None:
        """Let the device go; harmless when done twice."""


@runtime_checkable
class Follower(Protocol):
    """A device with motors of its own."""

    def follow(self, joints: np.ndarray | None) -> None:
        """Move slowly to the robot's angles (n,) rad, while the person does not drive; None: let go."""


@dataclass(frozen=True, kw_only=True)
class DeviceConfig:
    """What devices that command a velocity share."""

    linear: float = 0.15
    """m/s at full deflection."""
    angular: float = 0.8
    """rad/s at full deflection."""
    slow: float = 0.3
    """Factor on both while `slow` is on."""
    stale_after: float = 0.15
    """s: motion that is older is none."""

    def __post_init__(self) -> None:
        for name in ("linear", "angular", "slow", "stale_after"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0.0):
                raise ValueError(f"{name} of a teleoperation device is {value}; expected a number above 0")


def check_buttons(names: Iterable[str], where: str) -> None:
    """Refuse names that are no `BUTTONS`.

    Raises:
        ValueError: Names the first unknown one, and the nearest that exists.
    """
    for name in names:
        if name not in BUTTONS:
            near = get_close_matches(name, BUTTONS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(BUTTONS)}"
            raise ValueError(f"{where}: unknown button {name!r}; {hint}")


def shaped(value: float, deadzone: float, exponent: float) -> float:
    """A stick's deflection in [-1, 1] without what counts as rest, and finer near it where `exponent` is above 1."""
    beyond = (abs(value) - deadzone) / (1.0 - deadzone)
    return math.copysign(min(1.0, beyond) ** exponent, value) if beyond > 0.0 else 0.0


def check_shape(what: str, deadzone: float, exponent: float) -> None:
    """Refuse a dead zone or an exponent that `shaped` cannot take.

    Raises:
        ValueError: Names it, and what is expected.
    """
    if not 0.0 <= deadzone < 1.0:
        raise ValueError(f"deadzone of a {what} is {deadzone}; expected at least 0 and less than 1")
    if not exponent >= 1.0:
        raise ValueError(f"exponent of a {what} is {exponent}; expected at least 1")


def scaled(direction: np.ndarray, config: DeviceConfig, slow: bool) -> np.ndarray:
    """Twist (6,) that deflections (6,) in [-1, 1] stand for."""
    factor = config.slow if slow else 1.0
    deflection = np.clip(direction, -1.0, 1.0) * factor
    return np.concatenate([deflection[:3] * config.linear, deflection[3:] * config.angular])
