"""Networks of policies and value functions; normalization is part of them, so that it is exported with them."""

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
        return ((features - self.mean) / torch.sqrt(self.variance + 1e-2)).clamp(-10.0, 10.0)

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
