"""Human in the loop: what `robot-rl hil` reaches with a scripted operator, cell by cell.

A cell is one run: a task, an algorithm, a seed. Its result is stored as it ends, and a finished one is not repeated:

    make bench-hil                          every cell, hours
    make bench-hil CELLS="pick-lift peg"    some of them, all their seeds
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from policies.writing import write_text
from robot_rl.bench.training import run_cli
from robot_rl.errors import unknown_name
from robot_rl.evaluate import evaluate


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Runs that differ in their seed only."""

    task: str
    """Name of the task."""
    arguments: tuple[str, ...]
    """Further ones of `robot-rl hil`."""
    seeds: tuple[int, ...]
    """One run each."""
    median: float
    """Success rate that the median of the seeds should reach."""
    worst: float
    """Success rate that every seed should reach."""


_FIVE, _THREE = (0, 1, 2, 3, 4), (0, 1, 2)


def _cell(task: str, *arguments: str, steps: int = 9000, seeds: tuple[int, ...] = _THREE, median: float = 0.0) -> Cell:
    return Cell(task=task, arguments=("--actor.steps", str(steps), *arguments), seeds=seeds, median=median, worst=0.0)


_PICK, _PEG = "arm-pick-lift", "arm-peg-insert"
CELLS: Mapping[str, Cell] = {
    "pick-lift": dataclasses.replace(_cell(_PICK, seeds=_FIVE, median=0.95), worst=0.9),
    "peg": _cell(_PEG, seeds=_FIVE, median=0.98),
    "pick-lift-bc": _cell(_PICK, "--algorithm", "bc"),
    "pick-lift-hg-dagger": _cell(_PICK, "--algorithm", "hg-dagger"),
    "peg-bc": _cell(_PEG, "--algorithm", "bc"),
    "peg-hg-dagger": _cell(_PEG, "--algorithm", "hg-dagger"),
    "pick-lift-seen": _cell(
        _PICK, "--actor.cameras", "front", "wrist", "--actor.reward", "runs/lift-reward", steps=36_000, median=0.9
    ),
    "rlif": _cell(_PICK, "--algorithm", "rlif", median=0.85),
    "rlif-two-thirds": _cell(_PICK, "--algorithm", "rlif", "--actor.scripted.wrong", "0.333"),
    "pvp": _cell(_PICK, "--algorithm", "pvp", median=0.85),
    "resfit": _cell(_PICK, "--algorithm", "resfit", "--actor.demonstrations", "8", steps=5000, median=0.95),
}
"""By name. A limit of 0 is none: these are reported beside the others."""


@dataclass(frozen=True, kw_only=True)
class HilBenchConfig:
    """Measure human-in-the-loop learning."""

    cells: tuple[str, ...] = tuple(CELLS)
    """Which ones."""
    seeds: tuple[int, ...] = _FIVE
    """Which of their seeds."""
    episodes: int = 100
    """Starts that training never saw, without help."""
    runs: Path = Path("runs/bench-hil")
    """Folder of the runs; finished ones are not repeated."""
    out: Path = Path("docs/benchmarks/hil.json")
    """Where results are stored."""
    speed: float = 1.5
    """Simulated seconds per second for the robot."""


def run(config: HilBenchConfig, where: Mapping[str, Any]) -> dict[str, Any]:
    """Run the cells and store what they reach."""
    results: dict[str, Any] = json.loads(config.out.read_text()) if config.out.is_file() else {}
    results["where"] = dict(where)
    experts: dict[str, Any] = results.setdefault("experts", {})
    cells: dict[str, Any] = results.setdefault("cells", {})
    for name in config.cells:
        if name not in CELLS:
            raise unknown_name("cell", name, CELLS)
        cell = CELLS[name]
        if cell.task not in experts:
            metrics = evaluate("expert", task_name=cell.task, episodes=config.episodes, seed=0)
            experts[cell.task] = {key: metrics[key] for key in ("success_rate", "cycle_time_s")}
        rows: dict[str, Any] = cells.setdefault(name, {}).setdefault("seeds", {})
        for seed in (seed for seed in cell.seeds if seed in config.seeds):
            if str(seed) not in rows:
                rows[str(seed)] = run_one(name, cell, seed, config)
            cells[name] = {**_judged(cell, rows, experts[cell.task]), "seeds": rows}
            _store(config.out, results)
            print(name, seed, rows[str(seed)], flush=True)
    return results


def run_one(name: str, cell: Cell, seed: int, config: HilBenchConfig) -> dict[str, Any]:
    """One run in processes of its own, and its evaluation."""
    folder = config.runs / f"{name}-{seed}"
    command = [
        "hil", cell.task, "--seed", str(seed), "--out", str(folder), "--evaluation-episodes", str(config.episodes),
        "--actor.speed", f"{config.speed:g}", *cell.arguments,
    ]  # fmt: skip
    started = time.time()
    run_cli(command)
    metrics = json.loads((folder / "evaluation.json").read_text())
    figures = json.loads((folder / "summary.json").read_text())
    keys = (
        "robot_steps", "episodes", "intervened_steps", "recent_success_rate", "recent_intervention_rate",
        "recent_cycle_time_s", "peak_force_n", "updates", "update_ratio", "updates_per_cpu_s",
    )  # fmt: skip
    return {
        "command": "robot-rl " + " ".join(command),
        "success_rate": metrics["success_rate"],
        "cycle_time_s": metrics["cycle_time_s"],
        "wall_seconds": figures.get("wall_seconds", time.time() - started),
        **{key: figures[key] for key in keys},
        "period_p99_error_s": figures["period"].get("p99_error"),
    }


def _judged(cell: Cell, rows: Mapping[str, Any], expert: Mapping[str, Any]) -> dict[str, Any]:
    """Median and worst of the seeds beside what they should reach."""
    found = sorted(row["success_rate"] for row in rows.values())
    cycles = [row["cycle_time_s"] for row in rows.values() if row["cycle_time_s"] is not None]
    return {
        "task": cell.task,
        "median_success_rate": statistics.median(found),
        "worst_success_rate": found[0],
        "wanted": {"median": cell.median, "worst": cell.worst},
        "mean_cycle_time_s": statistics.fmean(cycles) if cycles else None,
        "expert_cycle_time_s": expert["cycle_time_s"],
    }


def _store(path: Path, results: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    from robot_rl.bench import pages
    from robot_rl.bench.__main__ import where

    chosen = tyro.cli(HilBenchConfig, prog="python -m robot_rl.bench.hil")
    run(chosen, where())
    pages.write(chosen.out.parent)
