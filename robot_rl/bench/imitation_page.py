"""What the page of benchmarks says of imitation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def section(part: Mapping[str, Any]) -> list[str]:
    """The part of docs/benchmarks/README.md about imitation."""
    setting = part["setting"]
    lines = [
        "## Imitation",
        "",
        f"{setting['demonstrations']} scripted demonstrations of {setting['quality']} quality of `{setting['task']}`, "
        "another data set for each seed;",
        f"{setting['episodes']} starts that training never saw, and five times as many for the halves "
        "(`python -m robot_rl.bench.imitation`).",
        "",
        "| policy | success by seed | mean | cycle time | a step, median and p99 | training |",
        "|---|---|---|---|---|---|",
    ]
    for name, cell in part["cells"].items():
        seeds = ", ".join(f"{row['success_rate']:.0%}" for row in cell["seeds"].values())
        cycle = "-" if cell["mean_cycle_time_s"] is None else f"{cell['mean_cycle_time_s']:.2f} s"
        lines.append(
            f"| {name} | {seeds} | {cell['mean_success_rate']:.1%} | {cycle} | {1e3 * cell['step_median_s']:.2f}, "
            f"{1e3 * cell['step_p99_s']:.2f} ms | {cell['mean_cpu_seconds']:.0f} CPU-s |"
        )
    return [*lines, ""]
