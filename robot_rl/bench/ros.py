"""The robot's processes and nodes, measured: `python -m robot_rl.bench.ros PART`, stored in docs/benchmarks/ros.json.

make bench-ros                                                    everything, half an hour
make bench-ros ROS="timing --timing.seconds 10"                   one part, shorter
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tyro

from policies.writing import write_text
from robot_rl.bench.planes import SuccessConfig, TimingConfig, run_success, run_timing


@dataclass(frozen=True, kw_only=True)
class RosBenchConfig:
    """Measure the robot's processes; each part is stored as it ends, the others stay as they were."""

    part: tyro.conf.Positional[Literal["planes", "timing", "all"]] = "all"
    """`planes`: success of the shipped arm policies in real time beside pure simulation (20 minutes); `timing`: the
    control loop beside cyclictest on a busy machine (3 minutes)."""
    out: Path = Path("docs/benchmarks/ros.json")
    """Where results are stored."""
    planes: SuccessConfig = field(default_factory=SuccessConfig)
    """Settings of `planes`."""
    timing: TimingConfig = field(default_factory=TimingConfig)
    """Settings of `timing`."""


def run(config: RosBenchConfig, where: Mapping[str, Any]) -> dict[str, Any]:
    """Measure the parts that are asked for and store them."""
    parts = {
        "timing": lambda: run_timing(config.timing),
        "planes": lambda: run_success(config.planes),
    }
    results: dict[str, Any] = json.loads(config.out.read_text()) if config.out.is_file() else {}
    config.out.parent.mkdir(parents=True, exist_ok=True)
    for name, measure in parts.items():
        if config.part in (name, "all"):
            results[name] = {"where": dict(where), **measure()}
            write_text(config.out, json.dumps(results, indent=2) + "\n")
            print(f"{name}: written to {config.out}", flush=True)
    return results


def main() -> int:
    """The command line."""
    from robot_rl.bench.__main__ import where

    run(tyro.cli(RosBenchConfig, prog="python -m robot_rl.bench.ros"), where())
    return 0


if __name__ == "__main__":
    sys.exit(main())
