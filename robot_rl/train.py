"""Training a policy on a task: progress, checkpoints, resuming, and a bundle at the end.

A run is a folder: `config.json`, `randomization.txt`, `progress.jsonl` (one line per update), TensorBoard
events, `checkpoint.safetensors`, and at the end `bundle/` and `evaluation.json`. Called again with the same
settings it goes on from the last checkpoint.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, Protocol, TextIO

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tyro.conf import Positional

from hardware.descriptions import load_description
from robot_rl.apg import Apg, ApgConfig
from robot_rl.errors import UserError
from robot_rl.evaluate import evaluate
from robot_rl.export import export_bundle, provenance
from sim.quadrotor_model import nominal_variables
from sim.randomization import Randomizer, load_terms
from sim.tasks import TASKS
from sim.tasks.quadrotor import QuadrotorTask


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Train a policy; ends with an evaluation and a bundle."""

    task: Positional[str]
    """Task, e.g. quadrotor-hover; `robot-rl list` shows them."""
    algorithm: Literal["apg", "ppo"] = "apg"
    """Analytic policy gradients (differentiable tasks, seconds) or PPO (any task, minutes)."""
    seed: int = 0
    """Decides everything that is random."""
    out: Path | None = None
    """Folder of the run; runs/TASK-ALGORITHM-SEED if not given."""
    randomization: str = "default"
    """`default`, `none`, or a YAML file of randomization terms."""
    evaluation_episodes: int = 1000
    """Flights of the final evaluation; 0 leaves it out."""
    checkpoint_seconds: float = 30.0
    """s of wall time between checkpoints."""
    apg: ApgConfig = ApgConfig()
    """Settings of `apg`."""


class Learner(Protocol):
    """What an algorithm offers: `robot_rl.apg.Apg` is one."""

    task: QuadrotorTask
    updates: int

    def update(self) -> dict[str, float]:
        """One update; returns metrics, `loss` among them."""

    def policy(self) -> nn.Module:
        """The network: observation (N, D) to normalized action (N, A)."""

    def state_dict(self) -> dict[str, Tensor]:
        """Everything needed to go on."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from there."""


def run(config: TrainConfig) -> int:
    """Train as the command line asks for."""
    console = Console(stderr=True)
    torch.set_num_threads(1)
    task = _task(config)
    out = config.out or Path("runs") / f"{task.name}-{config.algorithm}-{config.seed}"
    out.mkdir(parents=True, exist_ok=True)
    learner, total = _learner(config, task)
    resumed = _resume(learner, config, out)
    console.print(f"{'resuming' if resumed else 'training'} [b]{task.name}[/b] with {config.algorithm}, seed "
                  f"{config.seed}, in {out}" + (f", from update {learner.updates}" if resumed else ""))
    if not resumed:
        _show_randomization(console, task, out)
    with _progress_file(out, learner.updates) as progress, _bar(console, learner.updates, total) as show:
        writer = _tensorboard(out)
        saved = time.monotonic()
        while learner.updates < total:
            metrics = learner.update()
            row = {"update": learner.updates, "wall_s": round(time.time(), 3),
                   "cpu_s": round(_cpu_seconds(), 3), **metrics}
            progress.write(json.dumps(row) + "\n")
            for name, value in metrics.items():
                writer.add_scalar(name, value, learner.updates)
            show(learner.updates, metrics["loss"])
            if time.monotonic() - saved > config.checkpoint_seconds:
                progress.flush()
                _save(learner, out)
                saved = time.monotonic()
        writer.close()
    _save(learner, out)
    cpu = round(_cpu_seconds(), 1)
    training = {**_training(config), "cpu_seconds": cpu, "resumed": resumed}
    (out / "training.json").write_text(json.dumps(training, indent=2) + "\n")
    bundle = export_bundle(out / "bundle", task.name, task, learner.policy(), training, {})
    console.print(f"trained in {cpu} CPU-seconds; bundle in {bundle}")
    if config.evaluation_episodes > 0:
        console.print(f"evaluating {config.evaluation_episodes} flights of the exported file ...")
        evaluation = evaluate(
            bundle, episodes=config.evaluation_episodes, seed=config.seed + 1, randomization=config.randomization
        )
        (out / "evaluation.json").write_text(json.dumps(evaluation, indent=2) + "\n")
        export_bundle(out / "bundle", task.name, task, learner.policy(), training, evaluation)
        _show_evaluation(console, evaluation)
    return 0


