"""Take-over without a jump, for devices that say a pose or joint angles instead of a velocity.

A hand-held device: at engagement the target is the measured pose of the tool, and from there on it moves as the device
does. A leader arm: it must stand as the follower does before it may take over. Both are slow in the first second.
"""

from __future__ import annotations

from dataclasses import dataclass

from array_api_compat import array_namespace

from policies import rotation
from policies.types import Array


@dataclass(frozen=True, kw_only=True)
class ClutchConfig:
    """How a device is coupled to a robot."""

    scale: float = 1.0
    """m that the tool moves per m of the device."""
    ease_time: float = 1.0
    """s after engagement during which speed is limited."""
    ease_share: float = 0.2
    """Share of full speed at engagement; it grows to 1 over `ease_time`."""
    tolerance: float = 0.1
    """rad by which every joint of a leader arm may differ from the follower's when it takes over."""
    joint_speed: float = 1.0
    """rad/s at which a follower follows its leader at most."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Clutch:
    """Where device and tool were at engagement."""

    device: Array
    """Pose (..., 7) of the device, position m and quaternion wxyz."""
    tool: Array
    """Measured pose (..., 7) of the tool, base frame."""


def engage(device: Array, tool: Array) -> Clutch:
    """Latch the origins: poses (..., 7) of the device and, as measured, of the tool."""
    xp = array_namespace(device, tool)
    return Clutch(device=xp.asarray(device, copy=True), tool=xp.asarray(tool, copy=True))


def target(clutch: Clutch, device: Array, scale: float = 1.0) -> Array:
    """Pose (..., 7) of the tool that a device at pose (..., 7) asks for; at engagement the measured one."""
    xp = array_namespace(device)
    position = clutch.tool[..., :3] + scale * (device[..., :3] - clutch.device[..., :3])
    turned = rotation.multiply(device[..., 3:], rotation.conjugate(clutch.device[..., 3:]))
    return xp.concat([position, rotation.normalize(rotation.multiply(turned, clutch.tool[..., 3:]))], axis=-1)


def twist_towards(tool: Array, wanted: Array, period: float) -> Array:
    """Twist (..., 6), base frame, that takes the tool from one pose (..., 7) to another within `period` s."""
    xp = array_namespace(tool, wanted)
    turn = rotation.to_rotation_vector(rotation.multiply(wanted[..., 3:], rotation.conjugate(tool[..., 3:])))
    return xp.concat([wanted[..., :3] - tool[..., :3], turn], axis=-1) / period


def limited(twist: Array, linear: float, angular: float) -> Array:
    """A twist (..., 6) no faster than `linear` m/s and `angular` rad/s, in its own direction."""
    xp = array_namespace(twist)
    parts = []
    for part, limit in ((twist[..., :3], linear), (twist[..., 3:], angular)):
        speed = xp.sqrt(xp.sum(part * part, axis=-1, keepdims=True))
        fast = speed > limit
        parts.append(part * xp.where(fast, limit / xp.where(fast, speed, xp.ones_like(speed)), xp.ones_like(speed)))
    return xp.concat(parts, axis=-1)


def speed_share(since: float, config: ClutchConfig) -> float:
    """Share of full speed that is allowed `since` s after engagement."""
    if since >= config.ease_time:
        return 1.0
    return config.ease_share + (1.0 - config.ease_share) * since / config.ease_time


def matched(leader: Array, follower: Array, tolerance: float) -> bool:
    """Whether every joint angle (n,) rad of the leader is the follower's, to within `tolerance`."""
    return not mismatch(leader, follower, tolerance)


def mismatch(leader: Array, follower: Array, tolerance: float) -> str:
    """What keeps a leader with angles (n,) rad from taking over, in words; empty where nothing does."""
    if leader.shape != follower.shape:
        return f"the leader has {leader.shape[-1]} joints, the follower {follower.shape[-1]}"
    xp = array_namespace(leader, follower)
    away = xp.abs(leader - follower)
    if bool(xp.all(away <= tolerance)):  # also false where an angle is not a number
        return ""
    worst = int(xp.argmax(xp.where(away <= tolerance, xp.zeros_like(away), away)))
    return (
        f"joint {worst + 1} of the leader is at {float(leader[worst]):.2f} rad, the follower's at "
        f"{float(follower[worst]):.2f}; bring it to within {tolerance:g} rad"
    )


def follow(measured: Array, leader: Array, step: float) -> Array:
    """Joint targets (..., n) rad on the way from the measured ones to the leader's, at most `step` rad further."""
    return measured + (leader - measured).clip(-step, step)
