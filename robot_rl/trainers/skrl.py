"""Train a task with skrl: `python -m robot_rl.trainers.skrl arm-reach`.

`pip install skrl==2.1.1` wraps Isaac Lab's face, with a critic that sees the privileged states. With 1.4
(`pip install "skrl==1.4.3" gym`) it is Isaac Gym's face, which later versions no longer know.
"""

from __future__ import annotations

from typing import Any

import skrl
from skrl.envs.wrappers.torch import wrap_env
from skrl.utils.runner.torch import Runner

from robot_rl.trainers.common import ReturnLog, TrainerConfig, command_line
from sim.isaac_gym import make as make_vec_task
from sim.isaac_lab import IsaacLabEnv


def make_env(config: TrainerConfig) -> tuple[Any, str]:
    """The face for the installed version, and skrl's name of its wrapper."""
    if not skrl.__version__.startswith("1."):
        return IsaacLabEnv(config.make()), "isaaclab-single-agent"
    cfg = {"physics_engine": config.engine, "task": config.isaac_task()}
    task = make_vec_task(config.seed, config.task, config.num_envs, config.device, config.device, cfg=cfg)
    task.use_spaces_of("gym")
    return task, "isaacgym-preview4"


def train_config(config: TrainerConfig, folder: str) -> dict[str, Any]:
    """Settings of skrl's runner; version 1.4 ignores what is about states."""

    def network(source: str) -> list[dict[str, Any]]:
        return [{"name": "net", "input": source, "layers": [128, 128], "activations": "elu"}]

    policy = {"class": "GaussianMixin", "clip_actions": False, "initial_log_std": -0.5, "output": "ACTIONS"}
    value = {"class": "DeterministicMixin", "clip_actions": False, "output": "ONE"}
    scaler = "RunningStandardScaler"
    return {
        "seed": config.seed,
        "models": {
            "separate": True,
            "policy": {**policy, "network": network("OBSERVATIONS")},
            "value": {**value, "network": network("STATES")},
        },
        "memory": {"class": "RandomMemory", "memory_size": -1},
        "agent": {
            "class": "PPO",
            "rollouts": config.horizon,
            "learning_epochs": 5,
            "mini_batches": 4,
            "discount_factor": 0.98,
            "learning_rate": 1e-3,
            "learning_rate_scheduler": "KLAdaptiveLR",
            "learning_rate_scheduler_kwargs": {"kl_threshold": 0.01},
            "observation_preprocessor": scaler,
            "observation_preprocessor_kwargs": None,
            "state_preprocessor": scaler,
            "state_preprocessor_kwargs": None,
            "value_preprocessor": scaler,
            "value_preprocessor_kwargs": None,
            "grad_norm_clip": 1.0,
            "value_loss_scale": 2.0,
            "time_limit_bootstrap": True,
            "experiment": {"directory": folder, "experiment_name": "run"},
        },
        "trainer": {
            "class": "SequentialTrainer",
            "timesteps": config.iterations * config.horizon,
            "disable_progressbar": True,
        },
    }


def main() -> None:
    """Train as the command line asks for."""
    config = command_line(__doc__)
    folder = config.folder("skrl")
    env, wrapper = make_env(config)
    ReturnLog(env, folder / "returns.jsonl", config.horizon)
    Runner(wrap_env(env, wrapper=wrapper), train_config(config, str(folder))).run("train")
    env.close()


if __name__ == "__main__":
    main()
