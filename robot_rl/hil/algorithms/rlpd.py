"""Reinforcement learning with prior data (Ball et al. 2023) and a person who corrects (HIL-SERL, Luo et al. 2024).

Soft actor-critic on batches of which half are the person's steps. The critics are an ensemble with layer norm; the
target is the least of a few drawn members, after n steps of reward:

    y = Σ_{k<m} γᵏ r_k + γᵐ min_i Q'_i(s_m, a'),   a' ~ π(s_m)

Grippers are open or closed: a double deep Q-network of their own, with a penalty for every change,

    y_g = Σ γᵏ r_k - p·[toggled] + γᵐ Q'_g(s_m, argmax_a score(s_m, a)),

decides together with the person's habits (`networks.GripperChoice`).

The actor begins as a clone and imitates by weight (AWAC, Nair et al. 2020): the person's corrections most; its own
steps of won episodes the more, the sooner they won than the critics expect, so that it may become faster than the
person; none of the steps that led to a correction (Sirius, Liu et al. 2023). `value_weight` adds the gradient of the
critics. What is deployed is a running average of the actor's weights, which is steadier than any of them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from robot_rl.hil.algorithms import state
from robot_rl.hil.algorithms.base import Acting, Sizes, clone, fit_scaler
from robot_rl.hil.algorithms.values import (
    CriticConfig,
    NearnessConfig,
    complete,
    gripper_errors,
    habits,
    half_and_half,
    least,
    nearness,
    own_advantage,
)
from robot_rl.hil.augment import random_shifts
from robot_rl.hil.networks import Critics, HilPolicy, track
from robot_rl.hil.pixels import PixelConfig, make_encoder
from robot_rl.hil.replay import PERSON, Batch, Replay


@dataclass(frozen=True, kw_only=True)
class RlpdConfig(CriticConfig, NearnessConfig):
    """RLPD with interventions."""

    n_step: int = 3
    """Steps of reward before the critics take over."""
    learning_rate: float = 3e-4
    """Of actor and critics."""
    average_rate: float = 0.002
    """Of the deployed average of the actor, per update."""
    initial_temperature: float = 0.002
    """Weight of the entropy at the start."""
    target_entropy: float = -1.8
    """Per continuous element of the action, nats; SAC's usual -1/2 is much noise for precise work."""
    clone_weight: float = 1.0
    """Weight of staying near the person's actions against the value, which is scaled to mean 1."""
    value_weight: float = 0.0
    """Of following the gradient of the critics."""
    pixels: PixelConfig = PixelConfig()
    """Where there are cameras."""


