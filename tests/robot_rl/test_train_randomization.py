"""Training under randomization that grows with success, and under disturbances that wander at a bounded rate."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

import policies
from robot_rl import cli
from robot_rl.errors import UserError
from robot_rl.ppo import PpoConfig
from robot_rl.runs import (
    TrainConfig,
    automatic_randomization,
    find_task,
    make_learner,
    restore,
    resume,
    save_checkpoint,
)
from robot_rl.train import run
from sim.adr_file import load_automatic
from sim.randomization import load_terms
from sim.tasks import TASKS

BLOCKS = re.findall(
    r"```yaml\n(.*?)```", (Path(__file__).parents[2] / "docs" / "randomization.md").read_text(), re.DOTALL
)
TINY = PpoConfig(
    updates=4, num_envs=4, horizon=6, epochs=1, minibatches=1, initial_action=0.0, hidden=(8,), critic_hidden=(8,)
)
ALL_GOOD = """
boundary_fraction: 0.8
queue_length: 2
threshold_low: -2.0
threshold_high: -1.0
parameters:
  - {parameter: link_mass, limits: [0.5, 2.0], delta: 0.05}
  - {parameter: joint_position_bias, limits: [-0.1, 0.1], delta: 0.01}
"""


@pytest.fixture
def growing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainConfig:
    """Training on short episodes in which everything counts as good."""
    monkeypatch.setitem(TASKS, "arm-reach", dataclasses.replace(TASKS["arm-reach"], episode_length=0.3))
    file = tmp_path / "adr.yaml"
    file.write_text(ALL_GOOD)
    return TrainConfig(task="arm-reach", algorithm="ppo", adr=file, ppo=TINY, evaluation_episodes=0)


def test_ranges_move_and_an_interrupted_run_ends_like_one_that_was_not(growing: TrainConfig, tmp_path: Path) -> None:
    whole, halves = (dataclasses.replace(growing, out=tmp_path / name) for name in ("whole", "halves"))
    assert whole.out is not None and halves.out is not None
    assert run(whole) == 0
    halves.out.mkdir()
    learner, _ = make_learner(halves, find_task(halves))
    assert resume(learner, halves, halves.out) is False
    for _ in range(2):
        learner.update()
    save_checkpoint(learner, halves.out)
    half_way = json.loads((halves.out / "adr.json").read_text())["ranges"]
    assert run(halves) == 0
    one, other = (load_file(config.out / "checkpoint.safetensors") for config in (whole, halves) if config.out)
    assert one.keys() == other.keys()
    assert [name for name in one if not one[name].equal(other[name]) and not one[name].isnan().any()] == []
    ends = [(config.out / "checkpoint.safetensors").read_bytes() for config in (whole, halves) if config.out]
    assert ends[0] == ends[1]

    reached = json.loads((whole.out / "adr.json").read_text())
    assert reached["ranges"] == json.loads((halves.out / "adr.json").read_text())["ranges"]
    low, high = reached["ranges"]["link_mass"]
    assert 0.5 <= low < half_way["link_mass"][0] or half_way["link_mass"][1] < high <= 2.0
    assert low < 0.95 or high > 1.05
    assert json.loads((whole.out / "config.json").read_text())["adr"] == str(growing.adr)
    rows = [json.loads(line) for line in (whole.out / "progress.jsonl").read_text().splitlines()]
    assert rows[-1]["adr/link_mass/low"] == low
    training = policies.load(whole.out / "bundle").manifest.training
    assert training["automatic"]["ranges"] == reached["ranges"]
    assert training["automatic"]["config"]["queue_length"] == 2
    learner, record = restore(whole.out)
    found = automatic_randomization(learner)
    assert found is not None and found.ranges["link_mass"] == (low, high)
    assert record["automatic"]["ranges"] == reached["ranges"]


def test_what_cannot_be_trained_so_is_refused(growing: TrainConfig, tmp_path: Path) -> None:
    for changes, message in (
        ({"algorithm": "apg", "task": "quadrotor-hover"}, "--adr needs --algorithm ppo; apg has no"),
        ({"task": "quadrotor-hover"}, "'quadrotor-hover' has no automatic randomization"),
        ({"adr": tmp_path / "missing.yaml"}, "is no file"),
        ({"randomization": "none"}, "'link_mass': no term randomizes it"),
    ):
        with pytest.raises(UserError, match=message):
            run(dataclasses.replace(growing, out=tmp_path / "no", **changes))


def test_the_command_line_takes_the_file(tmp_path: Path) -> None:
    assert cli.parse("train", ["arm-push", "--adr", "growing.yaml"]).adr == Path("growing.yaml")
    assert cli.parse("train", ["arm-push"]).adr is None


def test_the_files_of_the_documentation_are_right(tmp_path: Path) -> None:
    """PPO trains `arm-push` under disturbances of a bounded rate and with growing ranges, as the page says."""
    wandering, growing = tmp_path / "wandering.yaml", tmp_path / "growing.yaml"
    (terms,) = [block for block in BLOCKS if isinstance(yaml.safe_load(block), list)]
    (automatic,) = [block for block in BLOCKS if isinstance(yaml.safe_load(block), dict)]
    wandering.write_text(terms)
    growing.write_text(automatic)
    assert sum(term.max_rate > 0.0 for term in load_terms(wandering)) >= 4
    assert len(load_automatic(growing).parameters) == 3
    config = TrainConfig(task="arm-push", algorithm="ppo", ppo=TINY)
    for changes in ({"randomization": str(wandering)}, {"adr": growing}):
        changed = dataclasses.replace(config, **changes)  # type: ignore[arg-type]
        learner, _ = make_learner(changed, find_task(changed))
        env = learner.env  # type: ignore[attr-defined]
        before = {name: value.clone() for name, value in env.view.values.items()}
        assert all(math.isfinite(value) for value in learner.update().values())
        for term in load_terms(wandering) if "randomization" in changes else ():
            moved = (env.view.values[term.parameter] - before[term.parameter]).abs().max()
            if term.max_rate > 0.0:  # six periods of 0.1 s, and no reset
                assert 0.0 < float(moved) <= 0.6 * term.max_rate * 1.001, term.parameter
