"""ResFiT: small corrections of a frozen policy by off-policy reinforcement learning (Ankile et al. 2025).

    a = a_base + c·π(s, a_base)

The base policy is a clone of the demonstrations, or the network of a bundle. The last layer of π begins at 0, so that
nothing changes before something is learned. TD3 on whole actions, half of each batch the person's, with critics of
which the least is the target, layer norm and three steps of reward. First the base acts with more noise and only the
critics learn.

The paper's settings (c = 0.1, ten critics, learning rates of 1e-6 and 1e-4) are those of a hundred thousand steps; here
there are some thousands, and a person who corrects. So the corrections also imitate by weight, as in `rlpd`, and the
grippers learn on as a whole: with frozen habits a base of 65 % on `arm-pick-lift` stayed below 85 % in 150 episodes.

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
from robot_rl.hil.algorithms.values import NearnessConfig, nearness, own_advantage
from robot_rl.hil.networks import HilPolicy, ResidualPolicy
from robot_rl.hil.replay import Batch, Replay


@dataclass(frozen=True, kw_only=True)
class ResfitConfig(Td3Config, NearnessConfig):
    """Residual learning."""

    base: Path | None = None
    """Bundle of the base policy, as `robot-rl hil` writes them; a clone of the demonstrations if not given."""
    scale: float = 1.0
    """c: the largest correction of an element of the action."""
    critics: int = 2
    """Members of the ensemble."""
    n_step: int = 3
    """Steps of reward before the critics take over."""
    actor_rate: float = 1e-3
    """Adam's, of the corrections."""
    average_rate: float = 0.001
    """Of the deployed average, per update: five times as fast, success swings between 87 and 96 % from one thousand
    updates to the next, where this one stays at 98 %."""
    clone_weight: float = 1.0
    """Weight of staying near good actions (`NearnessConfig`) against the value, which is scaled to mean 1."""
    value_weight: float = 0.1
    """Of following the gradient of the critics: much of it spoils a base in the few steps that one has here."""
    warm_start: WarmStartConfig = WarmStartConfig(steps=4000)
    """Cloning of the base policy."""
    warm_up_deviation: float = 0.2
    """Of the noise on the base policy's actions until the critics have warmed up."""
    gripper_trust: float = 0.2
    """Differences of a command's value much larger than this outweigh any habit. At 0.05, as in `rlpd`, values that few
    episodes have taught make grippers chatter: 67 and 83 % on `arm-pick-lift` became 97 and 96 % by this alone."""
    correct_grippers: bool = True
    """Whether the choice of the grippers learns on: what a command is worth, and when the person gives it."""


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
        if actor.grippers is not None:
            actor.grippers.trust = config.gripper_trust
            actor.grippers.requires_grad_(config.correct_grippers)
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

    def _nearness(self, batch: Batch, value: Tensor) -> Tensor:
        config = self.config
        return nearness(batch, *own_advantage(batch, value, config.discount, config.blamed), config)

    def update(self, replay: Replay) -> dict[str, Tensor]:
        """Critics, and once they have warmed up the corrections, on one batch."""
        found = super().update(replay)
        if self.updates > self.config.critic_warm_up:
            self.acting.deviation.fill_(self.config.deviation)
        return found
