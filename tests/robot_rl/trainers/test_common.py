import json

import pytest
import torch

import sim
from robot_rl.trainers.common import ReturnLog, TrainerConfig
from sim.isaac_gym import make
from sim.isaac_lab import IsaacLabEnv

N = 5


def test_the_log_has_the_returns_of_finished_episodes(tmp_path):
    """By hand: the return of an episode is the sum of its rewards, whatever the face's auto-reset."""
    gym_face = make(0, "quadrotor-hover", N, "cpu", "cpu", cfg={"env": {"episodeLength": 8}})
    lab_face = IsaacLabEnv(sim.make("quadrotor-hover", num_envs=N))
    lab_face.max_episode_length = 7
    for number, env in enumerate((gym_face, lab_face)):
        file = tmp_path / f"{number}.jsonl"
        ReturnLog(env, file, every=20)
        running, finished = torch.zeros(N), []
        for _ in range(20):
            result = env.step(torch.full((N, 4), 0.2))
            running = running + result[1]
            done = result[2].bool() if len(result) == 4 else result[2] | result[3]
            finished += running[done].tolist()
            running[done] = 0.0
        (row,) = [json.loads(line) for line in file.read_text().splitlines()]
        assert row["steps"] == 20 * N
        assert row["episodes"] == len(finished) == 2 * N
        assert row["return"] == pytest.approx(sum(finished) / len(finished), abs=1e-3)


def test_a_run_has_a_folder_and_the_environment_that_was_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = TrainerConfig(task="quadrotor-hover", num_envs=3, randomization="none")
    assert config.folder("skrl").resolve() == tmp_path / "runs" / "quadrotor-hover-skrl-0"
    assert (tmp_path / "runs" / "quadrotor-hover-skrl-0").is_dir()
    env = config.make()
    assert (env.num_envs, env.terms) == (3, ())
