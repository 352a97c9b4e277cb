"""Diffusion policy: noise becomes a chunk of actions in a few steps, each of which removes some of it.

After Chi et al. 2023. A denoiser D(x, σ | s) in the form of Karras et al. 2022, equation 7, is fitted over noise of all
sizes,

    min_θ E_{a, s, σ, n} λ(σ) |D_θ(a + σ n, σ | s) - a|²

and DDIM's steps (Song et al. 2021; first order in Karras et al. 2022) from the largest σ down when it acts:

    x ← D(x, σ) + (σ' / σ) (x - D(x, σ)),    σ' the next smaller one

Which of several ways it takes is in the noise that it begins with: it keeps them apart where a mean would mix them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from policies.execution import Execution
from robot_rl.errors import UserError
from robot_rl.hil.layout import ActionLayout
from robot_rl.hil.networks import FeatureScaler
from robot_rl.imitation.demonstrations import Windows
from robot_rl.imitation.parts import ActionParts, FitConfig, blurred, masked_mean

DATA_STD = 0.5
"""Deviation of actions that the scaling of the network assumes."""
RHO = 7.0
"""How closely the noise's sizes lie at the small end."""


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig(FitConfig):
    """Diffusion policy."""

    steps: int = 6000
    """Gradient steps."""
    batch: int = 128
    """Windows of each."""
    horizon: int = 8
    """H, actions of a chunk."""
    executed: int = 4
    """Actions of a chunk that are carried out before the next one."""
    history: int = 1
    """Earlier observations that it sees."""
    denoising_steps: int = 5
    """Evaluations of the denoiser for a chunk."""
    noise_range: tuple[float, float] = (0.05, 3.0)
    """Smallest and largest σ. Few steps have to lie where noise is about as large as the differences between ways."""
    hidden: int = 256
    """Width of the denoiser."""
    blocks: int = 3
    """Its residual blocks."""


class Denoiser(nn.Module):
    """F(x, σ | s): residual blocks over a chunk, the size of its noise and the features."""

    frequencies: Tensor

    def __init__(self, size: int, context: int, hidden: int, blocks: int) -> None:
        """Of chunks of `size` numbers and `context` features."""
        super().__init__()
        self.register_buffer("frequencies", torch.logspace(-1.0, 1.0, 16))
        self.enter = nn.Linear(size + context + 32, hidden)
        self.blocks = nn.ModuleList([
            nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
            for _ in range(blocks)
        ])  # fmt: skip
        self.leave = nn.Linear(hidden, size)

    def forward(self, chunk: Tensor, sigma: Tensor, features: Tensor) -> Tensor:
        """Shape (N, S) of scaled chunks (N, S), σ (N, 1), features (N, F)."""
        phase = sigma.log() * self.frequencies
        found = self.enter(torch.cat([chunk, phase.sin(), phase.cos(), features], dim=-1))
        for block in self.blocks:
            found = found + block(found)
        left: Tensor = self.leave(functional.silu(found))
        return left


