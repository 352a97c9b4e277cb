"""PVP: proxy values instead of rewards (Peng et al. 2023, "Learning from active human involvement", equations 2 to 4).

    J(Q) = E[(Q(s, a) - γ min_i Q'_i(s', π'(s')))²] + E[I(s) ((Q(s, a_person) - 1)² + (Q(s, a_policy) + 1)²)]

Where the person drives (I = 1), their action is worth 1 and the one that the policy wanted is worth -1; temporal
differences without any reward carry this to where nobody helped. I masks every sample by itself. Across a take-over,
from the policy's last step to the person's first, no value is carried back: what the person did there must not be
credited to what made it necessary. In given demonstrations nobody wanted anything else: only the first term is there.

Grippers have proxy values of their own; a command that both wanted is worth 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robot_rl.hil.algorithms.base import Sizes, clone, fit_scaler, opens
from robot_rl.hil.algorithms.bc import forget_values
from robot_rl.hil.algorithms.td3 import Td3, Td3Config
from robot_rl.hil.networks import HilPolicy
from robot_rl.hil.replay import PERSON, Batch, Replay


@dataclass(frozen=True, kw_only=True)
class PvpConfig(Td3Config):
    """Proxy values."""

    proxy_weight: float = 1.0
    """Weight of the proxy values against temporal differences."""
    gripper_trust: float = 0.5
    """Differences of a command's proxy value, within -1 and 1, much larger than this outweigh any habit."""
    clone_weight: float = 1.0
    """Weight of staying near the person's actions against the value, which is scaled to mean 1. The paper has none: its
    policy finds its way without, but where it is far from the person the critics hardly slope, and it may take long."""
    value_weight: float = 0.2
    """Of following the gradient of the critics: at 1 it spoils in some thousand steps what the clone could do."""


class Pvp(Td3):
    """TD3 on proxy values."""

    config: PvpConfig
    actor: HilPolicy

    def __init__(self, sizes: Sizes, config: PvpConfig, seed: int) -> None:
        """Build untrained networks."""
        torch.manual_seed(seed)
        actor = HilPolicy(sizes.observation, sizes.layout, config.hidden)
        forget_values(actor)
        if actor.grippers is not None:
            actor.grippers.trust = config.gripper_trust
        super().__init__(sizes, config, seed, actor)

    def warm_start(self, replay: Replay) -> dict[str, float]:
        """Clone the person."""
        if not fit_scaler(self.actor, replay, self.config.warm_start):
            return {}
        found = clone(self.actor, replay, self.config.warm_start, self.generator, self.noise)
        self.average.load_state_dict(self.actor.state_dict())
        return found

    def critic_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Temporal differences without rewards, and proxy values."""
        features = self.actor.scaler(batch.observation)
        carried = carries(batch)
        values = self.critics(torch.cat([features, batch.action], -1))
        nothing = torch.zeros_like(batch.reward)
        errors, gripper_errors, found = self.temporal_differences(batch, features, values, nothing)
        proxies, gripper_proxies = self.proxy_losses(batch, features, values)
        loss = (carried * errors).mean() + self.config.proxy_weight * proxies.mean()
        if gripper_errors is not None and gripper_proxies is not None:
            loss = loss + (carried * gripper_errors).mean() + self.config.proxy_weight * gripper_proxies.mean()
            loss = loss + self.habits(batch, features)
        found["proxy_loss"] = proxies.detach().mean()
        return loss, found

    def proxy_losses(self, batch: Batch, features: Tensor, right: Tensor) -> tuple[Tensor, Tensor | None]:
        """Squared distances (N,) from the proxy values, summed over critics, and the grippers' (N,).

        `right` (E, N) is what the critics say of the executed actions.
        """
        person = (batch.driver == PERSON).float()
        disputed = person * (~batch.given).float()
        wrong = self.critics(torch.cat([features, batch.policy_action], -1))
        losses = person * (right - 1.0).square().sum(0) + disputed * (wrong + 1.0).square().sum(0)
        if self.actor.grippers is None:
            return losses, None
        values = self.actor.grippers.values(features)
        done, wanted = opens(batch.action, self.sizes.layout), opens(batch.policy_action, self.sizes.layout)
        right = values.gather(-1, done[..., None])[..., 0]
        wrong = values.gather(-1, wanted[..., None])[..., 0]
        differs = (done != wanted).float()
        gripper_losses = person[:, None] * (right - 1.0).square()
        gripper_losses = gripper_losses + disputed[:, None] * differs * (wrong + 1.0).square()
        return losses, gripper_losses.mean(-1)


def carries(batch: Batch) -> Tensor:
    """1 where the value after a step (N,) is carried back to it, 0 where a person took over just then."""
    edge = (batch.driver != PERSON) & (batch.next_driver == PERSON)
    return (~edge).float()
