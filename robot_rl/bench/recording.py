"""Recording, measured: `python -m robot_rl.bench.recording PART`, stored in docs/benchmarks/recording.json.

make bench-recording                                              everything, fifty minutes
make bench-recording RECORDING="streams --streams.seconds 60"     one part, shorter
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import tyro

from policies.writing import write_text
from robot_rl.bench.recording_kills import Outcome, digests, kill_once
from robot_rl.bench.recording_node import NodeConfig, run_node
from robot_rl.bench.recording_streams import StreamsConfig, run_streams


@dataclass(frozen=True, kw_only=True)
class KillsConfig:
    """Kill a recording process at random moments."""

    count: int = 1000
    """How often."""
    seed: int = 0
    """Of the moments."""


@dataclass(frozen=True, kw_only=True)
class RecordingBenchConfig:
    """Measure the recorder; each part is stored as it ends, the others stay as they were."""

    part: tyro.conf.Positional[Literal["kills", "streams", "node", "all"]] = "all"
    """`kills`: 1,000 kills at random moments (8 minutes); `streams`: eight streams in the process of a 500 Hz control
    loop (20 minutes), stored as `streams_at_normal_priority` with `--streams.priority 0`; `node`: eight streams
    through the recorder node beside the arm's control process (20 minutes)."""
    out: Path = Path("docs/benchmarks/recording.json")
    """Where results are stored."""
    kills: KillsConfig = field(default_factory=KillsConfig)
    """Settings of `kills`."""
    streams: StreamsConfig = field(default_factory=StreamsConfig)
    """Settings of `streams`."""
    node: NodeConfig = field(default_factory=NodeConfig)
    """Settings of `node`."""


def run_kills(config: KillsConfig) -> dict[str, Any]:
    """What was left after every kill."""
    random = np.random.default_rng(config.seed)
    found: list[Outcome] = []
    touched = 0
    while len(found) < config.count:
        with TemporaryDirectory() as name:
            folder = Path(name)
            for _ in range(min(10, config.count - len(found))):
                before = digests(folder)
                found.append(kill_once(folder, random))
                left = digests(folder)
                touched += any(left.get(name) != digest for name, digest in before.items())
        print(json.dumps(_summary(found, touched)), flush=True)
    return _summary(found, touched)


def _summary(found: Sequence[Outcome], touched: int) -> dict[str, Any]:
    lost = [one.lost_seconds for one in found]
    return {
        "kills": len(found),
        "finished_episodes": sum(one.finished for one in found),
        "finished_but_unreadable": sum(one.unreadable for one in found),
        "invented": sum(one.invented for one in found),
        "recovered_steps": sum(one.recovered for one in found),
        "recovered_but_wrong": sum(one.wrong for one in found),
        "older_files_touched": touched,
        "lost_of_the_running_episode_s": {
            "median": round(float(np.median(lost)), 3),
            "p99": round(float(np.percentile(lost, 99)), 3),
            "max": round(max(lost), 3),
        },
    }


def run(config: RecordingBenchConfig, where: Mapping[str, Any]) -> dict[str, Any]:
    """Measure the parts that are asked for and store them."""
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "kills": lambda: run_kills(config.kills),
        "streams": lambda: run_streams(config.streams),
        "node": lambda: run_node(config.node),
    }
    results: dict[str, Any] = json.loads(config.out.read_text()) if config.out.is_file() else {}
    config.out.parent.mkdir(parents=True, exist_ok=True)
    for name, measure in parts.items():
        if config.part in (name, "all"):
            kind = "streams_at_normal_priority" if name == "streams" and not config.streams.priority else name
            results[kind] = {"where": dict(where), **measure()}
            write_text(config.out, json.dumps(results, indent=2) + "\n")
            print(f"{name}: written to {config.out}", flush=True)
    return results


def main() -> int:
    """The command line."""
    from robot_rl.bench.__main__ import where

    run(tyro.cli(RecordingBenchConfig, prog="python -m robot_rl.bench.recording"), where())
    return 0


if __name__ == "__main__":
    sys.exit(main())
