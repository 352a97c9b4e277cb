"""Arm tasks: how well their experts do, what training reaches in its budget, and what of it survives elsewhere."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot_rl.bench.training import kept, train
from robot_rl.evaluate import EvaluateConfig, evaluate, robustness
from sim.tasks import TASKS
from sim.tasks.arm import ArmTask


@dataclass(frozen=True, kw_only=True)
class ExpertsConfig:
    """Run the scripted expert of every arm task."""

    episodes: int = 500
    """Episodes of each task."""
    seed: int = 1
    """Seed of starts, robots and noise."""


@dataclass(frozen=True, kw_only=True)
class ArmsConfig:
    """Train arm tasks with several seeds, with and without randomization; evaluate in both engines."""

    tasks: tuple[str, ...] = ("arm-reach", "arm-push")
    """What is trained."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Training runs of each task."""
    episodes: int = 1000
    """Episodes of an evaluation in MuJoCo."""
    transfer_episodes: int = 200
    """Episodes from the same starts in MuJoCo and in PyBullet."""
    robustness_episodes: int = 50
    """Episodes of a cell of the robustness tables, of the first seed's policies; 0 leaves them out."""
    runs: Path = Path("runs/bench")
    """Folder of the training runs; finished ones are not repeated."""


def run_experts(config: ExpertsConfig) -> dict[str, Any]:
    """Success of every expert under its task's default randomization, and without."""
    results: dict[str, Any] = {}
    for name, task in TASKS.items():
        if not isinstance(task, ArmTask):
            continue
        for randomization in ("default", "none"):
            metrics = evaluate(
                "expert",
                task_name=name,
                episodes=config.episodes if randomization == "default" else config.episodes // 4,
                seed=config.seed,
                randomization=randomization,
            )
            results.setdefault(name, {})[randomization] = kept(metrics)
        print(f"{name}: {results[name]['default']}", flush=True)
    return {"experts": results}


def run_training(config: ArmsConfig) -> dict[str, Any]:
    """Train and evaluate every task with every seed; transfer and vary what the first seed learned."""
    rows = [train_one(task, seed, config) for task in config.tasks for seed in config.seeds]
    results = {"training": rows, "transfer": [_transfer(task, config) for task in config.tasks]}
    if config.robustness_episodes:
        results["robustness"] = [_robustness(task, config) for task in config.tasks]
    return results


def train_one(task: str, seed: int, config: ArmsConfig, randomization: str = "default") -> dict[str, Any]:
    """One training run and its evaluation."""
    folder = config.runs / f"{task}-{randomization}-{seed}"
    arguments = [task, "--seed", str(seed), "--randomization", randomization]
    training = train(arguments, folder)
    metrics = evaluate(folder / "bundle", episodes=config.episodes, seed=1000 + seed)
    row = {
        "task": task,
        "seed": seed,
        "randomization": randomization,
        "cpu_seconds": training["cpu_seconds"],
        "command": " ".join(["robot-rl train", *arguments]),
        **kept(metrics),
    }
    print(row, flush=True)
    return row


def _robustness(task: str, config: ArmsConfig) -> dict[str, Any]:
    """Success of the first seed's policy against each randomized parameter in turn."""
    bundle = config.runs / f"{task}-default-{config.seeds[0]}" / "bundle"
    title, rows = robustness(EvaluateConfig(bundle=str(bundle), episodes=config.robustness_episodes, seed=78))
    return {"task": task, "title": title, "rows": rows}


def _transfer(task: str, config: ArmsConfig) -> dict[str, Any]:
    """Success of seed 0's policies, trained with and without randomization, from the same starts in both engines."""
    result: dict[str, Any] = {"task": task, "episodes": config.transfer_episodes}
    for trained in ("default", "none"):
        quick = dataclasses.replace(config, episodes=config.transfer_episodes)
        train_one(task, config.seeds[0], quick, trained)
        bundle = config.runs / f"{task}-{trained}-{config.seeds[0]}" / "bundle"
        for engine in ("mujoco", "pybullet"):
            metrics = evaluate(
                bundle, episodes=config.transfer_episodes, seed=77, engine=engine, randomization="default"
            )
            result[f"trained on {trained}, run in {engine}"] = metrics["success_rate"]
    print(result, flush=True)
    return result
