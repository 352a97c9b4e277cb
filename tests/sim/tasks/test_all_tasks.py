"""One loop over all tasks: each is listed, keeps the contract, is exported, and has an expert where it promises one."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import gymnasium
import pytest
import torch

import policies
import sim
from hardware.descriptions import load_description
from policies.actions import action_size
from policies.observations import observation_size
from robot_rl import cli, export, listing
from robot_rl.evaluate_arm import act
from robot_rl.networks import TanhPolicy
from sim.check import check_vec_env
from sim.factory import build_env
from sim.gymnasium_env import environment_id
from sim.randomization import RandomizationTerm
from sim.tasks import TASKS, Task
from sim.tasks.arm import ArmTask

ALL = sorted(TASKS)
ARMS = [name for name in ALL if isinstance(TASKS[name], ArmTask)]
QUADROTORS = [name for name in ALL if name not in ARMS]


def short(name: str, periods: int) -> Task:
    """The task with episodes of so many control periods."""
    task = TASKS[name]
    return dataclasses.replace(task, episode_length=periods / task.control_rate_hz)


def still(term: RandomizationTerm) -> RandomizationTerm:
    """The term with a range of zero about the nominal value."""
    return dataclasses.replace(term, operation="add", distribution="uniform", low=0.0, high=0.0)


def test_names_are_unique_and_those_that_are_listed_and_registered() -> None:
    assert all(task.name == name for name, task in TASKS.items())
    listed = listing.list_tasks()
    assert sorted(entry.name for entry in listed) == ALL
    assert all(len(entry.summary) > 10 for entry in listed)
    registered = {environment_id(name): name for name in ALL}
    assert len(registered) == len(ALL)
    for identifier, name in registered.items():
        assert gymnasium.spec(identifier).kwargs["task"] == name
    assert ARMS and QUADROTORS


@pytest.mark.parametrize("name", ARMS)  # the quadrotors' are in tests/sim/test_environment.py
def test_a_task_keeps_the_contract(name: str) -> None:
    """Seeds, finite numbers, resets, time limits, ignored and clipped actions: see `sim.check`."""
    env = build_env(short(name, 3), 2, seed=3)
    assert check_vec_env(env, seed=3) == []
    env.close()


@pytest.mark.parametrize("name", ALL)
def test_without_randomization_is_the_same_as_ranges_of_zero(name: str) -> None:
    task = TASKS[name]
    actions = 2.0 * torch.rand(3, 2, action_size(task.action), generator=torch.Generator().manual_seed(0)) - 1.0
    runs = []
    for terms in ((), tuple(still(term) for term in task.randomization)):
        env = build_env(task, 2, seed=1, randomization=terms)
        rows = [env.reset()["obs"]]
        for action in actions:
            observations, reward, _, _ = env.step(action)
            rows += [observations["obs"], reward]
        runs.append(rows)
        assert all(row["effect"] == "zero range: does nothing" for row in env.randomization_table())
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
    assert not torch.equal(runs[0][1], runs[0][3]), "nothing moved, so nothing was compared"


@pytest.mark.parametrize("name", ALL)
def test_an_untrained_network_is_exported_and_sees_what_the_environment_shows(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "VECTORS", policies.bundle.MIN_VECTORS)
    monkeypatch.setattr(export, "_SAMPLED_PERIODS", 2)
    task = TASKS[name]
    network = TanhPolicy(observation_size(task.terms), action_size(task.action), (8,), initial_action=0.1)
    folder = export.export_bundle(tmp_path / name, name, task, network, {"algorithm": "none"}, {})
    robot = load_description(task.robot).interface
    assert policies.check_bundle(folder, robot) == []
    policy = policies.load(folder, robot)
    assert policy.manifest.task == name
    if not isinstance(task, ArmTask):
        return  # tests/sim/test_quadrotor.py compares their observations
    env = build_env(task, 2, seed=0)
    observations = env.reset()["obs"]
    for _ in range(3):
        action = act(policy, task, env.measured, env.setpoint)
        assert policy.last_observation is not None
        torch.testing.assert_close(torch.from_numpy(policy.last_observation), observations, rtol=1e-4, atol=2e-5)
        observations = env.step(action)[0]["obs"]
    env.close()


@pytest.mark.parametrize("name", ARMS)
def test_the_command_line_runs_the_expert(name: str, tmp_path: Path) -> None:
    file = tmp_path / "metrics.json"
    assert cli.main(["eval", "expert", "--task", name, "--episodes", "4", "--json", str(file)]) == 0
    metrics = json.loads(file.read_text())
    assert (metrics["task"], metrics["bundle"], metrics["episodes"]) == (name, "expert", 4)
    assert metrics["success_rate"] >= 0.5
    assert 0.0 < metrics["cycle_time_s"] <= TASKS[name].episode_length
    assert ("constraint_cost" in metrics) == (TASKS[name].costs is not None)


@pytest.mark.parametrize("name", QUADROTORS)
def test_the_command_line_says_that_there_is_no_expert(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["eval", "expert", "--task", name, "--episodes", "4"]) == 2
    assert f"task '{name}' has no scripted expert; give a bundle" in capsys.readouterr().err


def test_an_unknown_task_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'arm-reach'"):
        sim.make("arm-reech")
