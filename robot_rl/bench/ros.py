"""The robot's processes and nodes, measured: `python -m robot_rl.bench.ros PART`, stored in docs/benchmarks/ros.json.

make bench-ros                                                    everything, three quarters of an hour
make bench-ros ROS="timing --timing.seconds 10"                   one part, shorter
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import tyro

from policies.writing import write_text
from robot_rl.bench import native
from robot_rl.bench.faults.run import FaultsConfig, run_faults
from robot_rl.bench.flight import FlightConfig, run_flight
from robot_rl.bench.planes import SuccessConfig, TimingConfig, run_success, run_timing


@dataclass(frozen=True, kw_only=True)
class RosBenchConfig:
    """Measure the robot's processes; each part is stored as it ends, the others stay as they were."""

    part: tyro.conf.Positional[Literal["timing", "native", "flight", "faults", "planes", "all"]] = "all"
    """`timing`: the control loops of an arm and of a quadrotor beside cyclictest on a busy machine (4 minutes);
    `native`: the native loop at 1 kHz likewise (2 minutes); `flight`: the figure-eight through the quadrotor's nodes
    beside pure simulation (4 minutes); `faults`: every process and input hurt (15 minutes); `planes`: success of the
    shipped arm policies in real time beside pure simulation, 100 starts each (25 minutes)."""
    out: Path = Path("docs/benchmarks/ros.json")
    """Where results are stored; those of `faults` in `faults.json` beside it."""
    planes: SuccessConfig = field(default_factory=SuccessConfig)
    """Settings of `planes`."""
    timing: TimingConfig = field(default_factory=TimingConfig)
    """Settings of `timing`."""
    native: native.NativeBenchConfig = field(default_factory=native.NativeBenchConfig)
    """Settings of `native`."""
    flight: FlightConfig = field(default_factory=FlightConfig)
    """Settings of `flight`."""
    faults: FaultsConfig = field(default_factory=FaultsConfig)
    """Settings of `faults`."""


def run(config: RosBenchConfig, where: Mapping[str, Any]) -> dict[str, Any]:
    """Measure the parts that are asked for and store them."""
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "timing": lambda: run_timing(config.timing),
        "native": lambda: native.run(config.native),
        "flight": lambda: run_flight(config.flight),
        "planes": lambda: run_success(config.planes),
    }
    results = _read(config.out)
    config.out.parent.mkdir(parents=True, exist_ok=True)
    for name, measure in parts.items():
        if config.part in (name, "all"):
            results[name] = {"where": dict(where), **measure()}
            _write(config.out, results)
            print(f"{name}: written to {config.out}", flush=True)
    if config.part in ("faults", "all"):
        _run_faults(config, where)
    return results


def _run_faults(config: RosBenchConfig, where: Mapping[str, Any]) -> None:
    """Store the matrix group by group, on a page of its own; groups that are not run stay as they were."""
    path = config.out.with_name("faults.json")
    for group in config.faults.groups:
        found = run_faults(replace(config.faults, groups=(group,)))
        _write(path, {**_read(path), "where": dict(where), **found})
        print(f"faults, {group}: written to {path}", flush=True)


def _write(path: Path, results: Mapping[str, Any]) -> None:
    # What processes say names files by their whole path: the reader's checkout lies elsewhere.
    write_text(path, (json.dumps(results, indent=2) + "\n").replace(f"{Path.cwd()}/", ""))


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return found


def main() -> int:
    """The command line."""
    from robot_rl.bench import pages
    from robot_rl.bench.__main__ import where

    # A shell's background jobs ignore SIGINT, and so would the processes that shall end on it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config = tyro.cli(RosBenchConfig, prog="python -m robot_rl.bench.ros")
    run(config, where())
    pages.write(config.out.parent)
    return 0


if __name__ == "__main__":
    sys.exit(main())
