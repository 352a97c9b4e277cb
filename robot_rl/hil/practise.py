"""Practising alone: between two episodes the robot itself brings things back to a beginning, so nobody has to.

The forward policy is whoever acts between `reset` and the episode's end; the reset policy is a scripted one (`resets`).
Whether a reset succeeded is decided by what is measured. A failed one is tried again with another target; after a few
failures a person is asked for. Starts are drawn from the task's own distribution.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from hardware.descriptions import load_arm
from hardware.kinematics import forward_kinematics
from policies.actions import action_size
from policies.observations import observation_size
from robot_rl.hil.plant import Moment, Outcome, Plant
from robot_rl.hil.relative import to_tool_frame
from robot_rl.hil.resets import Reset, Target, find_reset, single
from sim.arm_randomization import nominal_variables
from sim.tasks.arm import ArmTask

_logger = logging.getLogger(__name__)


class ContinuingPlant(Plant, Protocol):
    """A plant whose episodes can begin where the last one ended."""

    def go_on(self, goal: np.ndarray | None = None) -> Moment:
        """Begin a new episode where things are, with another goal (1, 7) if given."""


@dataclass
class PractiseReport:
    """How practising went."""

    resets: int = 0
    """Resets that were asked for, but for the first."""
    alone: int = 0
    """Resets that succeeded without a person."""
    at_once: int = 0
    """Resets that succeeded at the first try."""
    people: int = 0
    """Times that a person was asked for."""
    seconds: float = 0.0
    """s of robot time that resets took."""


def _ask(message: str) -> None:
    _logger.warning("%s", message)


class PractisingPlant:
    """A plant that is reset by driving it."""

    def __init__(
        self,
        plant: ContinuingPlant,
        task: ArmTask,
        reset: Reset | None = None,
        *,
        seed: int = 0,
        tries: int = 3,
        seconds: float = 15.0,
        rest: int = 3,
        pace: Callable[[], None] | None = None,
        ask: Callable[[str], None] = _ask,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """Wrap a plant; the first `reset` is its own: somebody has set up the scene.

        Args:
            plant: The robot.
            task: What is practised.
            reset: How to reset it; the task's scripted one if not given.
            seed: Of the starts.
            tries: Failed resets after which a person is asked for.
            seconds: s that a reset may take.
            rest: Control steps for which it must look done.
            pace: Waits for the end of a control period, where the plant does not.
            ask: Asks a person to set up the scene; afterwards the plant's own `reset` is called.
            stopping: When true, a reset is broken off and the episode begins where things are.
        """
        self.plant, self.period = plant, plant.period
        self.report = PractiseReport()
        self._task, self._reset = task, reset or find_reset(task)
        self._tries, self._steps, self._rest = tries, round(seconds / plant.period), rest
        self._pace, self._ask, self._stopping = pace, ask, stopping
        self._generator = torch.Generator().manual_seed(seed)
        nominal = nominal_variables(task.scene, observation_size(task.terms), action_size(task.action))
        self._nominal = {name: value[None] for name, value in nominal.items()}
        self._begun = False

    def reset(self) -> Moment:
        """Begin a new episode, after driving to its start."""
        if not self._begun:
            self._begun = True
            return self.plant.reset()
        self.report.resets += 1
        for number in range(self._tries):
            moment = self._drive(self.draw())
            if moment is not None:
                self.report.alone += 1
                self.report.at_once += number == 0
                return moment
            _logger.info("reset %d failed at try %d of %d", self.report.resets, number + 1, self._tries)
        self.report.people += 1
        self._ask(f"{self._task.name}: {self._tries} resets failed; please bring the scene back to a beginning")
        return self.plant.reset()

    def draw(self) -> Target:
        """A start from the task's own distribution."""
        start = self._task.start(1, self._generator, self._nominal)
        arm = self._task.scene.arms[0]
        kinematics = forward_kinematics(load_arm(arm.robot), start.joints[arm.name])
        return Target(
            tool=np.concatenate([kinematics.tool_position[0], kinematics.tool_orientation[0]]),
            objects={name: pose[0] for name, pose in start.poses.items()},
            goal=None if start.goal is None else start.goal[0],
        )

    def step(self, action: np.ndarray) -> Outcome:
        """Carry a normalized action (A,) out for one control period."""
        return self.plant.step(action)

    def hold(self) -> None:
        """Stay where it is for a control period, outside of any episode's time."""
        self.plant.hold()

    def close(self) -> None:
        """Let the robot go."""
        self.plant.close()

    def _drive(self, target: Target) -> Moment | None:
        """Drive to a start; the first moment of the episode there, or None where it took too long."""
        moment = self.plant.go_on()
        goal = None if target.goal is None else target.goal[None]
        target = self._reset.aim(single(moment.state), target)
        steady = 0
        for _ in range(self._steps):
            state = single(moment.state)
            steady = steady + 1 if self._reset.done(state, target) else 0
            if steady >= self._rest or self._stopping():
                return self.plant.go_on(goal)
            action = self._reset.act(state, target)
            if self._task.action.parameters.get("frame") == "tool":
                action = to_tool_frame(action, state, self._task.action)
            outcome = self.plant.step(np.clip(action, -1.0, 1.0).astype(np.float32))
            # On the way the task may count as solved, lost or late: that is the episode's affair, not the reset's.
            moment = self.plant.go_on() if outcome.terminated or outcome.truncated else outcome.moment
            self.report.seconds += self.period
            if self._pace is not None:
                self._pace()
        return None
