"""Measures how fast the parts run: `make bench`. Compare results of one machine only.

Every measurement is repeated; best and median are given, with CPU seconds beside wall seconds, because on a
busy machine the wall clock measures the neighbours.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

import policies
import sim
from policies.types import QuadrotorSetpoint, QuadrotorState


@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """Measure the speed of the simulator and of policies."""

    out: Path = Path("runs/bench.json")
    """File to write."""
    num_envs: int = 1024
    """Environments in the batch."""
    steps: int = 100
    """Environment steps of one measurement."""
    inferences: int = 2000
    """Single policy steps that are timed one by one."""
    repeats: int = 3
    """Measurements of each kind."""


def measure_environment(task: str, config: BenchConfig) -> dict[str, float]:
    """Steps per second of one environment under random actions, with observations, rewards and resets."""
    env = sim.make(task, num_envs=config.num_envs, device="cpu", seed=0, randomization="default")
    env.reset()
    actions = 0.1 * torch.randn(config.num_envs, 4, generator=torch.Generator().manual_seed(0))

    def work() -> None:
        for _ in range(config.steps):
            env.step(actions)

    return _rates(work, config.num_envs * config.steps, config.repeats)


def measure_policy(name: str, config: BenchConfig) -> dict[str, float]:
    """Latency of single policy steps, as the policy node makes them, in µs."""
    policy = policies.load(name)
    policy.reset()
    zero = np.zeros(3)
    state = QuadrotorState(zero, np.array([1.0, 0.0, 0.0, 0.0]), zero, zero)
    setpoint = QuadrotorSetpoint(zero, zero, zero, np.zeros(()))
    durations = []
    for _ in range(config.inferences):
        begin = time.perf_counter()
        policy.step(state, setpoint)
        durations.append(1e6 * (time.perf_counter() - begin))
    p50, p99 = np.percentile(durations, [50, 99])
    return {"p50_us": float(p50), "p99_us": float(p99), "max_us": float(max(durations))}


def run(config: BenchConfig) -> int:
    """Measure everything, print it and write the JSON file."""
    results: dict[str, Any] = {"where": _where()}
    for task in ("quadrotor-hover", "quadrotor-track"):
        results[f"environment {task}"] = measure_environment(task, config)
        print(f"environment {task}: {results[f'environment {task}']['best_per_s']:,.0f} steps/s", flush=True)
    for name in ("quadrotor-hover", "quadrotor-track"):
        results[f"policy {name}"] = measure_policy(name, config)
        print("policy {}: p50 {p50_us:.0f} µs, p99 {p99_us:.0f} µs".format(name, **results[f"policy {name}"]))
    config.out.parent.mkdir(parents=True, exist_ok=True)
    config.out.write_text(json.dumps(results, indent=2) + "\n")
    print(f"written to {config.out}")
    return 0


def _rates(work: Callable[[], None], count: int, repeats: int) -> dict[str, float]:
    """Repeat `work`, which does `count` things, after one run that is not counted."""
    work()
    walls, cpus = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return {
        "best_per_s": count / min(walls),
        "median_per_s": count / statistics.median(walls),
        "median_per_cpu_s": count / statistics.median(cpus),
    }


def _where() -> dict[str, Any]:
    """Commit, machine, versions and threads: what a number without is worth nothing."""
    git = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return {
        "commit": git.stdout.strip() or "unknown",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "versions": {name: _version(name) for name in ("torch", "numpy", "onnxruntime", "robot_rl")},
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    sys.exit(run(tyro.cli(BenchConfig, prog="python -m robot_rl.bench")))
