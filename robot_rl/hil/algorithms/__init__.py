"""Ways of learning from a robot's steps and a person's corrections: one file each, one interface (`base.Algorithm`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from robot_rl.hil.algorithms.base import Algorithm, Sizes
from robot_rl.hil.algorithms.bc import Bc
from robot_rl.hil.algorithms.hg_dagger import HgDagger
from robot_rl.hil.algorithms.jsrl import Jsrl
from robot_rl.hil.algorithms.pvp import Pvp
from robot_rl.hil.algorithms.resfit import Resfit
from robot_rl.hil.algorithms.rlif import Rlif
from robot_rl.hil.algorithms.rlpd import Rlpd
from robot_rl.hil.algorithms.sirius import Sirius

ALGORITHMS: dict[str, Callable[[Sizes, Any, int], Algorithm]] = {
    "rlpd": Rlpd,
    "rlif": Rlif,
    "pvp": Pvp,
    "bc": Bc,
    "hg-dagger": HgDagger,
    "sirius": Sirius,
    "resfit": Resfit,
    "jsrl": Jsrl,
}
"""By name: (sizes, its config, seed) → a fresh learner."""
