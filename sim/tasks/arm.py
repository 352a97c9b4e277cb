"""What the arm tasks share: a task as data, and what its functions get to see.

A task is one file: a scene, an observation, an action, and functions of batches: how episodes start, when they are
won or lost, a dense reward, and a scripted expert that stands in for a person.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import numpy as np
import torch
from array_api_compat import array_namespace
from torch import Tensor

from hardware.controllers.arm_config import ArmControllerConfig
from policies.actions import ActionConfig
from policies.manifest import Envelope
from policies.terms import TermConfig
from policies.types import ArmSetpoint, ArmState, Array
from sim.randomization import RandomizationTerm
from sim.scene import Scene


@dataclass(frozen=True, kw_only=True, eq=False)
class ArmStart:
    """How K episodes begin. Float64 numpy arrays."""

    joints: Mapping[str, np.ndarray]
    """Joint angles (K, n) rad by arm."""
    widths: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Distances (K,) m between the fingers by arm; open where an arm is missing."""
    poses: Mapping[str, np.ndarray] = field(default_factory=dict)
    """World poses (K, 7) by body; those that are missing stand as the scene says."""
    goal: np.ndarray | None = None
    """Tool pose (K, 7) that the set-point asks for, or the pose of what is to be moved; None without a goal."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ArmView:
    """The truth about N environments, for rewards and tests of success; a policy must not see it.

    Float32 tensors; poses and twists in the world, which is the base frame of an arm at the origin.
    """

    arms: Mapping[str, ArmState]
    """True state by arm name."""
    goal: Tensor
    """Set-point's pose (N, 7)."""
    twists: Mapping[str, Tensor]
    """Twists (N, 6) of the free bodies."""
    start: Mapping[str, Tensor]
    """Poses (N, 7) of the bodies at the start of the episode."""
    action: Tensor
    """Normalized action (N, A) of the last period."""
    previous_action: Tensor
    """The one before."""
    values: Mapping[str, Tensor]
    """Randomized variables (N, size) by name."""
    peak_force: Mapping[str, Tensor]
    """Largest contact force (N,) N at the tool in the last control period, by arm; 0 without a force sensor."""
    time: Tensor
    """s since the start of the episode (N,)."""

    @property
    def arm(self) -> ArmState:
        """The only arm, or the first."""
        return next(iter(self.arms.values()))


StartFunction = Callable[[int, torch.Generator, Mapping[str, Tensor]], ArmStart]
"""(number of episodes K, generator, randomized variables (K, size)) → how they begin."""
ViewFunction = Callable[[ArmView], Tensor]
Expert = Callable[[Any, ArmSetpoint], Array]
"""(measured state, set-point) → normalized action (..., A); numpy or torch, single or batched."""


def _never(view: ArmView) -> Tensor:
    return torch.zeros(len(view.time), dtype=torch.bool)


@dataclass(frozen=True, kw_only=True, eq=False)
class ArmTask:
    """What is to be done, by what arm, how it is observed and judged."""

    name: str
    """Name for people and manifests."""
    scene: Scene
    """Arms, objects, cameras."""
    terms: tuple[TermConfig, ...]
    """Observation of the policy."""
    action: ActionConfig
    """Action of the policy."""
    envelope: Envelope
    """Limits for the supervisor."""
    start: StartFunction
    """Draws the beginnings of episodes."""
    success: ViewFunction
    """Whether the goal is reached at this instant (N,) bool, by the physics."""
    reward: Callable[[ArmView], dict[str, Tensor]]
    """Terms (N,) of the dense reward, each at most 0 and their sum at least about -1 per step: a shorter way to the
    goal, which ends the episode, is always the better one."""
    expert: Expert
    """A scripted solution."""
    failed: ViewFunction = _never
    """Whether the episode is lost (N,) bool: it ends without a time-out."""
    costs: Callable[[ArmView], dict[str, Tensor]] | None = None
    """Terms (N,) ≥ 0 of what must stay small beside the reward (`sim.constraints`); None without constraints."""
    cost_limit: float = 0.0
    """Largest mean sum of the costs over an episode that is allowed."""
    hold: float = 0.3
    """s for which `success` must last without a break: a passing moment is no success."""
    randomization: tuple[RandomizationTerm, ...] = ()
    """Declared once, for every engine; the variables are those of `sim.arm_randomization`."""
    controller: ArmControllerConfig = ArmControllerConfig()
    """Gains and bounds of the controllers."""
    control_rate_hz: float = 10.0
    """Rate of the policy."""
    episode_length: float = 10.0
    """s until a time-out."""
    success_bonus: float = 20.0
    """Reward of the step in which the goal has been held, which ends the episode; added to the dense reward."""
    failure_penalty: float = 40.0
    """Taken off in the step in which the episode is lost: more than what failing early would save."""
    settings: Any = None
    """Dataclass of what a user may change with `--set name=value`."""
    build: Callable[[Any], ArmTask] | None = None
    """Makes the task anew from other settings."""

    @property
    def period(self) -> float:
        """Control period, s."""
        return 1.0 / self.control_rate_hz

    @property
    def robot(self) -> str:
        """Description of the first arm."""
        return self.scene.arms[0].robot

    @property
    def path(self) -> None:
        """Arms have no moving set-point."""
        return


def with_settings(task: ArmTask, values: Mapping[str, float]) -> ArmTask:
    """The task with other settings by name, e.g. `clearance`.

    Raises:
        ValueError: It has no such setting.
    """
    if not values:
        return task
    known = [f.name for f in dataclasses.fields(task.settings)] if task.settings is not None else []
    for name in values:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known) or 'none'}"
            raise ValueError(f"task {task.name!r} has no setting {name!r}; {hint}")
    assert task.build is not None
    changed = task.build(dataclasses.replace(task.settings, **values))
    return dataclasses.replace(changed, randomization=task.randomization)


# Helpers for task files


def uniform(count: int, low: float, high: float, generator: torch.Generator) -> np.ndarray:
    """Samples (count,) float64."""
    return low + (high - low) * torch.rand(count, generator=generator, dtype=torch.float64).numpy()


def poses(position: np.ndarray, yaw: np.ndarray | float = 0.0) -> np.ndarray:
    """Poses (K, 7) of upright things at positions (K, 3), turned by `yaw` rad about z."""
    half = 0.5 * np.broadcast_to(np.asarray(yaw, dtype=float), position.shape[:1])
    zero = np.zeros_like(half)
    return np.concatenate([position, np.stack([np.cos(half), zero, zero, np.sin(half)], axis=1)], axis=1)


def distance(a: Tensor, b: Tensor) -> Tensor:
    """Distance (N,) m between the positions of two poses (N, ≥ 3)."""
    return (a[..., :3] - b[..., :3]).norm(dim=-1)


def shortfall(value: Tensor, scale: float) -> Tensor:
    """0 where `value` ≥ 0 is 0, -1/2 where it is `scale`, towards -1 beyond: a smooth term of a reward."""
    return -torch.tanh(0.55 * value / scale)


def drive(error: Array, period: float, speed: float) -> Array:
    """Normalized velocity (..., k) that takes an `error` (..., k) away within a period, as far as `speed` allows.

    The direction is kept: the largest component is at most 1.
    """
    xp = array_namespace(error)
    wanted = error / (period * speed)
    largest = xp.max(xp.abs(wanted), axis=-1, keepdims=True)
    return wanted / largest.clip(1.0)
