"""What the page of benchmarks says of recording."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_PHASES = {"without_before": "without, before", "recording": "recording", "without_after": "without, after"}


def section(parts: Mapping[str, Any]) -> list[str]:
    """The part of docs/benchmarks/README.md about recording, of what was measured of it."""
    lines = ["## Recording", ""]
    if "kills" in parts:
        kills = parts["kills"]
        lost = kills["lost_of_the_running_episode_s"]
        lines += [
            f"{kills['kills']:,} kills at random moments: {kills['finished_episodes']:,} finished episodes, "
            f"{kills['finished_but_unreadable']} of them unreadable, {kills['invented']} invented;",
            f"of the running episode the last {lost['median']:.2f} s were lost in the median, "
            f"at most {lost['max']:.2f} s.",
            "",
        ]
    for name, words in (
        ("node", "through the recorder node, beside the arm's control process with its policy and simulated robot"),
        ("streams", "in the process of a Python control loop"),
        ("streams_at_normal_priority", "in the process of a Python loop without real-time priority"),
    ):
        if name in parts:
            lines += _streams(parts[name], words)
    return lines


def _streams(part: Mapping[str, Any], words: str) -> list[str]:
    """Wake-up and work of a 500 Hz loop, and what was lost."""
    given = sum((part.get("published") or part["given"]).values())
    lines = [
        f"Eight streams for {part['seconds']:g} s {words}: {part['lost']} of {given:,} messages lost.",
        "",
        "| 500 Hz loop | wake-up p50 | p99 | work p50 | p99 | lost periods |",
        "|---|---|---|---|---|---|",
    ]
    for name, title in _PHASES.items():
        if "control_loop" in part:
            row = part["control_loop"][name]
            wake, work, late = row["wake_error_us"], row["work_us"], row["lost_periods"]
        else:
            row = part["control_loop_us"][name]
            wake, work = ({share: row[f"{what}_{share}"] for share in ("p50", "p99")} for what in ("lateness", "work"))
            late = row["overruns"]
        lines.append(
            f"| {title} | {wake['p50']:.0f} µs | {wake['p99']:.0f} µs | {work['p50']:.0f} µs | {work['p99']:.0f} µs "
            f"| {late} |"
        )
    return [*lines, ""]
