"""Action chunking with a transformer (ACT): the next H actions at once, from a conditional autoencoder.

After Zhao et al. 2023:

    z ~ q_φ(z | s, a_{1..H}),    â = π_θ(s, z),    min |â - a| + β KL(q_φ ‖ N(0, 1))

z holds in what way a person did it, so that the decoder need not average over ways; it is 0 when it acts. The network
runs at every step, and what the last H chunks say about now is averaged (`policies.execution`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from policies.execution import Execution
from robot_rl.errors import UserError
from robot_rl.hil.layout import ActionLayout
from robot_rl.hil.networks import FeatureScaler
from robot_rl.imitation.attention import Block
from robot_rl.imitation.demonstrations import Windows
from robot_rl.imitation.parts import ActionParts, FitConfig, blurred, gripper_loss, masked_mean


@dataclass(frozen=True, kw_only=True)
class ActConfig(FitConfig):
    """Action chunking with a transformer."""

    steps: int = 3000
    """Gradient steps."""
    batch: int = 64
    """Windows of each."""
    learning_rate: float = 1e-3
    """AdamW's largest; it rises over the first 100 steps and falls to 0 as a cosine."""
    horizon: int = 10
    """H, actions of a chunk."""
    ensemble_decay: float | None = -0.5
    """m in the weight exp(-m i) of the i-th oldest chunk; below 0 the newest counts most, which slow control needs: at
    10 Hz the paper's 0.01, meant for 50 Hz, averages over a second and lifts 68 % of the cubes instead of 95 %. None:
    no ensembling, `executed` actions of each chunk are carried out."""
    executed: int = 1
    """Actions of a chunk that are carried out before the next one; 1 with ensembling."""
    width: int = 64
    """Features of a token."""
    heads: int = 4
    """Of the attention."""
    layers: int = 2
    """Blocks of the encoder, and of the decoder."""
    latent: int = 8
    """Length of z."""
    latent_weight: float = 1.0
    """β."""


class ActPolicy(nn.Module):
    """Observation (N, D) to a chunk (N, H, A)."""

    def __init__(self, size: int, layout: ActionLayout, config: ActConfig) -> None:
        """Build it untrained, for observations of `size` features.

        Raises:
            UserError: The heads do not divide the width.
        """
        super().__init__()
        if config.width % config.heads:
            raise UserError(f"--act.width is {config.width}; {config.heads} heads must divide it")
        self.config, self.window, width = config, config.horizon, config.width
        self.execution = Execution(
            horizon=config.horizon,
            executed=config.executed,
            ensemble_decay=config.ensemble_decay,
            switches=layout.grippers,
        )
        self.scaler = FeatureScaler(size)
        self.parts = ActionParts(layout)
        self.style_tokens = nn.ModuleList([nn.Linear(size, width), nn.Linear(layout.size, width)])
        self.style_places = nn.Parameter(0.02 * torch.randn(config.horizon + 2, width))
        self.style_blocks = nn.ModuleList([Block(width, config.heads) for _ in range(config.layers)])
        self.style = nn.Linear(width, 2 * config.latent)
        self.context = nn.ModuleList([nn.Linear(size, width), nn.Linear(config.latent, width)])
        self.queries = nn.Parameter(torch.randn(config.horizon, width))
        self.blocks = nn.ModuleList([Block(width, config.heads, context=True) for _ in range(config.layers)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, layout.size)

    def loss(self, windows: Windows, noise: torch.Generator) -> Tensor:
        """Absolute error of velocities, cross-entropy of grippers, and the price of z."""
        features = blurred(self.scaler, windows.observations[:, 0], self.config.feature_noise, noise)
        mean, log_variance = self.encode(features, windows.actions, windows.shown)
        latent = mean + (0.5 * log_variance).exp() * torch.randn(mean.shape, generator=noise)
        continuous, logits = self.decode(features, latent)
        error = (continuous - self.parts.continuous(windows.actions)).abs().mean(-1)
        error = error + 0.5 * gripper_loss(logits, self.parts.opens(windows.actions))
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(-1)
        price = masked_mean(divergence, windows.shown.any(1))
        return masked_mean(error, windows.shown) + self.config.latent_weight * price

    def encode(self, features: Tensor, actions: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance (N, latent) of z; steps that are not shown are not looked at."""
        seen, done = (layer(x) for layer, x in zip(self.style_tokens, (features[:, None], actions), strict=True))
        tokens = torch.cat([torch.zeros_like(seen), seen, done], dim=1) + self.style_places
        visible = torch.cat([torch.ones_like(shown[:, :1]), torch.ones_like(shown[:, :1]), shown], dim=1)
        for block in self.style_blocks:
            tokens = block(tokens, visible=visible)
        mean, log_variance = self.style(tokens[:, 0]).chunk(2, dim=-1)
        return mean, log_variance.clamp(-8.0, 8.0)

    def decode(self, features: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Velocities (N, H, C) and the grippers' logits (N, H, G)."""
        seen, style = (layer(x) for layer, x in zip(self.context, (features, latent), strict=True))
        context = torch.stack([seen, style], dim=1)
        tokens = self.queries + torch.zeros_like(context[:, :1])
        for block in self.blocks:
            tokens = block(tokens, context)
        found = self.head(self.norm(tokens))
        continuous, logits = found.split([len(self.parts.layout.continuous), len(self.parts.layout.grippers)], dim=-1)
        return torch.tanh(continuous), logits

    def forward(self, observation: Tensor) -> Tensor:
        """The chunk of z = 0."""
        features = self.scaler(observation)
        continuous, logits = self.decode(features, torch.zeros_like(features[:, :1]).repeat(1, self.config.latent))
        joined: Tensor = self.parts.join(continuous, logits)
        return joined
