"""HG-DAgger: cloning of all that a person ever did, corrections included (Kelly et al. 2019, algorithm 1).

    D ← D ∪ {(s, a_person) : the person drives},    min_π E_{(s, a) ~ D} |π(s) - a|²

The novice acts without noise until the person takes over; the set grows step by step, and the fit goes on rather than
being begun anew after every episode. What acts and what is deployed is a running average of the weights.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from robot_rl.hil.algorithms.base import Acting, Sizes, WarmStartConfig, clone_loss
from robot_rl.hil.algorithms.bc import Bc, BcConfig
from robot_rl.hil.augment import random_shifts
from robot_rl.hil.networks import HilPolicy, track
from robot_rl.hil.replay import Batch, Replay


@dataclass(frozen=True, kw_only=True)
class HgDaggerConfig(BcConfig):
    """HG-DAgger."""

    warm_start: WarmStartConfig = WarmStartConfig()
    """Cloning of the demonstrations before the first step."""
    batch: int = 256
    """Samples of an update."""
    learning_rate: float = 3e-4
    """Adam's, of updates after the warm start."""
    average_rate: float = 0.005
    """Of the deployed average, per update."""
    start_after: int = 1
    """Online steps before the first update."""


class HgDagger(Bc):
    """A policy that is cloned again and again from a growing set."""

    config: HgDaggerConfig

    def __init__(self, sizes: Sizes, config: HgDaggerConfig, seed: int) -> None:
        """Build an untrained policy."""
        super().__init__(sizes, config, seed)
        self.average = copy.deepcopy(self.actor)
        self._optimizer = torch.optim.Adam(self.actor.parameters(), config.learning_rate, fused=True)

    def warm_start(self, replay: Replay) -> dict[str, float]:
        """Clone the demonstrations."""
        found = super().warm_start(replay)
        self.average.load_state_dict(self.actor.state_dict())
        return found

    def ready(self, replay: Replay) -> bool:
        """Whether the robot has moved and there are steps of a person."""
        return replay.online >= self.config.start_after and replay.demonstrations > 0

    def update(self, replay: Replay) -> dict[str, Tensor]:
        """One step of the fit."""
        batch = self._draw(replay)
        features = self.actor.look(
            batch.observation, random_shifts(batch.images, self.generator, self.config.pixels.shift)
        )
        features = features + self.config.warm_start.feature_noise * torch.randn(features.shape, generator=self.noise)
        self.actor.train()
        loss = clone_loss(self.actor, features, batch.action, batch.weight)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        self.actor.eval()
        track(self.average, self.actor, self.config.average_rate)
        self.updates += 1
        return {"clone_loss": loss.detach()}

    def policy(self) -> HilPolicy:
        """The running average."""
        return self.average.eval()

    def behaviour(self) -> Acting:
        """The running average, without noise."""
        return Acting(self.average.eval(), None, deviation=0.0)

    def _draw(self, replay: Replay) -> Batch:
        """Steps of the person."""
        rows = replay.rows_of(demonstrations=True)
        return replay.gather(self.generator.choice(rows, self.config.batch))

    def _modules(self) -> dict[str, nn.Module]:
        return {"actor": self.actor, "average": self.average}

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"optimizer": self._optimizer}


def rows_of_all(replay: Replay) -> np.ndarray:
    """Places of all steps that may be learned from, online or given, in order."""
    both = [replay.rows_of(demonstrations=demonstrations) for demonstrations in (False, True)]
    return np.unique(np.concatenate(both)).astype(np.int64)
