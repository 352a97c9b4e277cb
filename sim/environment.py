"""The batched quadrotor environment: buffers, episodes and rewards around the task's pure functions.

Torch tensors in and out, with the auto-reset of Isaac Gym (Gymnasium calls it `NEXT_STEP`): the
observation that comes with reset = true is the last one of its episode; the next step begins a new
episode there, ignores the action that it is given and returns the new episode's first observation
with reward 0 and reset false. A learner must not learn from that one transition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from torch import Tensor

from hardware.descriptions import load_quadrotor
from policies import actions as action_terms
from policies.observations import observation_size
from policies.types import QuadrotorSetpoint, QuadrotorState
from sim.quadrotor import QuadrotorParameters, step
from sim.quadrotor_model import LoopModel, loop_model, nominal_variables, physical_parameters
from sim.randomization import RandomizationTerm, Randomizer
from sim.tasks.quadrotor import (
    QuadrotorTask,
    advance,
    draw_path,
    draw_start,
    has_failed,
    observe,
    privileged,
    reward,
    setpoint_at,
)
from sim.trees import tree_fill, tree_index, tree_leaves, tree_put

Observations = dict[str, Tensor]

_POOL = 256
"""Samples of the randomization that are drawn at once for the next episodes."""
_LOOP_VARIABLES = ("_noise", "_bias", "_latency", "battery_sag")
"""How the design variables that `loop_model` reads end; the others act on the rigid body."""


class QuadrotorEnv:
    """N quadrotors that each fly their own episode of a task."""

    metadata: ClassVar[dict[str, Any]] = {
        "autoreset_mode": gymnasium.vector.AutoresetMode.NEXT_STEP,
        "render_modes": [],
    }
    _memory: dict[str, Tensor]

    def __init__(
        self,
        task: QuadrotorTask,
        *,
        num_envs: int,
        device: torch.device | str = "cpu",
        seed: int = 0,
        randomization: Sequence[RandomizationTerm] | None = None,
    ) -> None:
        """Build the environment and begin the first episodes.

        Args:
            task: What is to be done.
            num_envs: N.
            device: Where all tensors live.
            seed: Of everything random; the same seed gives the same run, bit by bit.
            randomization: Terms in place of the task's own.
        """
        if num_envs < 1:
            raise ValueError(f"num_envs is {num_envs}; expected at least 1")
        self.task = task
        self.num_envs = num_envs
        self.device = torch.device(device)
        self.terms = task.randomization if randomization is None else tuple(randomization)
        self.num_obs = observation_size(task.terms)
        self.num_actions = action_terms.action_size(task.action)
        self.max_episode_length = round(task.episode_length * task.control_rate_hz)
        """Control periods until a time-out."""
        self.period = task.period
        """s."""
        self._description = load_quadrotor(task.robot)
        self._pool_used = 0
        self._untouched = False
        changing = {term.parameter for term in self.terms if term.when in ("interval", "step")}
        self._body_changes = any(not name.endswith(_LOOP_VARIABLES) for name in changing)
        self._loop_changes = any(name.endswith(_LOOP_VARIABLES) for name in changing)
        self.seed = seed
        self.num_states = self.reset(seed=seed)["states"].shape[1]
        self._untouched = True

    # What it looks like

    @cached_property
    def observation_space(self) -> gymnasium.spaces.Box:
        """Of one environment's `obs`."""
        return gymnasium.spaces.Box(-np.inf, np.inf, (self.num_obs,), np.float32)

    @cached_property
    def state_space(self) -> gymnasium.spaces.Box:
        """Of one environment's `states`."""
        return gymnasium.spaces.Box(-np.inf, np.inf, (self.num_states,), np.float32)

    @cached_property
    def action_space(self) -> gymnasium.spaces.Box:
        """Of one environment."""
        return gymnasium.spaces.Box(-1.0, 1.0, (self.num_actions,), np.float32)

    @property
    def state(self) -> QuadrotorState:
        """True states (N, ...), for evaluation; a policy must not see them."""
        return self._simulation.state

    @property
    def setpoint(self) -> QuadrotorSetpoint:
        """Set-points (N, ...) of this instant."""
        return self._setpoint

    @property
    def parameters(self) -> QuadrotorParameters:
        """True physical parameters (N, ...)."""
        return self._parameters

    def randomization_table(self) -> list[dict[str, str]]:
        """One row per randomization term: what, how, when, and whether it does anything."""
        return self._randomizer.table()

    # Episodes

    @torch.no_grad()
    def reset(self, *, seed: int | None = None) -> Observations:
        """Begin a new episode everywhere; with `seed`, the first one of a new environment with that seed.

        Returns:
            `obs` (N, num_obs) and, for a critic only, `states` (N, num_states); float32.
        """
        if seed is None and self._untouched:
            seed = self.seed  # the episodes that began with the environment have not been used
        self._untouched = False
        if seed is not None:
            self._seed(seed)
        self._randomizer.reset(torch.ones(self.num_envs, dtype=torch.bool, device=self.device))
        self._build_models(True)
        self._path = draw_path(self.task.path, self.num_envs, self._start_generator)
        self._progress = torch.zeros(self.num_envs, dtype=torch.int64, device=self.device)
        self._ended = torch.zeros(self.num_envs, dtype=torch.bool, device=self.device)
        self._setpoint = setpoint_at(self._path, self._progress * self.period)
        self._simulation = draw_start(self.task, self._parameters, self._setpoint, self._start_generator)
        return self._observe()

    @torch.no_grad()
    def step(self, actions: Tensor) -> tuple[Observations, Tensor, Tensor, dict[str, Any]]:
        """Carry normalized `actions` (N, num_actions) out for one control period.

        They are clipped to [-1, 1]. Where the last step ended an episode, they are ignored.

        Returns:
            Observations as from `reset`; reward (N) float32; reset (N) bool, true on the last observation
            of an episode; extras with `time_outs` (N) bool, true where the time limit and not a failure
            ended it, and `log`, the mean of each reward term. All tensors are the caller's own.
        """
        if actions.shape != (self.num_envs, self.num_actions):
            raise ValueError(
                f"actions have shape {tuple(actions.shape)}; expected ({self.num_envs}, {self.num_actions})"
            )
        self._untouched = False
        actions = actions.detach().to(device=self.device, dtype=torch.float32).clamp(-1.0, 1.0)
        starting = self._ended
        self._randomizer.step(self.period)
        self._build_models(False)
        simulation, memory, current = self._simulation, self._memory, self._current
        self._simulation = advance(self.task, simulation, memory, current, actions, self._parameters, self._loop, step)
        self._progress = self._progress + 1
        index = starting.nonzero()[:, 0]
        if len(index) > 0:
            self._begin_episodes(index)
        self._setpoint = setpoint_at(self._path, self._progress * self.period)

        rewards, terms = reward(self.task, self._simulation, self._setpoint)
        failed = has_failed(self.task, self._simulation, self._setpoint)
        late = self._progress >= self.max_episode_length
        self._ended = failed | late
        means = torch.stack(list(terms.values())).nan_to_num(0.0, 0.0, 0.0).mean(-1)
        extras = {
            "time_outs": late & ~failed,
            "log": {f"reward/{name}": mean for name, mean in zip(terms, means.unbind(), strict=True)},
        }
        return self._observe(), rewards.masked_fill(starting, 0.0), self._ended.clone(), extras

    @torch.no_grad()
    def begin(self, mask: Tensor) -> Observations:
        """Begin a new episode at once in the environments of `mask` (N) bool: the next action acts there.

        For faces with another auto-reset than `NEXT_STEP`. The other environments stay as they are.

        Returns:
            Observations as from `reset`, of use only where `mask` is true: elsewhere the sensors' noise is another.
        """
        memory, index = self._memory, mask.to(self.device).nonzero()[:, 0]
        self._untouched = False
        self._begin_episodes(index)
        self._ended = self._ended.index_fill(0, index, False)
        self._setpoint = setpoint_at(self._path, self._progress * self.period)
        returned = self._observe()
        fresh = {name: value[index] for name, value in self._memory.items()}
        self._memory = tree_put(memory, index, fresh)
        return returned

    def _begin_episodes(self, index: Tensor) -> None:
        """Put the first instant of a new episode into the environments `index` (K)."""
        taken = 0
        while taken < len(index):
            if self._pool_used == self._pool.num_envs:
                self._pool.reset(torch.ones(self._pool.num_envs, dtype=torch.bool, device=self.device))
                self._pool_used = 0
            count = min(len(index) - taken, self._pool.num_envs - self._pool_used)
            self._randomizer.adopt(index[taken : taken + count], self._pool, self._pool_used)
            self._pool_used += count
            taken += count
        self._build_models(True)
        path = draw_path(self.task.path, len(index), self._start_generator)
        parameters = tree_index(self._parameters, index)
        setpoint = setpoint_at(path, torch.zeros(len(index), device=self.device))
        fresh = draw_start(self.task, parameters, setpoint, self._start_generator)
        self._path = tree_put(self._path, index, path)
        self._simulation = tree_put(self._simulation, index, fresh)
        self._progress = self._progress.index_fill(0, index, 0)

    def _observe(self) -> Observations:
        white = torch.randn(self.num_envs, 13, generator=self._noise_generator, device=self.device)
        observation, self._memory, self._current = observe(
            self.task, self._simulation, self._setpoint, self._loop, white
        )
        states = privileged(self.task, self._simulation, self._setpoint, self._parameters, self._loop)
        # What overflowed in the last observation of a failure is zero: it must not spoil a learner's batch.
        return {"obs": observation.nan_to_num(0.0, 0.0, 0.0), "states": states.nan_to_num(0.0, 0.0, 0.0)}

    def _build_models(self, everything: bool) -> None:
        """Bring the physical parameters and the loop up to date with the randomizer's values."""
        if everything or self._body_changes:
            self._parameters: QuadrotorParameters = physical_parameters(self._randomizer.values, self._description)
        if everything or self._loop_changes:
            self._loop: LoopModel = loop_model(self._randomizer.values, self.period)

    # Randomness and storage

    def _seed(self, seed: int) -> None:
        """Begin anew.

        Randomization, starts and noise have a generator each, so that a changed range of a term changes
        neither the starts nor the noise.
        """
        root = torch.Generator().manual_seed(seed)
        seeds = torch.randint(2**62, (4,), generator=root).tolist()
        generators = [torch.Generator(self.device).manual_seed(s) for s in seeds]
        draws, pool_draws, self._start_generator, self._noise_generator = generators
        nominal = nominal_variables(self._description, self.device)
        self._randomizer = Randomizer(nominal, self.terms, self.num_envs, draws)
        self._pool = Randomizer(nominal, self.terms, min(self.num_envs, _POOL), pool_draws)
        self._pool_used = self._pool.num_envs

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that is needed to go on later, bit by bit, in an environment built alike."""
        generators = {name: generator.get_state() for name, generator in self._generators().items()}
        pool_used = torch.tensor(self._pool_used)
        return {**dict(tree_leaves(self._tree())), **generators, "pool_used": pool_used}

    def load_state_dict(self, stored: Mapping[str, Tensor]) -> None:
        """Go on from what `state_dict` returned.

        Raises:
            ValueError: It is from an environment of another size or task.
        """
        tree = tree_fill(self._tree(), stored)
        for name, generator in self._generators().items():
            generator.set_state(stored[name].cpu())
        self._pool_used = int(stored["pool_used"])
        self._randomizer.load_state(tree["randomizer"])
        self._pool.load_state(tree["pool"])
        self._simulation, self._path = tree["simulation"], tree["path"]
        self._memory, self._current = tree["memory"], tree["current"]
        self._progress, self._ended = tree["progress"], tree["ended"]
        self._build_models(True)
        self._setpoint = setpoint_at(self._path, self._progress * self.period)

    def _generators(self) -> dict[str, torch.Generator]:
        return {
            "generator.draws": self._randomizer.generator,
            "generator.pool": self._pool.generator,
            "generator.start": self._start_generator,
            "generator.noise": self._noise_generator,
        }

    def _tree(self) -> dict[str, Any]:
        return {
            "randomizer": self._randomizer.state(),
            "pool": self._pool.state(),
            "simulation": self._simulation,
            "path": self._path,
            "memory": self._memory,
            "current": self._current,
            "progress": self._progress,
            "ended": self._ended,
        }

    def close(self) -> None:
        """Nothing is held outside of memory."""
