"""An episode whose success is told by a learned reward: pictures and a physical check, not the simulator's truth."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor

from robot_rl.errors import UserError
from robot_rl.hil.plant import Moment, Outcome, Plant
from robot_rl.rewards.classifier import RewardClassifier
from sim.tasks.arm import ArmTask, ArmView


def endless(task: ArmTask) -> ArmTask:
    """The task that never counts as solved: its episodes end by time, or where it is lost."""

    def never(view: ArmView) -> Tensor:
        return torch.zeros(len(view.action), dtype=torch.bool)

    build = task.build
    return dataclasses.replace(
        task, success=never, build=None if build is None else lambda settings: endless(build(settings))
    )


def check_judge(judge: RewardClassifier, cameras: Iterable[str], side: int) -> None:
    """Raise a UserError where a reward needs other pictures than (side, side) of these cameras."""
    given = tuple(cameras)
    if missing := [name for name in judge.shapes if name not in given]:
        raise UserError(
            f"the reward looks through camera {missing[0]!r}; give it with --actor.cameras {' '.join(judge.shapes)}"
        )
    largest = max(max(shape) for shape in judge.shapes.values())
    if largest > side:
        raise UserError(
            f"the reward looks at {largest} pixels, the cameras give {side}; raise --actor.resolution, or train the "
            f"reward with --size {side}"
        )


class JudgedPlant:
    """A plant whose success is what a reward says of it."""

    def __init__(self, plant: Plant, judge: RewardClassifier, truth: Callable[[], bool] | None = None) -> None:
        """Wrap a plant that does not end its episodes by success.

        Args:
            plant: The robot, with the pictures that the judge needs.
            judge: Says when the task is done.
            truth: Whether it really holds now, where somebody knows: kept as `info["truth"]`, learned from by nobody.
        """
        self.plant, self.period = plant, plant.period
        self._judge, self._truth = judge, truth

    def reset(self) -> Moment:
        """Begin a new episode."""
        self._judge.reset()
        return self.plant.reset()

    def step(self, action: np.ndarray) -> Outcome:
        """Carry a normalized action (A,) out for one control period."""
        outcome = self.plant.step(action)
        moment = outcome.moment
        done = self._judge.success(moment.images, moment.state) and not outcome.terminated
        info = {**outcome.info, "judged": self._judge.last_probability}
        if self._truth is not None:
            info["truth"] = float(self._truth())
        return dataclasses.replace(
            outcome,
            reward=float(done),
            success=done,
            terminated=outcome.terminated or done,
            truncated=outcome.truncated and not done,
            info=info,
        )

    def hold(self) -> None:
        """Stay where it is for a control period, outside of any episode's time."""
        self.plant.hold()

    def close(self) -> None:
        """Let the robot go."""
        self.plant.close()
