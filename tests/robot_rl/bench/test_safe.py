"""The benchmark of safe learning, tiny: what is measured, that finished runs are not repeated, and what is written."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from policies import bundle
from robot_rl import export, train
from robot_rl.bench import safe
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


def test_both_algorithms_are_measured_from_runs_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = TASKS["arm-reach-region"]
    monkeypatch.setitem(TASKS, "arm-reach-region", dataclasses.replace(task, episode_length=0.5))
    monkeypatch.setattr(export, "VECTORS", bundle.MIN_VECTORS)
    monkeypatch.setattr(export, "_SAMPLED_PERIODS", 2)
    started = []
    really = subprocess.run

    def instead(command: list[str], **options: Any) -> Any:
        """Train in this process and for a moment, in place of the process with the recipe."""
        if command[0] == "git":
            return really(command, **options)
        started.append(command)
        values = dict(zip(command[5::2], command[6::2], strict=True))
        config = TrainConfig(
            task=command[4],
            algorithm=values["--algorithm"],  # type: ignore[arg-type]
            ppo=TINY,
            ppo_lagrangian=LIMITED,
            seed=int(values["--seed"]),
            out=Path(values["--out"]),
            evaluation_episodes=int(values["--evaluation-episodes"]),
        )
        return train.run(config)

    config = SafeConfig(seeds=(3,), episodes=2, runs=tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "run", instead)
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


def test_its_section_replaces_the_older_one_and_leaves_the_others(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    page = tmp_path / "README.md"
    page.write_text("# Benchmarks\n\n## Safe learning\n\nold\n\n## Speed\n\nfast\n")
    (tmp_path / "safe.json").write_text(json.dumps(PART))
    safe.write(tmp_path)
    once = page.read_text()
    assert "old" not in once
    assert "## Speed\n\nfast\n" in once
    assert "| scripted expert | - | - | 99.0% of 500 | 0.000 | 1.50 s |" in once
    assert "| ppo | 0 | 150 | 99.0% of 500 | 1.200 | 1.50 s |" in once
    assert "| ppo-lagrangian | 2 | 220 | 99.0% of 500 | 0.050 | 1.50 s |" in once
    assert (tmp_path / "safe.png").read_bytes()[:4] == b"\x89PNG"
    safe.write(tmp_path)
    assert page.read_text() == once


def test_without_measurements_nothing_is_written(tmp_path: Path) -> None:
    safe.write(tmp_path)
    assert list(tmp_path.iterdir()) == []
