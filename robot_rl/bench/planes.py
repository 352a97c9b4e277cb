"""The robot's own processes against pure simulation: success from the same starts, and how well the loop keeps time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hardware import setpoints
from hardware.realtime.histogram import Histogram
from policies.types import ArmSetpoint
from robot_rl.evaluate import evaluate
from robot_rl.planes.process_group import PlanesError
from robot_rl.planes.processes import Planes
from robot_rl.planes.quadrotor_processes import QuadrotorPlanes, QuadrotorPlanesConfig
from robot_rl.planes.quadrotor_settings import QuadrotorControlConfig, QuadrotorPolicyConfig
from robot_rl.planes.slots_client import SlotsClient
from robot_rl.planes.tasks import Episode, planes_of_task, rest, run_episode

_BUSY = "while True: pass"


@dataclass(frozen=True, kw_only=True)
class SuccessConfig:
    """Run policies in real time from the starts that `robot-rl eval` has."""

    tasks: tuple[str, ...] = ("arm-reach", "arm-push", "arm-pick-lift", "arm-peg-insert")
    """Tasks, each with the shipped policy of its name; the last two were learned with a person's help."""
    starts: int = 100
    """Of each, one after the other: two to four seconds each, so that 100 of all four take 24 minutes."""
    seed: int = 0
    """Of starts, robots and noise."""
    randomization: Literal["default", "none"] = "default"
    """Whether robot and sensors vary as the task declares."""


@dataclass(frozen=True, kw_only=True)
class TimingConfig:
    """Time the control process at work, beside busy processes."""

    seconds: float = 60.0
    """Of each of the four measurements."""
    busy: int = 2
    """Processes that take all the time they can get, at normal priority."""
    task: str = "arm-reach"
    """What the arm does meanwhile."""
    rate_hz: float = 500.0
    """Of the control process and of cyclictest."""


def run_success(config: SuccessConfig) -> dict[str, Any]:
    """Success in the processes beside that of pure simulation."""
    rows = {}
    for task in config.tasks:
        pure = evaluate(task, episodes=config.starts, seed=config.seed, randomization=config.randomization)
        settings = planes_of_task(
            task,
            task,
            name=f"bench-{os.getpid()}",
            starts=config.starts,
            seed=config.seed,
            randomization=config.randomization,
        )
        with Planes(settings) as planes:
            episodes = [_episode(planes, task, start, config.starts) for start in range(config.starts)]
            status, timing = planes.status(), planes.timing()
            simulation = planes.simulation()
        won = [episode.seconds for episode in episodes if episode.success]
        assert status is not None
        rows[task] = {
            "starts": config.starts,
            "success_rate": len(won) / config.starts,
            "pure_success_rate": pure["success_rate"],
            "cycle_time_s": float(np.mean(won)) if won else None,
            "pure_cycle_time_s": pure["cycle_time_s"],
            "stopped": [[start, e.cause] for start, e in enumerate(episodes) if e.cause],
            "interventions": status.interventions,
            "lost_periods": {"control": timing["lost_periods"], "simulation": simulation["lost_periods"]},
        }
        print(task, rows[task], flush=True)
    return {"randomization": config.randomization, "seed": config.seed, "tasks": rows}


def _episode(planes: Planes, task: str, start: int, starts: int) -> Episode:
    """One start; a process that does not answer is a failure of that start, not the end of the measurement."""
    try:
        episode = run_episode(planes, start)
    except (PlanesError, TimeoutError) as error:
        episode = Episode(success=False, failed=True, seconds=0.0, cause=str(error))
    if (start + 1) % 10 == 0 or start + 1 == starts:
        print(f"{task}: {start + 1} of {starts} starts", flush=True)
    return episode


def run_timing(config: TimingConfig) -> dict[str, Any]:
    """Wake-up errors and lost periods of control processes, between two of a bare cyclictest, on a busy machine."""
    busy = [subprocess.Popen([sys.executable, "-c", _BUSY]) for _ in range(config.busy)]
    try:
        before = cyclictest(config.rate_hz, config.seconds)
        with armed_arm(config.task) as arm:
            own = _time_control(arm, config.seconds)
        with hovering_quadrotor() as quadrotor:
            flown = _time_control(quadrotor, config.seconds)
        after = cyclictest(config.rate_hz, config.seconds)
    finally:
        for process in busy:
            process.kill()
            process.wait()
    results: dict[str, Any] = {"seconds": config.seconds, "busy": config.busy, "rate_hz": config.rate_hz}
    results |= {"cyclictest_before": before, "control": own, "quadrotor": flown, "cyclictest_after": after}
    bare = [part["missed_per_10000"] for part in (before, after) if "missed_per_10000" in part]
    if bare:
        results["missed_per_10000_above_cyclictest"] = own["missed_per_10000"] - max(bare)
        results["quadrotor_missed_per_10000_above_cyclictest"] = flown["missed_per_10000"] - max(bare)
    print(json.dumps(results, indent=2), flush=True)
    return results


