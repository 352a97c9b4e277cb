"""What the actor acts on: one robot with one task, simulated or real, one control step at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from policies.actions import action_size
from policies.observations import initial_memory, observation_size, observe
from policies.types import ArmSetpoint, ArmState
from robot_rl.seeing import Looks, build_seen
from sim.randomization import RandomizationTerm
from sim.tasks.arm import ArmTask, ArmView


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
        looks: Looks = "varied",
    ) -> None:
        """Build it; the first episode begins with `reset`.

        Args:
            task: What is to be done.
            seed: Of starts, robots and noise.
            randomization: In place of the task's own.
            cameras: Names of the cameras whose images are wanted.
            looks: How laboratory and cameras vary.
        """
        terms = task.randomization if randomization is None else randomization
        self.env = build_seen(task, 1, seed=seed, randomization=terms, reward="sparse", cameras=cameras, looks=looks)
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

    def go_on(self, goal: np.ndarray | None = None) -> Moment:
        """Begin a new episode where things are: clocks and memories begin anew, nothing is moved.

        Robot, noise and biases stay those of the last `reset`, which must have come before.

        Args:
            goal: Set-point's pose (1, 7) from now on; the old one if not given.
        """
        stored, starting = self.env.state_dict(), self.env.num_envs
        for name in ("progress", "held", "ended", "action", "previous_action"):
            stored[name] = torch.zeros_like(stored[name])
        if goal is not None:
            stored["goal"] = torch.from_numpy(np.asarray(goal, np.float64))
        for name in self.env.view.start:
            stored[f"start.{name}"] = torch.from_numpy(self.env.engine.pose(name))
        memory = initial_memory(self.task.terms, torch.zeros(starting, 1))
        setpoint = self.env.setpoint if goal is None else ArmSetpoint(tool_pose=stored["goal"].float())
        told, memory = observe(self.task.terms, self.env.measured, setpoint, memory, self.period)
        stored.update({f"memory.{name}": value for name, value in memory.items()})
        images = {} if self.env.cameras is None else self.env.cameras.images()
        self.env.load_state_dict(stored)
        start = {name: stored[f"start.{name}"].float() for name in self.env.view.start}
        goals = {} if setpoint.tool_pose is None else {"goal": setpoint.tool_pose}
        view = dataclasses.replace(self.env.view, start=start, time=torch.zeros(starting), **goals)
        return self._moment(
            {"obs": told, "images": {k: torch.from_numpy(v) for k, v in images.items()}}, view, setpoint
        )

    def step(self, action: np.ndarray) -> Outcome:
        """Carry a normalized action (A,) out for one control period."""
        observed, reward, ended, extras = self.env.step(torch.from_numpy(np.asarray(action, np.float32))[None])
        late = bool(extras["time_outs"])
        info = {f"peak_force_{name}": float(value) for name, value in self.env.view.peak_force.items()}
        # Whether the task holds now, which must last for a while before it counts: labels for a reward from pictures.
        info["truth"] = float(self.task.success(self.env.view))
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

    def _moment(
        self, observed: Mapping[str, Any], view: ArmView | None = None, setpoint: ArmSetpoint | None = None
    ) -> Moment:
        terms: dict[str, Tensor] = self.task.reward(view or self.env.view)
        return Moment(
            observation=observed["obs"][0].numpy(),
            images={name: image[0].numpy() for name, image in observed.get("images", {}).items()},
            state=self.env.measured,
            setpoint=setpoint or self.env.setpoint,
            progress=float(sum(value for name, value in terms.items() if name != "jerky")),
        )


def expert_action(task: ArmTask, state: ArmState | dict[str, ArmState], setpoint: ArmSetpoint) -> np.ndarray:
    """The scripted expert's normalized action (A,) float32 in [-1, 1]."""
    action: Tensor = task.expert(state, setpoint)
    return action[0].float().clamp(-1.0, 1.0).numpy()