class DiffusionPolicy(nn.Module):
    """Observation (N, D), earlier ones (N, P D) and noise (N, H A) to a chunk (N, H, A)."""

    levels: Tensor

    def __init__(self, size: int, layout: ActionLayout, config: DiffusionConfig) -> None:
        """Build it untrained, for observations of `size` features.

        Raises:
            UserError: The range of the noise or the number of steps is none.
        """
        super().__init__()
        smallest, largest = config.noise_range
        if not 0.0 < smallest < largest or config.denoising_steps < 1:
            raise UserError(
                f"--diffusion.noise-range is {smallest:g} {largest:g} in {config.denoising_steps} steps; expected a "
                "smaller and a larger σ above 0, and at least one step"
            )
        self.config, self.window = config, config.horizon
        self.execution = Execution(
            horizon=config.horizon,
            executed=config.executed,
            switches=layout.grippers,
            history=config.history,
            noise_size=config.horizon * layout.size,
        )
        self.scaler = FeatureScaler(size)
        self.parts = ActionParts(layout)
        self.denoiser = Denoiser(
            config.horizon * layout.size, (1 + config.history) * size, config.hidden, config.blocks
        )
        self.register_buffer("levels", noise_levels(config.noise_range, config.denoising_steps), persistent=False)

    def loss(self, windows: Windows, noise: torch.Generator) -> Tensor:
        """Squared error of the denoised steps, so weighted that every σ counts alike (Karras et al., table 1)."""
        features = self.look(windows, noise)
        smallest, largest = self.config.noise_range
        sigma = (-1.0 + 1.4 * torch.randn(len(features), 1, generator=noise)).exp().clamp(smallest, largest)
        clean = windows.actions.flatten(1)
        found = self.denoise(clean + sigma * torch.randn(clean.shape, generator=noise), sigma, features)
        weight = (sigma.square() + DATA_STD**2) / (sigma * DATA_STD).square()
        error = weight * (found - clean).square()
        return masked_mean(error.unflatten(1, windows.actions.shape[1:]).mean(-1), windows.shown)

    def look(self, windows: Windows, noise: torch.Generator) -> Tensor:
        """Features (N, F) for training: of what is seen and of what was seen before, noisy."""
        past = windows.past[:, : self.config.history]
        seen = torch.cat([windows.observations[:, :1], past], dim=1)
        return blurred(self.scaler, seen, self.config.feature_noise, noise).flatten(1)

    def features(self, observation: Tensor, memory: Tensor | None) -> Tensor:
        """Features (N, F) of what is seen and of what was seen before."""
        seen = observation[:, None]
        if memory is not None:
            seen = torch.cat([seen, memory.unflatten(1, (self.config.history, -1))], dim=1)
        scaled: Tensor = self.scaler(seen)
        return scaled.flatten(1)

    def denoise(self, chunk: Tensor, sigma: Tensor, features: Tensor) -> Tensor:
        """D: the clean chunk (N, S) that a noisy one (N, S) of size σ (N, 1) is expected to be."""
        total = sigma.square() + DATA_STD**2
        keep, change = DATA_STD**2 / total, sigma * DATA_STD / total.sqrt()
        found: Tensor = keep * chunk + change * self.denoiser(chunk / total.sqrt(), sigma, features)
        return found

    def sample(self, features: Tensor, noise: Tensor) -> Tensor:
        """The chunk (N, S) that standard normal noise (N, S) becomes."""
        return self.descend(self.levels[0] * noise, features)

    def descend(self, chunk: Tensor, features: Tensor, begin: Tensor | None = None) -> Tensor:
        """What noisy chunks (N, S) become; their noise is that of step `begin` (N, 1), or of the first one."""
        for step in range(self.config.denoising_steps):
            sigma = self.levels[step]
            # Tracing would keep a size as the number that it is now, and so would `expand`.
            clean = self.denoise(chunk, sigma + torch.zeros_like(chunk[:, :1]), features).clamp(-1.0, 1.0)
            nearer = clean + (self.levels[step + 1] / sigma) * (chunk - clean)
            chunk = nearer if begin is None else torch.where(begin <= step, nearer, chunk)
        return chunk

    def forward(self, observation: Tensor, *given: Tensor) -> Tensor:
        """The chunk of this noise; with a history, the earlier observations come before the noise."""
        *memory, noise = given
        chunk = self.sample(self.features(observation, memory[0] if memory else None), noise)
        return finished(self.parts, chunk.unflatten(1, (self.config.horizon, -1)))


def noise_levels(bounds: tuple[float, float], steps: int) -> Tensor:
    """σ from the largest to the smallest (Karras et al., equation 5), then 0. Shape (steps + 1,)."""
    smallest, largest = (bound ** (1.0 / RHO) for bound in bounds)
    share = torch.arange(steps) / max(1, steps - 1)
    return torch.cat([(largest + share * (smallest - largest)) ** RHO, torch.zeros(1)])


def finished(parts: ActionParts, chunk: Tensor) -> Tensor:
    """Actions (N, H, A) of a chunk whose grippers came out as any number: open or closed."""
    grippers = chunk[..., list(parts.layout.grippers)]
    return parts.join(parts.continuous(chunk), grippers)
