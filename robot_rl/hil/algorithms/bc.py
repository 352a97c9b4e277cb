"""Behaviour cloning: do what the person did (Pomerleau 1989).

    min_π E_{(s, a) ~ person} |π(s) - a|²,    grippers by cross-entropy

Only the demonstrations before the first step of the policy count; corrections are stored, not learned from. This is
what the methods with a person in the loop are measured against.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from robot_rl.hil.algorithms import state
from robot_rl.hil.algorithms.base import Acting, Sizes, WarmStartConfig, clone, fit_scaler
from robot_rl.hil.networks import HilPolicy
from robot_rl.hil.pixels import PixelConfig, make_encoder
from robot_rl.hil.replay import Replay


@dataclass(frozen=True, kw_only=True)
class BcConfig:
    """Behaviour cloning."""

    hidden: tuple[int, ...] = (256, 256)
    """Widths of all networks."""
    dropout: float = 0.0
    """Share of the activations that are left out in training."""
    warm_start: WarmStartConfig = WarmStartConfig(steps=4000)
    """The cloning itself."""
    pixels: PixelConfig = PixelConfig()
    """Where there are cameras."""


class Bc:
    """A policy that is cloned once."""

    def __init__(self, sizes: Sizes, config: BcConfig, seed: int) -> None:
        """Build an untrained policy."""
        torch.manual_seed(seed)
        self.config, self.sizes = config, sizes
        self.generator = np.random.default_rng(seed)
        self.noise = torch.Generator().manual_seed(seed)
        self.updates = 0
        encoder = make_encoder(sizes.images, config.pixels)
        self.actor = HilPolicy(sizes.observation, sizes.layout, config.hidden, config.dropout, encoder=encoder)
        forget_values(self.actor)

    def warm_start(self, replay: Replay) -> dict[str, float]:
        """Clone the person."""
        if not fit_scaler(self.actor, replay, self.config.warm_start):
            return {}
        config = self.config
        return clone(self.actor, replay, config.warm_start, self.generator, self.noise, config.pixels.shift)

    def ready(self, replay: Replay) -> bool:
        """Never: there is nothing more to learn."""
        return False

    def update(self, replay: Replay) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def policy(self) -> HilPolicy:
        """The clone."""
        return self.actor

    def behaviour(self) -> Acting:
        """The clone, without noise."""
        return Acting(self.actor, None, deviation=0.0)

    # Storage

    def _modules(self) -> dict[str, nn.Module]:
        return {"actor": self.actor}

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {}

    def state_dict(self) -> dict[str, Tensor]:
        """Everything needed to go on."""
        numbers = {"updates": self.updates}
        return state.pack(self._modules(), self._optimizers(), self.generator, self.noise, numbers)

    def load_state_dict(self, stored: Mapping[str, Tensor]) -> None:
        """Go on from there."""
        state.unpack(stored, self._modules(), self._optimizers(), self.generator, self.noise)
        self.updates = int(stored["updates"])


def forget_values(policy: HilPolicy) -> None:
    """Let the grippers follow habit alone: untrained values are noise, which would outweigh it."""
    if policy.grippers is not None:
        last = policy.grippers.value[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
