"""Training runs: what they leave behind, and what a kill in the middle costs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import policies
from robot_rl.apg import ApgConfig
from robot_rl.errors import UserError
from robot_rl.export import ExportConfig, sample_observations
from robot_rl.export import run as export
from robot_rl.ppo import PpoConfig
from robot_rl.runs import TrainConfig, restore
from robot_rl.train import run
from sim.tasks import TASKS

TINY = ApgConfig(updates=3, num_envs=8, horizon=4, hidden=(8,), compile="off")
SMALL_PPO = PpoConfig(updates=2, num_envs=16, horizon=8, hidden=(8,), critic_hidden=(8,))


def config(out: Path, **changes: object) -> TrainConfig:
    settings = {"task": "quadrotor-hover", "out": out, "evaluation_episodes": 4, "apg": TINY, "ppo": SMALL_PPO}
    return TrainConfig(**{**settings, **changes})


@pytest.mark.parametrize("algorithm", ["apg", "ppo"])
@pytest.mark.parametrize("task", ["quadrotor-hover", "quadrotor-track"])
def test_a_run_leaves_progress_checkpoint_evaluation_and_a_bundle(tmp_path: Path, algorithm: str, task: str) -> None:
    assert run(config(tmp_path, algorithm=algorithm, task=task)) == 0
    rows = [json.loads(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines()]
    assert [row["update"] for row in rows] == list(range(1, len(rows) + 1))
    assert all({"wall_s", "cpu_s", "loss"} <= row.keys() for row in rows)
    assert policies.check_bundle(tmp_path / "bundle") == []
    manifest = policies.load(tmp_path / "bundle").manifest
    assert manifest.training["algorithm"] == algorithm
    assert manifest.training["config"]["updates"] == len(rows)
    assert len(manifest.training["terms"]) == len(TASKS[task].randomization)
    assert manifest.evaluation["episodes"] == 4
    assert list((tmp_path / "tensorboard").iterdir())
    assert "mass" in (tmp_path / "randomization.txt").read_text()


def test_torch_and_onnx_agree(tmp_path: Path) -> None:
    run(config(tmp_path, evaluation_episodes=0))
    learner, _ = restore(tmp_path)
    inputs = sample_observations(learner.task, learner.policy(), 300, seed=7)
    session = policies.bundle.open_session(tmp_path / "bundle" / "policy.onnx")
    exported = session.run(["action"], {"observation": inputs.numpy()})[0][:, 0]
    with torch.no_grad():
        difference = (learner.policy()(inputs) - torch.from_numpy(exported)).abs().max()
    assert difference <= 1e-5


def test_killed_run_goes_on_and_ends_like_one_that_was_not(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    settings = ["--apg.updates", "150", "--apg.num-envs", "8", "--apg.horizon", "6", "--apg.compile", "off"]
    settings += ["--evaluation-episodes", "0", "--checkpoint-seconds", "0.2"]
    command = [sys.executable, "-m", "robot_rl.cli", "train", "quadrotor-hover", *settings, "--out"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*command, str(killed)], env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60.0
    while not (killed / "checkpoint.safetensors").is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (killed / "bundle").exists()
    again = subprocess.run([*command, str(killed)], env=environment, capture_output=True, text=True, check=True)
    assert "resuming" in again.stderr
    subprocess.run([*command, str(whole)], env=environment, capture_output=True, check=True)
    assert (killed / "checkpoint.safetensors").read_bytes() == (whole / "checkpoint.safetensors").read_bytes()
    assert len((killed / "progress.jsonl").read_text().splitlines()) == 150


def test_other_settings_in_the_same_folder_are_refused(tmp_path: Path) -> None:
    run(config(tmp_path, evaluation_episodes=0))
    with pytest.raises(UserError, match="other settings"):
        run(config(tmp_path, evaluation_episodes=0, seed=1))


def test_unknown_task_and_randomization_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="quadrotor-hover"):
        run(config(tmp_path, task="quadrotor-hovr"))
    with pytest.raises(UserError, match="neither"):
        run(config(tmp_path, randomization="defualt"))


def test_export_writes_the_checkpoint_of_a_run(tmp_path: Path) -> None:
    run(config(tmp_path / "run", evaluation_episodes=0))
    assert export(ExportConfig(run=tmp_path / "run", out=tmp_path / "other")) == 0
    assert policies.check_bundle(tmp_path / "other") == []
    with pytest.raises(UserError, match="no training run"):
        export(ExportConfig(run=tmp_path))
