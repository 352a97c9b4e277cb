"""Tasks as data: one file each. To add one, copy a file and list its `TASK` here."""

from __future__ import annotations

from difflib import get_close_matches

from sim.tasks.quadrotor import QuadrotorTask
from sim.tasks.quadrotor_hover import TASK as HOVER
from sim.tasks.quadrotor_track import TASK as TRACK

TASKS: dict[str, QuadrotorTask] = {task.name: task for task in (HOVER, TRACK)}
"""Every task by name."""


def list_tasks() -> list[str]:
    """Names of all tasks."""
    return sorted(TASKS)


def find_task(name: str) -> QuadrotorTask:
    """Look a task up by name.

    Raises:
        ValueError: No such task, with the nearest name.
    """
    if name not in TASKS:
        near = get_close_matches(name, TASKS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known tasks: {', '.join(list_tasks())}"
        raise ValueError(f"unknown task {name!r}; {hint}")
    return TASKS[name]
