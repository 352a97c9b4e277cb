"""What a policy does in a batch of environments: rollouts, the episodes in them, generalized advantages.

The environments' auto-reset is that of `NEXT_STEP`, in which one transition per episode has an action that was
ignored: `Rollout.valid` is false there. An episode that the time limit ends is not over: its last value is that of
its last observation. One that terminates, by a failure or a success, is: its last value is 0 (Pardo et al., "Time
limits in reinforcement learning", 2018).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Rollout:
    """What happened in T steps of N environments."""

    obs: Tensor
    """Shape (T, N, D)."""
    critic_obs: Tensor
    """Shape (T, N, S)."""
    actions: Tensor
    """Shape (T, N, A), as sampled, before the environment clips them."""
    means: Tensor
    """Shape (T, N, A), of the policy that sampled them."""
    log_probs: Tensor
    """Shape (T, N), of the actions."""
    rewards: Tensor
    """Shape (T, N)."""
    costs: Tensor
    """Shape (T, N), of constraints; 0 where the environment has none."""
    ended: Tensor
    """Shape (T, N) bool: the episode ended in this step."""
    terminated: Tensor
    """Shape (T, N) bool: it ended, and not by the time limit."""
    valid: Tensor
    """Shape (T, N) bool: the action acted; false in the step that began a new episode."""
    last_critic_obs: Tensor
    """Shape (N, S), after the last step."""

    def broken(self) -> tuple[str, Tensor] | None:
        """Name and values of what was not finite first; None where everything is finite."""
        parts = {  # of one step, in the order in which they cause each other
            "observations": self.obs,
            "states": self.critic_obs,
            "actions": self.actions,
            "rewards": self.rewards,
            "costs": self.costs,
        }
        wrong = {name: (~torch.isfinite(part)).flatten(1).any(1) for name, part in parts.items()}
        if not bool(torch.stack(list(wrong.values())).any()):
            return None
        first = min(wrong, key=lambda name: int((~wrong[name]).long().cumprod(0).sum()))
        return first, parts[first]


class Collector:
    """Environments, and what of their episodes lasts from one rollout to the next."""

    def __init__(self, env: Any) -> None:
        """Begin episodes in any environment that passes `sim.check_vec_env`."""
        self.env = env
        self._observations: dict[str, Tensor] = env.reset()
        self._ended = torch.zeros(env.num_envs, dtype=torch.bool, device=env.device)
        # Return, length and cost of the episodes that go on.
        self._sums = torch.zeros(env.num_envs, 3, device=env.device)
        # The same of the newest episodes that ended, and whether (0 or 1) they failed and succeeded.
        self._episodes = torch.zeros(0, 5, device=env.device)
        self._reported: set[str] = set()

    @torch.no_grad()
    def collect(
        self, policy: Callable[[Tensor], Tensor], log_std: Tensor, horizon: int, generator: torch.Generator
    ) -> tuple[Rollout, dict[str, float]]:
        """Run every environment for `horizon` steps, with normal noise around the policy's actions.

        Returns:
            What happened, and the mean of each entry of the environment's log.
        """
        rows: list[dict[str, Tensor]] = []
        logs: list[dict[str, Tensor]] = []
        finished: list[Tensor] = []
        std = log_std.exp()
        for _ in range(horizon):
            obs, critic_obs, valid = self._observations["obs"], self._critic_features(), ~self._ended
            mean = policy(obs)
            action = mean + std * torch.randn(mean.shape, generator=generator, device=mean.device)
            self._observations, reward, self._ended, extras = self.env.step(action)
            terminated = self._ended & ~extras["time_outs"]
            success = extras.get("success", torch.zeros_like(terminated)) & self._ended
            cost = extras.get("cost", torch.zeros_like(reward))
            rows.append(
                {
                    "obs": obs,
                    "critic_obs": critic_obs,
                    "actions": action,
                    "means": mean,
                    "log_probs": log_probability(action, mean, log_std),
                    "rewards": reward,
                    "costs": cost,
                    "ended": self._ended,
                    "terminated": terminated,
                    "valid": valid,
                }
            )
            logs.append(extras.get("log", {}))
            self._reported = {"success", "cost"} & extras.keys()
            gain = torch.stack([reward, torch.ones_like(reward), cost], dim=-1)
            self._sums = torch.where(valid[:, None], self._sums + gain, 0.0)
            outcome = torch.stack([terminated & ~success, success], dim=-1).float()
            finished.append(torch.cat([self._sums, outcome], dim=-1)[self._ended])
        columns = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        self._episodes = torch.cat([self._episodes, *finished])[-self.env.num_envs :]
        log = {name: float(torch.stack([log[name] for log in logs]).mean()) for name in logs[0]}
        return Rollout(**columns, last_critic_obs=self._critic_features()), log

    def episode_means(self) -> dict[str, float]:
        """Means over the last `num_envs` episodes that ended, of the exploring policy; empty until one has.

        `episode_return`, `episode_length` and `failure_rate` (terminated without success); `success_rate` and
        `episode_cost` (sum of the costs) where the environment tells them.
        """
        if len(self._episodes) == 0:
            return {}
        names = ("episode_return", "episode_length", "episode_cost", "failure_rate", "success_rate")
        means = dict(zip(names, self._episodes.mean(0).tolist(), strict=True))
        needed = {"episode_cost": "cost", "success_rate": "success"}
        return {name: mean for name, mean in means.items() if needed.get(name) in {None, *self._reported}}

    def _critic_features(self) -> Tensor:
        return self._observations.get("states", self._observations["obs"])

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that is needed to go on, bit by bit, as named tensors."""
        state = {f"env.{k}": v for k, v in self.env.state_dict().items()}
        state.update({f"observations.{k}": v for k, v in self._observations.items()})
        return {**state, "ended": self._ended, "sums": self._sums, "episodes": self._episodes}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on where `state_dict` was taken, with environments built alike."""

        def part(prefix: str) -> dict[str, Tensor]:
            return {name[len(prefix) :]: value.clone() for name, value in state.items() if name.startswith(prefix)}

        self.env.load_state_dict(part("env."))
        self._observations = part("observations.")
        self._ended, self._sums, self._episodes = (state[k].clone() for k in ("ended", "sums", "episodes"))


def log_probability(action: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Logarithm of the normal density (...) of actions (..., A)."""
    distance = (action - mean) * torch.exp(-log_std)
    return -(0.5 * distance.square() + log_std + 0.5 * math.log(2.0 * math.pi)).sum(-1)


def gae(rollout: Rollout, signal: Tensor, values: Tensor, discount: float, gae_lambda: float) -> Tensor:
    """Generalized advantages (T, N) of a signal (T, N), given values (T + 1, N) of the observations.

    The signal is multiplied by 1 - discount, so that values have the size of one step's. In `NEXT_STEP` the
    observation after an end is the last one of the same episode, so its value is the one to go on with after a
    time-out. Advantages where `rollout.valid` is false mean nothing.
    """
    advantages = torch.zeros_like(signal)
    following = torch.zeros_like(values[0])
    for t in reversed(range(len(signal))):
        next_value = torch.where(rollout.terminated[t], 0.0, values[t + 1])
        delta = (1.0 - discount) * signal[t] + discount * next_value - values[t]
        following = delta + discount * gae_lambda * torch.where(rollout.ended[t], 0.0, following)
        advantages[t] = following
    return advantages
