"""`sim.make`: a batched environment by the name of its task."""

from __future__ import annotations

from pathlib import Path

import torch

from sim.environment import QuadrotorEnv
from sim.randomization import RandomizationTerm, load_terms
from sim.tasks import find_task

ENGINES = ("torch",)
"""Physics that can be asked for."""


def make(
    task: str,
    num_envs: int = 1,
    device: torch.device | str = "cpu",
    seed: int = 0,
    randomization: str | Path = "default",
    engine: str | None = None,
) -> QuadrotorEnv:
    """Build the batched environment of a task.

    Args:
        task: Its name, see `list_tasks`.
        num_envs: N.
        device: Where all tensors live.
        seed: Of everything random; the same seed gives the same run, bit by bit, on one machine.
        randomization: `default` (what the task declares), `none` (the nominal vehicle, perfect sensors),
            or a YAML file of terms, see `sim.randomization.load_terms`.
        engine: Physics; None is the task's own.

    Raises:
        ValueError: No such task, engine or randomization.
    """
    found = find_task(task)
    if engine not in (None, *ENGINES):
        raise ValueError(f"unknown engine {engine!r} for task {task!r}; known: {', '.join(ENGINES)}")
    return QuadrotorEnv(
        found,
        num_envs=num_envs,
        device=device,
        seed=seed,
        randomization=find_randomization(randomization, found.randomization),
    )


def find_randomization(name: str | Path, default: tuple[RandomizationTerm, ...]) -> tuple[RandomizationTerm, ...]:
    """The terms that `default`, `none` or the path of a YAML file stand for.

    Raises:
        ValueError: There is no such file, or it has a wrong entry.
    """
    if name == "default":
        return default
    if name == "none":
        return ()
    if not Path(name).is_file():
        raise ValueError(f"randomization {str(name)!r} is neither 'default' nor 'none' nor a file")
    return load_terms(name)
