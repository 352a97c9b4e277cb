"""What a simulated robot stands in: a task's scene with the starts of pure simulation, or a bare arm at a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hardware.descriptions import load_arm
from policies.types import ArmState
from robot_rl.planes.settings import SceneConfig
from sim.arm_loop import ArmLoop, to_tensor, to_tensors
from sim.arm_randomization import ModelVariables, expand_terms, nominal_variables, values_of_arm
from sim.arm_sensors import measure, noise_size
from sim.engines import make_engine
from sim.engines.base import Placement
from sim.factory import build_env, find_randomization
from sim.scene import ArmMount, Body, Scene, Shape
from sim.tasks import find_task
from sim.tasks.arm import ArmTask, ArmView, with_settings


@dataclass(frozen=True, eq=False)
class _Start:
    """Beginning of an episode."""

    placement: Placement
    values: dict[str, torch.Tensor]
    goal: np.ndarray | None


def task_of(config: SceneConfig) -> ArmTask | None:
    """The task, or None for a bare arm.

    Raises:
        ValueError: It is no task of one arm.
    """
    if not config.task:
        return None
    task = find_task(config.task)
    if not isinstance(task, ArmTask) or len(task.scene.arms) != 1:
        raise ValueError(f"task {config.task!r} is none of one arm, which is what the control process moves")
    return with_settings(task, config.settings)


class SimulatedScene:
    """One scene in MuJoCo with its starts, its sensors and its judge."""

    def __init__(self, config: SceneConfig) -> None:
        """Draw the starts and place the first one."""
        self.task = task_of(config)
        scene = _bare_scene(config) if self.task is None else self.task.scene
        self.robot, self.arm = scene.arms[0].robot, scene.arms[0].name
        self.description = load_arm(self.robot)
        self.timestep = scene.timestep
        declared = () if self.task is None else find_randomization(config.randomization, self.task.randomization, scene)
        self._terms = expand_terms(declared, scene)
        self._starts = self._draw(config, scene)
        self.engine = make_engine("mujoco", scene, 1)
        self._variables = ModelVariables(self.engine, self._terms)
        self._loop = None if self.task is None else ArmLoop(self.task, self.engine)
        self._noise = np.random.default_rng(config.seed)
        self.place(0)

    @property
    def starts(self) -> int:
        """How many there are."""
        return len(self._starts)

    @property
    def has_gripper(self) -> bool:
        """Whether there are fingers."""
        return self.engine.scene.arms[0].gripper

    @property
    def has_wrench(self) -> bool:
        """Whether there is a force-torque sensor."""
        return self.engine.scene.arms[0].wrench

    @property
    def goal(self) -> np.ndarray | None:
        """Set-point's tool pose (7,) of the episode, or None."""
        return self._start.goal

    @property
    def episode_length(self) -> float:
        """s; inf for a bare arm."""
        return np.inf if self.task is None else self.task.episode_length

    @property
    def judging_period(self) -> float:
        """S between two looks at success: the control period of the policy in pure simulation."""
        return 0.1 if self.task is None else self.task.period

    def place(self, number: int) -> None:
        """Begin an episode from a start, everything at rest; failed physics is forgotten."""
        self._start = self._starts[number % len(self._starts)]
        ids = np.zeros(1, dtype=np.int64)
        self._variables.begin(ids, self._start.values)
        self.engine.place(ids, self._start.placement)
        self.engine.refresh()
        arm = values_of_arm(self._start.values, self.engine.scene, self.arm)
        self._known = {name: value.double().numpy() for name, value in arm.items()}
        self.strength = float(self._known["motor_strength"][0, 0])
        """Factor of the torques: what the motors make of them."""
        self._held = 0
        self._begun = self._objects_now()

    def sensors(self) -> dict[str, Any]:
        """What the arm's sensors say now, with their errors."""
        known = self._known
        q, qd = (value[0] for value in self.engine.joints(self.arm))
        n = len(q)
        bias = known["joint_position_bias"][0] + known["joint_position_drift"][0]
        return {
            "joint_positions": q + bias + known["joint_position_noise"][0] * self._noise.standard_normal(n),
            "joint_velocities": qd + known["joint_velocity_noise"][0] * self._noise.standard_normal(n),
            "gripper_width": float(self.engine.width(self.arm)[0]),
            "wrench": self.engine.wrench(self.arm)[0],
        }

    def objects(self) -> dict[str, np.ndarray]:
        """Poses (7,) that perception sees, with its errors."""
        if self._loop is None:
            return {}
        truth = self._loop.truth()
        state: ArmState = self._loop.states(truth)[self.arm]
        white = self._noise.standard_normal((1, noise_size(state.joint_positions.shape[1], len(self._loop.objects))))
        seen = measure(state, truth[f"{self.arm}.jacobian"], self._known, white)
        return {name: np.asarray(pose[0], dtype=np.float64) for name, pose in seen.objects.items()}

    def judge(self, time: float, peak_force: float) -> tuple[bool, bool]:
        """Whether the episode is won and whether it is lost; call it once every `judging_period` of simulated time.

        Args:
            time: s since the beginning of the episode.
            peak_force: N, largest at the tool since the last call.
        """
        if self.task is None or self._loop is None:
            return False, False
        self.engine.refresh()
        states = self._loop.states(self._loop.truth())
        free = [b.name for b in self.engine.scene.bodies if b.motion == "free" and not b.attached_to and not b.cable]
        nothing = torch.zeros(1, 1)
        goal = np.array([0.0, 0, 0, 1, 0, 0, 0]) if self.goal is None else self.goal
        view = ArmView(
            arms={name: to_tensors(state) for name, state in states.items()},
            goal=to_tensor(goal[None]),
            twists={name: to_tensor(self.engine.twist(name)) for name in free},
            start={name: to_tensor(pose[None]) for name, pose in self._begun.items()},
            action=nothing,
            previous_action=nothing,
            values=self._start.values,
            peak_force={self.arm: torch.tensor([peak_force], dtype=torch.float32)},
            time=torch.tensor([time], dtype=torch.float32),
        )
        self._held = self._held + 1 if bool(self.task.success(view)) else 0
        won = self._held >= max(1, round(self.task.hold * self.task.control_rate_hz))
        return won, bool(self.task.failed(view)) or bool(self.engine.failed[0])

    def close(self) -> None:
        """Free the simulator."""
        self.engine.close()

    def _objects_now(self) -> dict[str, np.ndarray]:
        return {} if self._loop is None else {name: self.engine.pose(name)[0] for name in self._loop.objects}

    def _draw(self, config: SceneConfig, scene: Scene) -> list[_Start]:
        """The first episodes of so many environments side by side, as `robot-rl eval` has them."""
        if self.task is None:
            placement = Placement(joints={self.arm: self.description.home[None]})
            nominal = {name: value[None] for name, value in nominal_variables(scene).items()}
            return [_Start(placement, nominal, None)]
        env = build_env(self.task, config.starts, seed=config.seed, randomization=self._terms)
        env.reset(seed=config.seed)
        moving = [body.name for body in scene.bodies if body.motion != "fixed" and not body.attached_to]
        poses = {name: env.engine.pose(name) for name in moving if not scene.body(name).cable}
        joints, widths = env.engine.joints(self.arm)[0].copy(), env.engine.width(self.arm)
        values, goals = env.view.values, env.setpoint.tool_pose
        starts = [
            _Start(
                Placement(
                    joints={self.arm: joints[k : k + 1]},
                    widths={self.arm: widths[k : k + 1]},
                    poses={name: pose[k : k + 1] for name, pose in poses.items()},
                ),
                {name: value[k : k + 1].clone() for name, value in values.items()},
                None if goals is None else goals[k].double().numpy(),
            )
            for k in range(config.starts)
        ]
        env.close()
        return starts


def _bare_scene(config: SceneConfig) -> Scene:
    bodies: tuple[Body, ...] = ()
    if config.wall is not None:
        shape = Shape(kind="box", size=(0.05, 0.6, 0.165))
        bodies = (Body(name="wall", shapes=(shape,), motion="fixed", position=(config.wall + 0.05, 0.0, 0.165)),)
    return Scene(arms=(ArmMount(robot=config.robot, wrench=True),), bodies=bodies)
