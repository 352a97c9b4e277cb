"""`sim.make`: a batched environment by the name of its task."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from sim.adr import AutomaticConfig, AutomaticRandomization
from sim.arm_environment import ArmEnv
from sim.arm_randomization import expand_terms
from sim.engines import make_engine
from sim.engines.base import ArmEngine
from sim.environment import QuadrotorEnv
from sim.isaac_randomization import is_isaac_file, load_isaac_randomization
from sim.randomization import RandomizationTerm, load_terms
from sim.scene import Scene
from sim.tasks import Task, find_task
from sim.tasks.arm import ArmTask, with_settings

if TYPE_CHECKING:
    from sim.camera_observations import CameraObservations

ENGINES = ("torch", "mujoco", "pybullet", "warp")
"""Physics that can be asked for: torch for quadrotors, the others for arms."""
Env = QuadrotorEnv | ArmEnv
"""A batched environment: both keep the contract that `sim.check_vec_env` checks."""


def make(
    task: str,
    num_envs: int = 1,
    device: torch.device | str = "cpu",
    seed: int = 0,
    randomization: str | Path = "default",
    engine: str | None = None,
    *,
    reward: Literal["dense", "sparse"] = "dense",
    settings: Mapping[str, float] | None = None,
    threads: int = 1,
    cameras: Sequence[str] = (),
    automatic: AutomaticConfig | None = None,
) -> Env:
    """Build the batched environment of a task.

    Args:
        task: Its name, see `list_tasks`.
        num_envs: N.
        device: Where all tensors live.
        seed: Of everything random; the same seed gives the same run, bit by bit, on one machine.
        randomization: `default` (what the task declares), `none` (the nominal robot, perfect sensors),
            or a YAML file of terms, see `sim.randomization.load_terms`, for arms also one of Isaac Gym's.
        engine: Physics; None is the task's own: `torch` for quadrotors, `mujoco` for arms.
        reward: For arms: `dense`, or `sparse`, 1 in the step that reaches the goal.
        settings: For arms: the task's own settings by name, e.g. `{"clearance": 0.0002}`.
        threads: For arms: of the physics; 0 takes every core.
        cameras: For arms in MuJoCo: names of the scene's cameras; adds `images` to the observations. Looks and
            cameras' faults vary unless `randomization` is `none`.
        automatic: For arms: ranges of randomization that grow with success, see `sim.adr`.

    Raises:
        ValueError: No such task, engine, randomization or setting.
    """
    found = find_task(task)
    if engine is not None and engine not in ENGINES:
        raise ValueError(f"unknown engine {engine!r} for task {task!r}; known: {', '.join(ENGINES)}")
    if settings:
        if not isinstance(found, ArmTask):
            raise ValueError(f"task {task!r} has no setting {next(iter(settings))!r}; it has none")
        found = with_settings(found, settings)
    scene = found.scene if isinstance(found, ArmTask) else None
    terms = find_randomization(randomization, found.randomization, scene)
    return build_env(
        found,
        num_envs,
        device=device,
        seed=seed,
        randomization=terms,
        engine=engine,
        reward=reward,
        threads=threads,
        cameras=cameras,
        looks=randomization != "none",
        automatic=automatic,
    )


def build_env(
    task: Task,
    num_envs: int,
    *,
    device: torch.device | str = "cpu",
    seed: int = 0,
    randomization: Sequence[RandomizationTerm] | None = None,
    engine: str | None = None,
    reward: Literal["dense", "sparse"] = "dense",
    threads: int = 1,
    cameras: Sequence[str] = (),
    looks: bool = True,
    automatic: AutomaticConfig | None = None,
) -> Any:
    """The batched environment of a task that is at hand as an object; arguments as in `make`.

    Raises:
        ValueError: The engine cannot run the task.
    """
    if isinstance(task, ArmTask):
        if engine == "torch":
            raise ValueError(f"engine 'torch' flies quadrotors; task {task.name!r} runs on mujoco, pybullet or warp")
        built = make_engine(engine or "mujoco", task.scene, num_envs, threads=threads)
        seen = _camera_observations(built, cameras, looks) if cameras else None
        growing = None
        if automatic is not None:
            terms = expand_terms(task.randomization if randomization is None else randomization, task.scene)
            growing = AutomaticRandomization(automatic, terms, num_envs, torch.Generator().manual_seed(seed))
        return ArmEnv(
            task,
            built,
            seed=seed,
            randomization=randomization,
            reward=reward,
            device=device,
            automatic=growing,
            cameras=seen,
        )
    if automatic is not None:
        raise ValueError(f"task {task.name!r} has no automatic randomization; that is for arms")
    if cameras:
        raise ValueError(f"task {task.name!r} has no cameras; leave out {', '.join(cameras)}")
    if engine not in (None, "torch"):
        raise ValueError(f"engine {engine!r} moves arms; task {task.name!r} runs on torch")
    return QuadrotorEnv(task, num_envs=num_envs, device=device, seed=seed, randomization=randomization)


def _camera_observations(engine: ArmEngine, names: Sequence[str], looks: bool) -> CameraObservations:
    # Imported here: state-only use needs neither OpenCV nor a GL library.
    try:
        from sim.appearance import LABORATORY
        from sim.camera_observations import CameraObservations
        from sim.image_randomization import MODERATE
    except ImportError as error:
        raise ImportError(f"cameras need {error.name}; install with: pip install 'robot_rl[camera]'") from error
    return CameraObservations(
        engine,
        names,
        image_randomization=MODERATE if looks else None,
        appearance=LABORATORY if looks else None,
    )


def find_randomization(
    name: str | Path, default: tuple[RandomizationTerm, ...], scene: Scene | None = None
) -> tuple[RandomizationTerm, ...]:
    """The terms that `default`, `none` or the path of a YAML file stand for.

    A file is a list of terms or, with a `scene`, Isaac Gym's `randomization_params`; what has no meaning here is
    written to standard error.

    Raises:
        ValueError: There is no such file, or it has a wrong entry.
    """
    if name == "default":
        return default
    if name == "none":
        return ()
    if not Path(name).is_file():
        raise ValueError(f"randomization {str(name)!r} is neither 'default' nor 'none' nor a file")
    if scene is None or not is_isaac_file(name):
        return load_terms(name)
    terms, notes = load_isaac_randomization(name, scene)
    for note in notes:
        sys.stderr.write(f"{name}: {note}\n")
    return terms
