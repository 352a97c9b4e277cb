"""One control step of the robot with a policy and a person: who acts, and what is stored of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from robot_rl.hil.giving_up import Watch
from robot_rl.hil.operators import Help, Operator
from robot_rl.hil.plant import Moment, Plant
from robot_rl.hil.records import Record

Act = Callable[[Moment, int], tuple[np.ndarray, float | None]]
"""What the policy wants at a moment, in a step of the episode counted from 0, (A,) in [-1, 1], and how good it
believes that to be (None: it does not say)."""


@dataclass
class EpisodeStatistics:
    """What an episode came to."""

    number: int
    """Of the episode in its log."""
    demonstration: bool
    """The person drove throughout, before there was a policy."""
    steps: int = 0
    """Control steps."""
    intervened: int = 0
    """Steps in which the person drove."""
    interventions: int = 0
    """How often the person took over."""
    success: bool = False
    """Solved."""
    discarded: bool = False
    """The person threw it away."""
    peak_force: float = 0.0
    """Largest contact force at a tool, N; 0 without a sensor."""
    seconds: float = 0.0
    """Of robot time."""
    versions: list[int] = field(default_factory=list)
    """Versions of the policy that acted in it."""


class Rollout:
    """Episodes of one plant: every call of `step` is one control period."""

    def __init__(
        self,
        plant: Plant,
        operator: Operator,
        first_episode: int = 0,
        first_step: int = 0,
        watch: Watch | None = None,
    ) -> None:
        """Stand by; `begin` starts an episode.

        Args:
            plant: The robot.
            operator: Who corrects.
            first_episode: Number of the first episode, where a log goes on.
            first_step: Control steps that there were before.
            watch: Gives hopeless episodes up.
        """
        self.plant, self.operator, self._watch = plant, operator, watch
        self.steps = first_step
        """Control steps of all episodes."""
        self._next_episode = first_episode
        self._moment: Moment | None = None
        self.statistics = EpisodeStatistics(number=first_episode, demonstration=False)

    @property
    def running(self) -> bool:
        """Whether an episode has begun and not ended."""
        return self._moment is not None

    def begin(self, *, demonstration: bool = False) -> None:
        """Begin an episode."""
        self._moment = self.plant.reset()
        self._observed_at, self._wall_time = time.monotonic(), time.time()
        self.statistics = EpisodeStatistics(number=self._next_episode, demonstration=demonstration)
        self._next_episode += 1
        self._index = 0
        self._helped = False
        self._force = 0.0
        if self._watch is not None:
            self._watch.begin()
        self.operator.begin(self.statistics.number, self.steps)

    def step(self, act: Act) -> Record | None:
        """One control step: the policy proposes, the person may replace it, the robot moves.

        Returns:
            What happened, or None where the person has paused the robot.
        """
        moment = self._moment
        if moment is None:
            raise RuntimeError("no episode is running; call begin() first")
        wanted, value = act(moment, self._index)
        wanted = np.clip(wanted, -1.0, 1.0).astype(np.float32)
        help_ = self.operator.look(moment, wanted, value)
        if help_.pause:
            self.plant.hold()
            return None
        action = wanted if help_.action is None else np.clip(help_.action, -1.0, 1.0).astype(np.float32)
        demonstrates = self.statistics.demonstration
        gives_up = (
            self._watch is not None
            and self._watch.look(moment.progress, self._force, moment.observation)
            and not demonstrates
            and help_.action is None
        )
        acted_at = time.monotonic()
        outcome = self.plant.step(action)
        success = (outcome.success or help_.mark == "success") and help_.mark != "failure"
        terminated = outcome.terminated or help_.mark in ("success", "failure")
        truncated = not terminated and (outcome.truncated or help_.mark == "discard" or gives_up)
        over = terminated or truncated
        info = {
            **outcome.info,
            **({} if value is None else {"value": value}),
            **({"gave_up": 1.0} if gives_up and truncated else {}),
            "progress": moment.progress,
            "demonstration": float(demonstrates),
        }
        record = Record(
            episode=self.statistics.number,
            index=self._index,
            observation=moment.observation,
            images=moment.images,
            action=action,
            policy_action=wanted,
            driver="policy" if help_.action is None else "person",
            reward=_reward(outcome.reward, help_),
            terminated=terminated,
            truncated=truncated,
            success=success,
            observed_at=self._observed_at,
            acted_at=acted_at,
            wall_time=self._wall_time,
            final_observation=outcome.moment.observation if over else None,
            final_images=outcome.moment.images if over else {},
            info=info,
        )
        self._count(record, help_, outcome.info)
        self._force = max((v for k, v in outcome.info.items() if k.startswith("peak_force")), default=0.0)
        self._moment = None if over else outcome.moment
        self._observed_at = time.monotonic()
        self._index += 1
        return record

    def _count(self, record: Record, help_: Help, info: dict[str, float]) -> None:
        found = self.statistics
        found.steps += 1
        found.seconds += self.plant.period
        found.intervened += help_.action is not None
        found.interventions += help_.action is not None and not self._helped
        found.success = record.success
        found.discarded = help_.mark == "discard"
        forces = [value for name, value in info.items() if name.startswith("peak_force")]
        found.peak_force = max([found.peak_force, *forces])
        self._helped = help_.action is not None
        self.steps += 1


def _reward(reward: float, help_: Help) -> float:
    """A person's judgement overrules the task's."""
    return {"success": 1.0, "failure": 0.0}.get(help_.mark, reward)
