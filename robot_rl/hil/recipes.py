"""Settings that were tried: what `robot-rl hil TASK` begins with; docs/benchmarks says what they reach."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from robot_rl.hil.algorithms.base import WarmStartConfig
from robot_rl.hil.algorithms.bc import BcConfig
from robot_rl.hil.algorithms.hg_dagger import HgDaggerConfig
from robot_rl.hil.algorithms.rlpd import RlpdConfig
from robot_rl.hil.config import ActorConfig, HilConfig, LearnerConfig
from sim.tasks import TASKS

# 100 demonstrations of `arm-pick-lift` alone make 99 of 100, 20 make 93: they are the cheapest robot time there is.
_PICK_LIFT = HilConfig(
    task="arm-pick-lift", actor=ActorConfig(demonstrations=60), learner=LearnerConfig(update_ratio=2.0)
)
# What decides here happens within a millimetre: less noise on the features. 150 demonstrations, 5,200 steps, alone make
# 99 of 100.
_PEG = HilConfig(
    task="arm-peg-insert",
    actor=ActorConfig(demonstrations=150),
    learner=LearnerConfig(update_ratio=1.5),
    rlpd=RlpdConfig(warm_start=WarmStartConfig(feature_noise=0.02)),
    bc=BcConfig(warm_start=WarmStartConfig(steps=4000, feature_noise=0.02)),
    hg_dagger=HgDaggerConfig(warm_start=WarmStartConfig(feature_noise=0.02)),
)
# A clone from pictures needs many more demonstrations; smaller batches, for the convolutions cost most of an update.
_PICK_LIFT_SEEN = dataclasses.replace(
    _PICK_LIFT,
    actor=ActorConfig(demonstrations=350, steps=36_000, cameras=("front", "wrist")),
    learner=LearnerConfig(update_ratio=0.5),
    rlpd=RlpdConfig(batch=64, warm_start=WarmStartConfig(steps=6000, batch=64)),
)

RECIPES: dict[str, HilConfig] = {config.task: config for config in (_PICK_LIFT, _PEG)}
"""By task, from states."""
SEEN: dict[str, HilConfig] = {_PICK_LIFT_SEEN.task: _PICK_LIFT_SEEN}
"""By task, from pictures."""


def defaults(arguments: Sequence[str]) -> HilConfig | None:
    """The recipe of the task among the arguments of the command line; with cameras, the one from pictures."""
    recipes = SEEN if any(argument.startswith("--actor.cameras") for argument in arguments) else RECIPES
    return next((recipes[argument] for argument in arguments if argument in recipes and argument in TASKS), None)
