"""Imitation: what each algorithm makes of the same demonstrations of mixed quality, and what better ones are worth.

A cell is an algorithm with a choice of episodes; each of its seeds has a data set of its own. Results are stored as
they come, and finished ones are not repeated:

    python -m robot_rl.bench.imitation                        every cell with five seeds, two hours
    python -m robot_rl.bench.imitation --cells bc --seeds 0   one run
"""

from __future__ import annotations

import json
import shutil
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

import policies
from policies.writing import write_text
from robot_rl.bench.training import kept, run_cli, train
from robot_rl.errors import unknown_name
from robot_rl.evaluate import evaluate
from robot_rl.evaluate_arm import act
from sim.factory import build_env
from sim.tasks import TASKS
from sim.tasks.arm import ArmTask


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Runs that differ in their seed only."""

    algorithm: str
    """Of `robot-rl train`."""
    arguments: tuple[str, ...] = ()
    """Further ones."""
    starts: int = 1
    """How many times as many starts: small differences need more of them."""


CELLS: Mapping[str, Cell] = {
    "bc": Cell(algorithm="bc"),
    "bc-rnn": Cell(algorithm="bc-rnn"),
    "act": Cell(algorithm="act"),
    "diffusion": Cell(algorithm="diffusion"),
    "consistency": Cell(algorithm="consistency"),
    "bc-best-half": Cell(algorithm="bc", arguments=("--demo-share", "0.5", "--demo-choice", "best"), starts=5),
    "bc-random-half": Cell(algorithm="bc", arguments=("--demo-share", "0.5", "--demo-choice", "random"), starts=5),
}
"""By name, in the order in which they run: `consistency` has the policy of `diffusion` as its teacher."""


@dataclass(frozen=True, kw_only=True)
class ImitationBenchConfig:
    """Measure imitation."""

    cells: tuple[str, ...] = tuple(CELLS)
    """Which ones."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Of demonstrations, training and noise."""
    task: str = "arm-pick-lift"
    """What is demonstrated."""
    demonstrations: int = 100
    """Episodes of a data set."""
    quality: str = "mixed"
    """Of the demonstrations, as of `robot-rl demos collect`."""
    episodes: int = 100
    """Starts that training never saw."""
    runs: Path = Path("runs/bench-imitation")
    """Folder of data sets and runs; finished ones are not repeated."""
    out: Path = Path("docs/benchmarks/imitation.json")
    """Where results are stored."""


def run(config: ImitationBenchConfig, where: Mapping[str, Any]) -> dict[str, Any]:
    """Run the cells and store what they reach."""
    results: dict[str, Any] = json.loads(config.out.read_text()) if config.out.is_file() else {}
    results["where"] = dict(where)
    results["setting"] = {key: getattr(config, key) for key in ("task", "demonstrations", "quality", "episodes")}
    cells: dict[str, Any] = results.setdefault("cells", {})
    for seed in config.seeds:  # seed by seed, so that an interrupted benchmark has all cells of some
        for name in config.cells:
            if name not in CELLS:
                raise unknown_name("cell", name, CELLS)
            rows: dict[str, Any] = cells.setdefault(name, {}).setdefault("seeds", {})
            if str(seed) not in rows:
                rows[str(seed)] = run_one(name, seed, config)
                print(name, seed, rows[str(seed)], flush=True)
            cells[name] = {**summary(rows), "seeds": dict(sorted(rows.items(), key=lambda row: int(row[0])))}
            config.out.parent.mkdir(parents=True, exist_ok=True)
            write_text(config.out, json.dumps(results, indent=2) + "\n")
    return results


def run_one(name: str, seed: int, config: ImitationBenchConfig) -> dict[str, Any]:
    """One training run on the data set of its seed, and its evaluation."""
    cell, folder = CELLS[name], config.runs / f"{name}-{seed}"
    demonstrations = collect(seed, config)
    arguments = [config.task, "--algorithm", cell.algorithm, "--demos", str(demonstrations), "--seed", str(seed)]
    teacher = config.runs / f"diffusion-{seed}"
    if cell.algorithm == "consistency" and (teacher / "bundle" / "manifest.json").is_file():
        arguments += ["--consistency.teacher-run", str(teacher)]
    training = train([*arguments, *cell.arguments], folder)
    metrics = evaluate(folder / "bundle", episodes=cell.starts * config.episodes, seed=0)
    return {
        "command": " ".join(["robot-rl train", *arguments, *cell.arguments]),
        "cpu_seconds": training["cpu_seconds"],
        "imitated": training["demonstrations"],
        **kept(metrics),
        **step_times(folder / "bundle", config.task),
    }


def collect(seed: int, config: ImitationBenchConfig) -> Path:
    """The folder of the data set of a seed, recorded unless it is there."""
    folder = config.runs / f"demonstrations-{seed}"
    if len(list(folder.glob("*.mcap"))) < config.demonstrations:
        shutil.rmtree(folder, ignore_errors=True)  # what an interrupted benchmark left
        run_cli([
            "demos", "collect", config.task, "--expert", "scripted", "--episodes", str(config.demonstrations),
            "--quality", config.quality, "--seed", str(seed), "--out", str(folder),
        ])  # fmt: skip
    return folder


def step_times(bundle: Path, task_name: str, steps: int = 400) -> dict[str, float]:
    """How long a step of the policy takes for a single robot, s: median, and the one that 1 % are longer than."""
    task, policy = TASKS[task_name], policies.load(bundle)
    assert isinstance(task, ArmTask)
    env = build_env(task, 1, seed=0)
    env.reset()
    state, setpoint = env.measured, env.setpoint
    env.close()
    taken = []
    for _ in range(steps):
        begin = time.perf_counter()
        act(policy, task, state, setpoint)
        taken.append(time.perf_counter() - begin)
    settled = np.array(taken[steps // 10 :])
    return {"step_median_s": float(np.median(settled)), "step_p99_s": float(np.quantile(settled, 0.99))}


def summary(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Figures over the seeds of a cell."""
    success = [row["success_rate"] for row in rows.values()]
    cycles = [row["cycle_time_s"] for row in rows.values() if "cycle_time_s" in row]
    return {
        "mean_success_rate": statistics.fmean(success),
        "worst_success_rate": min(success),
        "mean_cycle_time_s": statistics.fmean(cycles) if cycles else None,
        "mean_cpu_seconds": statistics.fmean(row["cpu_seconds"] for row in rows.values()),
        "step_median_s": statistics.median(row["step_median_s"] for row in rows.values()),
        "step_p99_s": max(row["step_p99_s"] for row in rows.values()),
    }


if __name__ == "__main__":
    from robot_rl.bench import pages
    from robot_rl.bench.__main__ import where

    torch.set_num_threads(1)
    chosen = tyro.cli(ImitationBenchConfig, prog="python -m robot_rl.bench.imitation")
    run(chosen, where())
    pages.write(chosen.out.parent)
