"""Giving up in time: a policy that also says when it is better to begin anew.

Once in an episode, at the time that `choose_rule` found, the predictor judges whether it will fail. An alarm stands
until the episode is given up, which is put off while the tool presses against something: whoever takes over then, a
reset, must find a robot that is free to move.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from policies import Policy
from policies.arm_terms import arm_of
from policies.types import ArmState, Command
from robot_rl.hil.failure import FailurePredictor, Judged, Trace
from robot_rl.hil.restart import RunTimes, best_alarm, expected_makespan


@dataclass(frozen=True, kw_only=True)
class GiveUpRule:
    """When to give up."""

    time: float
    """s after the beginning at which the episode is judged; inf: never."""
    threshold: float = 0.5
    """Chance of failure above which it is given up."""
    force_limit: float = 5.0
    """N of contact force above which giving up is put off."""


NEVER = GiveUpRule(time=math.inf)
"""The rule where giving up does not pay."""


def choose_rule(
    judged: Judged, runs: RunTimes, reset: float, *, force_limit: float = 5.0, least: int = 5
) -> tuple[GiveUpRule, float]:
    """The rule with the shortest expected makespan, and that makespan, s; `NEVER` where none is shorter than without.

    Args:
        judged: Cross-validated predictions.
        runs: How long attempts take.
        reset: s that a reset takes.
        force_limit: N, see `GiveUpRule`.
        least: Fewest episodes of either end on which a rate may rest.
    """
    rule, shortest = NEVER, expected_makespan(runs, reset)
    for threshold in np.linspace(0.3, 0.95, 14):
        alarm = best_alarm(runs, reset, judged.confusion(threshold).alarms(least))
        if alarm is not None and (makespan := expected_makespan(runs, reset, alarm)) < shortest:
            shortest = makespan
            rule = GiveUpRule(time=alarm.time, threshold=float(threshold), force_limit=force_limit)
    return rule, shortest


class Watch:
    """Looks on while an episode runs and says when to give it up."""

    def __init__(self, predictor: FailurePredictor, rule: GiveUpRule) -> None:
        """Begin an episode."""
        self.predictor, self.rule = predictor, rule
        self.begin()

    def begin(self) -> None:
        """Begin another episode."""
        self._trace = Trace(self.predictor.features, self.predictor.period)
        self._step = 0
        self._judged = False
        self.alarm = False
        """Whether the episode is to be given up as soon as that is safe."""
        self.failure = math.nan
        """Chance of failure at the last step."""

    def look(self, progress: float, force: float, observation: np.ndarray | None = None) -> bool:
        """Whether to give up now; call it once per control step, before the action. Arguments as in `Trace.look`."""
        features = self._trace.look(progress, force, observation)
        time = self._step * self.predictor.period
        self.failure = float(self.predictor.failure(features, time))
        if not self._judged and time >= self.rule.time - 1e-9:
            self._judged = True
            self.alarm = self.failure > self.rule.threshold
        self._step += 1
        return self.alarm and force <= self.rule.force_limit


class GivingUp:
    """A policy of one robot that knows when to give up."""

    def __init__(
        self,
        policy: Policy,
        predictor: FailurePredictor,
        rule: GiveUpRule,
        progress: Callable[[Any, Any], float] | None = None,
    ) -> None:
        """Wrap a policy.

        Args:
            policy: What acts.
            predictor: What foresees failures.
            rule: When to believe it.
            progress: How far the task seems to be, from state and set-point; needed where the predictor looks at it.

        Raises:
            ValueError: The predictor does not fit the policy or lacks what it looks at.
        """
        if progress is None and {"progress", "best", "since_best"} & set(predictor.features):
            raise ValueError("the predictor looks at the task's progress: give the function that tells it")
        if abs(1.0 / policy.manifest.control_rate_hz - predictor.period) > 1e-6:
            raise ValueError(
                f"the policy runs at {policy.manifest.control_rate_hz:g} Hz, the predictor was fitted at "
                f"{1.0 / predictor.period:g} Hz"
            )
        self.policy, self.watch, self._progress = policy, Watch(predictor, rule), progress

    def reset(self) -> None:
        """Start a new episode."""
        self.policy.reset()
        self.watch.begin()

    def step(
        self, state: Any, setpoint: Any, peak_force: float | None = None
    ) -> tuple[Command | dict[str, Command], bool]:
        """The command, and whether to give up instead of carrying it out.

        Args:
            state: Of one robot, with or without a batch axis of 1.
            setpoint: Of the task.
            peak_force: Largest contact force since the last step, N; the force that the state tells if not given.

        Raises:
            ValueError: Nobody tells the contact force, and the rule has a limit for it.
        """
        command = self.policy.step(state, setpoint)
        observation = self.policy.last_observation
        assert observation is not None
        force = peak_force if peak_force is not None else _force(state)
        if force is None:
            if math.isfinite(self.watch.rule.force_limit):
                raise ValueError("the robot measures no contact force: give peak_force, or a rule without force_limit")
            force = 0.0
        progress = 0.0 if self._progress is None else float(self._progress(state, setpoint))
        return command, self.watch.look(progress, force, observation.reshape(-1))


def _force(state: ArmState | dict[str, ArmState]) -> float | None:
    """Largest contact force at a tool, N; None where an arm does not measure it."""
    arms = list(state.values()) if isinstance(state, dict) else [arm_of(state)]
    if any(arm.wrench is None for arm in arms):
        return None
    return max(float(np.linalg.norm(np.reshape(np.asarray(arm.wrench), (-1, 6))[0, :3])) for arm in arms)
