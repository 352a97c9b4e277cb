"""What `pvp` and `resfit` share: TD3 (Fujimoto et al. 2018) with an ensemble of critics and with grippers.

    y = Σ_{k<m} γᵏ r_k + γᵐ min_i Q'_i(s_m, π'(s_m) + ε),   ε ~ clip(N(0, σ²), ±2σ)

over a few drawn members i, after n steps of reward; π' is a running average of the policy, which is also deployed.
Grippers are open or closed: a double deep Q-network of their own, as in `rlpd`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from robot_rl.hil.algorithms import state
from robot_rl.hil.algorithms.base import Acting, Sizes
from robot_rl.hil.algorithms.values import CriticConfig, complete, gripper_errors, habits, half_and_half, least
from robot_rl.hil.networks import Critics, HilPolicy, ResidualPolicy, track
from robot_rl.hil.replay import PERSON, Batch, Replay


@dataclass(frozen=True, kw_only=True)
class Td3Config(CriticConfig):
    """Settings of a deterministic actor and its critics."""

    n_step: int = 1
    """Steps of reward before the critics take over."""
    actor_rate: float = 3e-4
    """Adam's, of the actor."""
    critic_rate: float = 3e-4
    """Adam's, of the critics."""
    average_rate: float = 0.005
    """Of the average of the actor, which is the target policy and is deployed, per update."""
    deviation: float = 0.05
    """Of the noise on actions that are tried, and on those of the target (σ)."""
    clone_weight: float = 0.0
    """Weight of staying near the person's actions against the value, which is scaled to mean 1."""
    value_weight: float = 1.0
    """Of following the gradient of the critics."""
    feature_noise: float = 0.1
    """Of the noise on scaled features while staying near the person, as `warm_start.feature_noise` in cloning."""


