"""What actor, learner and evaluation build alike from a run's config."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hardware.descriptions import load_arm
from hardware.teleop.device import Device
from policies.actions import action_size
from policies.observations import observation_size
from robot_rl.episodes import load_episodes
from robot_rl.errors import UserError, unknown_name
from robot_rl.evaluate import randomization_terms, set_task
from robot_rl.hil.algorithms import ALGORITHMS
from robot_rl.hil.algorithms.base import Algorithm, Sizes
from robot_rl.hil.config import HilConfig
from robot_rl.hil.devices import open_device
from robot_rl.hil.failure import cross_validate, fit, usable
from robot_rl.hil.giving_up import Watch, choose_rule
from robot_rl.hil.judged import JudgedPlant, check_judge, endless
from robot_rl.hil.layout import action_layout
from robot_rl.hil.operators import Operator, ScriptedOperator
from robot_rl.hil.person import PersonOperator
from robot_rl.hil.plant import Moment, Plant, SimulatedPlant, expert_action
from robot_rl.hil.practise import PractisingPlant
from robot_rl.hil.relative import relative
from robot_rl.hil.restart import fit_run_times
from robot_rl.hil.schema import Schema
from robot_rl.rewards.classifier import RewardClassifier
from robot_rl.seeing import seen_by, without_poses
from sim.tasks import TASKS
from sim.tasks.arm import ArmTask

START_SEED = 10_000
"""Seed 0's robot: starts that evaluation, which counts from 0, never draws."""


def find_arm_task(config: HilConfig) -> ArmTask:
    """The task with the settings and the randomization that the config names.

    Raises:
        UserError: There is none, or it has no arm.
    """
    if config.task not in TASKS:
        raise unknown_name("task", config.task, TASKS)
    task = TASKS[config.task]
    if not isinstance(task, ArmTask):
        raise UserError(f"task {config.task!r} has no arm; `robot-rl hil` trains arms, such as arm-pick-lift")
    task = set_task(task, config.settings)
    task = dataclasses.replace(task, randomization=randomization_terms(task, config.randomization))
    if config.relative_frames:
        try:
            task = relative(task)
        except ValueError as error:
            raise UserError(str(error)) from error
    if not config.actor.cameras:
        return task
    side = config.actor.resolution
    if not 8 <= side <= 512:
        raise UserError(f"--actor.resolution is {side}; pictures have 8 to 512 pixels a side")
    return without_poses(seen_by(task, {name: (side, side) for name in config.actor.cameras}))


def sizes_of(config: HilConfig, task: ArmTask) -> Sizes:
    """What algorithms need to know."""
    shapes = {camera.name: (camera.height, camera.width, 3) for camera in task.scene.cameras}
    return Sizes(
        observation=observation_size(task.terms),
        layout=action_layout(task.action),
        images={name: shapes[name] for name in config.actor.cameras},
    )


def schema_of(config: HilConfig, task: ArmTask) -> Schema:
    """What records of the run look like."""
    return Schema(
        observation=observation_size(task.terms),
        action=action_size(task.action),
        images=dict(sizes_of(config, task).images),
        task=task.name,
        robot=load_arm(task.robot).interface.name,
        control_rate_hz=task.control_rate_hz,
    )


def make_algorithm(config: HilConfig, task: ArmTask) -> Algorithm:
    """A fresh learner; in the actor, what acts is part of it."""
    settings = getattr(config, config.algorithm.replace("-", "_"))
    if config.actor.cameras and not hasattr(settings, "pixels"):
        able = sorted(name for name in ALGORITHMS if hasattr(getattr(config, name.replace("-", "_")), "pixels"))
        raise UserError(f"{config.algorithm} learns from states only; from pictures learn {', '.join(able)}")
    return ALGORITHMS[config.algorithm](sizes_of(config, task), settings, config.seed)


def make_plant(
    config: HilConfig, task: ArmTask, life: int, pace: Callable[[], None], stopping: Callable[[], bool]
) -> Plant:
    """The simulated robot.

    Args:
        config: Of the run.
        task: What it does.
        life: Counts the actor's starts, so that a restarted one meets other episodes.
        pace: Waits for the end of a control period: for a plant that drives by itself while it resets.
        stopping: Whether to come to an end.
    """
    seed = START_SEED + 1000 * config.seed + life
    if config.actor.reward is None:
        plant = SimulatedPlant(task, seed=seed, cameras=config.actor.cameras, looks=config.actor.looks)
        return _practising(config, plant, task, seed, pace, stopping)
    judge = RewardClassifier.load(config.actor.reward)
    check_judge(judge, config.actor.cameras, config.actor.resolution)
    # Nothing but the judge ends an episode well: the task's own success is told to people only.
    plant = SimulatedPlant(endless(task), seed=seed, cameras=config.actor.cameras, looks=config.actor.looks)
    practising = _practising(config, plant, task, seed, pace, stopping)
    return JudgedPlant(practising, judge, truth=lambda: bool(task.success(plant.env.view)))


def _practising(
    config: HilConfig,
    plant: SimulatedPlant,
    task: ArmTask,
    seed: int,
    pace: Callable[[], None],
    stopping: Callable[[], bool],
) -> Plant:
    if not config.actor.practise:
        return plant
    return PractisingPlant(plant, task, seed=seed, pace=pace, stopping=stopping)


def memory_rows(config: HilConfig, schema: Schema, most: int = 200_000) -> int:
    """Steps that fit into the memory."""
    size = sum(height * width * 3 for height, width, _ in schema.images.values())
    return min(most, int(config.learner.picture_memory * 1e9) // size) if size else most


def make_watch(config: HilConfig, task: ArmTask) -> Watch | None:
    """What gives hopeless episodes up, fitted to recorded ones; None where the run has none.

    Raises:
        UserError: The recorded episodes are too few, or all ended alike.
    """
    if config.actor.give_up is None:
        return None
    episodes = usable(load_episodes(config.actor.give_up))
    judged = cross_validate(episodes)
    seconds = [len(episode) * task.period for episode in episodes]
    runs = fit_run_times(seconds, [episode.success for episode in episodes], task.episode_length)
    rule, _ = choose_rule(judged, runs, config.actor.reset_seconds)
    return Watch(fit(episodes, limit=task.episode_length), rule)


def make_people(config: HilConfig, task: ArmTask, life: int) -> tuple[Operator, Operator, Device | None]:
    """Who demonstrates, who corrects, and the device that they hold, which the caller closes."""
    if config.actor.operator != "scripted":
        device = open_device(config.actor.operator)
        teacher = PersonOperator(device, task.action, task.period, demonstrates=True)
        return teacher, PersonOperator(device, task.action, task.period), device
    generator = np.random.default_rng((config.seed, life, 1))
    layout = action_layout(task.action)

    def expert(moment: Moment) -> np.ndarray:
        return expert_action(task, moment.state, moment.setpoint)

    settings = config.actor.scripted
    demonstrator = ScriptedOperator(dataclasses.replace(settings, rule="always"), layout, expert, generator)
    return demonstrator, ScriptedOperator(settings, layout, expert, generator), None


def keys_folder(folder: Path) -> Path:
    """Where a run keeps its keys."""
    return folder / "keys"
