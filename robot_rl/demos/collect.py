"""`robot-rl demos collect`: a task's scripted expert, or somebody of less skill, demonstrates it in simulation."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from hardware.descriptions import load_arm
from policies.actions import action_size
from policies.observations import observation_size
from policies.types import ArmState
from robot_rl.demos.configs import CollectConfig
from robot_rl.demos.dataset import open_set
from robot_rl.demos.flight import flight_stand
from robot_rl.demos.grades import choose_grade, make_operator
from robot_rl.demos.plants import SeededPlant, build_plant, describe_terms, find_task
from robot_rl.demos.stand import Stand
from robot_rl.errors import UserError
from robot_rl.hil.layout import action_layout
from robot_rl.hil.operators import Operator
from robot_rl.hil.plant import Moment, expert_action
from robot_rl.hil.records import Record
from robot_rl.hil.rollout import Rollout
from robot_rl.hil.schema import Schema
from robot_rl.recording import EpisodeWriter, RecordingError, WriterSettings, messages
from sim.tasks import TASKS
from sim.tasks.quadrotor import QuadrotorTask

SEEDS = 100_000
"""Seeds of one collection; those of the next `--seed` begin behind them. Evaluation draws its starts elsewhere."""
_PATIENT = WriterSettings(queue_bytes=1 << 36)
"""Whoever simulates can wait for the disk at the end of an episode: nothing is dropped."""
LEAST_SUCCESS = 0.05
"""Share of the attempts that must succeed once there were a hundred."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Attempt:
    """One demonstration."""

    info: dict[str, Any]
    """What replay needs, and by whom it is."""
    records: list[Record]
    """Its steps."""
    measured: list[dict[str, Any]]
    """Messages of what was measured before each step, by topic."""

    @property
    def success(self) -> bool:
        """Whether the task was done."""
        return self.records[-1].success


def run(config: CollectConfig) -> int:
    """Record until there are as many episodes as asked for."""
    if config.episodes < 1:
        raise UserError(f"--episodes is {config.episodes}; at least 1 is recorded")
    stand = make_stand(config)
    tried = 0
    try:
        before, first = already_there(config, stand.schema)
        kept = before
        if kept >= config.episodes:
            sys.stdout.write(f"{config.out}: has {kept} episodes already, as many as --episodes asks for\n")
            return 0
        with EpisodeWriter(config.out, stand.schema, _PATIENT) as writer:
            for attempt in attempts(config, stand, first):
                tried += 1
                if attempt.success or config.failures == "keep":
                    write(writer, attempt)
                    kept += 1
                    if kept % 10 == 0 or kept == config.episodes:
                        sys.stderr.write(f"{kept} of {config.episodes} episodes in {tried} attempts\n")
                if kept == config.episodes:
                    break
                if tried >= 100 and kept - before < LEAST_SUCCESS * tried:
                    raise UserError(
                        f"{kept - before} of {tried} attempts at {config.task!r} succeeded; that is less than"
                        f" {LEAST_SUCCESS:.0%}: choose a better --quality, or --failures keep"
                    )
    finally:
        stand.plant.close()
    sys.stdout.write(f"{config.out}: {kept} episodes of quality {config.quality!r}, {tried} attempts\n")
    return 0


def make_stand(config: CollectConfig) -> Stand:
    """Robot and expert of the task that the config names.

    Raises:
        UserError: There is no such task, camera, setting or randomization.
    """
    if isinstance(TASKS.get(config.task), QuadrotorTask):
        return flight_stand(config)
    task = find_task(config.task, config.settings)
    plant = build_plant(
        task,
        config.randomization,
        cameras=config.cameras,
        resolution=config.resolution,
        looks=config.looks,
        hide_poses=config.hide_poses,
    )

    def expert(moment: Moment) -> np.ndarray:
        return expert_action(task, moment.state, moment.setpoint)

    return Stand(
        plant=plant,
        schema=schema_of(plant),
        info={
            "task": task.name,
            "settings": {} if task.settings is None else dataclasses.asdict(task.settings),
            "randomization": describe_terms(task, config.randomization),
            "engine": "mujoco",
            "action": {"name": task.action.name, "parameters": dict(task.action.parameters)},
            "cameras": list(config.cameras),
            "resolution": config.resolution,
            "looks": config.looks,
            "hide_poses": config.hide_poses,
            "operator": config.expert,
        },
        operator=lambda grade, generator: make_operator(grade, action_layout(task.action), expert, generator),
        measure=lambda: arm_measurements(plant.env.measured),
    )


