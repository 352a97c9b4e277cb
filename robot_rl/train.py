"""Training a policy on a task: progress, checkpoints, resuming, and a bundle at the end.

A run is a folder: `config.json`, `randomization.txt`, `progress.jsonl` (one line per update), TensorBoard
events, `checkpoint.safetensors`, with `--adr` the ranges reached in `adr.json`, and at the end `bundle/` and
`evaluation.json`. Called again with the same settings it goes on from the last checkpoint.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from robot_rl.evaluate import evaluate
from robot_rl.export import export_bundle
from robot_rl.imitation.distiller import Distiller
from robot_rl.imitation.learner import Imitator
from robot_rl.recipes import recipe
from robot_rl.runs import (
    Learner,
    TrainConfig,
    automatic_randomization,
    find_task,
    make_learner,
    resume,
    save_checkpoint,
    training_record,
)
from sim.factory import build_env
from sim.tasks import TASKS, Task


def defaults(arguments: Sequence[str]) -> TrainConfig | None:
    """The recipe of the task among the arguments of the command line."""
    return next((recipe(argument) for argument in arguments if argument in TASKS), None)


def run(config: TrainConfig) -> int:
    """Train as the command line asks for."""
    console = Console(stderr=True)
    torch.set_num_threads(1)
    task = find_task(config)
    out = config.out or Path("runs") / f"{task.name}-{config.algorithm}-{config.seed}"
    out.mkdir(parents=True, exist_ok=True)
    learner, total = make_learner(config, task)
    resumed = resume(learner, config, out)
    console.print(
        f"{'resuming' if resumed else 'training'} [b]{task.name}[/b] with {config.algorithm}, seed "
        f"{config.seed}, in {out}" + (f", from update {learner.updates}" if resumed else "")
    )
    if isinstance(learner, (Imitator, Distiller)):
        found = learner.prepare()
        console.print(
            f"{found['steps']} steps of {found['episodes']} episodes; {config.demos} has "
            f"{found['recorded_episodes']} episodes"
        )
    elif not resumed:
        _show_randomization(console, task, out)
        if (growing := automatic_randomization(learner)) is not None:
            for grown in growing.table():
                console.print(f"automatic: {grown['parameter']} from {grown['range']} to at most {grown['limits']}")
    with _progress_file(out, learner.updates) as progress, _bar(console, learner.updates, total) as show:
        writer = _tensorboard(out)
        saved = time.monotonic()
        while learner.updates < total:
            metrics = learner.update() | _automatic_metrics(learner)
            row = {
                "update": learner.updates,
                "wall_s": round(time.time(), 3),
                "cpu_s": round(_cpu_seconds(), 3),
                **metrics,
            }
            progress.write(json.dumps(row) + "\n")
            for name, value in metrics.items():
                writer.add_scalar(name, value, learner.updates)
            show(learner.updates, metrics["loss"])
            if time.monotonic() - saved > config.checkpoint_seconds:
                progress.flush()
                save_checkpoint(learner, out)
                saved = time.monotonic()
        writer.close()
    save_checkpoint(learner, out)
    cpu = round(_cpu_seconds(), 1)
    training = {**training_record(config, learner), "cpu_seconds": cpu, "resumed": resumed}
    (out / "training.json").write_text(json.dumps(training, indent=2) + "\n")
    bundle = export_bundle(out / "bundle", task.name, task, learner.policy(), training, {})
    console.print(f"trained in {cpu} CPU-seconds; bundle in {bundle}")
    if config.evaluation_episodes > 0:
        console.print(f"evaluating {config.evaluation_episodes} episodes of the exported file ...")
        evaluation = evaluate(
            bundle,
            episodes=config.evaluation_episodes,
            seed=config.seed + 1,
            randomization=config.randomization,
        )
        (out / "evaluation.json").write_text(json.dumps(evaluation, indent=2) + "\n")
        export_bundle(out / "bundle", task.name, task, learner.policy(), training, evaluation)
        _show_evaluation(console, evaluation)
    return 0


def _automatic_metrics(learner: Learner) -> dict[str, float]:
    """How far the ranges of automatic randomization have come."""
    growing = automatic_randomization(learner)
    ranges = {} if growing is None else growing.ranges
    return {
        f"adr/{name}/{end}": value
        for name, ends in ranges.items()
        for end, value in zip(("low", "high"), ends, strict=True)
    }


@contextmanager
def _progress_file(out: Path, updates: int) -> Iterator[TextIO]:
    """`progress.jsonl`, cut back to the checkpoint: updates that will be repeated leave no second line."""
    path = out / "progress.jsonl"
    lines = path.read_text().splitlines()[:updates] if path.is_file() else []
    path.write_text("".join(line + "\n" for line in lines))
    with path.open("a") as stream:
        yield stream


@contextmanager
def _bar(console: Console, done: int, total: int) -> Iterator[Any]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, refresh_per_second=2, disable=not console.is_terminal) as bar:
        task = bar.add_task("compiling", total=total, completed=done)
        reported = time.monotonic()

        def show(updates: int, loss: float) -> None:
            nonlocal reported
            bar.update(task, completed=updates, description=f"loss {loss:7.4f}")
            if not console.is_terminal and (time.monotonic() - reported > 10.0 or updates == total):
                console.print(f"update {updates}/{total}: loss {loss:.4f}")
                reported = time.monotonic()

        yield show


def _tensorboard(out: Path) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(out / "tensorboard"))


def _show_randomization(console: Console, task: Task, out: Path) -> None:
    """Print every randomization term and keep the table with the run."""
    env = build_env(task, 1)
    rows = env.randomization_table()
    env.close()
    table = Table(title=f"randomization of {task.name}" if rows else "no randomization")
    for name in ("parameter", "nominal", "range", "how", "effect"):
        table.add_column(name, no_wrap=name in ("parameter", "range"))
    for row in rows:
        how = f"{row['distribution']}, {row['operation']}, {row['when']}"
        how += f", with {row['group']}" if row["group"] else ""
        table.add_row(row["parameter"], row["nominal"], row["range"], how, row["effect"])
    console.print(table)
    with (out / "randomization.txt").open("w") as stream:
        Console(file=stream, width=140).print(table)


def _show_evaluation(console: Console, evaluation: Mapping[str, Any]) -> None:
    table = Table(title=f"{evaluation['episodes']} episodes, randomization {evaluation['randomization']}")
    table.add_column("metric")
    table.add_column("value", justify="right")
    for key, value in evaluation.items():
        if isinstance(value, (int, float)) and key not in ("episodes", "seed"):
            table.add_row(key, f"{value:.4g}")
    console.print(table)


def _cpu_seconds() -> float:
    """CPU time of this process and its ended children, s: imports and the C++ compiler count."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
