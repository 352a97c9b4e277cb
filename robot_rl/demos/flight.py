"""A simulated quadrotor that is flown by its geometric controller, or by somebody who aims beside the set-point."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from hardware.descriptions import load_quadrotor
from policies.actions import action_size
from policies.observations import observation_size
from policies.types import QuadrotorSetpoint, QuadrotorState
from robot_rl.demos.configs import CollectConfig
from robot_rl.demos.grades import GRADES, Grade
from robot_rl.demos.plants import describe_terms
from robot_rl.demos.stand import Stand
from robot_rl.errors import UserError
from robot_rl.evaluate import randomization_terms
from robot_rl.flight_policy import ControllerPolicy
from robot_rl.hil.operators import Help
from robot_rl.hil.plant import Moment, Outcome
from robot_rl.hil.schema import Schema
from robot_rl.recording import messages
from sim.factory import build_env
from sim.tasks import TASKS
from sim.tasks.quadrotor import QuadrotorTask

NEAR = 0.5
"""m from the set-point at the end of the time: a demonstration that succeeded."""
WANDER_TIME = 0.5
"""s in which a wandering aim forgets where it was."""


class FlightPlant:
    """A quadrotor's environment as a plant whose next episode is that of a new one with the seed `next_seed`."""

    def __init__(self, task: QuadrotorTask, terms: Any) -> None:
        """Of a task, with randomization terms."""
        self.env = build_env(task, 1, randomization=terms)
        self.period, self.next_seed = task.period, 0

    def reset(self) -> Moment:
        """Begin the episode of `next_seed`."""
        return self._moment(self.env.reset(seed=self.next_seed))

    def step(self, action: np.ndarray) -> Outcome:
        """Carry a normalized action (4,) out for one control period."""
        observed, reward, ended, extras = self.env.step(torch.from_numpy(np.asarray(action, np.float32))[None])
        late, moment = bool(extras["time_outs"]), self._moment(observed)
        return Outcome(
            moment=moment,
            reward=float(reward),
            terminated=bool(ended) and not late,
            truncated=late,
            success=late and -moment.progress <= NEAR,
        )

    def hold(self) -> None:
        """A simulated vehicle that is paused stands still in the air."""

    def close(self) -> None:
        """Nothing is held."""

    def _moment(self, observed: Mapping[str, torch.Tensor]) -> Moment:
        setpoint: Any = self.env.setpoint
        away = self.env.state.position - setpoint.position
        return Moment(
            observation=observed["obs"][0].numpy().copy(),
            images={},
            state=self.env.state,
            setpoint=setpoint,
            progress=-float(away.norm()),
        )


class Pilot:
    """An operator that flies throughout; see `Grade`."""

    def __init__(
        self, grade: Grade, controller: ControllerPolicy, period: float, generator: np.random.Generator
    ) -> None:
        """Of a grade, for one episode; the controller is reset."""
        self._grade, self._controller, self._generator = grade, controller, generator
        side = generator.standard_normal(3)
        self._aside = grade.aside * side / np.linalg.norm(side)
        self._wander = np.zeros(3)
        self._forget = math.exp(-period / WANDER_TIME)
        controller.reset()

    def begin(self, episode: int, steps: int) -> None:
        """Nothing is kept from an episode before."""

    def look(self, moment: Moment, policy_action: np.ndarray, value: float | None) -> Help:
        """Fly towards where the pilot believes the set-point to be."""
        fresh = math.sqrt(1.0 - self._forget**2) * self._grade.wander * self._generator.standard_normal(3)
        self._wander = self._forget * self._wander + fresh
        setpoint: Any = moment.setpoint
        beside = torch.from_numpy(self._aside + self._wander).to(setpoint.position)
        aim: QuadrotorSetpoint = dataclasses.replace(setpoint, position=setpoint.position + beside)
        self._controller.step(moment.state, aim)
        action = np.asarray(self._controller.last_action, np.float32)[0]
        noise = self._grade.operator.tremor * self._generator.standard_normal(4)
        return Help(action=np.clip(action + noise, -1.0, 1.0).astype(np.float32))


def flight_stand(config: CollectConfig) -> Stand:
    """Where a quadrotor's task is demonstrated.

    Raises:
        UserError: The config asks for what a quadrotor does not have.
    """
    task: Any = TASKS[config.task]
    if config.cameras or config.settings or config.hide_poses:
        raise UserError(f"task {task.name!r} has no cameras and no settings; leave out what asks for them")
    plant = FlightPlant(task, randomization_terms(task, config.randomization))
    description = load_quadrotor(task.robot)
    controller = ControllerPolicy("geometric", description)
    if task.action.name != "motor_speeds":
        raise UserError(f"task {task.name!r} is flown by {task.action.name}; the controller gives motor speeds")
    return Stand(
        plant=plant,
        schema=_schema(task, description.interface.name),
        info={
            "task": task.name,
            "randomization": describe_terms(task, config.randomization),
            "engine": "torch",
            "action": {"name": task.action.name, "parameters": dict(task.action.parameters)},
            "operator": config.expert,
        },
        operator=lambda grade, generator: Pilot(GRADES[grade], controller, task.period, generator),
        measure=lambda: _measurements(plant.env.state, plant.env.setpoint),
    )


def _schema(task: QuadrotorTask, robot: str) -> Schema:
    return Schema(
        observation=observation_size(task.terms),
        action=action_size(task.action),
        task=task.name,
        robot=robot,
        control_rate_hz=task.control_rate_hz,
    )


def _measurements(state: QuadrotorState, setpoint: QuadrotorSetpoint) -> dict[str, Any]:
    def one(values: Any) -> np.ndarray:
        return np.asarray(values, np.float64)[0]

    twist = np.concatenate([one(state.linear_velocity), one(state.angular_velocity)])
    turn = float(one(setpoint.yaw)) / 2.0
    return {
        "pose": messages.pose(one(state.position), one(state.orientation), "odom"),
        "twist": messages.twist(twist, "odom"),
        "setpoint_pose": messages.pose(one(setpoint.position), [math.cos(turn), 0.0, 0.0, math.sin(turn)], "odom"),
    }
