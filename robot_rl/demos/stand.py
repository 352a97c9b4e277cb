"""Where demonstrations are collected: the same for arms and quadrotors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from robot_rl.hil.operators import Operator
from robot_rl.hil.schema import Schema


@dataclass(frozen=True, kw_only=True, eq=False)
class Stand:
    """Where a task is demonstrated."""

    plant: Any
    """The simulated robot, a `Plant` with `next_seed`."""
    schema: Schema
    """What its records look like."""
    info: dict[str, Any]
    """What a replay needs, beside the seed."""
    operator: Callable[[str, np.random.Generator], Operator]
    """Somebody of a grade, for one episode."""
    measure: Callable[[], dict[str, Any]]
    """Messages of what the robot measures now, by topic."""
