"""The demonstration: train a policy, fly it over ROS 2 in real time, and write a report.

Every stage is a command that a user could type, run as its own process; this file only strings them
together and says what it is doing.
"""

from __future__ import annotations

import json
import math
import os
import random
import resource
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policies.bundle import find_bundle
from robot_rl.errors import UserError
from robot_rl.flight import figure_eight_rmse, load_flight, load_timing, measure_phases
from robot_rl.nodes.process import PARENT_VARIABLE
from robot_rl.report import ReportConfig, write_report

_ROBOT_RL = [sys.executable, "-m", "robot_rl.cli"]
_UP = (
    "import sys; from robot_rl.nodes.process import die_with_parent; die_with_parent(); "
    "from robot_rl.cli import main; sys.exit(main(['up', *sys.argv[1:]]))"
)
"""As `robot-rl up`, but ending with this process, however that ends."""
_ARM = "import sys; from robot_rl.nodes.process import start; sys.exit(start('arm'))"


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Train a tracking policy, fly it over ROS 2 from take-off to landing, and write a report."""

    out: Path = Path("runs/demo")
    """Folder under which a folder with the time of the start is made."""
    policy: str = ""
    """Bundle to fly, a folder or a name in the zoo; empty: train one now."""
    seed: int = 0
    """Seed of the training."""
    episodes: int = 1000
    """Episodes of the evaluation after the training."""
    flight_timeout: float = 150.0
    """s after which a flight that has not landed is ended."""


def run(config: DemoConfig) -> int:
    """The command `robot-rl demo`: 0 if the drone flew the whole mission and landed, 1 if not."""
    began = time.monotonic()
    policy = str(find_bundle(config.policy)) if config.policy else ""
    folder = config.out.resolve() / time.strftime("%Y%m%d-%H%M%S")
    folder.mkdir(parents=True)
    stages = _stages(2 if config.policy else 4, began)
    training = None if config.policy else folder / "training"
    evaluation = None if config.policy else folder / "evaluation.json"
    if training and evaluation:
        next(stages)("training quadrotor-track by analytic gradients through the simulator")
        options = f"--algorithm apg --seed {config.seed} --evaluation-episodes 0".split()
        _command(["train", "quadrotor-track", *options, "--out", str(training)])
        policy = str(training / "bundle")
        next(stages)(f"evaluating the exported bundle in {config.episodes} fresh episodes")
        options = f"--episodes {config.episodes} --seed {config.seed + 1}".split()
        _command(["eval", policy, *options, "--json", str(evaluation)])
    next(stages)("flying it through the ROS nodes and their control, policy and simulation processes, in real time")
    flown = _fly(policy, folder / "flight", config.flight_timeout)
    if not any((folder / "flight").glob("episode-*.mcap")):
        print("nothing was flown: see the lines of the nodes above", file=sys.stderr)
        return 1
    next(stages)("writing the report")
    report = write_report(
        ReportConfig(
            flight=folder / "flight",
            out=folder / "report.html",
            training=training,
            evaluation=evaluation,
            title="quadrotor-track, flown by ROS 2 nodes",
        )
    )
    _print_summary(folder / "flight", training, evaluation, report, time.monotonic() - began)
    if not flown:
        print("the mission did not end as planned: see the lines of the nodes above", file=sys.stderr)
    return 0 if flown else 1


def _fly(policy: str, folder: Path, timeout: float) -> bool:
    """Bring the nodes up, arm, wait for the landing; whether all of that went as planned."""
    environment = {
        **os.environ,
        # A domain of its own: other ROS 2 programs on this network neither see nor disturb the flight.
        "ROS_DOMAIN_ID": str(random.SystemRandom().randint(1, 101)),
        PARENT_VARIABLE: str(os.getpid()),
        "ROS_LOG_DIR": str(folder / "log"),
        "PYTHONUNBUFFERED": "1",
    }
    arguments = [f"policy:={policy}", "setpoint:=demo", f"record:={folder}", "end_when_done:=true"]
    print(f"$ robot-rl up quadrotor {shlex.join(arguments)}", flush=True)
    with _process([sys.executable, "-c", _UP, "quadrotor", *arguments], environment) as up:
        with _process([sys.executable, "-c", _ARM, "--ros-args", "-p", "timeout:=60.0"], environment) as arm:
            while arm.poll() is None and up.poll() is None:
                time.sleep(0.1)
            if arm.poll() != 0:
                return False
        try:
            return up.wait(timeout) == 0
        except subprocess.TimeoutExpired:
            print(f"the flight has not ended after {timeout:g} s; ending it", file=sys.stderr)
            return False


@contextmanager
def _process(
    command: Sequence[str], environment: Mapping[str, str], patience: float = 15.0
) -> Iterator[subprocess.Popen[bytes]]:
    """A child that is asked to end, and after `patience` s made to, when the block is left."""
    # A background job of a shell has SIGINT ignored, and would hand that on.
    process = subprocess.Popen(
        command, env=dict(environment), preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(patience)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _command(arguments: Sequence[str]) -> None:
    """Run one `robot-rl` command to its end."""
    print(f"$ robot-rl {shlex.join(arguments)}", flush=True)
    status = subprocess.run([*_ROBOT_RL, *arguments], check=False).returncode
    if status in (130, -signal.SIGINT):
        raise KeyboardInterrupt
    if status:
        raise UserError(f"robot-rl {arguments[0]} ended with status {status}; what it said is above")


def _stages(count: int, began: float) -> Iterator[Any]:
    """Printers of numbered stage lines."""
    for number in range(1, count + 1):
        yield lambda text, number=number: print(
            f"\n[{number}/{count}, {time.monotonic() - began:.0f} s] {text}", flush=True
        )


def _print_summary(
    flight_folder: Path, training: Path | None, evaluation: Path | None, report: Path, seconds: float
) -> None:
    """The short table at the end."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="demo", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    flight = load_flight(flight_folder)
    if training and evaluation:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        table.add_row("training, CPU time", f"{_training_cpu(training):.0f} s")
        table.add_row("all child processes, CPU time", f"{children.ru_utime + children.ru_stime:.0f} s")
        metrics = json.loads(evaluation.read_text())
        table.add_row(f"evaluation, crashes in {metrics['episodes']}", f"{metrics['crash_rate']:.2%}")
        for key, text in (("steady_rmse_m", "steady"), ("tracking_rmse_m", "figure-eight")):
            if metrics.get(key) is not None:
                table.add_row(f"evaluation, {text} RMSE", f"{100 * metrics[key]:.1f} cm")
    for phase in measure_phases(flight):
        if math.isfinite(phase.rmse) and phase.name not in {"waiting", "ground", "done"}:
            table.add_row(f"flight, {phase.name.replace('_', ' ')} RMSE", f"{100 * phase.rmse:.1f} cm")
    eight = figure_eight_rmse(flight)
    if math.isfinite(eight):
        table.add_row("flight, figure-eight RMSE, 2 periods after the ramp", f"{100 * eight:.1f} cm")
    for name, histogram in load_timing(flight_folder).items():
        if name.startswith(("policy", "inference")):
            figures = f"{histogram['p50_us'] / 1000:.2f} / {histogram['p99_us'] / 1000:.2f} ms"
            table.add_row(f"{name.replace('_', ' ')}, median / 99th percentile", figures)
    table.add_row("total time", f"{seconds:.0f} s")
    console = Console()
    console.print(table)
    # Plain print: a link that wraps cannot be clicked.
    print(f"report:    {report.as_uri()}")
    print(f"animation: {report.with_suffix('.gif').as_uri()}")


def _training_cpu(training: Path) -> float:
    rows = (training / "progress.jsonl").read_text().splitlines()
    return max((float(json.loads(row)["cpu_s"]) for row in rows if '"cpu_s"' in row), default=math.nan)
