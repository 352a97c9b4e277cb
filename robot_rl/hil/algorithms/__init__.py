"""Ways of learning from a robot's steps and a person's corrections: one file each, one interface (`base.Algorithm`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from robot_rl.hil.algorithms.base import Algorithm, Sizes
from robot_rl.hil.algorithms.rlpd import Rlpd

ALGORITHMS: dict[str, Callable[[Sizes, Any, int], Algorithm]] = {"rlpd": Rlpd}
"""By name: (sizes, its config, seed) → a fresh learner."""
