"""ResFiT: small corrections of a frozen policy by off-policy reinforcement learning (Ankile et al. 2025).

    a = a_base + c·π(s, a_base),    c ≈ 0.1

The base policy is a clone of the demonstrations, or the network of a bundle. The last layer of π begins at 0, so that
nothing changes before something is learned. TD3 on whole actions, half of each batch the person's, with an ensemble of
critics of which the least of two drawn ones is the target, layer norm, three steps of reward and four updates per step.
First the base acts with more noise and only the critics learn. The paper's learning rates (actor 1e-6, critics 1e-4)
are those of a hundred thousand steps; here there are some thousands. Its ten critics are more than one core can train.

What is exported is one graph, base and corrections.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from robot_rl.hil.algorithms.base import Sizes, WarmStartConfig, clone, fit_scaler
from robot_rl.hil.algorithms.bc import forget_values
from robot_rl.hil.algorithms.frozen import policy_of_bundle
from robot_rl.hil.algorithms.td3 import Td3, Td3Config
from robot_rl.hil.networks import HilPolicy, ResidualPolicy
from robot_rl.hil.replay import Replay


@dataclass(frozen=True, kw_only=True)
class ResfitConfig(Td3Config):
    """Residual learning."""

    base: Path | None = None
    """Bundle of the base policy, as `robot-rl hil` writes them; a clone of the demonstrations if not given."""
    scale: float = 0.1
    """c: the largest correction of an element of the action."""
    critics: int = 4
    """Members of the ensemble."""
    n_step: int = 3
    """Steps of reward before the critics take over."""
    actor_rate: float = 1e-4
    """Adam's, of the corrections."""
    warm_start: WarmStartConfig = WarmStartConfig(steps=4000)
    """Cloning of the base policy."""
    warm_up_deviation: float = 0.2
    """Of the noise on the base policy's actions until the critics have warmed up."""
    correct_grippers: bool = True
    """Whether the value of a gripper's command may outweigh the base policy's habit."""


class Resfit(Td3):
    """TD3 on a residual."""

    config: ResfitConfig
    actor: ResidualPolicy

    def __init__(self, sizes: Sizes, config: ResfitConfig, seed: int) -> None:
        """Build untrained networks around the base policy."""
        torch.manual_seed(seed)
        if config.base is not None:
            base = policy_of_bundle(config.base, sizes)
        else:
            base = HilPolicy(sizes.observation, sizes.layout, config.hidden)
            forget_values(base)
        super().__init__(sizes, config, seed, self._around(base, config))
        self.acting.deviation.fill_(config.warm_up_deviation)

    @staticmethod
    def _around(base: HilPolicy, config: ResfitConfig) -> ResidualPolicy:
        actor = ResidualPolicy(base, config.hidden, config.scale)
        if actor.grippers is not None and not config.correct_grippers:
            actor.grippers.requires_grad_(False)
        return actor

    def warm_start(self, replay: Replay) -> dict[str, float]:
        """Clone the base policy, if it is not given."""
        base, config = self.actor.base, self.config.warm_start
        if self.config.base is not None or not fit_scaler(base, replay, config):
            return {}
        base.requires_grad_(True)
        found = clone(base, replay, config, self.generator, self.noise)
        base.requires_grad_(False)
        if self.actor.grippers is not None and base.grippers is not None:
            self.actor.grippers.load_state_dict(base.grippers.state_dict())
        self.average.load_state_dict(self.actor.state_dict())
        return found

    def update(self, replay: Replay) -> dict[str, Tensor]:
        """Critics, and once they have warmed up the corrections, on one batch."""
        found = super().update(replay)
        if self.updates > self.config.critic_warm_up:
            self.acting.deviation.fill_(self.config.deviation)
        return found
