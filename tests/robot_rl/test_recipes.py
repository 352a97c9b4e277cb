"""Recipes: every task has one that trains, and the command line changes what it names and nothing else."""

from __future__ import annotations

import dataclasses
import math

import pytest

from robot_rl import cli
from robot_rl.recipes import RECIPES, recipe
from robot_rl.runs import find_task, make_learner
from robot_rl.train import defaults
from sim.tasks import TASKS
from sim.tasks.arm import ArmTask

ARMS = sorted(name for name, task in TASKS.items() if isinstance(task, ArmTask))
TINY = {"updates": 1, "num_envs": 2, "horizon": 2, "epochs": 1, "minibatches": 1}


def test_recipes_are_of_tasks_that_exist() -> None:
    assert set(RECIPES) <= set(TASKS)
    assert all(config.task == name for name, config in RECIPES.items())
    assert recipe("quadrotor-hover").algorithm == "apg"
    assert all(recipe(name).task == name and recipe(name).algorithm != "apg" for name in ARMS)


@pytest.mark.parametrize("name", ARMS)
def test_the_recipe_of_every_arm_task_makes_an_update(name: str) -> None:
    config = recipe(name)
    config = dataclasses.replace(
        config,
        ppo=dataclasses.replace(config.ppo, **TINY),
        ppo_lagrangian=dataclasses.replace(config.ppo_lagrangian, **TINY),
    )
    learner, total = make_learner(config, find_task(config))
    metrics = learner.update()
    assert total == learner.updates == 1
    assert math.isfinite(metrics["loss"]) and metrics["env_steps"] == 4.0
    assert -1.5 < metrics["reward"] <= 20.0


def test_the_command_line_begins_with_the_recipe_and_changes_what_it_names() -> None:
    plain = cli.parse("train", ["arm-reach"])
    assert plain == recipe("arm-reach")
    changed = cli.parse("train", ["arm-reach", "--seed", "3", "--ppo.updates", "7"])
    assert changed == dataclasses.replace(plain, seed=3, ppo=dataclasses.replace(plain.ppo, updates=7))
    assert defaults(["--seed", "3", "arm-push"]) == recipe("arm-push")
    assert defaults(["arm-pusch"]) is None
