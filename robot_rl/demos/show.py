"""`robot-rl demos list` and `show`: what is in a data set, and what its episodes look like."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.demos.configs import ListConfig, ShowConfig
from robot_rl.demos.dataset import DataSet, Demonstration, choose, open_set


def run_list(config: ListConfig) -> int:
    """Print one line, or one object, per episode."""
    data = open_set(config.path)
    rows = [describe(one) for one in data]
    if config.json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
    else:
        print_table(
            [
                {
                    "episode": row["name"],
                    "task": row["task"],
                    "steps": str(row["steps"]),
                    "s": f"{row['seconds']:.1f}",
                    "success": "yes" if row["success"] else "no",
                    "person": f"{row['person_share']:.0%}",
                    "cameras": " ".join(row["cameras"]) or "-",
                    "state": row["state"],
                    "quality": str(row["info"].get("quality", "-")),
                    "recorded": time.strftime("%Y-%m-%d %H:%M", time.localtime(row["wall_time"])),
                }
                for row in rows
            ]
        )
    complain(data)
    return 0


def run_show(config: ShowConfig) -> int:
    """Print the figures of a set, and draw its episodes."""
    data = open_set(config.path)
    demonstrations = choose(data)
    print_table([{"": name, "value": value} for name, value in summarize(data).items()])
    if config.plots is not None:
        from robot_rl.demos.plot import draw

        config.plots.mkdir(parents=True, exist_ok=True)
        for one in demonstrations:
            draw(one, config.plots / f"{plain_name(one.name)}.png")
        sys.stdout.write(f"{config.plots}: {len(demonstrations)} plots\n")
    complain(data)
    return 0


def describe(one: Demonstration) -> dict[str, Any]:
    """An episode as JSON-able data."""
    episode = one.episode
    return {
        "name": one.name,
        "file": str(episode.source),
        "number": episode.number,
        "task": episode.schema.task,
        "robot": episode.schema.robot,
        "control_rate_hz": episode.schema.control_rate_hz,
        "steps": len(episode),
        "seconds": round(one.seconds, 6),
        "success": bool(episode.success),
        "state": one.state,
        "cause": "" if one.recording is None else one.recording.cause,
        "problem": "" if one.recording is None else one.recording.problem,
        "person_share": round(float((episode.drivers == "person").mean()), 6),
        "return": float(episode.rewards.sum()),
        "cameras": sorted(episode.schema.images),
        "topics": {} if one.recording is None else {n: len(s) for n, s in sorted(one.recording.streams.items())},
        "dropped": 0 if one.recording is None else sum(one.recording.dropped.values()),
        "wall_time": episode.wall_time,
        "info": dict(one.info),
    }


def summarize(data: DataSet) -> dict[str, str]:
    """Figures of a whole set, for people."""
    demonstrations = choose(data)
    steps = np.array([len(one.episode) for one in demonstrations])
    seconds = np.array([one.seconds for one in demonstrations])
    schemas = {(one.episode.schema.task, one.episode.schema.robot) for one in demonstrations}
    rates = sorted({one.episode.schema.control_rate_hz for one in demonstrations})
    actions = np.concatenate([np.abs(one.episode.actions).ravel() for one in demonstrations])
    won = sum(one.episode.success for one in demonstrations)
    cut = sum(one.state != "finished" for one in demonstrations)
    size = sum(file.stat().st_size for file in {one.episode.source for one in demonstrations})
    return {
        "task": ", ".join(f"{task} on {robot}" for task, robot in sorted(schemas)),
        "episodes": f"{len(demonstrations)}, {won} successful, {cut} cut off",
        "steps": f"{steps.sum()}; {steps.min()} to {steps.max()} an episode, {steps.mean():.1f} on average",
        "length": f"{seconds.sum():.1f} s; {seconds.min():.1f} to {seconds.max():.1f} s an episode",
        "control rate": ", ".join(f"{rate:g} Hz" for rate in rates),
        "driven by a person": f"{np.mean(np.concatenate([o.episode.drivers == 'person' for o in demonstrations])):.0%}",
        "cameras": ", ".join(sorted({c for o in demonstrations for c in o.episode.schema.images})) or "none",
        "actions": f"mean {actions.mean():.2f}, {np.mean(actions > 0.99):.0%} at the limit",
        "on disk": f"{size / 1e6:.1f} MB in {len({one.episode.source for one in demonstrations})} files",
        "unreadable files": str(len(data.unreadable)),
    }


def print_table(rows: list[dict[str, str]]) -> None:
    """Print rows of texts with the same keys, one line each, however narrow the terminal is."""
    if not rows:
        sys.stdout.write("no episodes\n")
        return
    # What a file says of itself must not steer the terminal.
    rows = [{k: "".join(c if c.isprintable() else "?" for c in v) for k, v in row.items()} for row in rows]
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in rows[0]}
    for row in ({name: name for name in widths}, *rows):
        sys.stdout.write("  ".join(row[name].ljust(width) for name, width in widths.items()).rstrip() + "\n")


def complain(data: DataSet) -> None:
    """Say on standard error what could not be read."""
    for name, problem in data.unreadable.items():
        sys.stderr.write(f"left out {name}: {problem}\n")
    for problem in data.repaired.values():
        sys.stderr.write(f"{problem}\n")


def plain_name(name: str) -> str:
    """An episode's name as a file's: `run/steps.log#3` becomes `run-steps-3`."""
    return str(Path(name.split("#")[0]).with_suffix("")).replace("/", "-") + (
        f"-{name.split('#')[1]}" if "#" in name else ""
    )