@contextmanager
def armed_arm(task: str) -> Iterator[Planes]:
    """The processes of a simulated arm whose shipped policy is on its way to the goal.

    Raises:
        RuntimeError: It was not armed.
    """
    with Planes(planes_of_task(task, task, name=f"bench-{os.getpid()}")) as planes:
        rest(planes)
        planes.send_setpoint(ArmSetpoint(tool_pose=planes.simulation()["goal"]))
        planes.activate_policy()
        granted, why = planes.ask("arm")
        if not granted:
            raise RuntimeError(f"the arm was not armed: {why}")
        yield planes


@contextmanager
def hovering_quadrotor(policy: str = "quadrotor-track") -> Iterator[QuadrotorPlanes]:
    """The processes of a simulated quadrotor that hovers at 1 m.

    Raises:
        RuntimeError: It was not armed.
    """
    place = np.array([0.0, 0.0, 1.0])
    config = QuadrotorPlanesConfig(
        name=f"bench-{os.getpid()}",
        control=QuadrotorControlConfig(policy=policy),
        policy=QuadrotorPolicyConfig(policy=policy),
    )
    with QuadrotorPlanes(config) as planes:
        planes.send_setpoint(setpoints.hover(place, like=place))
        end, granted, why = time.monotonic() + 10.0, False, ""
        while not granted and time.monotonic() < end:
            live(planes, 0.1)
            granted, why = planes.ask("arm")
        if not granted:
            raise RuntimeError(f"the quadrotor was not armed: {why}")
        live(planes, 3.0)
        yield planes


def _time_control(planes: SlotsClient, seconds: float) -> dict[str, Any]:
    live(planes, 1.0)
    begin, first = planes.timing(), planes.histograms()
    live(planes, seconds)
    end, last = planes.timing(), planes.histograms()
    status, simulation = planes.status(), planes.read("simulation")
    assert status is not None and simulation is not None
    ticks, lost = (end[name] - begin[name] for name in ("ticks", "lost_periods"))
    parts = {name: between(first[name], last[name]) for name in last}
    return {
        "realtime": status.realtime,
        "mode_at_the_end": status.mode,
        "ticks": ticks,
        "lost_periods": lost,
        "missed_per_10000": 1e4 * lost / max(1, ticks + lost),
        "simulation_lost_periods": int(simulation.record["lost_periods"]),
        **{f"{name}_us": microseconds(part) for name, part in parts.items()},
    }


def live(planes: SlotsClient, seconds: float) -> None:
    """Let time pass, with signs of life of the face."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        planes.beat()
        time.sleep(0.05)


def between(first: Histogram, last: Histogram) -> Histogram:
    """What was counted from one look to the other; the maximum is known to the bin."""
    counts = last.counts - first.counts
    used = np.flatnonzero(counts)
    edge = Histogram.LOWEST * 10.0 ** ((used[-1] + 1) / Histogram.BINS_PER_DECADE) if used.size else 0.0
    return Histogram.restore(counts, last.sum - first.sum, min(last.max, float(edge)))


def microseconds(histogram: Histogram) -> dict[str, float]:
    """Its count and figures, µs."""
    found = {name: round(1e6 * value, 1) for name, value in histogram.to_dict().items() if name != "count"}
    return {"count": histogram.count, **found}


def cyclictest(rate_hz: float, seconds: float, priority: int = 80) -> dict[str, Any]:
    """Wake-up errors of Debian's cyclictest at the same rate and priority; what it lacks, in a sentence, otherwise."""
    program = shutil.which("cyclictest")
    if program is None:
        return {"skipped": "cyclictest is not installed: apt install rt-tests"}
    interval = round(1e6 / rate_hz)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cyclictest.json"
        command = [program, "-q", "-m", "-t", "1", "-p", str(priority), "-i", str(interval), "-h", "20000"]
        command += ["-D", str(max(1, round(seconds))), f"--json={path}", "--default-system"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0 or not path.is_file():
            words = (done.stderr or done.stdout).strip().splitlines()
            return {"skipped": f"cyclictest ended with status {done.returncode}: {words[-1] if words else 'no word'}"}
        thread = json.loads(path.read_text())["thread"]["0"]
    counts = np.zeros(20_001, dtype=np.int64)
    for latency, count in thread["histogram"].items():
        counts[min(int(latency), 20_000)] = count
    total = int(thread.get("cycles", counts.sum()))
    summed = np.cumsum(counts)
    missed = total - int(counts[: interval + 1].sum())
    return {
        "cycles": total,
        "p50_us": int(np.searchsorted(summed, 0.5 * total)),
        "p99_us": int(np.searchsorted(summed, 0.99 * total)),
        "max_us": int(thread["max"]),
        "missed": missed,
        "missed_per_10000": 1e4 * missed / max(1, total),
    }
