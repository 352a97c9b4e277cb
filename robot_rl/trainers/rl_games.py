"""Train a task with rl_games: `python -m robot_rl.trainers.rl_games arm-reach`.

`pip install rl-games==1.6.5`, in an environment of its own: it wants psutil 5.
"""

from __future__ import annotations

from typing import Any

from rl_games.common import env_configurations, vecenv
from rl_games.common.ivecenv import IVecEnv
from rl_games.torch_runner import Runner
from torch import Tensor

from robot_rl.trainers.common import ReturnLog, TrainerConfig, command_line
from sim.isaac_gym import VecTask, make


class RlGamesEnv(IVecEnv):
    """A `VecTask` as rl_games calls it."""

    def __init__(self, config_name: str, num_actors: int, **settings: Any) -> None:
        """Create the environment that is registered as `config_name`."""
        self.env: VecTask = env_configurations.configurations[config_name]["env_creator"](**settings)

    def step(self, actions: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor, dict[str, Any]]:
        """Carry `actions` (N, num_actions) out."""
        return self.env.step(actions)

    def reset(self) -> dict[str, Tensor]:
        """The first observations, which are zero."""
        return self.env.reset()

    def get_number_of_agents(self) -> int:
        """Always 1."""
        return self.env.num_agents

    def get_env_info(self) -> dict[str, Any]:
        """Spaces of one environment."""
        info = {"action_space": self.env.action_space, "observation_space": self.env.observation_space}
        states = {"state_space": self.env.state_space} if self.env.num_states > 0 else {}
        return {**info, **states, "agents": 1, "value_size": 1}

    def set_train_info(self, env_frames: int, *args: Any, **kwargs: Any) -> None:
        """How many frames the learner has trained on."""
        self.env.set_train_info(env_frames, *args, **kwargs)

    def get_env_state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return self.env.get_env_state()

    def set_env_state(self, env_state: dict[str, Any] | None) -> None:
        """From a checkpoint."""
        self.env.set_env_state(env_state)


def train_config(config: TrainerConfig, folder: str) -> dict[str, Any]:
    """Settings of rl_games's runner."""
    mlp = {"units": [128, 128], "activation": "elu", "initializer": {"name": "default"}}
    space = {
        "mu_activation": "None",
        "sigma_activation": "None",
        "mu_init": {"name": "default"},
        "sigma_init": {"name": "const_initializer", "val": -0.5},
        "fixed_sigma": True,
    }
    network = {"name": "actor_critic", "separate": True, "space": {"continuous": space}, "mlp": mlp}
    optimization = {
        "learning_rate": 1e-3,
        "lr_schedule": "adaptive",
        "kl_threshold": 0.01,
        "minibatch_size": config.num_envs * config.horizon // 4,
        "mini_epochs": 5,
        "truncate_grads": True,
        "grad_norm": 1.0,
    }
    ppo = {
        "gamma": 0.98,
        "tau": 0.95,
        "e_clip": 0.2,
        "clip_value": True,
        "critic_coef": 2.0,
        "entropy_coef": 0.0,
        "bounds_loss_coef": 1e-3,
        "normalize_input": True,
        "normalize_value": True,
        "normalize_advantage": True,
        "value_bootstrap": True,  # uses time_outs
    }
    run = {
        "name": config.task,
        "full_experiment_name": "run",
        "train_dir": folder,
        "env_name": "rlgpu",
        "num_actors": config.num_envs,
        "horizon_length": config.horizon,
        "max_epochs": config.iterations,
        "score_to_win": 1e9,
        "save_best_after": 20,
        "save_frequency": 100,
        "reward_shaper": {"scale_value": 1.0},
        "device": config.device,
        "device_name": config.device,
        "torch_compile": False,  # on a CPU it costs more than it saves
    }
    return {
        "params": {
            "seed": config.seed,
            "torch_threads": 1,
            "algo": {"name": "a2c_continuous"},
            "model": {"name": "continuous_a2c_logstd"},
            "network": network,
            "config": {**run, **optimization, **ppo},
        }
    }


def main() -> None:
    """Train as the command line asks for."""
    config = command_line(__doc__)
    folder = config.folder("rl_games")

    def create(**_: Any) -> VecTask:
        cfg = {
            "physics_engine": config.engine,
            "env": {"clipObservations": 10.0},
            "task": config.isaac_task(),
        }
        env = make(config.seed, config.task, config.num_envs, config.device, config.device, cfg=cfg)
        ReturnLog(env, folder / "returns.jsonl", config.horizon)
        return env

    vecenv.register("RLGPU", RlGamesEnv)
    env_configurations.register("rlgpu", {"vecenv_type": "RLGPU", "env_creator": create})
    runner = Runner()
    runner.load(train_config(config, str(folder)))
    runner.run({"train": True, "play": False})


if __name__ == "__main__":
    main()