def restore(folder: Path) -> tuple[Any, dict[str, Any]]:
    """The learner of a run's newest checkpoint, and what its bundle says of the training.

    Raises:
        UserError: The folder holds no checkpoint.
    """
    stored = json.loads((folder / "config.json").read_text())
    config = TrainConfig(**{**stored, "out": folder, "apg": _apg_config(stored["apg"])})
    learner, _ = _learner(config, _task(config))
    path = folder / "checkpoint.safetensors"
    if not path.is_file():
        raise UserError(f"{folder} has no checkpoint.safetensors yet")
    learner.load_state_dict(load_file(path))
    return learner, _training(config)


def _apg_config(stored: Mapping[str, Any]) -> ApgConfig:
    from robot_rl.apg import CostWeights

    return ApgConfig(**{**stored, "cost": CostWeights(**stored["cost"]), "hidden": tuple(stored["hidden"])})


def _task(config: TrainConfig) -> QuadrotorTask:
    if config.task not in TASKS:
        near = get_close_matches(config.task, TASKS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UserError(f"unknown task {config.task!r}; {hint}known: {', '.join(sorted(TASKS))}")
    task = TASKS[config.task]
    if config.randomization == "default":
        return task
    if config.randomization == "none":
        return dataclasses.replace(task, randomization=())
    if not Path(config.randomization).is_file():
        raise UserError(f"randomization {config.randomization!r} is neither 'default' nor 'none' nor a file")
    return dataclasses.replace(task, randomization=load_terms(config.randomization))


def _learner(config: TrainConfig, task: QuadrotorTask) -> tuple[Learner, int]:
    return Apg(task, config.apg, config.seed), config.apg.updates


def _resume(learner: Learner, config: TrainConfig, out: Path) -> bool:
    """Load the checkpoint of an earlier call with the same settings; refuse one with others."""
    stored = json.dumps(_config_data(config), indent=2) + "\n"
    path = out / "config.json"
    checkpoint = out / "checkpoint.safetensors"
    if checkpoint.is_file() and path.is_file():
        if path.read_text() != stored:
            raise UserError(
                f"{out} holds a run with other settings (compare {path}); give another --out or delete that folder"
            )
        learner.load_state_dict(load_file(checkpoint))
        return True
    path.write_text(stored)
    return False


def _config_data(config: TrainConfig) -> dict[str, Any]:
    return {**json.loads(json.dumps(dataclasses.asdict(config), default=str)), "out": None}


def _training(config: TrainConfig) -> dict[str, Any]:
    data = _config_data(config)
    return {
        "algorithm": config.algorithm,
        "seed": config.seed,
        "config": data[config.algorithm],
        "randomization": config.randomization,
        "terms": [dataclasses.asdict(term) for term in _task(config).randomization],
        **provenance(),
    }


def _save(learner: Learner, out: Path) -> None:
    """Write a checkpoint whole or not at all: a kill at any moment leaves the last one."""
    fresh = out / "checkpoint.safetensors.new"
    save_file(learner.state_dict(), fresh)
    os.replace(fresh, out / "checkpoint.safetensors")


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


def _show_randomization(console: Console, task: QuadrotorTask, out: Path) -> None:
    """Print every randomization term and keep the table with the run."""
    nominal = nominal_variables(load_description(task.robot), torch.device("cpu"))
    rows = Randomizer(nominal, task.randomization, 1, torch.Generator().manual_seed(0)).table()
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
    table = Table(title=f"{evaluation['episodes']} flights, randomization {evaluation['randomization']}")
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
