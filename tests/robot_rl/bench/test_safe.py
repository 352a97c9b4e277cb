"""The benchmark of safe learning, tiny: what is measured, that finished runs are not repeated, and what is written."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from robot_rl.bench import pages, safe
from robot_rl.bench.safe import SafeConfig
from robot_rl.ppo import PpoConfig
from robot_rl.ppo_lagrangian import PpoLagrangianConfig
from robot_rl.runs import TrainConfig
from sim.tasks import TASKS

TINY = PpoConfig(updates=4, num_envs=2, horizon=4, epochs=1, minibatches=1, hidden=(8,), critic_hidden=(8,))
LIMITED = PpoLagrangianConfig(**dataclasses.asdict(TINY))
ROW = {"episodes": 500, "success_rate": 0.99, "cycle_time_s": 1.5, "constraint_cost": 0.05, "constraint_limit": 0.1}
PART = {
    "task": "arm-reach-region",
    "expert": {**ROW, "constraint_cost": 0.0},
    "training": [
        {"algorithm": "ppo", "seed": 0, "cpu_seconds": 150.0, **ROW, "constraint_cost": 1.2, "progress": "4 0.5 1.5"},
        {"algorithm": "ppo-lagrangian", "seed": 2, "cpu_seconds": 220.4, **ROW, "progress": "4 0.1 0.5; 8 0.5 0.1"},
    ],
}


def test_both_algorithms_are_measured_from_runs_that_are_there(
    train_here: Callable[[TrainConfig], list[list[str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = TASKS["arm-reach-region"]
    monkeypatch.setitem(TASKS, "arm-reach-region", dataclasses.replace(task, episode_length=0.5))
    started = train_here(TrainConfig(task="arm-reach-region", ppo=TINY, ppo_lagrangian=LIMITED))
    config = SafeConfig(seeds=(3,), episodes=2, runs=tmp_path)
    results = safe.run(config)
    again = safe.run(config)
    assert len(started) == 2, "finished runs are not repeated"
    assert results == again
    free, limited = results["training"]
    assert (free["algorithm"], limited["algorithm"]) == ("ppo", "ppo-lagrangian")
    assert limited["command"] == "robot-rl train arm-reach-region --algorithm ppo-lagrangian --seed 3"
    assert limited["constraint_limit"] == task.cost_limit  # type: ignore[union-attr]
    assert limited["cpu_seconds"] > 0.0
    update, success, cost = map(float, limited["progress"].split(";")[-1].split())
    assert update == limited["updates"] == TINY.updates
    assert 0.0 <= success <= 1.0
    assert cost >= 0.0
    assert results["expert"]["episodes"] == 2


def test_its_section_and_plot_are_on_the_page(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "safe.json").write_text(json.dumps(PART))
    pages.write(tmp_path)
    page = (tmp_path / "README.md").read_text()
    assert "| scripted expert | - | - | 99.0% of 500 | 0.000 | 1.50 s |" in page
    assert "| ppo | 0 | 150 | 99.0% of 500 | 1.200 | 1.50 s |" in page
    assert "| ppo-lagrangian | 2 | 220 | 99.0% of 500 | 0.050 | 1.50 s |" in page
    assert (tmp_path / "safe.png").read_bytes()[:4] == b"\x89PNG"


def test_without_measurements_the_page_has_no_section(tmp_path: Path) -> None:
    pages.write(tmp_path)
    assert "## " not in (tmp_path / "README.md").read_text()
