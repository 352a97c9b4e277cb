"""What the page of benchmarks says of human-in-the-loop learning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def section(part: Mapping[str, Any]) -> list[str]:
    """The part of docs/benchmarks/README.md about human-in-the-loop learning: cells, then their runs."""
    lines = [
        "## Human in the loop",
        "",
        "A scripted operator corrects; 100 starts that training never saw, without help (`make bench-hil`).",
        "",
        "| cell | seeds | success, median and worst | wanted | cycle time | expert's |",
        "|---|---|---|---|---|---|",
    ]
    lines += [_cell(name, cell) for name, cell in part["cells"].items()]
    lines.append("")
    for name, row in part.get("operators_alone", {}).items():
        lines += [f"The operator of {name}, driving alone: {row['success_rate']:.0%} of {row['episodes']} starts.", ""]
    if alone := part.get("learner_alone"):
        lines += [
            "Updates per second of a learner on one core, nothing else running (batch 256, two critics 2 x 256):",
            "",
            f"| task | {' | '.join(next(iter(alone.values())))} |",
            f"|---|{'---|' * len(next(iter(alone.values())))}",
            *(f"| {name} | {' | '.join(f'{rate:.0f}' for rate in rates.values())} |" for name, rates in alone.items()),
            "",
        ]
    lines += [
        "Every run, with the learner's updates per CPU-second, and how far 99 % of the robot's periods, 0.1 s of its",
        "own time, are from what they should be:",
        "",
        "| cell | seed | success | cycle time | robot steps, episodes | interventions, last 20 | highest force "
        "| updates/s | period | wall time |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [_run(name, seed, row) for name, cell in part["cells"].items() for seed, row in cell["seeds"].items()]
    return [*lines, ""]


def _cell(name: str, cell: Mapping[str, Any]) -> str:
    wanted = [f"{share:.0%}" if share else "-" for share in cell["wanted"].values()]
    bases = [row["base_success_rate"] for row in cell["seeds"].values() if "base_success_rate" in row]
    label = f"{name}, on a base of {bases[0]:.0%}" if bases else name
    return (
        f"| {label} | {len(cell['seeds'])} | {cell['median_success_rate']:.0%}, {cell['worst_success_rate']:.0%} "
        f"| {', '.join(wanted)} | {_seconds(cell['mean_cycle_time_s'])} | {_seconds(cell['expert_cycle_time_s'])} |"
    )


def _run(name: str, seed: str, row: Mapping[str, Any]) -> str:
    rate, force = row["recent_intervention_rate"], row["peak_force_n"]
    period, updates = row["period_p99_error_s"], row["updates_per_cpu_s"]
    return (
        f"| {name} | {seed} | {row['success_rate']:.0%} | {_seconds(row['cycle_time_s'])} "
        f"| {row['robot_steps']}, {row['episodes']} | {'-' if rate is None else f'{rate:.1%}'} "
        f"| {f'{force:.0f} N' if force else '-'} | {f'{updates:.0f}' if updates else '-'} "
        f"| {'-' if period is None else f'{1e3 * period:.1f} ms'} | {row['wall_seconds']:.0f} s |"
    )


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"
