"""The benchmark of imitation: what it runs, that it goes on where it was interrupted, and what it says."""

from __future__ import annotations

import json

import numpy as np
import pytest

from robot_rl.bench import imitation, pages
from robot_rl.bench.imitation import CELLS, ImitationBenchConfig, collect, run, step_times
from robot_rl.bench.imitation_page import section
from robot_rl.errors import UserError


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """Arguments of the runs that were asked for, in place of running them."""
    found = []

    def command(arguments):
        found.append(list(arguments))
        folder = tmp_path / arguments[arguments.index("--out") + 1]
        folder.mkdir(parents=True)
        for k in range(int(arguments[arguments.index("--episodes") + 1])):
            (folder / f"episode-{k:06d}.mcap").touch()

    def train(arguments, folder):
        found.append(["train", *arguments])
        (folder / "bundle").mkdir(parents=True)
        (folder / "bundle" / "manifest.json").touch()
        return {"cpu_seconds": 10.0, "demonstrations": {"episodes": 100}}

    def evaluate(bundle, episodes, seed):
        seeded = int(bundle.parent.name[-1])
        return {"episodes": episodes, "success_rate": 0.9 + 0.05 * seeded, "cycle_time_s": 2.0, "failure_rate": 0.0}

    monkeypatch.setattr(imitation, "run_cli", command)
    monkeypatch.setattr(imitation, "train", train)
    monkeypatch.setattr(imitation, "evaluate", evaluate)
    monkeypatch.setattr(imitation, "step_times", lambda *_: {"step_median_s": 0.001, "step_p99_s": 0.002})
    return found


@pytest.fixture
def config(tmp_path):
    return ImitationBenchConfig(seeds=(0, 1), demonstrations=3, runs=tmp_path / "runs", out=tmp_path / "imitation.json")


def test_every_cell_gets_the_data_set_of_its_seed_and_the_student_its_teacher(asked, config):
    run(config, {"commit": "x"})
    collected = [arguments for arguments in asked if arguments[:2] == ["demos", "collect"]]
    assert [arguments[arguments.index("--seed") + 1] for arguments in collected] == ["0", "1"]
    trained = [arguments for arguments in asked if arguments[0] == "train"]
    assert len(trained) == 2 * len(CELLS)
    for arguments in trained:
        seed = arguments[arguments.index("--seed") + 1]
        assert arguments[arguments.index("--demos") + 1].endswith(f"demonstrations-{seed}")
        if "consistency" in arguments:
            assert arguments[arguments.index("--consistency.teacher-run") + 1].endswith(f"diffusion-{seed}")
    halves = [arguments[-1] for arguments in trained if "--demo-share" in arguments]
    assert halves == ["best", "random"] * 2


def test_it_goes_on_where_it_was_interrupted(asked, config):
    run(ImitationBenchConfig(**{**vars(config), "seeds": (0,), "cells": ("bc",)}), {})
    (config.runs / "demonstrations-1").mkdir()
    (config.runs / "demonstrations-1" / "episode-000000.mcap").touch()  # cut off
    asked.clear()
    run(ImitationBenchConfig(**{**vars(config), "cells": ("bc",)}), {})
    assert [arguments[0] for arguments in asked] == ["demos", "train"]
    assert len(list((config.runs / "demonstrations-1").iterdir())) == 3
    cell = json.loads(config.out.read_text())["cells"]["bc"]
    assert sorted(cell["seeds"]) == ["0", "1"]
    assert cell["mean_success_rate"] == pytest.approx(0.925) and cell["worst_success_rate"] == pytest.approx(0.9)
    with pytest.raises(UserError, match="unknown cell 'bcc'; did you mean 'bc'"):
        run(ImitationBenchConfig(**{**vars(config), "cells": ("bcc",)}), {})


def test_the_page_has_a_row_for_every_cell(asked, config):
    results = run(config, {})
    lines = section(results)
    rows = [line for line in lines if line.startswith("| ") and "success" not in line]
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == list(CELLS)
    assert rows[0] == "| bc | 90%, 95% | 92.5% | 2.00 s | 1.00, 2.00 ms | 10 CPU-s |"
    pages.write(config.out.parent)
    assert "## Imitation" in (config.out.parent / "README.md").read_text()


def test_a_step_is_timed_through_the_runtime():
    found = step_times("arm-pick-lift", "arm-pick-lift", steps=40)
    assert 1e-5 < found["step_median_s"] <= found["step_p99_s"] < 0.5
    assert np.isfinite(list(found.values())).all()


def test_a_data_set_that_is_there_is_not_recorded_again(asked, config):
    assert collect(4, config) == collect(4, config)
    assert len(asked) == 1
