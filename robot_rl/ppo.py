"""Proximal policy optimization (PPO): needs only samples, so it runs on any batched environment.

A batch of environments is run for `horizon` steps with the policy of the moment; the generalized
advantages of what happened then improve policy and value function over a few epochs of mini-batches,
with a ratio of probabilities that is clipped so that no epoch moves the policy far.

Sources: Schulman et al., "Proximal policy optimization algorithms" (2017), eq. 7 and 9; advantages from
Schulman et al., "High-dimensional continuous control using generalized advantage estimation" (2016),
eq. 16; a learning rate that follows the KL divergence as in Rudin et al., "Learning to walk in minutes"
(2022). What differs from the papers, and why:

- the critic sees `states`, the true state and parameters, where the environment has them; the policy
  never does (asymmetric actor-critic, Pinto et al. 2018);
- the mean of the policy is squashed by tanh into [-1, 1]; samples beyond are clipped by the environment;
- an episode that the time limit ends is not over, see `robot_rl.rollouts`; the transition with which an episode
  begins there is left out of every mean and every gradient;
- rewards are multiplied by 1 - discount, so that values have the size of one reward.

Beside the reward there may be further signals with a critic each: `robot_rl.ppo_lagrangian` adds the costs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from robot_rl.networks import Critic, NormalizedPolicy
from robot_rl.rollouts import Collector, Rollout, gae, log_probability
from sim.adr import AutomaticConfig
from sim.factory import build_env
from sim.tasks import Task


@dataclass(frozen=True, kw_only=True)
class PpoConfig:
    """Settings of PPO; the defaults are those of the quadrotor."""

    updates: int = 400
    """Rollouts, each followed by its epochs."""
    num_envs: int = 512
    """Environments side by side."""
    horizon: int = 32
    """Steps of a rollout."""
    discount: float = 0.99
    """Weight of the next reward against this one, below 1; at 100 Hz, 0.99 looks one second ahead."""
    gae_lambda: float = 0.95
    """0 trusts the value function, 1 the sampled returns."""
    epochs: int = 4
    """Passes over a rollout."""
    minibatches: int = 4
    """Gradient steps per pass."""
    learning_rate: float = 2e-3
    """Adam's learning rate at the start."""
    schedule: Literal["adaptive", "linear", "constant"] = "linear"
    """`adaptive` keeps the KL divergence of an update near `target_kl`, `linear` falls to 0 at the end."""
    target_kl: float = 0.01
    """KL divergence between the policy before and after a gradient step, for `adaptive`."""
    clip: float = 0.2
    """Largest relative change of an action's probability that is rewarded."""
    value_clip: float = 0.2
    """Largest change of a value in one update, in units of a reward; 0 does not clip."""
    value_weight: float = 1.0
    """Weight of the value loss."""
    entropy_weight: float = 0.002
    """Weight of the policy's entropy, which keeps it exploring."""
    max_gradient_norm: float = 1.0
    """Longer gradients are shortened to it."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the policy's hidden layers."""
    critic_hidden: tuple[int, ...] = (64, 64)
    """Widths of the value function's hidden layers."""
    initial_action: float = 0.5
    """Normalized action, in (-1, 1), of the untrained policy: where a quadrotor hovers, 0 for an arm."""
    initial_std: float = 0.3
    """Standard deviation of the action noise at the start."""
    min_std: float = 0.02
    """It never falls below this."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.discount < 1.0:
            raise ValueError(f"discount is {self.discount}; expected 0 to below 1, e.g. 0.99")


def init(
    task: Task, config: PpoConfig, seed: int, device: str = "cpu", automatic: AutomaticConfig | None = None
) -> Ppo:
    """Begin a training run on a task; `seed` alone decides it on one machine.

    Raises:
        ValueError: `automatic`, randomization that grows with success, does not fit the task.
    """
    return Ppo(build_env(task, config.num_envs, device=device, seed=seed, automatic=automatic), config, seed)


class Ppo:
    """The state of a training run: policy, value functions, optimizer, and the environments."""

    signals: ClassVar[tuple[str, ...]] = ("rewards",)
    """Fields of `Rollout` that have a value function each."""

    def __init__(self, env: Any, config: PpoConfig, seed: int) -> None:
        """Begin on any environment that passes `sim.check_vec_env`."""
        self.env, self.config = env, config
        self.task: Any = getattr(env, "task", None)
        """What is trained on; None where the environment does not say."""
        self.updates = 0
        """Updates done."""
        device = torch.device(env.device)
        self._generator = torch.Generator(device).manual_seed(seed)
        with torch.random.fork_rng(devices=[]):  # layers draw their first weights from the global generator
            torch.manual_seed(seed)
            self.actor = NormalizedPolicy(env.num_obs, env.num_actions, config.hidden, config.initial_action).to(device)
            size = env.num_states or env.num_obs
            self.critics = nn.ModuleDict({name: Critic(size, config.critic_hidden) for name in self.signals}).to(device)
        self.log_std = nn.Parameter(torch.full((env.num_actions,), math.log(config.initial_std), device=device))
        self._parameters = [*self.actor.parameters(), *self.critics.parameters(), self.log_std]
        self._optimizer = torch.optim.Adam(self._parameters, lr=config.learning_rate)
        self.collector = Collector(env)

    def policy(self) -> nn.Module:
        """The deterministic policy: observation (N, D) to normalized action (N, A), normalization inside."""
        return self.actor

    def update(self) -> dict[str, float]:
        """One rollout and its epochs; returns metrics, those of `Collector.episode_means` among them.

        Raises:
            FloatingPointError: Something is not finite; the message names what was first.
        """
        config = self.config
        rollout, log = self.collector.collect(self.actor, self.log_std, config.horizon, self._generator)
        if (broken := rollout.broken()) is not None:
            self._check(**{broken[0]: broken[1]})
        values, advantages, returns = {}, {}, {}
        with torch.no_grad():
            critic_obs = torch.cat([rollout.critic_obs, rollout.last_critic_obs[None]])
            for name, critic in self.critics.items():
                predicted = critic(critic_obs)
                self._check(values=predicted)
                signal = getattr(rollout, name)
                advantages[name] = gae(rollout, signal, predicted, config.discount, config.gae_lambda)
                values[name] = predicted[:-1]
                returns[name] = advantages[name] + values[name]
        losses = self._learn(rollout, self._combined(advantages), values, returns)
        chosen = rollout.valid.flatten()
        self.actor.normalizer.update(rollout.obs.flatten(0, 1)[chosen])
        for critic in self.critics.values():
            assert isinstance(critic, Critic)
            critic.normalizer.update(rollout.critic_obs.flatten(0, 1)[chosen])
        self.updates += 1
        spread = returns["rewards"][rollout.valid].var().clamp(min=1e-9)
        explained = 1.0 - advantages["rewards"][rollout.valid].var() / spread
        return {
            **losses,
            "reward": float(rollout.rewards[rollout.valid].mean()),
            **self.collector.episode_means(),
            "explained_variance": float(explained),
            "std": float(self.log_std.detach().exp().mean()),
            "learning_rate": self._optimizer.param_groups[0]["lr"],
            "env_steps": float(self.updates * rollout.valid.numel()),
            **log,
        }

    # Learning

    def _combined(self, advantages: Mapping[str, Tensor]) -> Tensor:
        """What the policy is to increase (T, N), of the advantages of each signal."""
        return advantages["rewards"]

    def _learn(
        self, rollout: Rollout, advantages: Tensor, values: Mapping[str, Tensor], returns: Mapping[str, Tensor]
    ) -> dict[str, float]:
        """Epochs of mini-batches over the valid transitions; mean losses."""
        config = self.config
        chosen = rollout.valid.flatten().nonzero()[:, 0]

        def flat(tensor: Tensor) -> Tensor:
            return tensor.flatten(0, 1)[chosen]

        obs, critic_obs, actions = flat(rollout.obs), flat(rollout.critic_obs), flat(rollout.actions)
        old_means, old_log_probs = flat(rollout.means), flat(rollout.log_probs)
        old_values = {name: flat(value) for name, value in values.items()}
        returns, advantages = {name: flat(value) for name, value in returns.items()}, flat(advantages)
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        old_log_std = self.log_std.detach().clone()
        totals: dict[str, float] = {}
        steps = config.epochs * config.minibatches
        for _ in range(config.epochs):
            order = torch.randperm(len(chosen), generator=self._generator, device=chosen.device)
            for batch in order.chunk(config.minibatches):
                mean = self.actor(obs[batch])
                log_prob = log_probability(actions[batch], mean, self.log_std)
                ratio = torch.exp(log_prob - old_log_probs[batch])
                advantage = advantages[batch]
                clipped = ratio.clamp(1.0 - config.clip, 1.0 + config.clip)
                policy_loss = -torch.minimum(ratio * advantage, clipped * advantage).mean()
                value_loss = torch.stack(
                    [
                        self._value_loss(critic(critic_obs[batch]), old_values[name][batch], returns[name][batch])
                        for name, critic in self.critics.items()
                    ]
                ).sum()
                entropy = (self.log_std + 0.5 * math.log(2.0 * math.pi * math.e)).sum()
                loss = policy_loss + config.value_weight * value_loss - config.entropy_weight * entropy
                kl = kl_divergence(old_means[batch], old_log_std, mean.detach(), self.log_std.detach())
                self._check(policy_loss=policy_loss, value_loss=value_loss, entropy=entropy, kl=kl)
                self._set_learning_rate(float(kl))
                self._optimizer.zero_grad()
                loss.backward()
                norm = nn.utils.clip_grad_norm_(self._parameters, config.max_gradient_norm)
                self._check(gradient=norm)
                self._optimizer.step()
                with torch.no_grad():
                    self.log_std.clamp_(min=math.log(config.min_std))
                parts = {
                    "loss": loss,
                    "policy_loss": policy_loss,
                    "value_loss": value_loss,
                    "entropy": entropy,
                    "kl": kl,
                    "gradient_norm": norm,
                }
                for name, part in parts.items():
                    totals[name] = totals.get(name, 0.0) + float(part.detach()) / steps
        return totals

    def _value_loss(self, values: Tensor, old_values: Tensor, returns: Tensor) -> Tensor:
        loss = (values - returns).square()
        if self.config.value_clip > 0.0:
            near = old_values + (values - old_values).clamp(-self.config.value_clip, self.config.value_clip)
            loss = torch.maximum(loss, (near - returns).square())
        return loss.mean()

    def _set_learning_rate(self, kl: float) -> None:
        config, group = self.config, self._optimizer.param_groups[0]
        if config.schedule == "linear":
            group["lr"] = config.learning_rate * (1.0 - self.updates / config.updates)
        elif config.schedule == "adaptive" and kl > 2.0 * config.target_kl:
            group["lr"] = max(group["lr"] / 1.5, 1e-5)
        elif config.schedule == "adaptive" and 0.0 < kl < 0.5 * config.target_kl:
            group["lr"] = min(group["lr"] * 1.5, 1e-2)

    def _check(self, **terms: Tensor) -> None:
        """Stop at the first of `terms` that is not finite."""
        for name, value in terms.items():
            if not bool(torch.isfinite(value).all()):
                verb = "is" if value.ndim == 0 else "are"
                raise FloatingPointError(
                    f"update {self.updates}: {name} {verb} not finite; if the environment is not to blame, "
                    f"lower learning_rate ({self.config.learning_rate:g})"
                )

    # Storage

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that a later process needs to go on with the same run, bit by bit, as named tensors."""
        state: dict[str, Tensor] = {f"actor.{k}": v for k, v in self.actor.state_dict().items()}
        state.update({f"critics.{k}": v for k, v in self.critics.state_dict().items()})
        for index, slot in self._optimizer.state_dict()["state"].items():
            state.update({f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in slot.items()})
        state.update({f"collector.{k}": v for k, v in self.collector.state_dict().items()})
        state["log_std"] = self.log_std.detach()
        state["generator"] = self._generator.get_state()
        state["updates"] = torch.tensor(self.updates)
        state["learning_rate"] = torch.tensor(self._optimizer.param_groups[0]["lr"], dtype=torch.float64)
        return {name: value.detach().clone().contiguous() for name, value in state.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on where `state_dict` was taken, with the same task and config."""

        def part(prefix: str) -> dict[str, Tensor]:
            return {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}

        self.actor.load_state_dict(part("actor."))
        self.critics.load_state_dict(part("critics."))
        slots: dict[int, dict[str, Tensor]] = {}
        for name, value in part("optimizer.").items():
            index, key = name.split(".")
            slots.setdefault(int(index), {})[key] = value.clone()
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": slots, "param_groups": groups})
        self._optimizer.param_groups[0]["lr"] = float(state["learning_rate"])
        self.collector.load_state_dict(part("collector."))
        with torch.no_grad():
            self.log_std.copy_(state["log_std"])
        self._generator.set_state(state["generator"].cpu())
        self.updates = int(state["updates"])


def kl_divergence(old_mean: Tensor, old_log_std: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Mean KL divergence from the new normal distribution to the old one, over samples (K, A)."""
    variance = torch.exp(2.0 * log_std)
    spread = (torch.exp(2.0 * old_log_std) + (old_mean - mean).square()) / (2.0 * variance)
    return (log_std - old_log_std + spread - 0.5).sum(-1).mean()
