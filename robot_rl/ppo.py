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
- an episode that the time limit ends is not over: its last value is that of its last observation. An
  episode that fails is: its last value is 0 (Pardo et al., "Time limits in reinforcement learning", 2018);
- the auto-reset is that of `NEXT_STEP`, in which one transition per episode has an action that was
  ignored. It is left out of every mean and every gradient;
- rewards are multiplied by 1 - discount, so that values have the size of one reward.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from robot_rl.networks import TanhPolicy
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


class Normalizer(nn.Module):
    """Shifts and scales features by their running mean and deviation; exported with the network."""

    mean: Tensor
    variance: Tensor
    count: Tensor

    def __init__(self, size: int) -> None:
        """Start with mean 0 and deviation 1 of `size` features."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("variance", torch.ones(size))
        self.register_buffer("count", torch.tensor(0.0, dtype=torch.float64))

    def forward(self, features: Tensor) -> Tensor:
        """Normalized features (..., size), at most 10 deviations from the mean."""
        return ((features - self.mean) / torch.sqrt(self.variance + 1e-4)).clamp(-10.0, 10.0)

    @torch.no_grad()
    def update(self, features: Tensor) -> None:
        """Take samples (K, size) into account (Chan et al. 1983, the parallel form of Welford's)."""
        total = self.count + len(features)
        share = (len(features) / total).float()
        shift = features.mean(0) - self.mean
        spread = features.var(0, correction=0)
        variance = self.variance + share * (spread - self.variance) + share * (1.0 - share) * shift.square()
        self.variance.copy_(torch.where(self.count > 0, variance, spread))
        self.mean.add_(share * shift)
        self.count.copy_(total)


class NormalizedPolicy(nn.Module):
    """The deterministic policy: raw observation (..., D) to normalized action (..., A) in [-1, 1]."""

    def __init__(self, size: int, actions: int, hidden: Sequence[int], initial_action: float) -> None:
        """Build an untrained policy."""
        super().__init__()
        self.normalizer = Normalizer(size)
        self.network = TanhPolicy(size, actions, hidden, initial_action)

    def forward(self, observation: Tensor) -> Tensor:
        """Mean action."""
        action: Tensor = self.network(self.normalizer(observation))
        return action


class Critic(nn.Module):
    """The value function: raw features (..., S) to the expected discounted return (...)."""

    def __init__(self, size: int, hidden: Sequence[int]) -> None:
        """Build an untrained value function."""
        super().__init__()
        self.normalizer = Normalizer(size)
        widths = [size, *hidden]
        layers: list[nn.Module] = []
        for width_in, width_out in zip(widths[:-1], widths[1:], strict=True):
            layers += [nn.Linear(width_in, width_out), nn.ELU()]
        self.network = nn.Sequential(*layers, nn.Linear(widths[-1], 1))

    def forward(self, features: Tensor) -> Tensor:
        """Value."""
        value: Tensor = self.network(self.normalizer(features))
        return value[..., 0]


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
    ended: Tensor
    """Shape (T, N) bool: the episode ended in this step."""
    failed: Tensor
    """Shape (T, N) bool: it ended, and not by the time limit."""
    valid: Tensor
    """Shape (T, N) bool: the action acted; false in the step that began a new episode."""
    last_critic_obs: Tensor
    """Shape (N, S), after the last step."""


def init(task: Task, config: PpoConfig, seed: int, device: str = "cpu") -> Ppo:
    """Begin a training run on a task; `seed` alone decides it on one machine."""
    return Ppo(build_env(task, config.num_envs, device=device, seed=seed), config, seed)


class Ppo:
    """The state of a training run: policy, value function, optimizer, and the environments."""

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
            self.critic = Critic(env.num_states or env.num_obs, config.critic_hidden).to(device)
        self.log_std = nn.Parameter(torch.full((env.num_actions,), math.log(config.initial_std), device=device))
        self._parameters = [*self.actor.parameters(), *self.critic.parameters(), self.log_std]
        self._optimizer = torch.optim.Adam(self._parameters, lr=config.learning_rate)
        self._observations: dict[str, Tensor] = env.reset()
        self._ended = torch.zeros(env.num_envs, dtype=torch.bool, device=device)
        self._return = torch.zeros(env.num_envs, device=device)
        self._length = torch.zeros(env.num_envs, device=device)
        # Return, length and failure (0 or 1) of the newest episodes that ended.
        self._episodes = torch.zeros(0, 3, device=device)

    def policy(self) -> nn.Module:
        """The deterministic policy: observation (N, D) to normalized action (N, A), normalization inside."""
        return self.actor

    def update(self) -> dict[str, float]:
        """One rollout and its epochs; returns metrics.

        `episode_return`, `episode_length` and `failure_rate` are those of the exploring policy, over the
        last `num_envs` episodes that ended; they are left out until one has.

        Raises:
            FloatingPointError: Something is not finite; the message names what was first.
        """
        rollout, log = self._collect()
        with torch.no_grad():
            values = self.critic(torch.cat([rollout.critic_obs, rollout.last_critic_obs[None]]))
            self._check(values=values)
            advantages = gae(rollout, values, self.config.discount, self.config.gae_lambda)
            returns = advantages + values[:-1]
        losses = self._learn(rollout, values[:-1], advantages, returns)
        chosen = rollout.valid.flatten()
        self.actor.normalizer.update(rollout.obs.flatten(0, 1)[chosen])
        self.critic.normalizer.update(rollout.critic_obs.flatten(0, 1)[chosen])
        self.updates += 1
        names = ("episode_return", "episode_length", "failure_rate")
        episodes = dict(zip(names, self._episodes.mean(0).tolist(), strict=True))
        spread = returns[rollout.valid].var().clamp(min=1e-9)
        explained = 1.0 - advantages[rollout.valid].var() / spread
        return {
            **losses,
            "reward": float(rollout.rewards[rollout.valid].mean()),
            **(episodes if len(self._episodes) > 0 else {}),
            "explained_variance": float(explained),
            "std": float(self.log_std.detach().exp().mean()),
            "learning_rate": self._optimizer.param_groups[0]["lr"],
            "env_steps": float(self.updates * rollout.valid.numel()),
            **log,
        }

    # Collecting

    @torch.no_grad()
    def _collect(self) -> tuple[Rollout, dict[str, float]]:
        """Run every environment for `horizon` steps."""
        rows: list[dict[str, Tensor]] = []
        logs: list[dict[str, Tensor]] = []
        finished: list[Tensor] = []
        std = self.log_std.exp()
        for _ in range(self.config.horizon):
            obs, critic_obs, valid = self._observations["obs"], self._critic_features(), ~self._ended
            mean = self.actor(obs)
            noise = torch.randn(mean.shape, generator=self._generator, device=mean.device)
            action = mean + std * noise
            log_prob = log_probability(action, mean, self.log_std)
            self._observations, reward, self._ended, extras = self.env.step(action)
            failed = self._ended & ~extras["time_outs"]
            rows.append(
                {
                    "obs": obs,
                    "critic_obs": critic_obs,
                    "actions": action,
                    "means": mean,
                    "log_probs": log_prob,
                    "rewards": reward,
                    "ended": self._ended,
                    "failed": failed,
                    "valid": valid,
                }
            )
            logs.append(extras.get("log", {}))
            self._return = torch.where(valid, self._return + reward, 0.0)
            self._length = torch.where(valid, self._length + 1.0, 0.0)
            episodes = torch.stack([self._return, self._length, failed.float()], dim=-1)
            finished.append(episodes[self._ended])
        columns = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        rollout = Rollout(**columns, last_critic_obs=self._critic_features())
        self._check_rollout(rollout)
        self._episodes = torch.cat([self._episodes, *finished])[-self.config.num_envs :]
        names = logs[0].keys()
        return rollout, {name: float(torch.stack([log[name] for log in logs]).mean()) for name in names}

    def _critic_features(self) -> Tensor:
        return self._observations.get("states", self._observations["obs"])

    # Learning

    def _learn(self, rollout: Rollout, values: Tensor, advantages: Tensor, returns: Tensor) -> dict[str, float]:
        """Epochs of mini-batches over the valid transitions; mean losses."""
        config = self.config
        chosen = rollout.valid.flatten().nonzero()[:, 0]

        def flat(tensor: Tensor) -> Tensor:
            return tensor.flatten(0, 1)[chosen]

        obs, critic_obs, actions = flat(rollout.obs), flat(rollout.critic_obs), flat(rollout.actions)
        old_means, old_log_probs = flat(rollout.means), flat(rollout.log_probs)
        old_values, returns, advantages = flat(values), flat(returns), flat(advantages)
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
                value_loss = self._value_loss(critic_obs[batch], old_values[batch], returns[batch])
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

    def _value_loss(self, critic_obs: Tensor, old_values: Tensor, returns: Tensor) -> Tensor:
        values = self.critic(critic_obs)
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

    def _check_rollout(self, rollout: Rollout) -> None:
        """Stop where a rollout is not finite, at what was so first."""
        parts = {  # of one step, in the order in which they cause each other
            "observations": rollout.obs,
            "states": rollout.critic_obs,
            "actions": rollout.actions,
            "rewards": rollout.rewards,
        }
        broken = {name: (~torch.isfinite(part)).flatten(1).any(1) for name, part in parts.items()}
        if bool(torch.stack(list(broken.values())).any()):
            first = min(broken, key=lambda name: int((~broken[name]).long().cumprod(0).sum()))
            self._check(**{first: parts[first]})

    # Storage

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that a later process needs to go on with the same run, bit by bit, as named tensors."""
        state: dict[str, Tensor] = {f"actor.{k}": v for k, v in self.actor.state_dict().items()}
        state.update({f"critic.{k}": v for k, v in self.critic.state_dict().items()})
        for index, slot in self._optimizer.state_dict()["state"].items():
            state.update({f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in slot.items()})
        state.update({f"env.{k}": v for k, v in self.env.state_dict().items()})
        state.update({f"observations.{k}": v for k, v in self._observations.items()})
        state.update(self._counters())
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
        self.critic.load_state_dict(part("critic."))
        slots: dict[int, dict[str, Tensor]] = {}
        for name, value in part("optimizer.").items():
            index, key = name.split(".")
            slots.setdefault(int(index), {})[key] = value.clone()
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": slots, "param_groups": groups})
        self._optimizer.param_groups[0]["lr"] = float(state["learning_rate"])
        self.env.load_state_dict(part("env."))
        self._observations = {name: value.clone() for name, value in part("observations.").items()}
        counters = {name: state[name].clone() for name in self._counters()}
        self._ended, self._return = counters["ended"], counters["return"]
        self._length, self._episodes = counters["length"], counters["episodes"]
        with torch.no_grad():
            self.log_std.copy_(state["log_std"])
        self._generator.set_state(state["generator"].cpu())
        self.updates = int(state["updates"])

    def _counters(self) -> dict[str, Tensor]:
        return {
            "ended": self._ended,
            "return": self._return,
            "length": self._length,
            "episodes": self._episodes,
        }


def log_probability(action: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Logarithm of the normal density (...) of actions (..., A)."""
    distance = (action - mean) * torch.exp(-log_std)
    return -(0.5 * distance.square() + log_std + 0.5 * math.log(2.0 * math.pi)).sum(-1)


def kl_divergence(old_mean: Tensor, old_log_std: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Mean KL divergence from the new normal distribution to the old one, over samples (K, A)."""
    variance = torch.exp(2.0 * log_std)
    spread = (torch.exp(2.0 * old_log_std) + (old_mean - mean).square()) / (2.0 * variance)
    return (log_std - old_log_std + spread - 0.5).sum(-1).mean()


def gae(rollout: Rollout, values: Tensor, discount: float, gae_lambda: float) -> Tensor:
    """Generalized advantages (T, N), given values (T + 1, N) of the observations.

    In `NEXT_STEP` the observation after an end is the last one of the same episode, so its value is the
    one to go on with after a time-out. Advantages where `rollout.valid` is false mean nothing.
    """
    advantages = torch.zeros_like(rollout.rewards)
    following = torch.zeros_like(values[0])
    for t in reversed(range(len(rollout.rewards))):
        next_value = torch.where(rollout.failed[t], 0.0, values[t + 1])
        delta = (1.0 - discount) * rollout.rewards[t] + discount * next_value - values[t]
        following = delta + discount * gae_lambda * torch.where(rollout.ended[t], 0.0, following)
        advantages[t] = following
    return advantages
