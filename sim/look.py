"""What a person sees of one environment: a MuJoCo scene that is moved after it, whatever the physics.

The scene of an arm's task gets a mark where the goal is; a quadrotor gets a scene at all (`sim.quadrotor_look`).
Windows, the browser's page, videos and pictures all show such a look, so that they need to know neither engine nor
robot. Nothing here touches the environment: what is played is what is evaluated.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

import mujoco
import numpy as np

from policies import rotation
from sim.arm_environment import ArmEnv
from sim.arm_randomization import ModelVariables
from sim.cameras import overview_camera
from sim.engines.base import Placement
from sim.engines.mujoco import MujocoEngine
from sim.scene import Body, Camera, Color, Scene, Shape

_ONLY = np.arange(1)
UNSEEN = np.array([[0.0, 0.0, -50.0, 1.0, 0.0, 0.0, 0.0]])
"""Pose (1, 7), far below the floor, of what is not to be seen now."""
_TURN_TO_X = (0.7071068, 0.0, 0.7071068, 0.0)
_TURN_TO_Y = (0.7071068, -0.7071068, 0.0, 0.0)


class Look(Protocol):
    """One environment to look at."""

    engine: MujocoEngine
    """One environment with the scene; `engine.model` is what viewers draw."""
    marks: tuple[str, ...]
    """Bodies that only mark the goal."""

    def begin(self) -> None:
        """Take over what changes from episode to episode: shapes and sizes."""

    def update(self) -> None:
        """Put everything where it is now."""

    def camera(self) -> Camera:
        """A view of all that matters, now."""


class ArmLook:
    """Environment 0 of arms, on any engine."""

    marks: tuple[str, ...] = ("look.goal",)

    def __init__(self, env: ArmEnv) -> None:
        """Build the scene with a mark for the goal.

        Args:
            env: What is looked at.
        """
        self.env = env
        scene = env.task.scene
        self.engine = MujocoEngine(dataclasses.replace(scene, bodies=(*scene.bodies, _goal_mark())), 1)
        self._qpos = self.engine.batch.bind("qpos")
        self._variables = ModelVariables(self.engine, env.terms)
        self._overview = overview_camera(scene) if len(scene.arms) == 1 else _side_camera(scene)
        self._moving = [
            body for body in scene.bodies if body.motion != "fixed" and not body.attached_to and not body.cable
        ]
        self._cables = _cables(scene.bodies)
        self.begin()
        self.update()

    def begin(self) -> None:
        """Take over the sizes and shapes of the episode."""
        self._variables.begin(_ONLY, self.env.view.values)

    def update(self) -> None:
        """Put arms, bodies and the goal's mark where they are."""
        engine, arms = self.env.engine, self.env.engine.scene.arms
        poses = {body.name: engine.pose(body.name)[:1] for body in self._moving}
        for chain in self._cables.values():
            if chain[0].motion == "free" and not chain[0].attached_to:
                poses[chain[0].name] = engine.pose(chain[0].name)[:1]
        wanted = self.env.setpoint.tool_pose
        goal = UNSEEN if wanted is None else wanted[:1].numpy()
        # A task without a goal has it at the origin, inside the arm's base.
        poses[self.marks[0]] = goal if np.abs(goal[0, :3]).max() > 1e-6 else UNSEEN
        self.engine.place(
            _ONLY,
            Placement(
                joints={arm.name: engine.joints(arm.name)[0][:1] for arm in arms},
                widths={arm.name: engine.width(arm.name)[:1] for arm in arms},
                poses=poses,
            ),
        )
        for chain in self._cables.values():
            self._bend(chain)

    def camera(self) -> Camera:
        """One arm from front left, two from the side: neither stands before the other."""
        return self._overview

    def _bend(self, chain: list[Body]) -> None:
        """Turn the joints of a cable as its segments are turned."""
        model = self.engine.model
        turns = [self.env.engine.pose(body.name)[0, 3:] for body in chain]
        for k, body in enumerate(chain[1:], start=1):
            first = model.jnt_qposadr[model.body(body.name).jntadr[0]]
            self._qpos[0, first : first + 4] = rotation.multiply(rotation.conjugate(turns[k - 1]), turns[k])


def copy_state(look: Look, model: mujoco.MjModel, data: mujoco.MjData) -> None:
    """Bring a viewer's own model and data up to date: where everything is, and how large."""
    look.engine.batch.get_model(0, model)
    look.engine.batch.get_data(0, data)
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    mujoco.mj_camlight(model, data)


def _side_camera(scene: Scene) -> Camera:
    bases = np.array([mount.position for mount in scene.arms])
    line = bases[1] - bases[0]
    spread = float(np.linalg.norm(line))
    center = bases[:2].mean(axis=0) + [0.0, 0.0, 0.27]
    aside = np.array([-line[1], line[0], 0.0]) / spread
    away = (0.75 + 0.75 * spread) * (0.93 * aside + [0.0, 0.0, 0.36])
    return Camera(
        name="overview",
        position=tuple((center + away).tolist()),
        target=tuple(center.tolist()),
        field_of_view=0.75,
        width=640,
        height=480,
    )


def axes(length: float, radius: float, opacity: float = 1.0) -> tuple[Shape, ...]:
    """A frame: x red, y green, z blue."""
    colors: list[Color] = [(0.85, 0.15, 0.12, opacity), (0.15, 0.65, 0.2, opacity), (0.15, 0.35, 0.85, opacity)]
    turns = (_TURN_TO_X, _TURN_TO_Y, (1.0, 0.0, 0.0, 0.0))
    return tuple(
        Shape(
            kind="cylinder",
            size=(radius, 0.5 * length),
            position=tuple(0.5 * length * (axis == k) for axis in range(3)),  # type: ignore[arg-type]
            orientation=turns[k],
            color=colors[k],
            collides=False,
        )
        for k in range(3)
    )


def _goal_mark() -> Body:
    ball = Shape(kind="sphere", size=(0.015,), color=(0.1, 0.75, 0.3, 0.6), collides=False)
    return Body(name=ArmLook.marks[0], motion="placed", shapes=(*axes(0.08, 0.003), ball))


def _cables(bodies: tuple[Body, ...]) -> dict[str, list[Body]]:
    chains: dict[str, list[Body]] = {}
    for body in bodies:
        if body.cable:
            chains.setdefault(body.cable, []).append(body)
    return chains
