"""Train a task with rsl_rl 5: `python -m robot_rl.trainers.rsl_rl arm-reach`.

`pip install rsl-rl-lib==5.5.1`. The critic sees the privileged states.
"""

from __future__ import annotations

from typing import Any

import torch
from rsl_rl.env import VecEnv
from rsl_rl.runners import OnPolicyRunner
from tensordict import TensorDict
from torch import Tensor

from robot_rl.trainers.common import ReturnLog, TrainerConfig, command_line
from sim.isaac_lab import IsaacLabEnv


class RslRlEnv(VecEnv):
    """Isaac Lab's face with the four results that rsl_rl expects of a step."""

    def __init__(self, env: IsaacLabEnv) -> None:
        """Put the face on `env`."""
        self.unwrapped = env
        self.num_envs, self.num_actions, self.device = env.num_envs, env.num_actions, env.device
        self.max_episode_length, self.cfg = env.max_episode_length, env.cfg

    @property
    def episode_length_buf(self) -> Tensor:
        """Steps (N,) since each episode began; rsl_rl assigns random ones."""
        return self.unwrapped.episode_length_buf

    @episode_length_buf.setter
    def episode_length_buf(self, lengths: Tensor) -> None:
        self.unwrapped.episode_length_buf = lengths

    def get_observations(self) -> TensorDict:
        """Observations of now, a tensor per group."""
        return self._group(self.unwrapped.get_observations())

    def step(self, actions: Tensor) -> tuple[TensorDict, Tensor, Tensor, dict[str, Any]]:
        """Carry `actions` (N, num_actions) out."""
        observations, reward, terminated, truncated, extras = self.unwrapped.step(actions)
        return self._group(observations), reward, terminated | truncated, extras

    def _group(self, observations: dict[str, Tensor]) -> TensorDict:
        return TensorDict(observations, batch_size=[self.num_envs], device=self.device)


def train_config(config: TrainerConfig) -> dict[str, Any]:
    """Settings of rsl_rl's runner."""
    network = {"class_name": "MLPModel", "hidden_dims": [128, 128], "activation": "elu", "obs_normalization": True}
    return {
        "seed": config.seed,
        "num_steps_per_env": config.horizon,
        "save_interval": 100,
        "obs_groups": {"actor": ["policy"], "critic": ["critic"]},
        "actor": {**network, "distribution_cfg": {"class_name": "GaussianDistribution", "init_std": 0.6}},
        "critic": dict(network),
        "algorithm": {
            "class_name": "PPO",
            "num_learning_epochs": 5,
            "num_mini_batches": 4,
            "learning_rate": 1e-3,
            "entropy_coef": 0.0,
            "gamma": 0.98,
        },
    }


def main() -> None:
    """Train as the command line asks for."""
    config = command_line(__doc__)
    torch.manual_seed(config.seed)
    folder = config.folder("rsl_rl")
    env = IsaacLabEnv(config.make())
    ReturnLog(env, folder / "returns.jsonl", config.horizon)
    runner = OnPolicyRunner(RslRlEnv(env), train_config(config), log_dir=str(folder), device=config.device)
    runner.learn(config.iterations, init_at_random_ep_len=True)
    env.close()


if __name__ == "__main__":
    main()
