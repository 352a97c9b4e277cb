"""`robot-rl hil TASK`: learner and actor as two processes, what they are doing, and at the end a bundle.

The run's folder has `config.json`, `keys/`, `actor/` (the robot's log, one line per episode), `learner/` (what
arrived, checkpoints, progress, TensorBoard) and at the end `bundle/` and `evaluation.json`. Called again with the same
settings, a run goes on. If either process dies, it is started again.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.live import Live
from rich.table import Table
from safetensors.torch import load_file

from robot_rl.errors import UserError
from robot_rl.evaluate import evaluate
from robot_rl.export import export_bundle
from robot_rl.hil.config import HilConfig, load, to_json
from robot_rl.hil.devices import open_device
from robot_rl.hil.recipes import defaults
from robot_rl.hil.setup import find_arm_task, make_algorithm
from robot_rl.nodes.process import PARENT_VARIABLE
from robot_rl.runs import provenance

__all__ = ["HilConfig", "defaults", "run"]

_RESTARTS = 20
"""Deaths of one process after which the run is given up."""


def run(config: HilConfig) -> int:
    """Train as the command line asks for."""
    console = Console(stderr=True)
    task = find_arm_task(config)
    folder = config.folder
    make_algorithm(config, task)  # what is wrong with its settings is said here, and not by a process that dies of it
    prepare(config, folder)
    console.print(f"[b]{task.name}[/b] with {config.algorithm}, seed {config.seed}, in {folder}")
    if config.actor.operator != "scripted":
        device = open_device(config.actor.operator)  # says at once, in words, where it cannot be opened
        console.print(device.help())
        device.close()
    started = time.time()
    if not (folder / "bundle" / "manifest.json").is_file():
        train(config, folder, console)
        figures = summary(folder)
        export(config, folder, figures)
        figures["wall_seconds"] = time.time() - started
        (folder / "summary.json").write_text(json.dumps(figures, indent=2) + "\n")
    if config.evaluation_episodes and not (folder / "evaluation.json").is_file():
        metrics = evaluate(folder / "bundle", episodes=config.evaluation_episodes, seed=0)
        (folder / "evaluation.json").write_text(json.dumps(metrics, indent=2) + "\n")
        console.print(
            f"without help: {metrics['successes']} of {metrics['episodes']} episodes solved, "
            f"mean cycle time {metrics['cycle_time_s'] or float('nan'):.2f} s"
        )
    console.print(f"bundle: {folder / 'bundle'}")
    return 0


def prepare(config: HilConfig, folder: Path) -> None:
    """Make the run's folder, or check that it holds a run with these settings.

    Raises:
        UserError: It holds another run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.json"
    if path.is_file():
        if to_json(load(path)) != to_json(config):  # settings that are newer than the run have their defaults
            raise UserError(f"{folder} holds a run with other settings (compare {path}); give another --out")
        return
    path.write_text(to_json(config))


def train(config: HilConfig, folder: Path, console: Console) -> None:
    """Run both processes until the robot's steps are done and learned from."""
    (folder / "learner").mkdir(exist_ok=True)
    (folder / "actor").mkdir(exist_ok=True)
    # Told to end, it ends both: nobody would stop the robot otherwise.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    processes = Processes(folder, person=config.actor.operator != "scripted")
    try:
        with Live(console=console, refresh_per_second=2, transient=True) as live:
            while not processes.done():
                processes.look_after()
                live.update(_picture(config, folder))
                time.sleep(0.5)
    finally:
        processes.stop()
        signal.signal(signal.SIGTERM, before)


