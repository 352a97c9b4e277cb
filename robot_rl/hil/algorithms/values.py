"""What algorithms with critics share: batches, targets, the grippers' temporal differences."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from robot_rl.hil.algorithms.base import opens
from robot_rl.hil.layout import ActionLayout
from robot_rl.hil.networks import Critics, GripperChoice, HilPolicy, ResidualPolicy
from robot_rl.hil.replay import Batch, Replay, join


def half_and_half(replay: Replay, size: int, generator: np.random.Generator, n_step: int, discount: float) -> Batch:
    """A batch of `size` transitions over `n_step` steps, half of them the person's (Ball et al. 2023)."""
    half = size // 2
    return join([
        replay.sample(count, generator, demonstrations=person, n_step=n_step, discount=discount)
        for count, person in ((size - half, False), (half, True))
    ])  # fmt: skip


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
