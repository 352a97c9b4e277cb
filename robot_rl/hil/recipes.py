"""Settings that were tried: what `robot-rl hil TASK` begins with; docs/benchmarks says what they reach."""

from __future__ import annotations

from collections.abc import Sequence

from robot_rl.hil.algorithms.base import WarmStartConfig
from robot_rl.hil.algorithms.rlpd import RlpdConfig
from robot_rl.hil.config import ActorConfig, HilConfig, LearnerConfig
from sim.tasks import TASKS

# 100 demonstrations of `arm-pick-lift` alone make 99 of 100, 20 make 93: they are the cheapest robot time there is.
_PICK_LIFT = HilConfig(
    task="arm-pick-lift", actor=ActorConfig(demonstrations=60), learner=LearnerConfig(update_ratio=2.0)
)
# What decides here happens within a millimetre: less noise on the features. 60 demonstrations alone make 95 of 100,
# 150 all of 200 (4,000 steps, a fourth of the allowed robot time).
_PEG = HilConfig(
    task="arm-peg-insert",
    actor=ActorConfig(demonstrations=150),
    learner=LearnerConfig(update_ratio=1.5),
    rlpd=RlpdConfig(warm_start=WarmStartConfig(feature_noise=0.02)),
)

RECIPES: dict[str, HilConfig] = {config.task: config for config in (_PICK_LIFT, _PEG)}
"""By task."""


def defaults(arguments: Sequence[str]) -> HilConfig | None:
    """The recipe of the task among the arguments of the command line."""
    return next((RECIPES[argument] for argument in arguments if argument in RECIPES and argument in TASKS), None)
