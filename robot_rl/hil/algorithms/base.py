"""What every algorithm offers, and what several of them share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from robot_rl.hil.augment import random_shifts
from robot_rl.hil.layout import ActionLayout
from robot_rl.hil.networks import Critics, GripperChoice, HilPolicy, ResidualPolicy
from robot_rl.hil.replay import Replay


class Algorithm(Protocol):
    """A learner that is given one memory after the other; `rlpd.Rlpd` is one."""

    updates: int
    """Done so far."""

    def warm_start(self, replay: Replay) -> dict[str, float]:
        """Learn what can be learned before the robot moves, from demonstrations."""

    def ready(self, replay: Replay) -> bool:
        """Whether there is enough to learn from."""

    def update(self, replay: Replay) -> dict[str, Tensor]:
        """One full update; returns figures to log, as tensors so that nothing waits for them."""

    def policy(self) -> HilPolicy | ResidualPolicy:
        """What is deployed."""

    def behaviour(self) -> Acting:
        """What acts while learning; its `state_dict` is sent to the actor."""

    def state_dict(self) -> dict[str, Tensor]:
        """Everything needed to go on."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from there."""


class Acting(nn.Module):
    """What acts while learning: a policy, and critics that say how good it believes an action to be."""

    deviation: Tensor

    def __init__(
        self, policy: HilPolicy | ResidualPolicy, critics: Critics | None, deviation: float | None = None
    ) -> None:
        """Both are shared with the learner, not copied.

        Args:
            policy: What acts.
            critics: What judges, if anything does.
            deviation: Of noise on what the policy does; None: the policy explores by its own Gaussian.
        """
        super().__init__()
        self.policy = policy
        self.critics = critics
        self.own_noise = deviation is None
        self.register_buffer("deviation", torch.tensor(deviation or 0.0), persistent=not self.own_noise)

    @torch.no_grad()
    def explore(
        self, observation: Tensor, images: Mapping[str, Tensor], generator: torch.Generator, index: int = 0
    ) -> tuple[Tensor, Tensor | None]:
        """A random action (N, A) for observations (N, D) of step `index` of an episode, and its value (N,)."""
        action = self._act(observation, images, generator, index)
        if self.critics is None:
            return action, None
        features = torch.cat([self.policy.look(observation, images), action], -1)
        return action, self.critics(features).mean(0)

    def _act(self, observation: Tensor, images: Mapping[str, Tensor], generator: torch.Generator, index: int) -> Tensor:
        if isinstance(self.policy, HilPolicy) and self.own_noise:
            return self.policy.explore(observation, generator, images)
        action: Tensor = self.policy(observation, images)
        continuous = list(self.policy.layout.continuous)
        noise = self.deviation * torch.randn(len(action), len(continuous), generator=generator)
        action[:, continuous] = (action[:, continuous] + noise).clamp(-1.0, 1.0)
        return action


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What an algorithm needs to know of a task."""

    observation: int
    """D."""
    layout: ActionLayout
    """Of the action."""
    images: Mapping[str, tuple[int, int, int]]
    """(H, W, 3) by camera."""


@dataclass(frozen=True, kw_only=True)
class WarmStartConfig:
    """Behaviour cloning before the first robot step."""

    steps: int = 1500
    """Gradient steps; 0 leaves it out."""
    batch: int = 256
    """Samples of each."""
    learning_rate: float = 1e-3
    """Adam's."""
    normalize: bool = True
    """Whether observations are shifted and scaled by the figures of the demonstrations."""
    scaler_floor: float = 0.2
    """Least deviation of a feature by which it is divided: what hardly moves must not be blown up."""
    feature_noise: float = 0.1
    """Deviation of noise on the scaled features, which keeps a clone of few demonstrations from learning them by
    heart: 20 of `arm-pick-lift` give 92 to 95 % with it and 59 to 74 % without."""


def fit_scaler(policy: HilPolicy, replay: Replay, config: WarmStartConfig) -> bool:
    """Take the features' scale from the person's steps; whether there are any to begin from."""
    rows = replay.rows_of(demonstrations=True)
    if len(rows) and config.normalize:
        policy.scaler.fit(torch.from_numpy(replay.column("observation")[rows]), config.scaler_floor)
    return len(rows) > 0


def clone(
    policy: HilPolicy,
    replay: Replay,
    config: WarmStartConfig,
    generator: np.random.Generator,
    noise: torch.Generator,
    shift: int = 0,
) -> dict[str, float]:
    """Fit `policy` to the person's steps: squared error of velocities, cross-entropy of grippers.

    Args:
        policy: What is fitted, with its encoder where it has one.
        replay: Where the steps are.
        config: How.
        generator: Of draws.
        noise: Of noise on the features.
        shift: Pixels by which pictures are moved at random.
    """
    rows = replay.rows_of(demonstrations=True)
    if not len(rows) or not config.steps:
        return {}
    optimizer = torch.optim.Adam(policy.parameters(), config.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, config.steps)
    policy.train()
    loss = torch.zeros(())
    for _ in range(config.steps):
        batch = replay.gather(generator.choice(rows, config.batch))
        features = policy.look(batch.observation, random_shifts(batch.images, generator, shift))
        features = features + config.feature_noise * torch.randn(features.shape, generator=noise)
        loss = clone_loss(policy, features, batch.action, batch.weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    policy.eval()
    return {"clone_loss": float(loss.detach())}


def clone_loss(policy: HilPolicy, features: Tensor, action: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean of the distance between what the policy does and `action` (N, A)."""
    layout = policy.layout
    mean = torch.tanh(policy.mean(policy.trunk(features)))
    loss = (mean - action[:, list(layout.continuous)]).square().mean(-1)
    if policy.grippers is not None:
        loss = loss + 0.1 * habit_loss(policy.grippers, features, opens(action, layout))
    return (weight * loss).sum() / weight.sum().clamp(min=1e-6)


def habit_loss(grippers: GripperChoice, features: Tensor, opened: Tensor) -> Tensor:
    """Cross-entropy (N,) of what the person did with the grippers: `opened` (N, G) is 1 or 0."""
    logits = grippers.logits(features)
    entropy = torch.nn.functional.cross_entropy(logits.flatten(0, 1), opened.flatten(), reduction="none")
    return entropy.unflatten(0, opened.shape).mean(-1)


def opens(action: Tensor, layout: ActionLayout) -> Tensor:
    """Which grippers (N, G) an action (N, A) opens: 1, or 0 where it closes them."""
    return (action[:, list(layout.grippers)] > 0.0).long()
