"""Behaviour cloning (Pomerleau 1989) with a Gaussian mixture: what people did here, as a density.

    max_θ E_{(s, a) ~ demonstrations} log p_θ(a | s)

What acts is the likeliest component's mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from policies.execution import Execution
from robot_rl.hil.layout import ActionLayout
from robot_rl.hil.networks import FeatureScaler, Trunk
from robot_rl.imitation.demonstrations import Windows
from robot_rl.imitation.mixture import MixtureHead
from robot_rl.imitation.parts import FitConfig, blurred, masked_mean


@dataclass(frozen=True, kw_only=True)
class BcConfig(FitConfig):
    """Behaviour cloning."""

    hidden: tuple[int, ...] = (256, 256)
    """Widths of the layers."""
    components: int = 5
    """Of the mixture."""
    least_std: float = 0.05
    """Least deviation of a component, in units of the action."""


class BcPolicy(nn.Module):
    """Observation (N, D) to action (N, 1, A)."""

    execution = Execution()
    window = 1

    def __init__(self, size: int, layout: ActionLayout, config: BcConfig) -> None:
        """Build it untrained, for observations of `size` features."""
        super().__init__()
        self.config = config
        self.scaler = FeatureScaler(size)
        self.trunk = Trunk(size, config.hidden)
        self.head = MixtureHead(config.hidden[-1], layout, config.components, config.least_std)

    def loss(self, windows: Windows, noise: torch.Generator) -> Tensor:
        """Negative log-likelihood."""
        features = blurred(self.scaler, windows.observations[:, 0], self.config.feature_noise, noise)
        found: Tensor = self.head.loss(self.trunk(features), windows.actions[:, 0])
        return masked_mean(found, windows.shown[:, 0])

    def forward(self, observation: Tensor) -> Tensor:
        """The likeliest component's action."""
        return self.head.act(self.trunk(self.scaler(observation)))[:, None]
