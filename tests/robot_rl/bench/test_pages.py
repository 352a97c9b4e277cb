"""The benchmark page says what the JSON files say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from robot_rl.bench import pages

WHERE = {"machine": "a machine", "commit": "abc"}
ROW = {"task": "arm-reach", "seed": 0, "cpu_seconds": 61.0, "success_rate": 0.985, "episodes": 200, "cycle_time_s": 1.2}


def test_the_page_has_every_part_that_was_measured(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    speed = {"where": WHERE, "1 arm": {"controlled_per_raw": 1.5}}
    never = {"success_rate": 0.0, "episodes": 40}
    experts = {"experts": {"arm-push": {"default": {**ROW, "success_rate": 0.95}, "none": never}}}
    transfer = {"task": "arm-reach", "episodes": 50, "trained on default, run in pybullet": 0.9}
    training = {"training": [ROW, {**ROW, "seed": 1, "success_rate": 0.5}], "transfer": [transfer]}
    for name, part in (("speed", speed), ("experts", experts), ("arms", training)):
        (tmp_path / f"{name}.json").write_text(json.dumps(part))
    pages.write(tmp_path)
    page = (tmp_path / "README.md").read_text()
    assert "a machine, commit abc" in page and "| 1 arm | controlled_per_raw 1.5 |" in page
    assert "| arm-push | 95.0% of 200 | 1.2 s | 0.0% |" in page
    assert "| arm-reach | 0 | 61 | 98.5% of 200 | 1.20 s |" in page
    assert "arm-reach, 50 starts: trained on default, run in pybullet 90.0%" in page
    assert (tmp_path / "arms.png").read_bytes()[:4] == b"\x89PNG"


def test_what_was_not_measured_is_not_on_the_page(tmp_path: Path) -> None:
    pages.write(tmp_path)
    page = (tmp_path / "README.md").read_text()
    assert page.startswith("# Benchmarks") and "##" not in page


def test_the_page_says_what_recording_costs_a_loop(tmp_path: Path) -> None:
    phases = ("without_before", "recording", "without_after")
    own = {f"{what}_{share}": 30.4 for what in ("lateness", "work") for share in ("p50", "p99")}
    streams = {
        "seconds": 60.0,
        "lost": 0,
        "given": {"a": 29_000, "b": 1_000},
        "control_loop_us": {name: {**own, "overruns": 2} for name in phases},
    }
    wake = {"wake_error_us": {"p50": 29.0, "p99": 48.7}, "work_us": {"p50": 258.5, "p99": 578.8}, "lost_periods": 1}
    node = {"seconds": 90.0, "lost": 3, "published": {"a": 5}, "control_loop": {name: wake for name in phases}}
    lost = {"median": 0.11, "p99": 0.3, "max": 0.42}
    kills = {
        "kills": 1000,
        "finished_episodes": 7000,
        "finished_but_unreadable": 0,
        "invented": 0,
        "lost_of_the_running_episode_s": lost,
    }
    parts = {"kills": kills, "streams": streams, "node": node}
    (tmp_path / "recording.json").write_text(json.dumps(parts))
    pages.write(tmp_path)
    page = (tmp_path / "README.md").read_text()
    assert "1,000 kills at random moments: 7,000 finished episodes, 0 of them unreadable" in page
    assert "at most 0.42 s" in page and "0 of 30,000 messages lost" in page and "3 of 5 messages lost" in page
    assert "| recording | 30 µs | 30 µs | 30 µs | 30 µs | 2 |" in page
    assert "| recording | 29 µs | 49 µs | 258 µs | 579 µs | 1 |" in page


def test_the_page_judges_every_cell_of_the_human_in_the_loop(tmp_path: Path) -> None:
    run = {
        "success_rate": 0.9, "cycle_time_s": None, "robot_steps": 9001, "episodes": 300, "wall_seconds": 500.0,
        "recent_intervention_rate": 0.015, "peak_force_n": 38.6, "updates_per_cpu_s": 81.2,
        "period_p99_error_s": 0.0021, "base_success_rate": 0.51,
    }  # fmt: skip
    cell = {
        "median_success_rate": 0.95, "worst_success_rate": 0.9, "wanted": {"median": 0.95, "worst": 0.0},
        "mean_cycle_time_s": 2.5, "expert_cycle_time_s": 2.7, "seeds": {"0": run, "3": {**run, "success_rate": 1.0}},
    }  # fmt: skip
    alone = {"resfit": {"episodes": 100, "success_rate": 0.67, "cycle_time_s": 3.0}}
    (tmp_path / "hil.json").write_text(json.dumps({"cells": {"resfit": cell}, "operators_alone": alone}))
    pages.write(tmp_path)
    page = (tmp_path / "README.md").read_text()
    assert "| resfit, on a base of 51% | 2 | 95%, 90% | 95%, - | 2.50 s | 2.70 s |" in page
    assert "| resfit | 0 | 90% | - | 9001, 300 | 1.5% | 39 N | 81 | 2.1 ms | 500 s |" in page
    assert "resfit, driving alone: 67% of 100 starts" in page