class Td3:
    """The learner's state: actor, critics, their running averages and optimizers."""

    def __init__(self, sizes: Sizes, config: Td3Config, seed: int, actor: HilPolicy | ResidualPolicy) -> None:
        """Build untrained critics for `actor`."""
        self.config, self.sizes = config, sizes
        self.generator = np.random.default_rng(seed)
        self.noise = torch.Generator().manual_seed(seed)
        self.updates = 0
        self.actor = actor
        self.average = copy.deepcopy(actor)
        self.critics = Critics(sizes.observation + sizes.layout.size, config.critics, config.hidden)
        self.targets = copy.deepcopy(self.critics)
        self.acting = Acting(self.actor, self.critics, config.deviation)
        self._make_optimizers()

    def _make_optimizers(self) -> None:
        grippers = [] if self.actor.grippers is None else list(self.actor.grippers.parameters())
        ours = {id(p) for p in grippers}
        self._continuous = [p for p in self.actor.parameters() if p.requires_grad and id(p) not in ours]
        self._critical = [*self.critics.parameters(), *(p for p in grippers if p.requires_grad)]
        self._actor_optimizer = torch.optim.Adam(self._continuous, self.config.actor_rate, fused=True)
        self._critic_optimizer = torch.optim.Adam(self._critical, self.config.critic_rate, fused=True)

    # Algorithm

    def ready(self, replay: Replay) -> bool:
        """Whether there are online steps and demonstrations enough."""
        return self.config.enough(replay)

    def update(self, replay: Replay) -> dict[str, Tensor]:
        """Critics, and every `actor_period` times the actor, on one batch."""
        config = self.config
        batch = half_and_half(replay, config.batch, self.generator, config.n_step, config.discount)
        loss, found = self.critic_loss(batch)
        self._critic_optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._critical, config.max_gradient_norm)
        self._critic_optimizer.step()
        self.updates += 1
        if self.updates > config.critic_warm_up and self.updates % config.actor_period == 0:
            found.update(self._update_actor(batch))
        track(self.targets, self.critics, config.track_rate)
        track(self.average, self.actor, config.average_rate)
        return found

    def policy(self) -> HilPolicy | ResidualPolicy:
        """The running average of the actor."""
        return self.average

    def behaviour(self) -> Acting:
        """The actor with noise, and its critics."""
        return self.acting

    # Losses

    def critic_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean temporal difference of the critics and of the grippers, and figures to log."""
        features = self.actor.scaler(batch.observation)
        values = self.critics(torch.cat([features, batch.action], -1))
        errors, gripper_errors, found = self.temporal_differences(batch, features, values, batch.reward)
        loss = errors.mean()
        if gripper_errors is not None:
            loss = loss + gripper_errors.mean() + self.habits(batch, features)
        return loss, found

    def temporal_differences(
        self, batch: Batch, features: Tensor, values: Tensor, reward: Tensor
    ) -> tuple[Tensor, Tensor | None, dict[str, Tensor]]:
        """Squared errors (N,) of the critics' `values` (E, N), summed over critics, the grippers' (N,), and figures."""
        config = self.config
        with torch.no_grad():
            after = self.actor.scaler(batch.next_observation)
            continuous = self.average.continuous(after)
            limit = 2.0 * config.deviation
            blur = config.deviation * torch.randn(continuous.shape, generator=self.noise)
            continuous = (continuous + blur.clamp(-limit, limit)).clamp(-1.0, 1.0)
            action, _ = complete(self.average, after, continuous)
            later = least(self.targets, torch.cat([after, action], -1), config.sampled, self.noise)
            target = reward + batch.discount * later
        errors = (values - target).square().sum(0)
        found = {"critic_loss": errors.detach().mean(), "value": values.detach().mean(), "target": target.mean()}
        if self.actor.grippers is None:
            return errors, None, found
        assert self.average.grippers is not None
        with torch.no_grad():
            best = self.actor.grippers.best(after)
        gripper = gripper_errors(
            self.actor.grippers, self.average.grippers, batch, features, after, best, reward,
            config.gripper_penalty, self.sizes.layout,
        )  # fmt: skip
        return errors, gripper, found

    def habits(self, batch: Batch, features: Tensor) -> Tensor:
        """Loss () of what the person does with the grippers; 0 without any."""
        if self.actor.grippers is None:
            return torch.zeros(())
        deviation = self.config.feature_noise
        return habits(self.actor.grippers, batch, features, deviation, self.noise, self.sizes.layout)

    def _update_actor(self, batch: Batch) -> dict[str, Tensor]:
        features = self.actor.scaler(batch.observation)
        continuous = self.actor.continuous(features)
        self.critics.requires_grad_(False)
        action, _ = complete(self.actor, features, continuous)
        value = self.critics(torch.cat([features, action], -1)).mean(0)
        self.critics.requires_grad_(True)
        loss = -self.config.value_weight * value.mean() / value.detach().abs().mean().clamp(min=0.05)
        near = self._nearness(batch, value.detach())
        if self.config.clone_weight:
            blur = self.config.feature_noise * torch.randn(features.shape, generator=self.noise)
            wanted = batch.action[:, list(self.sizes.layout.continuous)]
            away = (self.actor.continuous(features + blur) - wanted).square().sum(-1)
            loss = loss + self.config.clone_weight * (near * away).sum() / near.sum().clamp(min=1e-6)
        self._actor_optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._continuous, self.config.max_gradient_norm)
        self._actor_optimizer.step()
        return {"actor_loss": loss.detach()}

    def _nearness(self, batch: Batch, value: Tensor) -> Tensor:
        """How much (N,) to stay near the executed actions, where the critics expect `value` (N,) of the policy's."""
        return (batch.driver == PERSON).float()

    # Storage

    def _modules(self) -> dict[str, nn.Module]:
        return {"acting": self.acting, "average": self.average, "targets": self.targets}

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"actor_optimizer": self._actor_optimizer, "critic_optimizer": self._critic_optimizer}

    def state_dict(self) -> dict[str, Tensor]:
        """Networks, optimizers, counters and generators."""
        numbers = {"updates": self.updates}
        return state.pack(self._modules(), self._optimizers(), self.generator, self.noise, numbers)

    def load_state_dict(self, stored: Mapping[str, Tensor]) -> None:
        """Go on from there."""
        state.unpack(stored, self._modules(), self._optimizers(), self.generator, self.noise)
        self.updates = int(stored["updates"])
