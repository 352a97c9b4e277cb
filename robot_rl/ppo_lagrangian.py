"""PPO with a Lagrange multiplier: the return is maximized while the mean cost of an episode stays under a limit.

The environment tells the cost of each step in `extras["cost"]`. A second critic predicts it, its generalized
advantages are weighed against those of the reward, and the weight, the multiplier λ ≥ 0, rises while the costs are
above the limit and falls while they are below.

Sources: Ray, Achiam, Amodei, "Benchmarking safe exploration in deep reinforcement learning" (2019), section 5: PPO
on (A_reward - λ A_cost) / (1 + λ). Stooke, Achiam, Abbeel, "Responsive safety in reinforcement learning by PID
Lagrangian methods" (2020), algorithm 2: λ is the output of a PID controller; plain gradient ascent on λ is its
integral part alone, and it oscillates. What differs from the papers, and why:

- both signals are discounted alike in the gradient; what is held against the limit is the plain sum over an episode;
- the controller sees the mean over the last `num_envs` episodes, so it needs no smoothing of its own; its error is
  relative to the limit and cut to ±1, so that λ can fall as fast as it rose, however small the limit;
- an episode that terminates causes no further costs. Where failing early would be a way out of them, the task's
  `failure_penalty` has to be the dearer one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from robot_rl.ppo import Ppo, PpoConfig
from sim.factory import build_env
from sim.tasks import Task
from sim.tasks.arm import ArmTask


@dataclass(frozen=True, kw_only=True)
class PpoLagrangianConfig(PpoConfig):
    """Settings of PPO, and of the controller of its multiplier."""

    cost_limit: float | None = None
    """Largest mean sum of the costs over an episode; None is the task's own."""
    initial_multiplier: float = 0.0
    """The multiplier's integral part at the start, in units of reward per cost."""
    integral_gain: float = 0.1
    """Growth of the integral part per update, in units of reward per cost, while the cost is twice the limit or more;
    it falls as fast where there is no cost."""
    proportional_gain: float = 1.0
    """Part of the multiplier, in units of reward per cost, that is there while the cost is twice the limit or more."""
    derivative_gain: float = 0.0
    """Part that answers to a cost that grew by the limit or more in one update; falling costs do not lower it."""
    free_updates: int = 0
    """Updates at the start in which the multiplier stays at `initial_multiplier`. A policy that does not know the way
    yet dawdles in a region that a good one crosses fast; priced too early, it learns to stay away from both region and
    goal."""
    max_multiplier: float = 100.0
    """It never exceeds this: a limit that cannot be kept must not drown the reward for ever."""

    def __post_init__(self) -> None:
        super().__post_init__()
        gains = ("integral_gain", "proportional_gain", "derivative_gain")
        for name in ("initial_multiplier", *gains, "free_updates", "max_multiplier"):
            if not getattr(self, name) >= 0.0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 0")
        if self.cost_limit is not None and not self.cost_limit >= 0.0:
            raise ValueError(f"cost_limit is {self.cost_limit}; expected at least 0, or None for the task's own")


class Multiplier:
    """A PID controller whose output is the price of a unit of cost (Stooke et al. 2020, algorithm 2)."""

    def __init__(self, limit: float, config: PpoLagrangianConfig) -> None:
        """Begin at the config's `initial_multiplier`."""
        self.limit, self.config = limit, config
        self.value = config.initial_multiplier
        """λ, reward per cost."""
        self._integral = config.initial_multiplier
        self._last_cost: float | None = None

    def update(self, cost: float) -> None:
        """Take note of the mean cost of the newest episodes."""
        config, above = self.config, self._in_limits(cost - self.limit)
        growth = 0.0 if self._last_cost is None else max(0.0, self._in_limits(cost - self._last_cost))
        self._integral = min(max(0.0, self._integral + config.integral_gain * above), config.max_multiplier)
        output = self._integral + config.proportional_gain * above + config.derivative_gain * growth
        self.value = min(max(0.0, output), config.max_multiplier)
        self._last_cost = cost

    def _in_limits(self, difference: float) -> float:
        """A difference of costs in units of the limit, cut to ±1."""
        return min(max(difference / max(self.limit, 1e-6), -1.0), 1.0)

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that is needed to go on."""
        last = float("nan") if self._last_cost is None else self._last_cost
        return {"numbers": torch.tensor([self.value, self._integral, last], dtype=torch.float64)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on where `state_dict` was taken."""
        self.value, self._integral, last = state["numbers"].tolist()
        self._last_cost = None if last != last else last


def init(task: Task, config: PpoLagrangianConfig, seed: int, device: str = "cpu") -> PpoLagrangian:
    """Begin a training run on a task with constraints; `seed` alone decides it on one machine.

    Raises:
        ValueError: The task has no constraints.
    """
    if not isinstance(task, ArmTask) or task.costs is None:
        raise ValueError(f"task {task.name!r} has no costs for ppo-lagrangian to limit; train it with ppo")
    return PpoLagrangian(build_env(task, config.num_envs, device=device, seed=seed), config, seed)


class PpoLagrangian(Ppo):
    """PPO whose policy increases the return less λ times the cost."""

    signals: ClassVar[tuple[str, ...]] = ("rewards", "costs")

    def __init__(self, env: Any, config: PpoLagrangianConfig, seed: int) -> None:
        """Begin on any environment that tells `extras["cost"]`; the limit is the config's, else the task's."""
        super().__init__(env, config, seed)
        limit = self.task.cost_limit if config.cost_limit is None else config.cost_limit
        self.multiplier = Multiplier(limit, config)
        self._free_updates = config.free_updates

    def update(self) -> dict[str, float]:
        """One rollout and its epochs; the metrics of PPO, with `episode_cost`, `cost_limit` and `multiplier`."""
        return {**super().update(), "cost_limit": self.multiplier.limit, "multiplier": self.multiplier.value}

    def _combined(self, advantages: Mapping[str, Tensor]) -> Tensor:
        means = self.collector.episode_means()
        if means and "episode_cost" not in means:
            raise ValueError("the environment tells no extras['cost']: train with ppo, or give the task costs")
        if means and self.updates >= self._free_updates:  # until an episode has ended, there is no cost of one
            self.multiplier.update(means["episode_cost"])
        return combined_advantage(advantages["rewards"], advantages["costs"], self.multiplier.value)

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that a later process needs to go on with the same run, bit by bit, as named tensors."""
        return {**super().state_dict(), **{f"multiplier.{k}": v for k, v in self.multiplier.state_dict().items()}}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on where `state_dict` was taken, with the same task and config."""
        super().load_state_dict(state)
        self.multiplier.load_state_dict({"numbers": state["multiplier.numbers"]})


def combined_advantage(reward: Tensor, cost: Tensor, multiplier: float) -> Tensor:
    """Advantages (T, N) of reward and cost in one: their size stays that of an advantage as the multiplier grows."""
    return (reward - multiplier * cost) / (1.0 + multiplier)
