"""Behaviour cloning with a recurrent network: people act on more than what is seen at this instant.

After Mandlekar et al. 2021. A gated recurrent unit (Cho et al. 2014) reads the episode from its beginning, in training
as when it acts:

    h_t = GRU(h_{t-1}, s_t),    max_θ Σ_t log p_θ(a_t | h_t)
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
class BcRnnConfig(FitConfig):
    """Behaviour cloning with a recurrent network."""

    steps: int = 2500
    """Gradient steps."""
    batch: int = 16
    """Episodes of each."""
    hidden: int = 128
    """Width of the layer before the recurrent one."""
    memory: int = 128
    """Width of each recurrent layer."""
    layers: int = 1
    """Recurrent layers."""
    components: int = 5
    """Of the mixture."""
    least_std: float = 0.05
    """Least deviation of a component, in units of the action."""


class BcRnnPolicy(nn.Module):
    """Observation (N, D) and memory (N, M) to action (N, 1, A) and the next memory."""

    window = 0

    def __init__(self, size: int, layout: ActionLayout, config: BcRnnConfig) -> None:
        """Build it untrained, for observations of `size` features."""
        super().__init__()
        self.config = config
        self.execution = Execution(memory_size=config.layers * config.memory)
        self.scaler = FeatureScaler(size)
        self.trunk = Trunk(size, (config.hidden,))
        self.recurrent = nn.GRU(config.hidden, config.memory, config.layers, batch_first=True)
        self.head = MixtureHead(config.memory, layout, config.components, config.least_std)

    def loss(self, windows: Windows, noise: torch.Generator) -> Tensor:
        """Negative log-likelihood of whole episodes; the memory begins at 0, as when it acts."""
        features = blurred(self.scaler, windows.observations, self.config.feature_noise, noise)
        found, _ = self.recurrent(self.trunk(features))
        return masked_mean(self.head.loss(found, windows.actions), windows.shown)

    def forward(self, observation: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """One step."""
        begun = memory.unflatten(1, (self.config.layers, self.config.memory)).transpose(0, 1).contiguous()
        found, after = self.recurrent(self.trunk(self.scaler(observation))[:, None], begun)
        return self.head.act(found), after.transpose(0, 1).flatten(1)
