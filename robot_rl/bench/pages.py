"""docs/benchmarks/README.md and its plots, made from the JSON files beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from robot_rl.bench import flight, hil_page, imitation_page, recording_page, safe
from robot_rl.bench.faults import cells as faults
from robot_rl.robustness import table


def write(folder: Path) -> None:
    """Write the page of every part whose JSON file is there."""
    parts = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    lines = ["# Benchmarks", "", "Made by `make bench` from the JSON files beside this page; compare results of one"]
    lines += ["machine only. CPU-seconds vary by a fifth and more with the load of a shared machine.", ""]
    if "speed" in parts:
        lines += _speed(parts["speed"])
    if "experts" in parts:
        lines += _experts(parts["experts"])
    if "arms" in parts:
        lines += _training(parts["arms"])
        _plot_training(parts["arms"]["training"], folder / "arms.png")
        lines += ["", "![Success after training, one dot per seed](arms.png)", ""]
        lines += _robustness(parts["arms"].get("robustness", []))
    if "safe" in parts:
        lines += safe.section(parts["safe"])
        safe.plot(parts["safe"], folder / "safe.png")
    if "hil" in parts:
        lines += hil_page.section(parts["hil"])
    if "imitation" in parts:
        lines += imitation_page.section(parts["imitation"])
    if "recording" in parts:
        lines += recording_page.section(parts["recording"])
    if "ros" in parts:
        lines += _ros(parts["ros"])
    if "faults" in parts:
        (folder / "faults.md").write_text("\n".join(faults.section(parts["faults"])).rstrip() + "\n")
        lines += [
            "## Faults",
            "",
            "Every process and input hurt, what the robots did and when: [table](faults.md).",
            "",
        ]
    (folder / "README.md").write_text("\n".join(lines).rstrip() + "\n")


def _ros(part: dict[str, Any]) -> list[str]:
    """What `make bench-ros` found: success through the real processes, and how well the control loop keeps time."""
    lines = ["## The robot's processes", ""]
    if "planes" in part:
        lines += ["Shipped policies in real time through policy process, control process (500 Hz), safety filter and"]
        lines += [f"simulated robot, randomization `{part['planes']['randomization']}`, the same starts in both:", ""]
        lines += [
            "| task | starts | success | pure simulation | cycle time | pure simulation |",
            "|---|---|---|---|---|---|",
        ]
        for task, row in part["planes"]["tasks"].items():
            times = [f"{t:.2f} s" if t is not None else "-" for t in (row["cycle_time_s"], row["pure_cycle_time_s"])]
            lines.append(
                f"| {task} | {row['starts']} | {row['success_rate']:.0%} | {row['pure_success_rate']:.0%} "
                f"| {times[0]} | {times[1]} |"
            )
        lines.append("")
    if "flight" in part:
        lines += flight.section(part["flight"])
    if "native" in part:
        lines += _native(part["native"])
    if "timing" in part:
        timing = part["timing"]
        lines += [
            f"Wake-up error at {timing['rate_hz']:g} Hz for {timing['seconds']:g} s each, beside {timing['busy']}"
        ]
        lines += ["busy processes:", "", "| | p50 | p99 | worst | missed of 10,000 |", "|---|---|---|---|---|"]
        rows = {"cyclictest_before": "cyclictest before", "control": "control process of an arm",
                "quadrotor": "control process of a quadrotor", "cyclictest_after": "cyclictest after"}  # fmt: skip
        for key, name in rows.items():
            if key not in timing:
                continue
            row = timing[key]
            if "skipped" in row:
                lines.append(f"| {name} | {row['skipped']} | | | |")
                continue
            error = row.get("wake_error_us") or {k: row[f"{k}_us"] for k in ("p50", "p99", "max")}
            lines.append(
                f"| {name} | {error['p50']:.0f} µs | {error['p99']:.0f} µs | {error['max']:.0f} µs "
                f"| {row['missed_per_10000']:.1f} |"
            )
        lines.append("")
    return lines


def _native(part: dict[str, Any]) -> list[str]:
    """The native loop, quiet and beside busy processes."""
    rows = [(name, part[name]) for name in ("quiet", "busy machine", "busy interpreter")]
    lines = [
        f"`{part['bundle']}` as C in a thread of its own at {rows[0][1]['rate_hz']:g} Hz, no interpreter in the loop:"
    ]
    lines += ["", "| | wake-up p50 | p99 | worst | work p99 | lost periods |", "|---|---|---|---|---|---|"]
    for name in ("cyclictest_before", "cyclictest_after"):
        row = part[name]
        if isinstance(row, dict):
            lines.append(
                f"| {name.replace('_', ' ')} | {row['wake_p50_us']:.0f} µs | {row['wake_p99_us']:.0f} µs "
                f"| {row['wake_max_us']:.0f} µs | - | {row['lost_periods']} of {row['ticks']} |"
            )
    for name, row in rows:
        lines.append(
            f"| {name} | {row['wake_p50_us']:.0f} µs | {row['wake_p99_us']:.0f} µs | {row['wake_max_us']:.0f} µs "
            f"| {row['work_p99_us']:.0f} µs | {row['lost_periods']} of {row['ticks']} |"
        )
    return [*lines, ""]


def _speed(part: dict[str, Any]) -> list[str]:
    lines = ["## Speed", "", f"{part['where']['machine']}, commit {part['where']['commit']}, one thread.", ""]
    lines += ["| what | figures |", "|---|---|"]
    for name, values in part.items():
        if name != "where":
            lines.append(f"| {name} | " + ", ".join(f"{key} {value:,.4g}" for key, value in values.items()) + " |")
    return [*lines, ""]


def _experts(part: dict[str, Any]) -> list[str]:
    lines = [
        "## Scripted experts",
        "",
        "| task | success, default randomization | cycle time | without |",
        "|---|---|---|---|",
    ]
    for task, results in part["experts"].items():
        default, none = results["default"], results["none"]
        cycle = f"{default['cycle_time_s']:.1f} s" if "cycle_time_s" in default else "-"
        episodes = f"{default['success_rate']:.1%} of {default['episodes']}"
        lines.append(f"| {task} | {episodes} | {cycle} | {none['success_rate']:.1%} |")
    return [*lines, ""]


def _training(part: dict[str, Any]) -> list[str]:
    lines = [
        "## Training of arm tasks",
        "",
        "| task | seed | CPU-seconds | success | cycle time |",
        "|---|---|---|---|---|",
    ]
    for row in part["training"]:
        cycle = f"{row['cycle_time_s']:.2f} s" if "cycle_time_s" in row else "-"
        lines.append(
            f"| {row['task']} | {row['seed']} | {row['cpu_seconds']:.0f} | {row['success_rate']:.1%} of "
            f"{row['episodes']} | {cycle} |"
        )
    lines += ["", "Transfer from MuJoCo to PyBullet without a change, same starts:", ""]
    for row in part["transfer"]:
        cells = {key: value for key, value in row.items() if key.startswith("trained")}
        lines.append(
            f"- {row['task']}, {row['episodes']} starts: " + "; ".join(f"{k} {v:.1%}" for k, v in cells.items())
        )
    return [*lines, ""]


def _robustness(tables: list[dict[str, Any]]) -> list[str]:
    lines = []
    for one in tables:
        lines += [f"### Robustness of {one['task']}", "", f"{one['title']}; one parameter's range at a time is"]
        lines += ["multiplied, the others stay as declared.", "", *table(one["rows"]), ""]
    return lines


def _plot_training(rows: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    tasks = list(dict.fromkeys(row["task"] for row in rows))
    figure, axes = pyplot.subplots(1, len(tasks), figsize=(4.0 * len(tasks), 3.2), squeeze=False)
    for axis, task in zip(axes[0], tasks, strict=True):
        chosen = [row for row in rows if row["task"] == task]
        axis.scatter([r["cpu_seconds"] for r in chosen], [100.0 * r["success_rate"] for r in chosen])
        axis.set(title=task, xlabel="CPU-seconds", ylabel="success, %", xlim=(0.0, None), ylim=(0.0, 102.0))
        axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
