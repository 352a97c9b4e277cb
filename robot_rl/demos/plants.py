"""The simulated robot of a demonstration: every episode begins from a seed of its own, so that it can begin again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from robot_rl.errors import UserError, unknown_name
from robot_rl.evaluate import randomization_terms, set_task
from robot_rl.hil.plant import Moment, SimulatedPlant
from robot_rl.seeing import Looks, seen_by, without_poses
from sim.randomization import RandomizationTerm
from sim.tasks import TASKS, Task
from sim.tasks.arm import ArmTask


class SeededPlant(SimulatedPlant):
    """A simulated robot whose next episode is that of a new one with the seed `next_seed`."""

    next_seed: int = 0
    """Of the next `reset`."""

    def reset(self) -> Moment:
        """Begin the episode of `next_seed`."""
        self._begun = True
        return self._moment(self.env.reset(seed=self.next_seed))


def find_task(name: str, settings: Mapping[str, float]) -> ArmTask:
    """The arm's task of a name with settings.

    Raises:
        UserError: There is none, it has no arm, or no such setting.
    """
    if name not in TASKS:
        raise unknown_name("task", name, TASKS)
    task = TASKS[name]
    if not isinstance(task, ArmTask):
        raise UserError(f"task {name!r} has no arm; it is for arms")
    return set_task(task, settings)


def build_plant(
    task: ArmTask,
    randomization: str | Sequence[Mapping[str, Any]],
    *,
    cameras: Sequence[str] = (),
    resolution: int = 64,
    looks: Looks = "cell",
    hide_poses: bool = False,
) -> SeededPlant:
    """The robot of a task.

    Args:
        task: What is to be done.
        randomization: `default`, `none`, a YAML file, or the terms themselves as an episode's info has them.
        cameras: Whose pictures are wanted.
        resolution: Pixels of both sides of a picture.
        looks: How laboratory and cameras vary.
        hide_poses: Leave the poses of objects out of the observation: pictures tell them.

    Raises:
        UserError: There is no such camera, file or term.
    """
    terms = find_terms(task, randomization)
    if cameras:
        if not 8 <= resolution <= 1024:
            raise UserError(f"--resolution is {resolution}; pictures have 8 to 1024 pixels a side")
        task = seen_by(task, {name: (resolution, resolution) for name in cameras})
    if hide_poses:
        task = without_poses(task)
    return SeededPlant(task, randomization=terms, cameras=tuple(cameras), looks=looks)


def find_terms(task: Task, randomization: str | Sequence[Mapping[str, Any]]) -> tuple[RandomizationTerm, ...]:
    """Randomization terms from what the command line or an episode's info says."""
    if isinstance(randomization, str):
        return randomization_terms(task, randomization)
    try:
        return tuple(RandomizationTerm(**one) for one in randomization)
    except (TypeError, ValueError) as error:
        raise UserError(f"the recorded randomization is none: {error}") from error


def describe_terms(task: Task, randomization: str) -> str | list[dict[str, Any]]:
    """What an episode's info says of its randomization: a file's terms themselves, since the file may change."""
    if randomization in ("default", "none"):
        return randomization
    return [dataclasses.asdict(term) for term in randomization_terms(task, randomization)]
