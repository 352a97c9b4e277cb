"""The benchmarks of arms, tiny: what is measured, that finished runs are not repeated, and what is written."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from robot_rl.bench import __main__ as bench
from robot_rl.bench.arms import ArmsConfig, ExpertsConfig, run_experts, run_training
from robot_rl.ppo import PpoConfig
from robot_rl.runs import TrainConfig
from sim.tasks import TASKS

TINY = PpoConfig(updates=1, num_envs=2, horizon=2, epochs=1, minibatches=1, hidden=(8,), critic_hidden=(8,))


@pytest.fixture
def only_reach(small_bundles: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short episodes of `arm-reach`, with a tolerance that makes it easy, no other arm task, and small bundles."""
    task = TASKS["arm-reach"]
    assert task.build is not None
    easy = task.build(dataclasses.replace(task.settings, tolerance=0.4))
    monkeypatch.setitem(TASKS, "arm-reach", dataclasses.replace(easy, episode_length=1.0))
    for name in list(TASKS):
        if name.startswith("arm") and name != "arm-reach":
            monkeypatch.delitem(TASKS, name)


def test_experts_are_measured_with_and_without_randomization(only_reach: None) -> None:
    results = run_experts(ExpertsConfig(episodes=8))["experts"]
    assert set(results) == {"arm-reach"}
    default, none = results["arm-reach"]["default"], results["arm-reach"]["none"]
    assert (default["episodes"], none["episodes"]) == (8, 2)
    assert default["success_rate"] == none["success_rate"] == 1.0
    assert 0.0 < default["cycle_time_s"] <= 1.0


def test_training_is_measured_in_both_engines_from_runs_that_are_there(
    only_reach: None,
    train_here: Callable[[TrainConfig], list[list[str]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("pybullet")
    started = train_here(TrainConfig(task="arm-reach", algorithm="ppo", ppo=TINY))
    task = TASKS["arm-reach"]
    monkeypatch.setitem(TASKS, "arm-reach", dataclasses.replace(task, randomization=task.randomization[:2]))
    config = ArmsConfig(
        tasks=("arm-reach",), seeds=(3,), episodes=4, transfer_episodes=2, robustness_episodes=2, runs=tmp_path
    )
    results = run_training(config)
    assert [arguments[:2] for arguments in started] == [["train", "arm-reach"]] * 2
    again = run_training(config)
    assert len(started) == 2, "finished runs are not repeated"
    assert results == again
    (row,) = results["training"]
    assert (row["task"], row["seed"], row["episodes"]) == ("arm-reach", 3, 4)
    assert row["cpu_seconds"] > 0.0
    assert row["command"] == "robot-rl train arm-reach --seed 3 --randomization default"
    (moved,) = results["transfer"]
    rates = {key: value for key, value in moved.items() if key.startswith("trained on")}
    assert len(rates) == 4
    assert all(0.0 <= rate <= 1.0 for rate in rates.values())
    (table,) = results["robustness"]
    assert [row["parameter"] for row in table["rows"]] == [term.parameter for term in task.randomization[:2]]


def test_the_command_writes_its_part_and_the_page(only_reach: None, tmp_path: Path) -> None:
    config = bench.BenchConfig(part="experts", out=tmp_path, experts=ExpertsConfig(episodes=4))
    assert bench.run(config) == 0
    stored = json.loads((tmp_path / "experts.json").read_text())
    assert {"commit", "machine", "python", "versions"} <= stored["where"].keys()
    assert "| arm-reach | 100.0% of 4 |" in (tmp_path / "README.md").read_text()
    assert not (tmp_path / "speed.json").exists()
