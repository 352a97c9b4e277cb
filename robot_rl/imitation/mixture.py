"""A Gaussian mixture of actions (Bishop 1994), each component with grippers of its own.

    log p(a | s) = log Σ_k w_k(s) N(a_c; μ_k(s), σ_k(s)²) Bernoulli(a_g; p_k(s))

A mean of people who go left and people who go right goes straight on; a mixture keeps both. What acts is the likeliest
component's mean, without noise.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from robot_rl.hil.layout import ActionLayout
from robot_rl.imitation.parts import ActionParts, gripper_loss


class MixtureHead(nn.Module):
    """From features (..., F) to a mixture of K components over actions."""

    def __init__(self, size: int, layout: ActionLayout, components: int, least_std: float) -> None:
        """Build it untrained.

        Args:
            size: F.
            layout: Of the action.
            components: K.
            least_std: Least deviation of a component: what is shown without any noise must not make it a needle.
        """
        super().__init__()
        self.parts, self.components, self.least_std = ActionParts(layout), components, least_std
        self._sizes = (len(layout.continuous), len(layout.continuous), len(layout.grippers), 1)
        self.linear = nn.Linear(size, components * sum(self._sizes))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Means and deviations (..., K, C), the grippers' logits (..., K, G), logarithms of the weights (..., K)."""
        found = self.linear(features).unflatten(-1, (self.components, sum(self._sizes)))
        mean, width, grippers, weight = found.split(self._sizes, dim=-1)
        deviation = self.least_std + functional.softplus(width - 1.0)
        return torch.tanh(mean), deviation, grippers, functional.log_softmax(weight[..., 0], dim=-1)

    def loss(self, features: Tensor, action: Tensor) -> Tensor:
        """Negative log-likelihood (...) of actions (..., A)."""
        mean, deviation, grippers, weight = self(features)
        away = (self.parts.continuous(action)[..., None, :] - mean) / deviation
        density = (-0.5 * away.square() - deviation.log() - 0.5 * math.log(2.0 * math.pi)).sum(-1)
        opens = self.parts.opens(action)[..., None, :].expand_as(grippers)
        return -torch.logsumexp(weight + density - gripper_loss(grippers, opens), dim=-1)

    def act(self, features: Tensor) -> Tensor:
        """The action (..., A) of the likeliest component."""
        mean, _, grippers, weight = self(features)
        best = (weight.argmax(dim=-1, keepdim=True) == torch.arange(self.components))[..., None]
        chosen = [torch.where(best, part, 0.0).sum(-2) for part in (mean, grippers)]
        joined: Tensor = self.parts.join(*chosen)
        return joined
