"""Settings of the quadrotor's supervisor, and what it says at every tick."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np

from hardware.safety.arm_envelope import Rule
from hardware.safety.quadrotor_fallback import FallbackConfig
from hardware.safety.quadrotor_inputs import InputConfig

Mode: TypeAlias = Literal["disarmed", "active", "holding", "level", "descending", "fault"]


@dataclass(frozen=True, kw_only=True)
class SupervisorConfig:
    """Settings beside the envelope of the policy's manifest."""

    return_time: float = 0.5
    """s without policy output, the state being good, after which the vehicle descends for good."""
    descent_slack: float = 5.0
    """s beyond height / descent speed after which a descent ends with motors off: it stands on something."""
    ground_height: float = 0.0
    """m, z of the vehicle's position when it stands on the ground."""
    landed_height: float = 0.05
    """m above `ground_height` below which a slow vehicle has landed."""
    landed_speed: float = 0.15
    """m/s below which a low vehicle has landed."""
    landed_time: float = 0.3
    """s that it has to be low and slow."""
    arm_max_tilt: float = 0.35
    """rad of tilt at which arming and recovery are still allowed."""
    arm_max_speed: float = 0.5
    """m/s at which arming is still allowed."""
    rules: tuple[Rule, ...] = ()
    """Rules in signal temporal logic beside those of the manifest; `hold` lets the fallback hold the position until
    someone recovers, `brake` brings the vehicle down."""
    rule_hold_time: float = 10.0
    """s that the fallback holds the position for a broken rule, without anybody's `recover`, before it descends."""
    inputs: InputConfig = field(default_factory=InputConfig)
    """What is believed of states, attitudes and commands."""
    fallback: FallbackConfig = field(default_factory=FallbackConfig)
    """How it flies without the policy."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SupervisorOutput:
    """What the motors get now, and why."""

    motor_speeds: np.ndarray
    """Shape (4,), rad/s; zeros while disarmed or at fault."""
    mode: Mode
    """What decides about the motors; see the module's table."""
    cause: str
    """Why the mode is not `active`, in words; empty while it is."""
    latched: bool
    """Only `recover` leads on: to `active` from `holding`, with `arm` after it from everything else."""
    state_age: float
    """s since the newest believed state was measured; inf if there is none."""
    command_age: float
    """s since the newest believed policy output was computed; inf if there is none."""
    landed: bool
    """Low and slow for long enough, by the newest believed state."""
