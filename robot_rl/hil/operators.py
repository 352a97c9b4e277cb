"""Scripted operators: a person that tests and benchmarks can use, with the interface of a real one.

An operator looks at the robot in every control step and may take over. It sees the task's scripted expert late, adds
noise, makes mistakes, decides by a rule when to step in, and may grow tired of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from robot_rl.hil.layout import ActionLayout
from robot_rl.hil.plant import Moment

Mark = Literal["", "success", "failure", "discard"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Help:
    """What an operator wants in a control step."""

    action: np.ndarray | None = None
    """The person's normalized action (A,) that replaces the policy's; None: the policy drives."""
    mark: Mark = ""
    """A judgement that ends the episode."""
    pause: bool = False
    """Hold the robot where it is; the step is not part of the episode."""


class Operator(Protocol):
    """A person, or what stands in for one."""

    def begin(self, episode: int, steps: int) -> None:
        """An episode begins: its number, and the control steps of all episodes so far."""

    def look(self, moment: Moment, policy_action: np.ndarray, value: float | None) -> Help:
        """Decide who acts now, given what the policy wants and how good it believes that to be."""


@dataclass(frozen=True, kw_only=True)
class OperatorConfig:
    """How a scripted operator behaves."""

    rule: Literal["stall", "value", "random", "always", "never"] = "stall"
    """When it takes over: no progress for a while, the value fell, at random, throughout, or never."""
    patience: int = 12
    """Control steps without progress (`stall`), or of falling value (`value`), that it puts up with."""
    least_progress: float = 0.01
    """What counts as progress, in the task's reward per step."""
    value_drop: float = 0.2
    """Share of the best value of the episode that may be lost (`value`)."""
    chance: float = 0.02
    """Probability per step of taking over (`random`)."""
    length: int = 10
    """Control steps for which it drives at most, before it hands back."""
    delay: int = 2
    """Control steps between seeing and acting at the take-over."""
    noise: float = 0.2
    """Deviation of the noise on its actions, as a share of their size: hands err in proportion to their effort
    (Harris and Wolpert 1998)."""
    tremor: float = 0.02
    """Deviation of the noise that is there even at rest."""
    wrong: float = 0.0
    """Probability that a whole intervention goes in a random direction instead of the right one; with `always`, every
    stretch of `length` steps."""
    budget: float = 1.0
    """Largest share of all control steps that it drives."""
    fade_after: int = 0
    """Episodes after which it begins to let things pass; 0: never."""
    fade_over: int = 50
    """Episodes from there until it takes over no more."""


class ScriptedOperator:
    """An operator who knows the task's scripted solution."""

    def __init__(
        self,
        config: OperatorConfig,
        layout: ActionLayout,
        expert: Callable[[Moment], np.ndarray],
        generator: np.random.Generator,
    ) -> None:
        """Stand by.

        Args:
            config: How it behaves.
            layout: Of the action: grippers are buttons, without noise.
            expert: The right normalized action (A,) at a moment.
            generator: Source of randomness.
        """
        self.config, self._expert, self._generator = config, expert, generator
        self._continuous = np.zeros(layout.size, dtype=bool)
        self._continuous[list(layout.continuous)] = True
        self._driven = self._watched = 0
        self.begin(0, 0)

    def begin(self, episode: int, steps: int) -> None:
        """Forget the last episode."""
        self._episode = episode
        self._best = self._best_value = -np.inf
        self._since = 0
        self._left = self._waiting = 0
        self._bias: np.ndarray | None = None
        self._recent: deque[float] = deque(maxlen=5)

    def look(self, moment: Moment, policy_action: np.ndarray, value: float | None) -> Help:
        """Take over when the rule says so, `delay` steps later; drive for `length` steps or until things go well."""
        config = self.config
        self._watched += 1
        if config.rule == "always":
            if self._left == 0:
                self._left = config.length
                self._choose_direction(len(policy_action))
            self._left -= 1
            return Help(action=self._act(moment))
        moved = moment.progress > self._best + config.least_progress
        if moved:
            self._best, self._since = moment.progress, 0
        else:
            self._since += 1
        if self._left > 0:
            self._left -= 1
            self._since = 0  # its patience is with the policy
            return Help(action=self._act(moment))
        if self._waiting > 0:
            self._waiting -= 1
            if self._waiting == 0:
                self._left = config.length - 1
                self._since = 0
                return Help(action=self._act(moment))
            return Help()
        if self._wants(value) and self._willing():
            self._choose_direction(len(policy_action))
            self._waiting = config.delay
            if config.delay == 0:
                self._left, self._since = config.length - 1, 0
                return Help(action=self._act(moment))
        return Help()

    def _choose_direction(self, size: int) -> None:
        """Whether the right one or a random one, until the next choice."""
        wrong = self._generator.random() < self.config.wrong
        self._bias = self._generator.uniform(-1.0, 1.0, size) if wrong else None

    def _wants(self, value: float | None) -> bool:
        config = self.config
        if config.rule == "random":
            return bool(self._generator.random() < config.chance)
        if config.rule == "value" and value is not None:
            self._recent.append(value)
            now = float(np.mean(self._recent))
            self._best_value = max(self._best_value, now)
            return now < self._best_value - config.value_drop * abs(self._best_value)
        return config.rule == "stall" and self._since >= config.patience

    def _willing(self) -> bool:
        """Within its budget, and not yet tired."""
        config = self.config
        if self._driven >= config.budget * self._watched:
            return False
        if config.fade_after and self._episode >= config.fade_after:
            left = 1.0 - (self._episode - config.fade_after) / max(1, config.fade_over)
            if self._generator.random() >= left:
                self._since, self._best_value = 0, -np.inf  # it lets this pass, and does not decide anew at every step
                return False
        return True

    def _act(self, moment: Moment) -> np.ndarray:
        self._driven += 1
        right = self._bias if self._bias is not None else self._expert(moment)
        size = self.config.noise * np.abs(right) + self.config.tremor
        noise = size * self._generator.standard_normal(right.shape)
        return np.clip(right + np.where(self._continuous, noise, 0.0), -1.0, 1.0).astype(np.float32)
