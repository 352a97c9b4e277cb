"""Running a bundle in simulation many times: the metrics of the contract.

The exported file runs through the runtime that runs it on a robot, batched: measured states go in,
commands come out. Nothing of the training code takes part.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from tyro.conf import Positional

import policies
from robot_rl.errors import UserError, unknown_name
from robot_rl.evaluate_arm import as_trained, run_arm
from robot_rl.evaluate_quadrotor import FlightSettings, fly
from robot_rl.flight_policy import CONTROLLERS, load_flight_policy
from robot_rl.robustness import robustness_rows, write_table
from sim.factory import find_randomization
from sim.randomization import RandomizationTerm
from sim.tasks import TASKS, Task
from sim.tasks.arm import ArmTask, with_settings


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Run a bundle in simulation many times and print its metrics."""

    bundle: Positional[str]
    """Folder of a bundle, or the name of a shipped one; of an arm task also `expert`, its scripted solution; of a
    quadrotor task also the controllers `geometric` and `pid`."""
    task: str = ""
    """Task, where it is not the one that the bundle was trained on."""
    episodes: int = 1000
    """Number of episodes."""
    seed: int = 0
    """Seed of starts, robots and noise."""
    randomization: str = "default"
    """`default`, `none`, or a YAML file of randomization terms."""
    engine: Literal["torch", "mujoco", "pybullet", "warp"] | None = None
    """Physics: for arms mujoco or, as a second opinion, pybullet; None is the task's own."""
    set: tuple[str, ...] = ()
    """Settings of the task as name=value, e.g. clearance=0.0002 (arm-peg-insert), period=3.5 (quadrotor-track)."""
    json: Path | None = None
    """File for the metrics."""
    robustness: Path | None = None
    """File for a table of success against each randomized parameter, from half to double its range: FILE.md and
    FILE.json."""


@dataclass(frozen=True, kw_only=True)
class _Subject:
    """Who is evaluated, on what."""

    policy: Any
    task: Task
    settings: dict[str, Any]
    flight: FlightSettings
    engine: str

    def score(self, terms: tuple[RandomizationTerm, ...], episodes: int, seed: int) -> dict[str, Any]:
        """Metrics under given randomization terms."""
        if isinstance(self.task, ArmTask):
            return run_arm(self.policy, self.task, terms, episodes, seed, self.engine)
        assert self.policy is not None
        return fly(self.policy, self.task, terms, episodes, seed, self.flight)


def _subject(bundle: str | Path, task_name: str, settings: Mapping[str, float], engine: str | None) -> _Subject:
    policy = _load(bundle)
    name = task_name or (policy.manifest.task if policy is not None else "")
    if name not in TASKS:
        raise unknown_name("task", name, TASKS)
    task = TASKS[name]
    if isinstance(task, ArmTask):
        if str(bundle) in CONTROLLERS:
            raise UserError(f"controller {str(bundle)!r} flies quadrotors; task {name!r} moves an arm")
        if engine == "torch":
            raise UserError(f"engine 'torch' flies quadrotors; task {name!r} runs on mujoco or pybullet")
        task = set_task(task, settings)
        task = as_trained(task, policy)
        chosen = {} if task.settings is None else dataclasses.asdict(task.settings)
        return _Subject(policy=policy, task=task, settings=chosen, flight=FlightSettings(), engine=engine or "mujoco")
    if policy is None:
        raise UserError(f"task {name!r} has no scripted expert; give a bundle")
    if engine not in (None, "torch"):
        raise UserError(f"engine {engine!r} moves arms; task {name!r} runs on torch")
    flight = _flight_settings(settings)
    return _Subject(policy=policy, task=task, settings=dataclasses.asdict(flight), flight=flight, engine="torch")


def _load(bundle: str | Path) -> Any:
    """The policy of a bundle, or a controller by its name; None for the scripted expert."""
    if str(bundle) == "expert":
        return None
    return load_flight_policy(str(bundle)) if str(bundle) in CONTROLLERS else policies.load(bundle)


