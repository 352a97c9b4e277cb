"""Tasks as data: one file each. To add one, copy a file and list its `TASK` here."""

from __future__ import annotations

from difflib import get_close_matches

from sim.tasks.arm import ArmTask
from sim.tasks.arm_cable_route import TASK as CABLE_ROUTE
from sim.tasks.arm_flip import TASK as FLIP
from sim.tasks.arm_handover import TASK as HANDOVER
from sim.tasks.arm_peg_insert import TASK as PEG_INSERT
from sim.tasks.arm_pick_lift import TASK as PICK_LIFT
from sim.tasks.arm_push import TASK as PUSH
from sim.tasks.arm_reach import TASK as REACH
from sim.tasks.arm_reach_region import TASK as REACH_REGION
from sim.tasks.quadrotor import QuadrotorTask
from sim.tasks.quadrotor_hover import TASK as HOVER
from sim.tasks.quadrotor_track import TASK as TRACK

Task = QuadrotorTask | ArmTask

TASKS: dict[str, Task] = {
    task.name: task
    for task in (HOVER, TRACK, REACH, REACH_REGION, PUSH, PICK_LIFT, PEG_INSERT, HANDOVER, FLIP, CABLE_ROUTE)
}
"""Every task by name."""


def list_tasks() -> list[str]:
    """Names of all tasks."""
    return sorted(TASKS)


def find_task(name: str) -> Task:
    """Look a task up by name.

    Raises:
        ValueError: No such task, with the nearest name.
    """
    if name not in TASKS:
        near = get_close_matches(name, TASKS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known tasks: {', '.join(list_tasks())}"
        raise ValueError(f"unknown task {name!r}; {hint}")
    return TASKS[name]
