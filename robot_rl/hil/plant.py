"""What the actor acts on: one robot with one task, simulated or real, one control step at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from policies.actions import action_size
from policies.observations import observation_size
from policies.types import ArmSetpoint, ArmState
from sim.factory import build_env
from sim.randomization import RandomizationTerm
from sim.tasks.arm import ArmTask


@dataclass(frozen=True, kw_only=True, eq=False)
class Moment:
    """What is known when an action has to be chosen."""

    observation: np.ndarray
    """The policy's (D,) float32."""
    images: Mapping[str, np.ndarray]
    """(H, W, 3) uint8 by camera."""
    state: Any
    """Measured `ArmState`, batch of one, or one by arm name."""
    setpoint: ArmSetpoint
    """Set-point, batch of one."""
    progress: float
    """How far the task seems to be, as somebody who looks on would say; larger is further."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What became of an action."""

    moment: Moment
    """What is known afterwards."""
    reward: float
    """The task's: 1 in the step in which its goal has been held, else 0."""
    terminated: bool
    """The task is solved or lost."""
    truncated: bool
    """The time is up."""
    success: bool
    """The task is solved."""
    info: dict[str, float] = field(default_factory=dict)
    """Small figures worth keeping, such as `peak_force` N."""


class Plant(Protocol):
    """One robot with one task."""

    period: float
    """s between control steps."""

    def reset(self) -> Moment:
        """Begin a new episode."""

    def step(self, action: np.ndarray) -> Outcome:
        """Carry a normalized action (A,) out for one control period."""

    def hold(self) -> None:
        """Stay where it is for a control period, outside of any episode's time."""

    def close(self) -> None:
        """Let the robot go."""


class SimulatedPlant:
    """A task's simulated robot; steps as fast as it is asked to."""

    def __init__(
        self,
        task: ArmTask,
        *,
        seed: int = 0,
        randomization: tuple[RandomizationTerm, ...] | None = None,
        cameras: tuple[str, ...] = (),
    ) -> None:
        """Build it; the first episode begins with `reset`.

        Args:
            task: What is to be done.
            seed: Of starts, robots and noise.
            randomization: In place of the task's own.
            cameras: Names of the cameras whose images are wanted.
        """
        terms = task.randomization if randomization is None else randomization
        self.env = build_env(task, 1, seed=seed, randomization=terms, reward="sparse", cameras=cameras)
        self.task = task
        self.period = task.period
        self.observation_size = observation_size(task.terms)
        self.action_size = action_size(task.action)
        self._begun = False

    def reset(self) -> Moment:
        """Begin a new episode: another start, another robot."""
        # The environment's first episode has begun already; later ones are begun in it, so that its generators go on.
        observed = self.env.begin(torch.ones(1, dtype=torch.bool)) if self._begun else self.env.reset()
        self._begun = True
        return self._moment(observed)

    def step(self, action: np.ndarray) -> Outcome:
        """Carry a normalized action (A,) out for one control period."""
        observed, reward, ended, extras = self.env.step(torch.from_numpy(np.asarray(action, np.float32))[None])
        late = bool(extras["time_outs"])
        info = {f"peak_force_{name}": float(value) for name, value in self.env.view.peak_force.items()}
        if "cost" in extras:
            info["cost"] = float(extras["cost"])
        return Outcome(
            moment=self._moment(observed),
            reward=float(reward),
            terminated=bool(ended) and not late,
            truncated=late,
            success=bool(extras["success"]),
            info=info,
        )

    def hold(self) -> None:
        """Stop the clock: a simulated robot that is paused stands still."""

    def close(self) -> None:
        """Free the simulator."""
        self.env.close()

    def _moment(self, observed: Mapping[str, Any]) -> Moment:
        terms: dict[str, Tensor] = self.task.reward(self.env.view)
        return Moment(
            observation=observed["obs"][0].numpy(),
            images={name: image[0].numpy() for name, image in observed.get("images", {}).items()},
            state=self.env.measured,
            setpoint=self.env.setpoint,
            progress=float(sum(value for name, value in terms.items() if name != "jerky")),
        )


def expert_action(task: ArmTask, state: ArmState | dict[str, ArmState], setpoint: ArmSetpoint) -> np.ndarray:
    """The scripted expert's normalized action (A,) float32 in [-1, 1]."""
    action: Tensor = task.expert(state, setpoint)
    return action[0].float().clamp(-1.0, 1.0).numpy()
