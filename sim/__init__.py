"""Simulated robots, tasks, batched environments and domain randomization.

Importing it also registers the Gymnasium environments, e.g. `robot_rl/QuadrotorHover-v0`.
"""

import sim.quadrotor as quadrotor
from sim.check import check_vec_env
from sim.environment import QuadrotorEnv
from sim.factory import make
from sim.gymnasium_env import register
from sim.randomization import RandomizationTerm
from sim.tasks import find_task, list_tasks

register()

__all__ = [
    "QuadrotorEnv",
    "RandomizationTerm",
    "check_vec_env",
    "find_task",
    "list_tasks",
    "make",
    "quadrotor",
]
