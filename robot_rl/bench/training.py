"""Training runs of a benchmark: each in a process of its own, so that its CPU time is its own, and none twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def run_cli(arguments: Sequence[str]) -> None:
    """`robot-rl ARGUMENTS` on one thread; raises `subprocess.CalledProcessError` if it fails."""
    subprocess.run(
        [sys.executable, "-m", "robot_rl.cli", *arguments], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )


def train(arguments: Sequence[str], folder: Path) -> dict[str, Any]:
    """`robot-rl train ARGUMENTS` into `folder`, unless a bundle is there already; what training says of itself."""
    if not (folder / "bundle" / "manifest.json").is_file():
        run_cli(["train", *arguments, "--out", str(folder), "--evaluation-episodes", "0"])
    found: dict[str, Any] = json.loads((folder / "training.json").read_text())
    return found


def kept(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics that a benchmark stores, where they apply."""
    keys = ("episodes", "success_rate", "cycle_time_s", "failure_rate", "episode_return", "constraint_cost",
            "constraint_limit")  # fmt: skip
    return {key: metrics[key] for key in keys if metrics.get(key) is not None}
