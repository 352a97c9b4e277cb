"""The numbers that an arm's safety layer enforces: one dataclass, stored in a policy's manifest."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from hardware.controllers.joint_position import symmetric_limit
from hardware.descriptions.arm import ArmDescription

Vector: TypeAlias = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Box:
    """A box along the axes of the base frame."""

    lower: Vector
    """m, base frame."""
    upper: Vector
    """m, base frame."""

    def __post_init__(self) -> None:
        """Refuse what is no box."""
        if not all(low < high for low, high in zip(self.lower, self.upper, strict=True)):
            raise ValueError(f"box from {self.lower} to {self.upper} m is empty; give lower below upper on every axis")


@dataclass(frozen=True, kw_only=True)
class RoundRegion:
    """A sphere, or a capsule if start and end differ."""

    start: Vector
    """m, base frame."""
    end: Vector
    """m, base frame; equal to `start` for a sphere."""
    radius: float
    """m."""

    def __post_init__(self) -> None:
        """Refuse what is no region."""
        if not (math.isfinite(self.radius) and self.radius > 0.0):
            raise ValueError(f"radius of a forbidden region is {self.radius} m; it must be positive")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule in signal temporal logic, see `hardware.safety.rules`."""

    name: str
    """What people call it; the cause when it is broken."""
    formula: str
    """E.g. `always (speed > 0.5 implies eventually[0,0.2] speed < 0.5)`."""
    reaction: Literal["hold", "brake"] = "hold"
    """What takes over when its robustness is negative."""


