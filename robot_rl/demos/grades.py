"""Scripted people of graded skill: the task's expert with the weaknesses of `robot_rl.hil.operators`.

The grade of an episode is stored in its info, so that a score can be compared with it; no score reads it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from robot_rl.demos.configs import Quality
from robot_rl.hil.layout import ActionLayout
from robot_rl.hil.operators import OperatorConfig, ScriptedOperator
from robot_rl.hil.plant import Moment


@dataclass(frozen=True, kw_only=True)
class Grade:
    """How well somebody demonstrates."""

    operator: OperatorConfig
    """Noise on the actions, and stretches in a wrong direction."""
    push: float = 0.0
    """Size of a constant push to one side that is added to every action, as a share of full deflection."""
    gain: float = 1.0
    """Share of the expert's motion that is carried out: below 1 somebody hesitates."""
    aside: float = 0.0
    """m beside the set-point, another way in every episode, where a quadrotor is flown."""
    wander: float = 0.0
    """m, deviation of a place that wanders about the set-point."""


GRADES: dict[str, Grade] = {
    "expert": Grade(operator=OperatorConfig(rule="always", noise=0.05, tremor=0.01)),
    "noisy": Grade(operator=OperatorConfig(rule="always", noise=0.4, tremor=0.05, wrong=0.1, length=3), wander=0.15),
    "biased": Grade(operator=OperatorConfig(rule="always", noise=0.05, tremor=0.01), push=0.2, gain=0.6, aside=0.2),
}
"""The grades by name."""


def choose_grade(quality: Quality, generator: np.random.Generator) -> str:
    """The grade of the next episode; `mixed` draws one."""
    return str(generator.choice(sorted(GRADES))) if quality == "mixed" else quality


def make_operator(
    name: str, layout: ActionLayout, expert: Callable[[Moment], np.ndarray], generator: np.random.Generator
) -> ScriptedOperator:
    """Somebody of a grade, for one episode.

    Args:
        name: Key of `GRADES`.
        layout: Of the action.
        expert: The right normalized action (A,) at a moment.
        generator: Source of randomness; the side of the push is drawn from it.
    """
    grade = GRADES[name]
    continuous = list(layout.continuous)
    side = np.zeros(layout.size)
    side[continuous] = generator.standard_normal(len(continuous))
    side *= grade.push / max(float(np.linalg.norm(side)), 1e-9)
    gain = np.ones(layout.size)
    gain[continuous] = grade.gain

    def act(moment: Moment) -> np.ndarray:
        return np.asarray(np.clip(gain * expert(moment) + side, -1.0, 1.0), np.float32)

    return ScriptedOperator(grade.operator, layout, act, generator)