def evaluate(
    bundle: str | Path,
    *,
    episodes: int,
    seed: int,
    randomization: str = "default",
    settings: Mapping[str, float] | None = None,
    engine: str | None = None,
    task_name: str = "",
) -> dict[str, Any]:
    """Metrics of a bundle by the keys of the contract; the arguments are those of `EvaluateConfig`.

    Raises:
        UserError: The task, a setting, the engine or the randomization is unknown.
    """
    subject = _subject(bundle, task_name, settings or {}, engine)
    terms = randomization_terms(subject.task, randomization)
    started = time.process_time()
    results = subject.score(terms, episodes, seed)
    return {
        "task": subject.task.name,
        "bundle": "expert" if subject.policy is None else subject.policy.manifest.name,
        "engine": subject.engine,
        "randomization": randomization,
        "episodes": episodes,
        "seed": seed,
        "control_rate_hz": subject.task.control_rate_hz,
        "settings": subject.settings,
        **results,
        "cpu_seconds": round(time.process_time() - started, 2),
    }


def run(config: EvaluateConfig) -> int:
    """Evaluate and print; write files where asked for."""
    torch.set_num_threads(1)
    metrics = evaluate(
        config.bundle,
        episodes=config.episodes,
        seed=config.seed,
        randomization=config.randomization,
        settings=parse_settings(config.set),
        engine=config.engine,
        task_name=config.task,
    )
    text = json.dumps(metrics, indent=2) + "\n"
    if config.json is not None:
        config.json.parent.mkdir(parents=True, exist_ok=True)
        config.json.write_text(text)
    sys.stdout.write(text)
    if config.robustness is not None:
        write_table(config.robustness, *robustness(config))
    return 0


def robustness(config: EvaluateConfig) -> tuple[str, list[dict[str, Any]]]:
    """Title and rows of the table of `--robustness`: success (arms) or flights without a crash (quadrotors)."""
    subject = _subject(config.bundle, config.task, parse_settings(config.set), config.engine)

    def score(terms: tuple[RandomizationTerm, ...]) -> float:
        results = subject.score(terms, config.episodes, config.seed)
        return float(results["success_rate"] if "success_rate" in results else 1.0 - results["crash_rate"])

    rows = robustness_rows(randomization_terms(subject.task, config.randomization), score)
    kind = "success" if isinstance(subject.task, ArmTask) else "flights without a crash"
    title = f"{subject.task.name}, {config.bundle}, {subject.engine}: {kind} of {config.episodes} per cell"
    return title, rows


def parse_settings(pairs: tuple[str, ...]) -> dict[str, float]:
    """Settings from `name=value` texts."""
    values = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        try:
            values[name] = float(text)
        except ValueError:
            raise UserError(
                f"--set {pair!r}: {text!r} is not a number{'' if separator else '; write name=value'}"
            ) from None
    return values


def _flight_settings(values: Mapping[str, float]) -> FlightSettings:
    known = {field.name for field in dataclasses.fields(FlightSettings)}
    for name in values:
        if name not in known:
            raise unknown_name("setting", name, known)
    return FlightSettings(**values)


def set_task(task: ArmTask, settings: Mapping[str, float]) -> ArmTask:
    """The task with its own settings changed, e.g. `{"clearance": 0.0005}`.

    Raises:
        UserError: It has no such setting, or not that value.
    """
    try:
        return with_settings(task, settings)
    except ValueError as error:
        raise UserError(str(error)) from error


def randomization_terms(task: Task, name: str) -> tuple[RandomizationTerm, ...]:
    """The terms that `--randomization` names, what is wrong with it being the user's to fix."""
    try:
        return find_randomization(name, task.randomization, task.scene if isinstance(task, ArmTask) else None)
    except ValueError as error:
        raise UserError(str(error)) from error
