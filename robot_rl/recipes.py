"""Settings that were tried: the algorithm and the budget with which `robot-rl train TASK` begins.

docs/benchmarks says what each of them reaches; the command line changes any of their settings.
"""

from __future__ import annotations

import dataclasses

from robot_rl.ppo import PpoConfig
from robot_rl.ppo_lagrangian import PpoLagrangianConfig
from robot_rl.runs import TrainConfig

_ARM = PpoConfig(
    updates=400,
    num_envs=128,
    horizon=16,
    discount=0.97,
    gae_lambda=0.95,
    epochs=6,
    minibatches=4,
    learning_rate=2e-3,
    schedule="linear",
    initial_action=0.0,
    initial_std=0.5,
    entropy_weight=0.001,
    hidden=(128, 128),
    critic_hidden=(128, 128),
)
_PUSH = dataclasses.replace(_ARM, updates=300)
_REACH = dataclasses.replace(
    _ARM, updates=50, discount=0.95, gae_lambda=0.9, learning_rate=1e-3, initial_std=0.4, entropy_weight=0.0
)
_REACH_REGION = dataclasses.replace(_REACH, updates=80, learning_rate=2e-3, gae_lambda=0.95, clip=0.3, min_std=0.25)
_REACH_OVER = PpoLagrangianConfig(
    **{
        **dataclasses.asdict(_REACH_REGION),
        "updates": 150,
        "clip": 0.2,
        # The way around is found late: by then a rate that falls to 0 would leave too little of it.
        "learning_rate": 1.5e-3,
        "schedule": "constant",
    },
    cost_limit=0.05,  # half of the task's: the cost of 128 episodes, which is what the controller sees, is a rough one
    integral_gain=0.07,
    proportional_gain=0.5,
)

RECIPES: dict[str, TrainConfig] = {
    config.task: config
    for config in (
        TrainConfig(task="quadrotor-hover"),
        TrainConfig(task="quadrotor-track"),
        TrainConfig(task="arm-reach", algorithm="ppo", ppo=_REACH),
        TrainConfig(task="arm-push", algorithm="ppo", ppo=_PUSH),
        TrainConfig(
            task="arm-reach-region",
            algorithm="ppo-lagrangian",
            ppo=_REACH_REGION,  # `--algorithm ppo` ignores the region
            ppo_lagrangian=_REACH_OVER,
        ),
    )
}
"""By task."""


def recipe(task: str) -> TrainConfig:
    """The settings for a task; one without a recipe of its own gets those of PPO on an arm."""
    if task in RECIPES:
        return RECIPES[task]
    return TrainConfig(task=task, algorithm="ppo", ppo=_ARM)
