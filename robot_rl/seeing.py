"""Tasks as cameras see them: at which resolution, in which cell, and without what only a simulator knows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from policies.observations import needed_signals
from policies.types import ArmState
from robot_rl.errors import UserError
from sim.factory import build_env
from sim.randomization import RandomizationTerm
from sim.tasks.arm import ArmTask

Looks = Literal["varied", "cell", "plain"]
"""`varied`: another laboratory and another camera in every episode; `cell`: one laboratory, its cameras imperfect;
`plain`: as rendered."""


def seen_by(task: ArmTask, shapes: Mapping[str, tuple[int, int]]) -> ArmTask:
    """The task whose cameras give pictures of (H, W) pixels.

    Raises:
        UserError: It has no such camera.
    """
    if not shapes:
        return task
    have = [camera.name for camera in task.scene.cameras]
    if missing := [name for name in shapes if name not in have]:
        raise UserError(f"task {task.name!r} has no camera {missing[0]!r}; it has {', '.join(have) or 'none'}")
    cameras = tuple(
        dataclasses.replace(camera, height=shapes[camera.name][0], width=shapes[camera.name][1])
        if camera.name in shapes
        else camera
        for camera in task.scene.cameras
    )
    return dataclasses.replace(task, scene=dataclasses.replace(task.scene, cameras=cameras))


def without_poses(task: ArmTask) -> ArmTask:
    """The task whose observation says nothing of objects: where they are is for pictures to tell.

    Raises:
        UserError: Nothing would be left.
    """
    terms = tuple(term for term in task.terms if "objects" not in needed_signals((term,)))
    if not terms:
        raise UserError(f"task {task.name!r} observes nothing but the poses of objects; cameras alone are not enough")
    return dataclasses.replace(task, terms=terms)


def build_seen(
    task: ArmTask,
    count: int,
    *,
    cameras: Sequence[str],
    looks: Looks = "varied",
    seed: int = 0,
    randomization: Sequence[RandomizationTerm] | None = None,
    reward: Literal["dense", "sparse"] = "dense",
    engine: str | None = None,
) -> Any:
    """The batched environment of a task with pictures; arguments as of `sim.factory.build_env`. Begin with `reset`."""
    env = build_env(
        task,
        count,
        seed=seed,
        randomization=randomization,
        reward=reward,
        engine=engine,
        cameras=cameras,
        looks=looks == "varied",
    )
    if cameras and looks == "cell":
        from sim.image_randomization import MODERATE  # state-only use needs no OpenCV

        env.cameras.image_randomization = MODERATE
    return env


def with_images(state: ArmState | dict[str, ArmState], images: Mapping[str, Any]) -> ArmState | dict[str, ArmState]:
    """A measured state with the pictures taken at the same time; of several arms, the first has them."""
    if not images:
        return state
    if isinstance(state, dict):
        first = next(iter(state))
        return {**state, first: dataclasses.replace(state[first], images=dict(images))}
    return dataclasses.replace(state, images=dict(images))
