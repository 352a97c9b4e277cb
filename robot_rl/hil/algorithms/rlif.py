"""RLIF: the intervention is the reward (Luo et al. 2024, "RLIF: interactive imitation learning as RL").

    r(s_t, a_t) = -1 if the person takes over in step t + 1, else 0

There is no task reward. A person who only steps in where things go wrong teaches what to avoid, and need not be better
than the policy at putting it right. A time limit is no end: nobody objected.

The paper follows the gradient of the critics, as RLPD does. In the few thousand steps that one has here it destroys a
good clone (92 to 33 % on `arm-pick-lift`), so the actor imitates by weight, as in `rlpd`: the person's steps, and its
own the more, the later the next intervention came than the critics expected; none of the steps that led to one.

An episode that is lost ends, and without a further reward that would be the best that can happen (every value is at
most 0); so the step in which it is lost counts as an intervention, too. This uses that it is over without success, and
nothing else of the task; `lost_is_intervention` false leaves it out.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from robot_rl.hil.algorithms.rlpd import Rlpd, RlpdConfig
from robot_rl.hil.replay import NEVER, PERSON, Batch, Replay


@dataclass(frozen=True, kw_only=True)
class RlifConfig(RlpdConfig):
    """RLIF: RLPD on interventions instead of rewards."""

    correction_weight: float = 1.0
    """Of staying near the person's corrections, relative to their demonstrations: they need not be better."""
    advantage_scale: float = 0.2
    """Own actions after which interventions were rarer by this much, discounted, count e times as much."""
    lost_is_intervention: bool = True
    """Whether the step in which an episode is lost is rewarded like one before an intervention."""


class Rlif(Rlpd):
    """RLPD that learns from who took over when."""

    config: RlifConfig

    def update(self, replay: Replay) -> dict[str, Tensor]:
        """Critics and actor on one batch with the rewards of interventions."""
        replay.relabel = functools.partial(
            intervention_rewards, replay, lost_is_intervention=self.config.lost_is_intervention
        )
        return super().update(replay)

    def _own_advantage(self, batch: Batch, value: Tensor) -> tuple[Tensor, Tensor]:
        """How much (N,) less the person had to step in than the critics expected; usable where nothing led to it."""
        discount, never = self.config.discount, torch.zeros_like(value)
        helped = -(discount ** (batch.until_help - 1).clamp(min=0))
        lost = -(discount ** (batch.left - 1).clamp(min=0))
        outcome = torch.where(batch.until_help < NEVER, helped, torch.where(batch.lost, lost, never))
        near_loss = batch.lost & (batch.left <= self.config.blamed)
        return outcome - value, (batch.left > 0) & (batch.until_help > self.config.blamed) & ~near_loss


def intervention_rewards(replay: Replay, rows: np.ndarray, *, lost_is_intervention: bool = True) -> np.ndarray:
    """Rewards (N,) of the steps in `rows` (N,)."""
    driver, last = replay.column("driver"), replay.column("last")
    after = np.minimum(rows + 1, replay.rows - 1)
    bad = (driver[rows] != PERSON) & ~last[rows] & (driver[after] == PERSON)
    if lost_is_intervention:
        bad |= replay.column("terminated")[rows] & (replay.column("reward")[rows] <= 0.0)
    return -bad.astype(np.float32)