class Processes:
    """Learner and actor; one that dies is started again."""

    def __init__(self, folder: Path, person: bool = False) -> None:
        """Start the learner; the actor follows when the learner listens.

        Args:
            folder: Of the run.
            person: Somebody at this terminal corrects: what the actor says is for them.
        """
        self._folder, self._person = folder, person
        self._environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
            PARENT_VARIABLE: str(os.getpid()),
        }
        self._endpoint = folder / "learner" / "endpoint"
        self._endpoint.unlink(missing_ok=True)
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self._finished: set[str] = set()
        self._deaths = {"learner": 0, "actor": 0}
        self._start("learner")

    def _start(self, name: str) -> None:
        arguments = [sys.executable, "-m", f"robot_rl.hil.{name}", str(self._folder)]
        if name == "actor":
            arguments.append(self._endpoint.read_text())
        log = (self._folder / name / "process.txt").open("ab")
        with log:
            self.running[name] = subprocess.Popen(
                arguments,
                env=self._environment,
                stdout=log,
                stderr=None if self._person and name == "actor" else subprocess.STDOUT,
            )

    def look_after(self) -> None:
        """Start what is missing.

        Raises:
            UserError: A process keeps dying.
        """
        for name, process in list(self.running.items()):
            if process.poll() is None:
                continue
            del self.running[name]
            if process.returncode == 0:
                self._finished.add(name)
                continue
            self._deaths[name] += 1
            path = self._folder / name / "process.txt"
            if self._deaths[name] > _RESTARTS:
                raise UserError(
                    f"the {name} died {self._deaths[name]} times, last with {process.returncode}: see {path}"
                )
            logging.getLogger(__name__).warning("the %s died with %d; starting it again", name, process.returncode)
            time.sleep(0.5)
            self._start(name)
        if "actor" not in self.running and "actor" not in self._finished and self._endpoint.is_file():
            self._start("actor")

    def done(self) -> bool:
        """Whether both have ended well."""
        return self._finished == {"learner", "actor"}

    def stop(self) -> None:
        """Ask those that still run to end, and end those that do not."""
        for process in self.running.values():
            process.send_signal(signal.SIGTERM)
        for process in self.running.values():
            try:
                process.wait(timeout=15.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def export(config: HilConfig, folder: Path, figures: Mapping[str, Any]) -> Path:
    """Write the bundle of a run's newest checkpoint."""
    torch.set_num_threads(1)
    task = find_arm_task(config)
    checkpoint = folder / "learner" / "checkpoint.safetensors"
    if not checkpoint.is_file():
        raise UserError(
            f"nothing was learned in {folder}: {figures.get('demonstrations', 0)} demonstrations, of which "
            f"{config.actor.demonstrations} have to succeed; show more, or ask for fewer (--actor.demonstrations)"
        )
    algorithm = make_algorithm(config, task)
    algorithm.load_state_dict(load_file(checkpoint))
    training = {
        "algorithm": f"hil-{config.algorithm}",
        "seed": config.seed,
        "config": json.loads(to_json(config)),
        "human_in_the_loop": dict(figures),
        **({"looks": config.actor.looks} if config.actor.cameras else {}),
        **provenance(),
    }
    return export_bundle(folder / "bundle", f"{task.name}-hil-{config.seed}", task, algorithm.policy(), training, {})


def read_episodes(folder: Path) -> list[dict[str, Any]]:
    """What the actor says of each finished episode."""
    path = folder / "actor" / "episodes.jsonl"
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]


def summary(folder: Path, last: int = 20) -> dict[str, Any]:
    """Figures of a run: success, intervention rate and cycle time of its last episodes, and the totals."""
    episodes = read_episodes(folder)
    own = [row for row in episodes if not row["demonstration"]]
    recent = own[-last:]
    won = [row["seconds"] for row in recent if row["success"]]
    steps = sum(row["steps"] for row in recent)
    status_path, progress_path = folder / "actor" / "status.json", folder / "learner" / "progress.jsonl"
    status = json.loads(status_path.read_text()) if status_path.is_file() else {}
    lines = progress_path.read_text().splitlines() if progress_path.is_file() else []
    progress = json.loads(lines[-1]) if lines and lines[-1].endswith("}") else {}
    return {
        "episodes": len(episodes),
        "demonstrations": sum(row["demonstration"] for row in episodes),
        "robot_steps": sum(row["steps"] for row in episodes),
        "intervened_steps": sum(row["intervened"] for row in own),
        "recent_success_rate": sum(row["success"] for row in recent) / len(recent) if recent else None,
        "recent_intervention_rate": sum(row["intervened"] for row in recent) / steps if steps else None,
        "recent_cycle_time_s": sum(won) / len(won) if won else None,
        "peak_force_n": max((row["peak_force"] for row in own), default=0.0),
        "updates": progress.get("updates", 0),
        "update_ratio": progress.get("update_ratio", 0.0),
        "updates_per_cpu_s": progress.get("updates_per_cpu_s", 0.0),
        "period": status.get("period", {}),
        "link": status.get("link", {}),
    }


def _picture(config: HilConfig, folder: Path) -> Table:
    figures = summary(folder)
    table = Table(title=f"{config.task}: the last 20 episodes without demonstrations")
    for name in ("robot steps", "episodes", "success", "intervention", "cycle", "updates / step", "period p99", "link"):
        table.add_column(name, justify="right")

    def shown(name: str, form: str) -> str:
        value = figures[name]
        return "-" if value is None else form.format(value)

    period, link = figures["period"], figures["link"]
    table.add_row(
        f"{figures['robot_steps']} of {config.actor.steps}",
        f"{figures['episodes']}",
        shown("recent_success_rate", "{:.0%}"),
        shown("recent_intervention_rate", "{:.1%}"),
        shown("recent_cycle_time_s", "{:.2f} s"),
        f"{figures['update_ratio']:.2f}",
        f"{1e3 * period['p99']:.1f} ms" if "p99" in period else "-",
        f"{1e3 * link['latency']:.0f} ms, {link['backlog']} waiting" if link.get("connected") else "none",
    )
    return table