@dataclass(frozen=True, kw_only=True)
class ArmEnvelope:
    """Limits around whatever commands an arm. Shares are of the description's limits."""

    position_margin: float = 0.03
    """rad kept from the joints' position limits."""
    velocity_share: float = 0.9
    """Share of the velocity limits."""
    acceleration_share: float = 1.0
    """Share of the acceleration limits, for position commands and for braking before position limits."""
    jerk_share: float = 1.0
    """Share of the jerk limits, for position commands."""
    torque_share: float = 1.0
    """Share of the torque limits."""
    torque_rate_share: float = 1.0
    """Share of the limits of the torques' rate."""
    overspeed: float = 1.3
    """Measured joint velocity, as a multiple of its limit, that is a fault."""
    tool_speed: tuple[float, float] = (1.5, 6.0)
    """m/s and rad/s: a twist beyond is refused."""
    workspace: tuple[Box, ...] = ()
    """The tool has to be in one of these; empty: anywhere."""
    forbidden: tuple[Box | RoundRegion, ...] = ()
    """No part of the arm may be in one of these."""
    region_margin: float = 0.01
    """m kept from forbidden regions and from the workspace's faces."""
    table_height: float | None = None
    """m, base frame: no part of the arm may be below; None: no table."""
    table_margin: float = 0.0
    """m kept above the table; fingertips that work on it need 0."""
    self_collision_margin: float = 0.005
    """m kept between links that are not neighbours."""
    stopping_time: float = 0.1
    """s ahead by which distances are foreseen at the present velocity: what the arm needs to stop."""
    contact_force: float = 100.0
    """N on the tool: above it the arm holds until recovered."""
    contact_torque: float = 20.0
    """N m on the tool: above it the arm holds until recovered."""
    contact_fault: float = 2.0
    """Multiple of both that is a fault."""
    contact_time: float = 0.01
    """s that a contact has to last: shorter peaks are noise or the impact itself."""
    state_age: tuple[float, float, float] = (0.1, 0.5, 2.0)
    """Age of the robot's state in s at which it holds, stops for good, and brakes."""
    command_age_periods: float = 3.0
    """Age of the policy's output, in control periods, at which the arm holds."""
    teleop_age: float = 0.15
    """s, age of a teleoperation command at which the arm holds."""
    return_time: float = 0.5
    """s without commands after which they no longer move the arm without `recover`."""
    blend_time: float = 0.5
    """s over which commands grow to full size whenever they begin to be followed."""
    state_jump: float = 0.05
    """rad that a joint may jump beyond velocity × time: noise."""
    command_jump: float = 0.5
    """rad between a position command and the measured joint, beyond which it is refused."""
    rules: tuple[Rule, ...] = ()
    """Rules in signal temporal logic."""

    def __post_init__(self) -> None:
        """Refuse numbers that protect nothing."""
        for name in ("velocity_share", "acceleration_share", "jerk_share", "torque_share", "torque_rate_share"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0 and at most 1")
        if not 0.0 < self.state_age[0] < self.state_age[1] < self.state_age[2]:
            raise ValueError(f"state_age is {self.state_age} s; the three ages must be positive and grow")
        for name in ("position_margin", "blend_time", "stopping_time", "contact_time"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0.0):
                raise ValueError(f"{name} is {value}; it must be finite and at least 0")
        for name in ("contact_force", "contact_torque", "command_age_periods", "teleop_age", "command_jump"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be positive")


@dataclass(frozen=True, kw_only=True, eq=False)
class JointEnvelope:
    """What the envelope leaves of a robot's joint limits; all shapes (n,), those without sign hold both ways."""

    lower: np.ndarray
    """rad."""
    upper: np.ndarray
    """rad."""
    velocity: np.ndarray
    """rad/s."""
    acceleration: np.ndarray
    """rad/s²."""
    jerk: np.ndarray
    """rad/s³."""
    torque: np.ndarray
    """N m."""
    torque_rate: np.ndarray
    """N m/s."""


def joint_envelope(description: ArmDescription, envelope: ArmEnvelope) -> JointEnvelope:
    """Limits of a robot's joints under an envelope.

    Raises:
        ValueError: The description lacks a limit, or the margin leaves no range.
    """
    lower, upper = np.array(description.interface.limits["position"], dtype=np.float64).T
    margin = envelope.position_margin
    if np.any(lower + margin >= upper - margin):
        raise ValueError(f"position_margin {margin} rad leaves no range between {lower} and {upper} rad")
    return JointEnvelope(
        lower=lower + margin,
        upper=upper - margin,
        velocity=envelope.velocity_share * symmetric_limit(description, "velocity"),
        acceleration=envelope.acceleration_share * symmetric_limit(description, "acceleration"),
        jerk=envelope.jerk_share * symmetric_limit(description, "jerk"),
        torque=envelope.torque_share * symmetric_limit(description, "torque"),
        torque_rate=envelope.torque_rate_share * symmetric_limit(description, "torque_rate"),
    )


def envelope_to_dict(envelope: ArmEnvelope) -> dict[str, Any]:
    """As JSON data."""
    return asdict(envelope)


def envelope_from_dict(data: Mapping[str, Any]) -> ArmEnvelope:
    """From JSON data; fields that are absent have their defaults.

    Raises:
        ValueError: A field is unknown or out of range.
    """
    fields = dict(data)
    unknown = set(fields) - set(ArmEnvelope.__dataclass_fields__)
    if unknown:
        raise ValueError(f"unknown fields of an arm's envelope: {', '.join(sorted(unknown))}")
    for name in ("tool_speed", "state_age"):
        if name in fields:
            fields[name] = tuple(fields[name])
    if "workspace" in fields:
        fields["workspace"] = tuple(_region(entry) for entry in fields["workspace"])
    if "forbidden" in fields:
        fields["forbidden"] = tuple(_region(entry) for entry in fields["forbidden"])
    if "rules" in fields:
        fields["rules"] = tuple(Rule(**entry) for entry in fields["rules"])
    return ArmEnvelope(**fields)


def _region(entry: Mapping[str, Any]) -> Any:
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, (list, tuple)) else value for key, value in entry.items()
    }
    return Box(**values) if "lower" in values else RoundRegion(**values)
