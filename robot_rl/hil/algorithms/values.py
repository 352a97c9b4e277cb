"""What algorithms with critics share: batches, targets, the grippers' temporal differences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from robot_rl.hil.algorithms.base import WarmStartConfig, habit_loss, opens
from robot_rl.hil.layout import ActionLayout
from robot_rl.hil.networks import Critics, GripperChoice, HilPolicy, ResidualPolicy
from robot_rl.hil.replay import PERSON, Batch, Replay


@dataclass(frozen=True, kw_only=True)
class CriticConfig:
    """Settings of an ensemble of critics and of what is learned from it."""

    hidden: tuple[int, ...] = (256, 256)
    """Widths of all networks."""
    critics: int = 2
    """Members of the ensemble."""
    sampled: int = 2
    """Members of which the least is the target."""
    batch: int = 256
    """Transitions of an update, half of them the person's."""
    discount: float = 0.97
    """Per control step."""
    track_rate: float = 0.005
    """Of the target critics, per update."""
    actor_period: int = 2
    """Updates of the critics per update of the actor."""
    gripper_penalty: float = 0.02
    """Taken off the reward of a step in which a gripper changes."""
    warm_start: WarmStartConfig = WarmStartConfig()
    """Cloning before the first step."""
    critic_warm_up: int = 1000
    """Updates of the critics alone, before the actor follows them."""
    start_after: int = 200
    """Online steps before the first update."""
    max_gradient_norm: float = 10.0
    """Of the critics and of the actor."""

    def enough(self, replay: Replay) -> bool:
        """Whether there are online steps and demonstrations to learn from."""
        return replay.online >= self.start_after and replay.demonstrations > 0


@dataclass(frozen=True, kw_only=True)
class NearnessConfig:
    """Whose actions an actor stays near to."""

    correction_weight: float = 4.0
    """Of staying near the person's corrections, relative to their demonstrations."""
    own_weight: float = 0.5
    """Of staying near what the policy itself did in episodes that it won as fast as its critics expect."""
    advantage_scale: float = 0.05
    """Own actions whose outcome was better by this share count e times as much (AWAC, Nair et al. 2020)."""
    blamed: int = 15
    """Steps before a correction whose actions are held to be wrong (Sirius, Liu et al. 2023)."""


def nearness(batch: Batch, advantage: Tensor, good: Tensor, config: NearnessConfig) -> Tensor:
    """How much (N,) to stay near the executed actions.

    Near the person's, the corrections more than the demonstrations, of which there are many alike. Near own ones where
    they are `good` (N,), the more the greater their `advantage` (N,).
    """
    own = config.own_weight * good * (advantage / config.advantage_scale).clamp(-3.0, 2.0).exp()
    return torch.where(batch.driver == PERSON, torch.where(batch.given, 1.0, config.correction_weight), own)


def own_advantage(batch: Batch, value: Tensor, discount: float, blamed: int) -> tuple[Tensor, Tensor]:
    """By what share (N,) own steps ended better than the critics' `value` (N,) of the policy's action.

    Also where (N,) that may be learned from: in won episodes, but where it led to a correction.
    """
    outcome = discount ** (batch.left - 1).clamp(min=0)
    return (outcome - value) / value.abs().clamp(min=0.05), batch.won & (batch.until_help > blamed)


def half_and_half(replay: Replay, size: int, generator: np.random.Generator, n_step: int, discount: float) -> Batch:
    """A batch of `size` transitions over `n_step` steps, half of them the person's (Ball et al. 2023)."""
    half = size // 2
    rows = [
        replay.draw(count, generator, demonstrations=person) for count, person in ((size - half, False), (half, True))
    ]
    return replay.gather(np.concatenate(rows), n_step, discount)


def least(critics: Critics, features: Tensor, sampled: int, noise: torch.Generator) -> Tensor:
    """The least value (N,) of `sampled` members, drawn anew each time (REDQ, Chen et al. 2021)."""
    count = len(critics.weights[0])
    members = torch.randperm(count, generator=noise)[:sampled]
    return critics(features, None if sampled >= count else members).amin(0)


def complete(policy: HilPolicy | ResidualPolicy, features: Tensor, continuous: Tensor) -> tuple[Tensor, Tensor | None]:
    """The action (N, A) with a continuous part (N, C), whose grippers do what `policy` holds to be best.

    Also which command (N, G) that is for each gripper: 1 opens it, 0 closes it; None without grippers.
    """
    if policy.grippers is None:
        return policy.assemble(continuous, continuous[:, :0]), None
    with torch.no_grad():
        best = policy.grippers.best(features)
    return policy.assemble(continuous, 2.0 * best - 1.0), best


def gripper_errors(
    grippers: GripperChoice,
    targets: GripperChoice,
    batch: Batch,
    features: Tensor,
    after: Tensor,
    best: Tensor | None,
    reward: Tensor,
    penalty: float,
    layout: ActionLayout,
) -> Tensor:
    """Squared temporal differences (N,) of double Q-learning, the mean over grippers.

    Args:
        grippers: What learns.
        targets: Its running average.
        batch: Whose actions are judged.
        features: Shape (N, D), before the step.
        after: Shape (N, D), after it.
        best: Shape (N, G), the command that is best there.
        reward: Shape (N,).
        penalty: For every change of a command.
        layout: Of the action.
    """
    assert best is not None
    chosen = opens(batch.action, layout)
    with torch.no_grad():
        toggled = (chosen != opens(batch.previous, layout)).float()
        later = targets.values(after).gather(-1, best[..., None])[..., 0]
        target = reward[:, None] - penalty * toggled + batch.discount[:, None] * later
    own = grippers.values(features).gather(-1, chosen[..., None])[..., 0]
    return (own - target).square().mean(-1)


def habits(
    grippers: GripperChoice, batch: Batch, features: Tensor, deviation: float, noise: torch.Generator,
    layout: ActionLayout,
) -> Tensor:  # fmt: skip
    """Loss () of what the person does with the grippers, on `features` with noise; 0 where habits are frozen."""
    if not next(grippers.habit.parameters()).requires_grad:
        return torch.zeros(())
    person = batch.driver == PERSON
    seen = features[person]
    blur = deviation * torch.randn(seen.shape, generator=noise)
    habit = habit_loss(grippers, seen + blur, opens(batch.action[person], layout))
    return 0.1 * habit.sum() / len(features)