class Rlpd:
    """The learner's state: actor, critics, their targets and optimizers."""

    def __init__(self, sizes: Sizes, config: RlpdConfig, seed: int) -> None:
        """Build untrained networks."""
        torch.manual_seed(seed)
        self.config, self.sizes = config, sizes
        self.generator = np.random.default_rng(seed)
        self.noise = torch.Generator().manual_seed(seed)
        self.updates = 0
        encoder = make_encoder(sizes.images, config.pixels)
        self.actor = HilPolicy(sizes.observation, sizes.layout, config.hidden, encoder=encoder)
        self.average = copy.deepcopy(self.actor)
        self.critics = Critics(self.actor.features + sizes.layout.size, config.critics, config.hidden)
        self.targets = copy.deepcopy(self.critics)
        self.gripper_targets = copy.deepcopy(self.actor.grippers)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(config.initial_temperature)))
        self._make_optimizers()

    def _make_optimizers(self) -> None:
        rate = self.config.learning_rate
        grippers = list(self.actor.grippers.parameters()) if self.actor.grippers is not None else []
        eyes = list(self.actor.encoder.parameters()) if self.actor.encoder is not None and self._values_teach else []
        ours = {id(p) for p in (*grippers, *eyes)}
        self._continuous = [p for p in self.actor.parameters() if id(p) not in ours]
        self._critical = [*self.critics.parameters(), *grippers, *eyes]
        self._actor_optimizer = torch.optim.Adam(self._continuous, rate, fused=True)
        self._critic_optimizer = torch.optim.Adam(self._critical, rate, fused=True)
        self._temperature_optimizer = torch.optim.Adam([self.log_temperature], rate, fused=True)

    @property
    def _values_teach(self) -> bool:
        return self.config.pixels.teacher == "values"

    # Algorithm

    def warm_start(self, replay: Replay) -> dict[str, float]:
        """Take the features' scale from the demonstrations and clone the person."""
        config = self.config
        if not fit_scaler(self.actor, replay, config.warm_start):
            return {}
        found = clone(self.actor, replay, config.warm_start, self.generator, self.noise, config.pixels.shift)
        self.average.load_state_dict(self.actor.state_dict())
        self._make_optimizers()
        return found

    def ready(self, replay: Replay) -> bool:
        """Whether there are online steps and demonstrations enough."""
        return self.config.enough(replay)

    def update(self, replay: Replay) -> dict[str, Tensor]:
        """Critics, and every `actor_period` times the actor, on one batch."""
        config = self.config
        batch = half_and_half(replay, config.batch, self.generator, config.n_step, config.discount)
        found = self._update_critics(batch)
        self.updates += 1
        if self.updates > config.critic_warm_up and self.updates % config.actor_period == 0:
            found.update(self._update_actor(batch))
        track(self.targets, self.critics, config.track_rate)
        if self.actor.grippers is not None:
            assert self.gripper_targets is not None
            track(self.gripper_targets, self.actor.grippers, config.track_rate)
        track(self.average, self.actor, config.average_rate)
        return found

    def policy(self) -> HilPolicy:
        """The running average of the actor."""
        return self.average

    def behaviour(self) -> Acting:
        """The actor and its critics."""
        return Acting(self.actor, self.critics)

    def _look(self, observation: Tensor, pictures: Mapping[str, Tensor], *, learns: bool) -> Tensor:
        """Features of observations (N, D) and pictures, which are moved a little anew each time.

        `learns` is whether the encoder is to take gradients.
        """
        if self.actor.encoder is None:
            return self.actor.look(observation)
        with torch.set_grad_enabled(learns):
            return self.actor.look(observation, random_shifts(pictures, self.generator, self.config.pixels.shift))

    def _update_critics(self, batch: Batch) -> dict[str, Tensor]:
        config, layout = self.config, self.sizes.layout
        features = self._look(batch.observation, batch.images, learns=self._values_teach)
        with torch.no_grad():
            after = self._look(batch.next_observation, batch.next_images, learns=False)
            noise = torch.randn(len(after), len(layout.continuous), generator=self.noise)
            continuous, _ = self.actor.sample(after, noise)
            next_action, best = complete(self.actor, after, continuous)
            value = least(self.targets, torch.cat([after, next_action], -1), config.sampled, self.noise)
            target = batch.reward + batch.discount * value
        values = self.critics(torch.cat([features, batch.action], -1))
        loss = (values - target).square().mean(1).sum()
        found = {"critic_loss": loss.detach(), "value": values.detach().mean(), "target": target.mean()}
        if self.actor.grippers is not None:
            assert self.gripper_targets is not None
            errors = gripper_errors(
                self.actor.grippers, self.gripper_targets, batch, features, after, best, batch.reward,
                config.gripper_penalty, layout,
            )  # fmt: skip
            gripper_loss = errors.mean() + habits(
                self.actor.grippers, batch, features, config.warm_start.feature_noise, self.noise, layout
            )
            loss = loss + gripper_loss
            found["gripper_loss"] = gripper_loss.detach()
        self._critic_optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._critical, config.max_gradient_norm)
        self._critic_optimizer.step()
        return found

    def _update_actor(self, batch: Batch) -> dict[str, Tensor]:
        config = self.config
        person = batch.driver == PERSON
        features = self._look(batch.observation, batch.images, learns=not self._values_teach)
        known = features.detach()  # the gradient of the values would spoil the encoder
        loss, value, found = self._value_loss(known) if config.value_weight else self._expected(known, ~person)
        near = nearness(batch, *self._own_advantage(batch, value), config)
        blur = config.warm_start.feature_noise * torch.randn(features.shape, generator=self.noise)
        wanted = batch.action[:, list(self.sizes.layout.continuous)]
        away = (self.actor.continuous(features + blur) - wanted).square().sum(-1)
        loss = config.value_weight * loss + config.clone_weight * (near * away).sum() / near.sum().clamp(min=1e-6)
        found["clone_error"] = (person * away.detach()).sum() / person.sum().clamp(min=1)
        found["own_weight"] = (near * ~person).sum() / near.sum().clamp(min=1e-6)
        self._actor_optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._continuous, config.max_gradient_norm)
        self._actor_optimizer.step()
        return found

    def _expected(self, features: Tensor, own: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """No loss, and what the critics expect (N,) of the policy's own action; 0 but for its `own` (N,) steps."""
        value = torch.zeros(len(features))
        with torch.no_grad():
            features = features[own]
            action, _ = complete(self.actor, features, self.actor.continuous(features))
            value[own] = self.critics(torch.cat([features, action], -1)).mean(0)
        return torch.zeros(()), value, {}

    def _value_loss(self, features: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Soft actor-critic's loss of the actor, scaled to values of mean 1, and those values (N,)."""
        config, size = self.config, len(self.sizes.layout.continuous)
        continuous, density = self.actor.sample(features, torch.randn(len(features), size, generator=self.noise))
        temperature = self.log_temperature.exp().detach()
        action, _ = complete(self.actor, features, continuous)
        self.critics.requires_grad_(False)
        value = self.critics(torch.cat([features, action], -1)).mean(0)
        self.critics.requires_grad_(True)
        scale = value.detach().abs().mean().clamp(min=0.05)
        temperature_loss = -self.log_temperature.exp() * (density.detach().mean() + config.target_entropy * size)
        self._temperature_optimizer.zero_grad()
        temperature_loss.backward()
        self._temperature_optimizer.step()
        loss = (temperature * density - value).mean() / scale
        return loss, value.detach(), {"entropy": -density.detach().mean(), "temperature": temperature}

    def _own_advantage(self, batch: Batch, value: Tensor) -> tuple[Tensor, Tensor]:
        """How much better (N,) own steps ended than the critics expected, and where that may be learned from."""
        return own_advantage(batch, value, self.config.discount, self.config.blamed)

    # Storage

    def _parts(self) -> dict[str, nn.Module]:
        parts: dict[str, nn.Module] = {
            "actor": self.actor, "average": self.average, "critics": self.critics, "targets": self.targets,
        }  # fmt: skip
        if self.gripper_targets is not None:
            parts["gripper_targets"] = self.gripper_targets
        return parts

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {
            "actor_optimizer": self._actor_optimizer, "critic_optimizer": self._critic_optimizer,
            "temperature_optimizer": self._temperature_optimizer,
        }  # fmt: skip

    def state_dict(self) -> dict[str, Tensor]:
        """Networks, optimizers, counters and generators."""
        numbers = {"updates": self.updates}
        packed = state.pack(self._parts(), self._optimizers(), self.generator, self.noise, numbers)
        return {**packed, "log_temperature": self.log_temperature.detach()}

    def load_state_dict(self, stored: Mapping[str, Tensor]) -> None:
        """Go on from there."""
        state.unpack(stored, self._parts(), self._optimizers(), self.generator, self.noise)
        with torch.no_grad():
            self.log_temperature.copy_(stored["log_temperature"])
        self.updates = int(stored["updates"])
