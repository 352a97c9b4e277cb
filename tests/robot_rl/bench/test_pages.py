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
