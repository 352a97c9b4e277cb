"""`robot-rl demos replay`: recorded actions are carried out again, from the recorded start in simulation.

The same engine, version and machine give the same observations to the bit. Success is judged by the task's own test and
compared with the recorded one; the exit status is 0 where all episodes came out as recorded.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from robot_rl.demos.configs import ReplayConfig
from robot_rl.demos.dataset import DataSet, Demonstration, choose, open_set
from robot_rl.demos.show import complain, print_table
from robot_rl.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """What became of an episode in simulation."""

    name: str
    """Of the episode."""
    recorded_success: bool
    """Whether the task was done then."""
    success: bool | None
    """Whether it was done now; None where it could not be replayed."""
    identical: bool | None
    """Whether all observations were the recorded ones to the bit; None where there were others."""
    largest_difference: float | None
    """Of any number of the observation; None as above."""
    steps: int
    """That were carried out."""
    problem: str
    """Why it could not be replayed; empty where it was."""

    @property
    def reproduced(self) -> bool:
        """Whether it came out as recorded."""
        return self.success is not None and self.success == self.recorded_success


def run(config: ReplayConfig) -> int:
    """Replay in simulation, or on a robot."""
    data = open_set(config.path)
    chosen = _choose(data, config.episode)
    if config.ros or config.plane is not None:
        from robot_rl.demos.replay_robot import run_on_robot

        return run_on_robot(chosen, config)
    results = list(replay(chosen, config.engine))
    if config.json:
        sys.stdout.write(
            json.dumps([{**asdict(one), "reproduced": one.reproduced} for one in results], indent=2) + "\n"
        )
    else:
        print_table([_words(one) for one in results])
        count = sum(one.reproduced for one in results)
        sys.stdout.write(f"{count} of {len(results)} came out as recorded\n")
    complain(data)
    return int(not all(one.reproduced for one in results))


def replay(demonstrations: Sequence[Demonstration], engine: str = "") -> Iterator[Replayed]:
    """Replay episodes one after the other; those of one robot share its simulator.

    Args:
        demonstrations: Recordings whose info says how they began.
        engine: Physics; that of each recording if empty.
    """
    env: Any = None
    built = ""
    try:
        for one in demonstrations:
            try:
                key = json.dumps([_setting(one), engine], sort_keys=True)
                if key != built:
                    if env is not None:
                        env.close()
                    env, built = None, ""
                    env, built = _build(one, engine), key
                yield _replay(one, env)
            except UserError as error:
                yield Replayed(
                    name=one.name,
                    recorded_success=bool(one.episode.success),
                    success=None,
                    identical=None,
                    largest_difference=None,
                    steps=0,
                    problem=str(error),
                )
    finally:
        if env is not None:
            env.close()


def _setting(one: Demonstration) -> dict[str, Any]:
    """What of an episode's info decides about the simulator.

    Raises:
        UserError: It does not say how the episode began.
    """
    missing = [name for name in ("task", "seed") if name not in one.info]
    if missing:
        raise UserError(
            f"{one.name} does not say its {missing[0]}, so that its start is not known; only recordings of a simulated"
            " robot can be replayed in simulation"
        )
    found = {name: one.info[name] for name in _EXPECTED if name in one.info}
    for name, value in found.items():
        if not _EXPECTED[name](value):
            raise UserError(f"{one.name} says {name} {value!r:.80}, which is none; it cannot be replayed")
    if one.info.get("steps_of_original", [0, 0])[0] > 0:
        raise UserError(f"{one.name} was trimmed at its beginning, so that its start is not known; replay the original")
    return {name: value for name, value in found.items() if name not in ("seed", "steps_of_original")}


def _is_names_and_numbers(value: Any) -> bool:
    return isinstance(value, dict) and all(type(one) in (int, float) for one in value.values())


def _is_randomization(value: Any) -> bool:
    if isinstance(value, str):
        return value in ("default", "none") or value.endswith((".yaml", ".yml"))
    return isinstance(value, list) and all(isinstance(one, dict) for one in value)


_EXPECTED: dict[str, Callable[[Any], bool]] = {
    "task": lambda value: isinstance(value, str),
    "seed": lambda value: type(value) is int and 0 <= value < 2**62,
    "settings": _is_names_and_numbers,
    "randomization": _is_randomization,
    "engine": lambda value: value in ("mujoco", "pybullet", "warp", "torch"),
    "hide_poses": lambda value: isinstance(value, bool),
    "relative_frames": lambda value: isinstance(value, bool),
    "steps_of_original": lambda value: (
        isinstance(value, list) and len(value) == 2 and {type(n) for n in value} == {int}
    ),
}
"""What an info says that decides about the simulator, and what it must look like: a file may say anything."""


def _build(one: Demonstration, engine: str) -> Any:
    from robot_rl.demos.plants import find_task, find_terms
    from robot_rl.hil.relative import relative
    from robot_rl.seeing import without_poses
    from sim.factory import build_env
    from sim.tasks import TASKS
    from sim.tasks.quadrotor import QuadrotorTask

    info = _setting(one)
    flown = TASKS.get(str(info["task"]))
    if isinstance(flown, QuadrotorTask):
        if engine not in ("", "torch"):
            raise UserError(f"engine {engine!r} moves arms; {one.name} is a flight, which runs on torch")
        return build_env(flown, 1, randomization=find_terms(flown, info.get("randomization", "default")))
    task = find_task(str(info["task"]), info.get("settings") or {})
    terms = find_terms(task, info.get("randomization", "default"))
    if info.get("relative_frames"):
        task = relative(task)
    if info.get("hide_poses"):
        task = without_poses(task)
    return build_env(
        task, 1, randomization=terms, reward="sparse", engine=engine or str(info.get("engine") or "mujoco")
    )


def _replay(one: Demonstration, env: Any) -> Replayed:
    import torch

    episode = one.episode
    if episode.actions.shape[1] != env.num_actions:
        raise UserError(
            f"{one.name} has actions of {episode.actions.shape[1]} numbers; the task takes {env.num_actions}"
        )
    seen = [env.reset(seed=one.info["seed"])["obs"][0].numpy()]
    success = False
    for action in episode.actions:
        observed, _, ended, extras = env.step(torch.from_numpy(np.ascontiguousarray(action))[None])
        seen.append(observed["obs"][0].numpy())
        success |= bool(extras["success"]) if "success" in extras else _flown(env, extras)
        if ended:
            break
    difference = None
    if seen[0].shape == episode.observations.shape[1:]:
        length = min(len(seen), len(episode.observations))
        difference = float(np.abs(np.stack(seen[:length]) - episode.observations[:length]).max())
    whole = len(seen) - 1 == len(episode)
    return Replayed(
        name=one.name,
        # The verdict of an episode whose end was trimmed is not that of what is left.
        recorded_success=bool(episode.success) and "steps_of_original" not in one.info,
        success=success,
        identical=None if difference is None else whole and difference == 0.0,
        largest_difference=difference,
        steps=len(seen) - 1,
        problem="",
    )


def _flown(env: Any, extras: Any) -> bool:
    """Whether a flight is over and near its set-point."""
    from robot_rl.demos.flight import NEAR

    return bool(extras["time_outs"]) and float((env.state.position - env.setpoint.position).norm()) <= NEAR


def _choose(data: DataSet, name: str) -> list[Demonstration]:
    """The episode of a name or number, or all.

    Raises:
        UserError: There is none of this name.
    """
    found = choose(data)
    if not name:
        return found
    chosen = [one for one in found if name in (one.name, str(one.episode.number))]
    if not chosen:
        raise UserError(f"no episode {name!r} at {data.path}; see `robot-rl demos list {data.path}`")
    return chosen[:1]


def _words(one: Replayed) -> dict[str, str]:
    yes = {True: "yes", False: "no", None: "-"}
    difference = "-" if one.largest_difference is None else f"{one.largest_difference:.2g}"
    return {
        "episode": one.name,
        "recorded": "success" if one.recorded_success else "no success",
        "replayed": {True: "success", False: "no success", None: one.problem}[one.success],
        "to the bit": yes[one.identical],
        "difference": difference,
    }
