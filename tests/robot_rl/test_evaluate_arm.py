"""Evaluation of arms: what the numbers mean, that seeds fix them, and that engines and settings are told apart."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import policies
from hardware.controllers.arm_config import ArmControllerConfig
from policies.observations import observation_size
from robot_rl import export
from robot_rl.errors import UserError
from robot_rl.evaluate import evaluate
from robot_rl.evaluate_arm import as_trained, run_arm
from robot_rl.networks import TanhPolicy
from sim.tasks import TASKS
from sim.tasks.arm import ArmTask, ArmView

REACH = TASKS["arm-reach"]
assert isinstance(REACH, ArmTask)


def after(seconds: float) -> Callable[[ArmView], torch.Tensor]:
    return lambda view: view.time > seconds - 1e-6


def task_with(**changes: object) -> ArmTask:
    return dataclasses.replace(REACH, episode_length=0.8, **changes)  # type: ignore[arg-type]


def test_success_cycle_time_return_and_cost_are_what_they_say() -> None:
    task = task_with(
        success=after(0.3),
        hold=0.2,
        reward=lambda view: {"constant": -0.5 * torch.ones_like(view.time)},
        costs=lambda view: {"constant": torch.ones_like(view.time)},
        cost_limit=3.0,
    )
    result = run_arm(None, task, (), 3, 0, "mujoco")
    assert (result["success_rate"], result["successes"], result["failure_rate"]) == (1.0, 3, 0.0)
    assert result["cycle_time_s"] == pytest.approx(0.4)
    assert result["episode_return"] == pytest.approx(4 * -0.5 + task.success_bonus)
    assert result["constraint_cost"] == pytest.approx(4.0)
    assert result["constraint_limit"] == 3.0


def test_a_time_out_is_no_failure_and_a_failure_no_time_out() -> None:
    never = run_arm(None, task_with(success=after(9.0)), (), 2, 0, "mujoco")
    assert (never["success_rate"], never["failure_rate"], never["cycle_time_s"]) == (0.0, 0.0, None)
    lost = run_arm(None, task_with(success=after(9.0), failed=after(0.2)), (), 2, 0, "mujoco")
    assert (lost["success_rate"], lost["failure_rate"]) == (0.0, 1.0)


def test_only_the_first_episode_of_each_environment_counts() -> None:
    """One environment would succeed three times in the time that another takes for one: it counts once."""

    def success(view: ArmView) -> torch.Tensor:
        return (view.time > 0.15) & (torch.arange(len(view.time)) == 0)

    result = run_arm(None, task_with(success=success, hold=0.1), (), 2, 0, "mujoco")
    assert result["success_rate"] == 0.5


def test_the_same_seed_gives_the_same_numbers_and_another_one_others(tmp_path: Path) -> None:
    first, again, other = (evaluate("expert", task_name="arm-reach", episodes=3, seed=s) for s in (1, 1, 2))
    assert {**first, "cpu_seconds": 0} == {**again, "cpu_seconds": 0}
    assert first["episode_return"] != other["episode_return"]
    json.dumps(first, allow_nan=False)
    assert first["settings"] == {"tolerance": 0.01}
    assert first["engine"] == "mujoco"


def test_a_setting_makes_the_task_easier_or_harder() -> None:
    results = [
        evaluate("expert", task_name="arm-reach", episodes=4, seed=1, settings={"tolerance": tolerance})
        for tolerance in (0.3, 0.02)
    ]
    assert results[0]["cycle_time_s"] < results[1]["cycle_time_s"]
    assert [result["settings"]["tolerance"] for result in results] == [0.3, 0.02]


def test_the_expert_succeeds_from_the_same_starts_in_the_other_engine() -> None:
    pytest.importorskip("pybullet")
    results = {
        engine: evaluate("expert", task_name="arm-reach", episodes=3, seed=5, engine=engine, randomization="none")
        for engine in ("mujoco", "pybullet")
    }
    assert all(result["success_rate"] == 1.0 and result["engine"] == engine for engine, result in results.items())
    assert abs(results["mujoco"]["cycle_time_s"] - results["pybullet"]["cycle_time_s"]) < 0.3


def test_a_bundle_runs_as_it_does_as_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "VECTORS", policies.bundle.MIN_VECTORS)
    monkeypatch.setattr(export, "_SAMPLED_PERIODS", 2)
    task = task_with()
    network = TanhPolicy(observation_size(task.terms), 3, (8,), initial_action=0.3)
    task = dataclasses.replace(task, controller=ArmControllerConfig(slow_speed=0.5, slow_upper=(1.0, 1.0, 0.2)))
    folder = export.export_bundle(tmp_path / "some", "some", task, network, {"algorithm": "none"}, {})
    assert policies.load(folder).manifest.controller == {"slow_speed": 0.5, "slow_upper": [1.0, 1.0, 0.2]}
    assert as_trained(task_with(), policies.load(folder)).controller == task.controller
    result = run_arm(policies.load(folder), task, task.randomization, 3, 4, "mujoco")
    expected = torch.zeros(3)
    from sim.factory import build_env

    env = build_env(task, 3, seed=4)
    observations, over = env.reset()["obs"], torch.zeros(3, dtype=torch.bool)
    for _ in range(env.max_episode_length):
        with torch.no_grad():
            action = network(observations)
        returned, reward, reset, _ = env.step(action)
        observations = returned["obs"]
        expected += torch.where(over, 0.0, reward)
        over |= reset
    assert result["episode_return"] == pytest.approx(float(expected.mean()), rel=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"engine": "torch"}, "engine 'torch' flies quadrotors; task 'arm-reach'"),
        ({"settings": {"tolerence": 1.0}}, "has no setting 'tolerence'; did you mean 'tolerance'"),
        ({"task_name": "arm-reech"}, "did you mean 'arm-reach'"),
        ({"task_name": "quadrotor-hover"}, "task 'quadrotor-hover' has no scripted expert; give a bundle"),
        ({"bundle": "quadrotor-hover", "task_name": "", "engine": "mujoco"}, "'mujoco' moves arms"),
        ({"randomization": "nothing.yaml"}, "neither"),
    ],
)
def test_what_cannot_be_is_said(arguments: dict[str, object], message: str) -> None:
    given = {"bundle": "expert", "task_name": "arm-reach", "episodes": 1, "seed": 0, **arguments}
    with pytest.raises(UserError, match=message):
        evaluate(**given)  # type: ignore[arg-type]
