"""`python -m robot_rl.bench PART ...`: measure and write docs/benchmarks/PART.json; without a PART, all of them."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import torch
import tyro

from robot_rl.bench import arms, pages, safe, speed

Part = Literal["speed", "experts", "arms", "safe", "all"]


@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """Measure what the docs claim; every part writes a JSON file, and the tables and plots are made from those."""

    part: tyro.conf.Positional[Part] = "all"
    """`speed` (2 minutes), `experts` (the tasks' scripted solutions, 10 minutes), `arms` (training runs of arm tasks
    with five seeds, their transfer to PyBullet and their robustness: hours), `safe` (a task with constraints, with and
    without its limit, three seeds each: half an hour), or all."""
    out: Path = Path("docs/benchmarks")
    """Folder of the JSON files, tables and plots."""
    speed: speed.SpeedConfig = field(default_factory=speed.SpeedConfig)
    """Settings of `speed`."""
    experts: arms.ExpertsConfig = field(default_factory=arms.ExpertsConfig)
    """Settings of `experts`."""
    arms: arms.ArmsConfig = field(default_factory=arms.ArmsConfig)
    """Settings of `arms`."""
    safe: safe.SafeConfig = field(default_factory=safe.SafeConfig)
    """Settings of `safe`."""


def run(config: BenchConfig) -> int:
    """Measure the parts that are asked for and write their files."""
    torch.set_num_threads(1)
    parts = {
        "speed": lambda: speed.run(config.speed),
        "experts": lambda: arms.run_experts(config.experts),
        "arms": lambda: arms.run_training(config.arms),
        "safe": lambda: safe.run(config.safe),
    }
    config.out.mkdir(parents=True, exist_ok=True)
    for name, measure in parts.items():
        if config.part in (name, "all"):
            path = config.out / f"{name}.json"
            results = measure()
            path.write_text(json.dumps({"where": where(), **results}, indent=2) + "\n")
            print(f"written to {path}", flush=True)
    pages.write(config.out)
    return 0


def where() -> dict[str, Any]:
    """Commit, machine, versions and threads: what a number without is worth nothing."""
    git = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return {
        "commit": git.stdout.strip() or "unknown",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "versions": {name: _version(name) for name in ("torch", "numpy", "mujoco", "pybullet", "onnxruntime")},
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    sys.exit(run(tyro.cli(BenchConfig, prog="python -m robot_rl.bench")))
