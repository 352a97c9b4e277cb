"""Networks of policies."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class TanhPolicy(nn.Module):
    """A feed-forward policy: observation (..., D) to normalized action (..., A) in [-1, 1].

    Its first actions are `initial_action` wherever it is, so that training starts near hovering.
    """

    def __init__(self, observation_size: int, action_size: int, hidden: Sequence[int], initial_action: float) -> None:
        """Hidden layers of tanh; the output layer starts small, with the bias at `initial_action`."""
        super().__init__()
        sizes = [observation_size, *hidden]
        layers: list[nn.Module] = []
        for width_in, width_out in zip(sizes[:-1], sizes[1:], strict=True):
            layers += [nn.Linear(width_in, width_out), nn.Tanh()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(sizes[-1], action_size)
        with torch.no_grad():
            self.head.weight.mul_(0.1)
            self.head.bias.fill_(math.atanh(initial_action))

    def forward(self, observation: Tensor) -> Tensor:
        """Deterministic normalized action."""
        return torch.tanh(self.head(self.body(observation)))
