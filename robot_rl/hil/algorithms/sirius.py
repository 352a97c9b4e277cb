"""Weighted cloning of all steps, after how much trust they deserve (Sirius, Liu et al. 2023, section IV).

    min_π E_{(s, a, c)} w(c) |π(s) - a|²,    w(c) = P*(c) / P(c)

with the classes c of a step: given demonstrations, interventions, the steps before an intervention, which led into the
trouble, and the robot's other own steps. P is the share of a class among the steps, P* the share that it shall have of
the loss: half for interventions, next to nothing for what went before them, the rest for the others in proportion to
their numbers. (The paper leaves P*(demonstrations) as it is, which cannot be where they are more than half.) Instead of
being weighted, steps are drawn with probabilities proportional to w, which has the same mean and less noise.

The paper's person sees to it that every episode is solved. Where it is not, its own steps count as those before an
intervention do, if `trust_lost` is false.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robot_rl.hil.algorithms.base import Sizes
from robot_rl.hil.algorithms.hg_dagger import HgDagger, HgDaggerConfig, rows_of_all
from robot_rl.hil.replay import PERSON, Batch, Replay

DEMONSTRATION, INTERVENTION, BEFORE, ROBOT = range(4)
"""Classes of steps."""


@dataclass(frozen=True, kw_only=True)
class SiriusConfig(HgDaggerConfig):
    """Weighted cloning."""

    intervention_share: float = 0.5
    """Of the loss, for interventions."""
    before_share: float = 0.005
    """Of the loss, for the steps before an intervention."""
    before_steps: int = 15
    """How many steps before an intervention led into it."""
    trust_lost: bool = False
    """Whether own steps of episodes that were not solved, or not yet, are cloned like others."""


class Sirius(HgDagger):
    """A policy that is cloned from the person and, where that went well, from itself."""

    config: SiriusConfig

    def __init__(self, sizes: Sizes, config: SiriusConfig, seed: int) -> None:
        """Build an untrained policy."""
        super().__init__(sizes, config, seed)
        self._seen = -1

    def _draw(self, replay: Replay) -> Batch:
        if self._seen != replay.steps:
            self._rows = rows_of_all(replay)
            classes = classify(replay, self._rows, self.config.before_steps, self.config.trust_lost)
            weights = class_weights(classes, self.config.intervention_share, self.config.before_share)
            self._reach = np.cumsum(weights)
            self._seen = replay.steps
        draws = self.generator.random(self.config.batch) * self._reach[-1]
        places = np.searchsorted(self._reach, draws, side="right")
        return replay.gather(self._rows[np.minimum(places, len(self._rows) - 1)])


def classify(replay: Replay, rows: np.ndarray, before_steps: int, trust_lost: bool) -> np.ndarray:
    """Classes (N,) of the steps in `rows` (N,)."""
    driver, given, left, won, until_help = (
        replay.column(name)[rows] for name in ("driver", "given", "left", "won", "until_help")
    )
    classes = np.full(len(rows), ROBOT)
    if not trust_lost:
        classes[(left < 0) | ~won] = BEFORE  # of a running episode nobody knows yet
    classes[until_help <= before_steps] = BEFORE
    classes[driver == PERSON] = INTERVENTION
    classes[given] = DEMONSTRATION
    return classes


def class_weights(classes: np.ndarray, intervention_share: float, before_share: float) -> np.ndarray:
    """Weights (N,) of mean 1, of which interventions have their share and the steps before them theirs.

    The share of a class that is not there falls to the others.
    """
    counts = np.bincount(classes, minlength=4).astype(float)
    shares = np.zeros(4)
    shares[INTERVENTION] = intervention_share if counts[INTERVENTION] else 0.0
    shares[BEFORE] = before_share if counts[BEFORE] else 0.0
    others = [DEMONSTRATION, ROBOT]
    if counts[others].sum():
        shares[others] = (1.0 - shares.sum()) * counts[others] / counts[others].sum()
    shares /= shares.sum()
    weights: np.ndarray = (shares / np.maximum(counts / len(classes), 1e-12))[classes]
    return weights