def schema_of(plant: SeededPlant) -> Schema:
    """What records of an arm's robot look like."""
    task = plant.task
    shapes = {camera.name: (camera.height, camera.width, 3) for camera in task.scene.cameras}
    cameras = () if plant.env.cameras is None else plant.env.cameras.names
    return Schema(
        observation=observation_size(task.terms),
        action=action_size(task.action),
        images={name: shapes[name] for name in cameras},
        task=task.name,
        robot=load_arm(task.robot).interface.name,
        control_rate_hz=task.control_rate_hz,
    )


def already_there(config: CollectConfig, schema: Schema) -> tuple[int, int]:
    """How many finished episodes the folder has, and the number of the first attempt that was not made for it.

    Raises:
        UserError: They are of another kind.
    """
    if not config.out.exists():
        return 0, 0
    finished = [one for one in open_set(config.out) if one.state == "finished"]
    for one in finished:
        if difference := schema.difference(one.episode.schema):
            raise UserError(f"{one.episode.source} is of another kind: {difference}; give another --out")
    begin = (config.seed + 1) * SEEDS
    seeds = [one.info.get("seed") for one in finished]
    made = [seed - begin for seed in seeds if isinstance(seed, int) and begin <= seed < begin + SEEDS]
    return len(finished), max(made, default=-1) + 1


def attempts(config: CollectConfig, stand: Stand, first: int = 0) -> Iterator[Attempt]:
    """Demonstrations from the `first` attempt on; the same config gives the same ones."""
    for number in range(first, SEEDS):
        seed = (config.seed + 1) * SEEDS + number
        generator = np.random.default_rng((seed, 1))
        grade = choose_grade(config.quality, generator)
        stand.plant.next_seed = seed
        records, measured = _demonstrate(stand, stand.operator(grade, generator))
        yield Attempt(info={**stand.info, "seed": seed, "quality": grade}, records=records, measured=measured)


def _demonstrate(stand: Stand, operator: Operator) -> tuple[list[Record], list[dict[str, Any]]]:
    rollout, rest = Rollout(stand.plant, operator), np.zeros(stand.schema.action, np.float32)
    rollout.begin(demonstration=True)
    records: list[Record] = []
    measured = []
    while rollout.running:
        measured.append(stand.measure())
        record = rollout.step(lambda moment, index: (rest, None))
        assert record is not None  # a scripted operator does not pause
        records.append(record)
    # The clock of a simulated robot is the simulation's, however fast it was computed; it ends now.
    period = stand.plant.period
    began, length = time.monotonic(), len(records) * period
    wall = time.time() - length
    times = [began - length + index * period for index in range(len(records))]
    return [
        dataclasses.replace(record, observed_at=when, acted_at=when, wall_time=wall)
        for record, when in zip(records, times, strict=True)
    ], measured


def arm_measurements(measured: ArmState | dict[str, ArmState]) -> dict[str, Any]:
    """Messages of what arms measured (batches of one), by topic; those of several begin with the arm's name."""

    def one(values: Any) -> np.ndarray:
        return np.asarray(values, np.float64)[0]

    found = {}
    for name, state in measured.items() if isinstance(measured, dict) else [("", measured)]:
        arm = f"{name}/" if name else ""
        pose, joints = one(state.tool_pose), one(state.joint_positions)
        names = [f"joint{number + 1}" for number in range(len(joints))]
        found[f"{arm}tool_pose"] = messages.pose(pose[:3], pose[3:])
        found[f"{arm}tool_twist"] = messages.twist(one(state.tool_twist))
        found[f"{arm}joint_states"] = messages.joint_state(names, joints, one(state.joint_velocities))
        found[f"{arm}gripper_width"] = messages.numbers([one(state.gripper_width)], "m")
    return found


def write(writer: EpisodeWriter, attempt: Attempt) -> None:
    """Record a demonstration."""
    path = writer.begin(attempt.info)
    for record, measured in zip(attempt.records, attempt.measured, strict=True):
        writer.step(record)
        for topic, message in measured.items():
            writer.write(topic, message, record.observed_at, record.observed_at)
    summary = writer.end(attempt.success, "goal held" if attempt.success else "not solved in time, or lost")
    if summary.dropped:
        raise RecordingError(f"{path}: messages were dropped ({dict(summary.dropped)}); the disk is too slow")
