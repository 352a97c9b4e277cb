"""One environment in which a policy, or a stand-in for one, plays episodes that are looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import policies
from robot_rl.errors import UserError
from robot_rl.evaluate_arm import act, as_trained, looks_of
from robot_rl.seeing import build_seen, seen_by, with_images
from sim.arm_environment import ArmEnv
from sim.environment import QuadrotorEnv
from sim.factory import Env, build_env
from sim.look import ArmLook, Look
from sim.quadrotor_look import QuadrotorLook
from sim.randomization import RandomizationTerm
from sim.tasks import Task
from sim.tasks.arm import ArmTask

FRAME_RATE = 30
"""Frames per second of what is looked at."""
STAND_INS = ("expert", "random", "zero")
"""What can play in place of a bundle."""
_EPSILON = 1e-6
OnTime = Callable[[float], None]
"""(s since the start of the episode) → nothing: called after every time step of physics, and at the start."""


@dataclass(kw_only=True)
class Episode:
    """How an episode goes."""

    number: int
    """From 1."""
    time: float = 0.0
    """s since its start."""
    reward: float = 0.0
    """Of the last control period."""
    total: float = 0.0
    """Sum of the rewards."""
    outcome: str = ""
    """`success`, `failed` or `time-out`; empty while it goes on."""


class Actor:
    """Chooses the actions."""

    def __init__(self, name: str, task: Task, seed: int) -> None:
        """Load it.

        Args:
            name: `expert`, `random`, `zero`, or a bundle's folder or name.
            task: What it plays.
            seed: Of random actions.

        Raises:
            UserError: The task has no expert, or the bundle is for another kind of robot.
        """
        self.name, self.task = name, task
        self.policy: policies.Policy | None = None
        self._generator = torch.Generator().manual_seed(seed)
        if name == "expert" and not isinstance(task, ArmTask):
            raise UserError(f"task {task.name!r} has no scripted expert; give a bundle, 'random' or 'zero'")
        if name not in STAND_INS:
            self.policy = policies.load(name)
            kind = "arm" if isinstance(task, ArmTask) else "quadrotor"
            if self.policy.manifest.robot.kind != kind:
                raise UserError(
                    f"bundle {name!r} was trained on {self.policy.manifest.task!r} and moves a "
                    f"{self.policy.manifest.robot.kind}; task {task.name!r} has a {kind}"
                )
            if isinstance(task, ArmTask):
                self.task = as_trained(task, self.policy)

    def begin(self) -> None:
        """A new episode."""
        if self.policy is not None:
            self.policy.reset()

    def act(self, env: Env, images: Mapping[str, Tensor]) -> Tensor:
        """Normalized action (1, A); `images` (1, H, W, 3) are the newest of the cameras that it looks through."""
        if self.name == "zero":
            return torch.zeros(1, env.num_actions)
        if self.name == "random":
            return 2.0 * torch.rand(1, env.num_actions, generator=self._generator) - 1.0
        # Arms are seen through their sensors; the quadrotor's environment keeps those to itself: it gives the truth.
        state: Any = with_images(env.measured, images) if isinstance(env, ArmEnv) else env.state
        setpoint: Any = env.setpoint
        return act(self.policy, self.task, state, setpoint)  # type: ignore[arg-type]


class Stage:
    """An environment, who acts in it, and how it looks."""

    def __init__(
        self,
        task: Task,
        actor: str,
        *,
        terms: tuple[RandomizationTerm, ...],
        engine: str | None = None,
        seed: int = 0,
    ) -> None:
        """Build the environment.

        Args:
            task: What is played.
            actor: `expert`, `random`, `zero`, or a bundle's folder or name.
            terms: Randomization.
            engine: Physics; None is the task's own.
            seed: Of everything random.
        """
        self.actor = Actor(actor, task, seed)
        self.task = self.actor.task
        policy = self.actor.policy
        if policy is not None and policy.manifest.images and isinstance(self.task, ArmTask):
            shapes = policy.manifest.images
            self.task = seen_by(self.task, shapes)
            self.env: Env = build_seen(
                self.task,
                1,
                cameras=tuple(shapes),
                looks=looks_of(policy),
                seed=seed,
                randomization=terms,
                engine=engine,
            )
        else:
            self.env = build_env(self.task, 1, seed=seed, randomization=terms, engine=engine)
        self._images: Any = {}
        self.look: Look = QuadrotorLook(self.env) if isinstance(self.env, QuadrotorEnv) else ArmLook(self.env)
        self.episode = Episode(number=0)

    def begin(self) -> None:
        """Begin the next episode; the first one is that of `robot-rl eval` with the same seed."""
        first = self.episode.number == 0
        observed = self.env.reset() if first else self.env.begin(torch.ones(1, dtype=torch.bool))
        self._images = observed.get("images", {})
        self.episode = Episode(number=self.episode.number + 1)
        self.actor.begin()
        self.look.begin()

    def advance(self, on_time: OnTime) -> None:
        """Play one control period; `on_time` is called as often as something has moved."""
        env, episode = self.env, self.episode
        start = episode.time
        action = self.actor.act(env, self._images)
        if isinstance(env, ArmEnv):
            dt = env.engine.scene.timestep
            env.loop.on_substep = lambda k: on_time(start + (k + 1) * dt)
        try:
            observed, reward, reset, extras = env.step(action)
        finally:
            if isinstance(env, ArmEnv):
                env.loop.on_substep = None
        self._images = observed.get("images", {})
        episode.time = start + env.period
        episode.reward = float(reward[0])
        episode.total += episode.reward
        if bool(reset[0]):
            late = bool(extras["time_outs"][0])
            won = "success" in extras and bool(extras["success"][0])
            episode.outcome = "time-out" if late else "success" if won else "failed"
        if isinstance(env, QuadrotorEnv):
            on_time(episode.time)

    def close(self) -> None:
        """Give back what the engine holds."""
        if isinstance(self.env, ArmEnv):
            self.env.close()


class Frames:
    """Tells which moments of an episode are frames, evenly in time."""

    def __init__(self, interval: float) -> None:
        """Count from 0 s.

        Args:
            interval: s of simulated time from frame to frame.
        """
        self.interval = interval
        self._next = 0.0

    def restart(self) -> None:
        """A new episode."""
        self._next = 0.0

    def due(self, time: float) -> bool:
        """Whether a frame belongs to this moment, the first one at or after its time."""
        if time < self._next - _EPSILON:
            return False
        # A slow frame rate skips none, moments that are far apart give one frame each.
        self._next += self.interval * max(1, int((time - self._next + _EPSILON) / self.interval) + 1)
        return True
