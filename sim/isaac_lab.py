"""The tasks with the interface of Isaac Lab: what rsl_rl 5 and skrl 2 train on.

Observations are a dict of `policy` and, for a critic only, `critic`; a step returns five things; the auto-reset is
that of `SAME_STEP`: the step that ends an episode already returns the first observation of the next one, and
`extras["final_obs"]` keeps the last one. The tasks themselves reset in the next step (see `sim.environment`); a
learner that is told the wrong mode learns wrong values without a sign of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium
import torch
from gymnasium.vector.utils import batch_space
from torch import Tensor

from sim.factory import Env

Observations = dict[str, Tensor]


class IsaacLabEnv:
    """N environments of `sim.make` as Isaac Lab would offer them."""

    metadata: ClassVar[dict[str, Any]] = {
        "autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP,
        "render_modes": [],
    }

    def __init__(self, env: Env, *, cfg: Mapping[str, Any] | None = None) -> None:
        """Put the face on `env`, which nobody else steps from now on.

        Args:
            env: What `sim.make` returned.
            cfg: For a trainer's log; the task and the number of environments by default.
        """
        self.env = env
        self.num_envs, self.num_actions = env.num_envs, env.num_actions
        self.device = env.device
        self.max_episode_length = env.max_episode_length
        """Steps until a time-out; the environment's own is an upper bound."""
        self.step_dt = env.period
        """s, control period."""
        self.cfg = dict(cfg or {"task": env.task.name, "num_envs": env.num_envs, "seed": env.seed})
        self.single_observation_space = gymnasium.spaces.Dict(
            {"policy": env.observation_space, "critic": env.state_space}
        )
        self.single_action_space = env.action_space
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)
        self.action_space = batch_space(self.single_action_space, env.num_envs)
        self.state_space = batch_space(env.state_space, env.num_envs)
        self.reset()

    @property
    def unwrapped(self) -> IsaacLabEnv:
        """Itself: there is no wrapper."""
        return self

    @property
    def episode_length_buf(self) -> Tensor:
        """Steps (N,) int64 since each episode began; assign other numbers to let episodes end earlier."""
        return self._lengths

    @episode_length_buf.setter
    def episode_length_buf(self, lengths: Tensor) -> None:
        if lengths.shape != (self.num_envs,):
            raise ValueError(f"episode_length_buf has shape {tuple(lengths.shape)}; expected ({self.num_envs},)")
        self._lengths = lengths.to(device=self.device, dtype=torch.int64).clone()

    def get_observations(self) -> Observations:
        """The observations that the last step or reset returned, as copies."""
        return {name: value.clone() for name, value in self._observations.items()}

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Begin an episode everywhere; with `seed`, the same ones again. There are no options."""
        self._lengths = torch.zeros(self.num_envs, dtype=torch.int64, device=self.device)
        self._observations = _named(self.env.reset(seed=seed))
        return self.get_observations(), {}

    @torch.no_grad()
    def step(self, actions: Tensor) -> tuple[Observations, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Carry normalized `actions` (N, num_actions) out for one control period.

        Returns:
            Observations, of a new episode where one ended; reward (N) float32; terminated and truncated (N) bool;
            extras with `time_outs` (truncated), `final_obs` (the last observations of the episodes that ended, of
            use where one did) and what else the environment tells, such as `log`.
        """
        last, reward, ended, extras = self.env.step(actions)
        self._lengths = self._lengths + 1
        terminated = ended & ~extras["time_outs"]
        truncated = extras["time_outs"] | (self._lengths >= self.max_episode_length) & ~terminated
        done = terminated | truncated
        observations = final = _named(last)
        if bool(done.any()):
            first = _named(self.env.begin(done))
            observations = {name: torch.where(done[:, None], first[name], value) for name, value in final.items()}
            self._lengths = self._lengths.masked_fill(done, 0)
        self._observations = observations
        extras = {**extras, "time_outs": truncated.clone(), "final_obs": final}
        return self.get_observations(), reward, terminated, truncated, extras

    def close(self) -> None:
        """Give back what the environment holds."""
        close = getattr(self.env, "close", None)  # quadrotors hold nothing
        if close is not None:
            close()


def _named(observations: Observations) -> Observations:
    return {"policy": observations["obs"], "critic": observations["states"]}
