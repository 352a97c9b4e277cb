"""Human in the loop: what `robot-rl hil` reaches with a scripted operator, cell by cell.

A cell is one run: a task, an algorithm, a seed. Its result is stored as it ends, and a finished one is not repeated:

    make bench-hil                          every cell, hours
    make bench-hil CELLS="pick-lift peg"    some of them, all their seeds
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from policies.writing import write_text
from robot_rl.bench import hil_speed
from robot_rl.bench.training import run_cli
from robot_rl.errors import UserError, unknown_name
from robot_rl.evaluate import evaluate
from robot_rl.hil.config import ActorConfig, HilConfig
from robot_rl.hil.operators import OperatorConfig
from robot_rl.hil.plant import SimulatedPlant
from robot_rl.hil.setup import START_SEED, find_arm_task, make_people


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
    prepare: Callable[[], None] | None = None
    """Makes what the runs need, where it is missing."""
    speed: float | None = None
    """Simulated seconds per second for the robot, where it has to be this one."""
    base: Path | None = None
    """Run of the policy that these correct: what it reaches is stored beside what they do."""
    alone: OperatorConfig | None = None
    """An operator that is measured too, driving by itself: what its pupil should beat."""


_PICK, _PEG = "arm-pick-lift", "arm-peg-insert"
_CAMERAS = ("front", "wrist")
_TWO_THIRDS = OperatorConfig(wrong=0.333)
"""Right two times in three."""
_WRONG = f"--actor.scripted.wrong {_TWO_THIRDS.wrong}"
_LIFT_REWARD = Path("runs/lift-reward")
"""A reward from pictures, for the cells that are told nothing else."""
_LIFT_BASE = Path("runs/lift-base")
"""A policy to correct, and its demonstrations."""


def _teach_reward() -> None:
    """Train it from 60 demonstrations and what a weak clone of them then does without help."""
    if any(_LIFT_REWARD.glob("*.json")):
        return
    episodes = Path("runs/lift-begin")
    run_cli([
        "hil", _PICK, "--algorithm", "bc", "--actor.cameras", *_CAMERAS, "--actor.demonstrations", "60",
        "--bc.warm-start.steps", "400", "--bc.warm-start.batch", "64", "--actor.steps", "4500",
        "--actor.scripted.rule", "never", "--actor.speed", "3", "--seed", "100", "--evaluation-episodes", "0",
        "--out", str(episodes),
    ])  # fmt: skip
    # The task asks for half a second of success.
    reward = ["reward", "train", str(episodes / "actor"), "--out", str(_LIFT_REWARD)]
    run_cli([*reward, "--success.consecutive", "4"])


def _clone_base() -> None:
    """Clone a few demonstrations as plainly as can be: a policy that succeeds in three of five episodes."""
    if not (_LIFT_BASE / "evaluation.json").is_file():
        run_cli([
            "hil", _PICK, "--algorithm", "bc", "--actor.demonstrations", "20", "--actor.steps", "1",
            "--bc.warm-start.feature-noise", "0", "--seed", "102", "--evaluation-episodes", "200",
            "--out", str(_LIFT_BASE),
        ])  # fmt: skip


_FIVE, _THREE = (0, 1, 2, 3, 4), (0, 1, 2)


def _cell(task: str, arguments: str = "", *, steps: int = 9000, seeds: tuple[int, ...] = _THREE, **rest: Any) -> Cell:
    limits = {"median": 0.0, "worst": 0.0, **rest}
    return Cell(task=task, arguments=("--actor.steps", str(steps), *arguments.split()), seeds=seeds, **limits)


CELLS: Mapping[str, Cell] = {
    "pick-lift": _cell(_PICK, seeds=_FIVE, median=0.95, worst=0.9),
    "peg": _cell(_PEG, seeds=_FIVE, median=0.98),
    "pick-lift-bc": _cell(_PICK, "--algorithm bc", steps=1),
    "pick-lift-hg-dagger": _cell(_PICK, "--algorithm hg-dagger"),
    "peg-bc": _cell(_PEG, "--algorithm bc", steps=1),
    "peg-hg-dagger": _cell(_PEG, "--algorithm hg-dagger"),
    "pick-lift-seen": _cell(
        _PICK,
        f"--actor.cameras {' '.join(_CAMERAS)} --actor.reward {_LIFT_REWARD}",
        steps=36_000,
        median=0.9,
        prepare=_teach_reward,
    ),
    "rlif": _cell(_PICK, "--algorithm rlif", median=0.85),
    "rlif-two-thirds": _cell(_PICK, f"--algorithm rlif {_WRONG}", alone=_TWO_THIRDS),
    "hg-dagger-two-thirds": _cell(_PICK, f"--algorithm hg-dagger {_WRONG}", alone=_TWO_THIRDS),
    "pvp": _cell(_PICK, "--algorithm pvp", median=0.85),
    "resfit": _cell(
        _PICK,
        f"--algorithm resfit --resfit.base {_LIFT_BASE}/bundle --learner.demonstrations {_LIFT_BASE}/actor "
        "--actor.demonstrations 0 --actor.scripted.patience 8 --learner.update-ratio 4",
        steps=5200,
        median=0.95,
        prepare=_clone_base,
        base=_LIFT_BASE,
    ),
    "flat-out": _cell(_PICK, "--actor.demonstrations 10 --learner.update-ratio 9", steps=1500, seeds=(0,), speed=1.0),
}
"""By name. A limit of 0 is none: these are reported beside the others. Cloning drives the demonstrations and no more;
ResFiT has about 150 episodes; `flat-out` is for the robot's period beside a learner that never rests."""


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
    alone: dict[str, Any] = results.setdefault("operators_alone", {})
    cells: dict[str, Any] = results.setdefault("cells", {})
    for name in config.cells:
        if name not in CELLS:
            raise unknown_name("cell", name, CELLS)
    for name in config.cells:
        cell = CELLS[name]
        if name == "flat-out" and "learner_alone" not in results:
            results["learner_alone"] = hil_speed.measure()
        if cell.task not in experts:
            metrics = evaluate("expert", task_name=cell.task, episodes=config.episodes, seed=0)
            experts[cell.task] = {key: metrics[key] for key in ("success_rate", "cycle_time_s")}
        if cell.alone is not None and name not in alone:
            alone[name] = drive_alone(cell.task, cell.alone, config.episodes)
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
    if cell.prepare is not None:
        cell.prepare()
    folder = config.runs / f"{name}-{seed}"
    command = [
        "hil", cell.task, "--seed", str(seed), "--out", str(folder), "--evaluation-episodes", str(config.episodes),
        "--actor.speed", f"{cell.speed or config.speed:g}", *cell.arguments,
    ]  # fmt: skip
    started = time.time()
    run_cli(command)
    metrics = json.loads((folder / "evaluation.json").read_text())
    begun = {}
    if cell.base is not None:
        begun["base_success_rate"] = json.loads((cell.base / "evaluation.json").read_text())["success_rate"]
    figures = json.loads((folder / "summary.json").read_text())
    keys = (
        "robot_steps", "episodes", "intervened_steps", "recent_success_rate", "recent_intervention_rate",
        "recent_cycle_time_s", "peak_force_n", "updates", "update_ratio", "updates_per_cpu_s",
    )  # fmt: skip
    return {
        "command": "robot-rl " + " ".join(command),
        "success_rate": metrics["success_rate"],
        **begun,
        "cycle_time_s": metrics["cycle_time_s"],
        "wall_seconds": figures.get("wall_seconds", time.time() - started),
        **{key: figures[key] for key in keys},
        "period_p99_error_s": figures["period"].get("p99_error"),
    }


def drive_alone(task_name: str, operator: OperatorConfig, episodes: int) -> dict[str, Any]:
    """How often an operator succeeds that drives from beginning to end, as it does in its demonstrations."""
    config = HilConfig(task=task_name, actor=ActorConfig(scripted=operator))
    task = find_arm_task(config)
    driver, _, _ = make_people(config, task, 0)
    plant = SimulatedPlant(task, seed=START_SEED)
    idle = np.zeros(plant.action_size, np.float32)
    seconds = []
    for episode in range(episodes):
        moment, steps = plant.reset(), 0
        driver.begin(episode, steps)
        while True:
            action = driver.look(moment, idle, None).action
            assert action is not None
            outcome = plant.step(action)
            moment, steps = outcome.moment, steps + 1
            if outcome.terminated or outcome.truncated:
                break
        if outcome.success:
            seconds.append(steps * plant.period)
    plant.close()
    return {
        "episodes": episodes,
        "success_rate": len(seconds) / episodes,
        "cycle_time_s": statistics.fmean(seconds) if seconds else None,
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
    try:
        run(chosen, where())
    except UserError as error:
        sys.exit(str(error))
    pages.write(chosen.out.parent)
