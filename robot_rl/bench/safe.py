"""Safe learning: the same task by PPO, which ignores its limit, and by PPO with a Lagrange multiplier."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot_rl.bench.training import kept, train
from robot_rl.evaluate import evaluate

_EVERY = 4
"""Of so many updates, one is kept for the plot."""


@dataclass(frozen=True, kw_only=True)
class SafeConfig:
    """Train a task with constraints with and without its limit."""

    task: str = "arm-reach-region"
    """What is trained."""
    algorithms: tuple[str, ...] = ("ppo", "ppo-lagrangian")
    """The one that ignores the limit first."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Training runs of each algorithm."""
    episodes: int = 2000
    """Episodes of an evaluation: of the exported bundle, without exploration noise. Most cost nothing and a few cost
    much, so the mean needs many: that of 500 varies by a fifth around 0.1."""
    runs: Path = Path("runs/bench")
    """Folder of the training runs; finished ones are not repeated."""


def run(config: SafeConfig) -> dict[str, Any]:
    """The scripted expert, and every algorithm with every seed."""
    expert = evaluate("expert", task_name=config.task, episodes=config.episodes, seed=1)
    rows = [train_one(algorithm, seed, config) for algorithm in config.algorithms for seed in config.seeds]
    return {"task": config.task, "expert": kept(expert), "training": rows}


def train_one(algorithm: str, seed: int, config: SafeConfig) -> dict[str, Any]:
    """One training run and its evaluation."""
    folder = config.runs / f"{config.task}-{algorithm}-{seed}"
    arguments = [config.task, "--algorithm", algorithm, "--seed", str(seed)]
    training = train(arguments, folder)
    progress = [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()]
    row = {
        "algorithm": algorithm,
        "seed": seed,
        "cpu_seconds": training["cpu_seconds"],
        "updates": progress[-1]["update"],
        "command": " ".join(["robot-rl train", *arguments]),
        **kept(evaluate(folder / "bundle", episodes=config.episodes, seed=1000 + seed)),
    }
    print(row, flush=True)
    return {**row, "progress": _history(progress)}


def _history(progress: Sequence[dict[str, Any]]) -> str:
    """`update success cost` of the exploring policy, separated by semicolons: short in a JSON file of many lines."""
    ended = [row for row in progress if "episode_cost" in row and (row["update"] % _EVERY == 0 or row is progress[-1])]
    return "; ".join(f"{row['update']} {row['success_rate']:.3f} {row['episode_cost']:.3f}" for row in ended)


# What is written


def section(part: dict[str, Any]) -> list[str]:
    """Lines of the page."""
    task, limit = part["task"], part["training"][0]["constraint_limit"]
    lines = ["## Safe learning", ""]
    lines += [f"`{task}`, limit {limit:g} of cost per episode ([safe_learning.md](../safe_learning.md)); figures of"]
    lines += ["the exported policy, without exploration noise.", ""]
    lines += ["| algorithm | seed | CPU-seconds | success | cost | cycle time |", "|---|---|---|---|---|---|"]
    for row in [{"algorithm": "scripted expert", **part["expert"]}, *part["training"]]:
        seconds = f"{row['cpu_seconds']:.0f}" if "cpu_seconds" in row else "-"
        cycle = f"{row['cycle_time_s']:.2f} s" if "cycle_time_s" in row else "-"
        lines.append(
            f"| {row['algorithm']} | {row.get('seed', '-')} | {seconds} | {row['success_rate']:.1%} of "
            f"{row['episodes']} | {row['constraint_cost']:.3f} | {cycle} |"
        )
    return [*lines, "", "![Success and cost over updates, of the exploring policy](safe.png)", ""]


def plot(part: dict[str, Any], path: Path) -> None:
    """Success and cost over updates, as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (success, cost) = pyplot.subplots(1, 2, figsize=(8.0, 3.2))
    colors = {name: f"C{k}" for k, name in enumerate(dict.fromkeys(row["algorithm"] for row in part["training"]))}
    named: set[str] = set()
    for row in part["training"]:
        points = [[float(number) for number in point.split()] for point in row["progress"].split(";") if point]
        name = row["algorithm"]
        label = None if name in named else name
        named.add(name)
        updates = [point[0] for point in points]
        success.plot(updates, [100.0 * point[1] for point in points], color=colors[name], label=label)
        cost.plot(updates, [point[2] for point in points], color=colors[name])
    cost.axhline(part["training"][0]["constraint_limit"], color="black", linestyle="--", linewidth=1.0, label="limit")
    success.set(xlabel="update", ylabel="success, %", ylim=(0.0, 102.0))
    cost.set(xlabel="update", ylabel="cost of an episode", ylim=(0.0, None))
    for axis in (success, cost):
        axis.grid(alpha=0.3)
        axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
