"""Consistency policy: what the diffusion policy does in several steps, in one.

A student f maps every point of a way from noise to a chunk to the way's end, as in Song et al. 2023 and Prasad et al.
2024. There it learns that neighbours on a way have the same end, by its own word about the nearer one; with thousands
of gradient steps instead of hundreds of thousands, that word does not come true in time. Here the teacher's way has
five steps, so that its end is computed and regressed on (Luhman and Luhman 2021):

    min_θ |f_θ(x, σ) - the teacher's steps from (x, σ) to the end|²
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from policies.execution import Execution
from robot_rl.hil.layout import ActionLayout
from robot_rl.hil.networks import FeatureScaler
from robot_rl.imitation.demonstrations import Windows
from robot_rl.imitation.diffusion import DATA_STD, DiffusionConfig, DiffusionPolicy, finished
from robot_rl.imitation.parts import FitConfig


@dataclass(frozen=True, kw_only=True)
class ConsistencyConfig(FitConfig):
    """Consistency policy."""

    steps: int = 4000
    """Gradient steps."""
    batch: int = 128
    """Windows of each."""
    learning_rate: float = 5e-4
    """AdamW's largest; it rises over the first 100 steps and falls to 0 as a cosine."""
    from_noise: float = 0.5
    """Share of the ways that begin at pure noise, as they do when it acts; the others begin nearer to the end."""
    teacher: DiffusionConfig = DiffusionConfig()
    """Settings of the diffusion policy that is fitted first, and then distilled."""
    teacher_run: Path | None = None
    """Folder of a finished `--algorithm diffusion` run whose policy is distilled instead."""


class ConsistencyPolicy(nn.Module):
    """Observation (N, D), earlier ones (N, P D) and noise (N, H A) to a chunk (N, H, A)."""

    def __init__(self, size: int, layout: ActionLayout, config: ConsistencyConfig, teacher: DiffusionConfig) -> None:
        """Build student and teacher, for observations of `size` features; both know nothing before `teach`."""
        super().__init__()
        self.config, self.window = config, teacher.horizon
        self.teacher = DiffusionPolicy(size, layout, teacher).requires_grad_(False)
        self.student = copy.deepcopy(self.teacher.denoiser).requires_grad_(True)
        self.parts = self.teacher.parts

    @property
    def scaler(self) -> FeatureScaler:
        """Of observations; the teacher's."""
        return self.teacher.scaler

    @property
    def execution(self) -> Execution:
        """As the teacher's."""
        return self.teacher.execution

    def teach(self, teacher: Mapping[str, Tensor]) -> None:
        """Take over a fitted teacher's state; the student begins as it."""
        self.teacher.load_state_dict(teacher)
        self.student.load_state_dict(self.teacher.denoiser.state_dict())

    def loss(self, windows: Windows, noise: torch.Generator) -> Tensor:
        """Squared distance to the ends that the teacher reaches."""
        clean = windows.actions.flatten(1)
        features = self.teacher.look(windows, noise)
        levels = self.teacher.levels[:-1]
        step = torch.randint(0, len(levels), (len(clean), 1), generator=noise)
        step[torch.rand(step.shape, generator=noise) < self.config.from_noise] = 0
        sigma = levels[step]
        start = torch.where(step > 0, clean, 0.0) + sigma * torch.randn(clean.shape, generator=noise)
        with torch.no_grad():
            end = self.teacher.descend(start, features, step)
        error = (self.jump(start, sigma, features) - end).square()
        return error.mean()

    def jump(self, chunk: Tensor, sigma: Tensor, features: Tensor) -> Tensor:
        """f: the end (N, S) of the way on which a noisy chunk (N, S) of size σ (N, 1) lies."""
        smallest = self.teacher.config.noise_range[0]
        above, total = sigma - smallest, sigma.square() + DATA_STD**2
        keep, change = DATA_STD**2 / (above.square() + DATA_STD**2), DATA_STD * above / total.sqrt()
        found: Tensor = keep * chunk + change * self.student(chunk / total.sqrt(), sigma, features)
        return found

    def forward(self, observation: Tensor, *given: Tensor) -> Tensor:
        """The chunk of this noise; with a history, the earlier observations come before the noise."""
        *memory, noise = given
        features = self.teacher.features(observation, memory[0] if memory else None)
        largest = self.teacher.levels[0] + torch.zeros_like(noise[:, :1])
        chunk = self.jump(largest * noise, largest, features)
        return finished(self.parts, chunk.unflatten(1, (self.window, -1)))
