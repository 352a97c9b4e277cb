"""Evaluation: its keys, its definition of a crash, and what it says of policies that are known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import policies
from policies.observations import observation_size
from robot_rl.errors import UserError
from robot_rl.evaluate import EvaluateConfig, evaluate, parse_settings, run
from robot_rl.evaluate_quadrotor import _crashed
from robot_rl.export import export_bundle
from robot_rl.networks import TanhPolicy
from sim.tasks import TASKS


def test_crash_is_far_away_once_or_off_at_the_end_or_not_finite() -> None:
    error = torch.zeros(5, 5)
    error[2, 1] = 10.5
    error[-1, 2] = 1.5
    error[1, 3] = float("nan")
    error[2, 4] = 9.0
    assert _crashed(error).tolist() == [False, True, True, True, False]


def test_motors_off_crash_every_time(tmp_path: Path) -> None:
    task = TASKS["quadrotor-hover"]
    network = TanhPolicy(observation_size(task.terms), 4, (4,), initial_action=-0.999)
    bundle = export_bundle(tmp_path / "off", "off", task, network, {"algorithm": "none"}, {})
    metrics = evaluate(bundle, episodes=20, seed=0)
    assert metrics["crash_rate"] == 1.0
    assert metrics["steady_rmse_m"] is None


@pytest.mark.parametrize("name", ["quadrotor-hover", "quadrotor-track"])
def test_shipped_bundles_have_the_keys_and_keep_their_promise(name: str) -> None:
    metrics = evaluate(name, episodes=200, seed=11)
    expected = {"task", "bundle", "engine", "randomization", "episodes", "seed", "control_rate_hz"}
    assert expected <= metrics.keys()
    assert metrics["crashes"] <= 2
    assert metrics["steady_rmse_m"] <= 0.03
    if name == "quadrotor-track":
        assert metrics["tracking_rmse_m"] <= 0.12
    json.dumps(metrics, allow_nan=False)


def test_nominal_model_is_held_closely() -> None:
    metrics = evaluate("quadrotor-hover", episodes=200, seed=3, randomization="none")
    assert metrics["crashes"] == 0
    assert metrics["steady_rmse_m"] <= 0.015


def test_same_seed_same_metrics_and_gentler_starts_are_recorded(tmp_path: Path) -> None:
    first, second = (evaluate("quadrotor-hover", episodes=16, seed=4) for _ in range(2))
    assert {**first, "cpu_seconds": 0} == {**second, "cpu_seconds": 0}
    file = tmp_path / "metrics.json"
    assert run(EvaluateConfig(bundle="quadrotor-hover", episodes=4, set=("tilt=0.1",), json=file)) == 0
    assert json.loads(file.read_text())["settings"]["tilt"] == 0.1


def test_wrong_settings_are_named() -> None:
    with pytest.raises(UserError, match="period"):
        evaluate("quadrotor-hover", episodes=1, seed=0, settings=parse_settings(("perod=3",)))
    with pytest.raises(UserError, match="not a number"):
        parse_settings(("period=fast",))
    with pytest.raises(policies.BundleError, match="quadrotor-hover"):
        evaluate("quadrotor-hoover", episodes=1, seed=0)
    with pytest.raises(UserError, match="neither"):
        evaluate("quadrotor-hover", episodes=1, seed=0, randomization="nothing.yaml")
