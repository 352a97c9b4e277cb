"""Who drives while the person does not: nobody, the task's scripted expert, or a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch

import policies
from policies.actions import action_size
from robot_rl.errors import UserError
from robot_rl.evaluate_arm import act, as_trained
from robot_rl.hil.plant import Moment, expert_action
from robot_rl.seeing import with_images
from sim.tasks.arm import ArmTask


class Pilot(Protocol):
    """Chooses actions."""

    name: str
    """For people."""

    def begin(self) -> None:
        """An episode begins."""

    def act(self, moment: Moment, index: int) -> tuple[np.ndarray, float | None]:
        """Normalized action (A,), and its value, which nobody knows here."""


class Nobody:
    """Wants to rest."""

    name = "nobody"

    def __init__(self, task: ArmTask) -> None:
        self._rest = np.zeros(action_size(task.action), np.float32)

    def begin(self) -> None:
        """Nothing."""

    def act(self, moment: Moment, index: int) -> tuple[np.ndarray, float | None]:
        """Zero."""
        return self._rest, None


class Expert:
    """The task's scripted solution."""

    name = "scripted expert"

    def __init__(self, task: ArmTask) -> None:
        self._task = task

    def begin(self) -> None:
        """Nothing: it has no memory."""

    def act(self, moment: Moment, index: int) -> tuple[np.ndarray, float | None]:
        """What it does at this moment."""
        return expert_action(self._task, moment.state, moment.setpoint), None


class BundlePilot:
    """A policy from a bundle, through the runtime that runs it on a robot."""

    def __init__(self, policy: policies.Policy, task: ArmTask) -> None:
        self.name, self._policy, self._task = policy.manifest.name, policy, task

    def begin(self) -> None:
        """Forget the last episode."""
        self._policy.reset()

    def act(self, moment: Moment, index: int) -> tuple[np.ndarray, float | None]:
        """Its action."""
        images = {name: torch.from_numpy(image)[None] for name, image in moment.images.items()}
        state = with_images(moment.state, images)
        return act(self._policy, self._task, state, moment.setpoint)[0].numpy().astype(np.float32), None


def load_policy(name: str, task: ArmTask) -> tuple[policies.Policy | None, ArmTask, Mapping[str, Any]]:
    """The policy of a bundle, none for `none` and `expert`; the task with its actions; the pictures it looks at.

    Raises:
        UserError: It is for another kind of robot, or its actions are others.
    """
    if name in ("none", "expert"):
        return None, task, {}
    policy = policies.load(name)
    if policy.manifest.robot.kind != "arm":
        raise UserError(f"bundle {name!r} moves a {policy.manifest.robot.kind}; task {task.name!r} has an arm")
    return policy, as_trained(task, policy), policy.manifest.images


def make_pilot(name: str, policy: policies.Policy | None, task: ArmTask) -> Pilot:
    """Who drives while the person does not."""
    if policy is not None:
        return BundlePilot(policy, task)
    return Expert(task) if name == "expert" else Nobody(task)
