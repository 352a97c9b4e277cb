"""A scene in one PyBullet client, built from numbers: no mesh files, no URDF files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hardware.descriptions.arm import ArmDescription
from sim.engines.bullet_arm_model import ArmBuilder, BulletArm
from sim.engines.bullet_parts import (
    FIRST_ARM,
    FREE,
    STILL,
    collision_shape,
    principal_axes,
    pybullet,
    set_contact,
    xyzw,
)
from sim.scene import Body, Scene, Shape, mass_properties

GRAVITY = 9.81
"""m/s²."""
_FLOOR = -0.75
_TABLE = Shape(kind="box", size=(0.6, 0.8, 0.02), position=(0.35, 0.0, -0.02))
_SOLVER_ITERATIONS = 50


@dataclass(frozen=True, eq=False)
class BulletBody:
    """A body of the world in a client."""

    index: int
    """PyBullet's number."""
    center: np.ndarray
    """Shape (3,), m, of the inertial frame in the body's frame: Bullet's poses are those of inertial frames."""
    turn: np.ndarray
    """Shape (4,), wxyz, of the inertial frame in the body's frame."""


@dataclass(frozen=True, eq=False)
class BulletModel:
    """All that is in a client."""

    arms: dict[str, BulletArm]
    """By name."""
    bodies: dict[str, BulletBody]
    """By name; those that are attached to a tool belong to their arm."""
    attached: dict[str, tuple[int, int]]
    """PyBullet's numbers of arm and link, by name of an attached body."""

    def place_of(self, body: str) -> tuple[int, int]:
        """PyBullet's numbers of a body: of itself and of its link, -1 for the base."""
        return self.attached[body] if body in self.attached else (self.bodies[body].index, -1)


def build_model(client: int, scene: Scene, descriptions: Mapping[str, ArmDescription]) -> BulletModel:
    """Build a scene in an empty client; `descriptions` are those of the arms by their names.

    Raises:
        ValueError: The scene has something that only MuJoCo simulates: a cable or an own model of an arm.
    """
    for mount in scene.arms:
        if mount.model:
            raise ValueError(f"arm {mount.name!r} has an own model {mount.model!r}: use the engine 'mujoco'")
    for body in scene.bodies:
        if body.cable:
            raise ValueError(f"body {body.name!r} is part of the cable {body.cable!r}: use the engine 'mujoco'")
    pybullet.setPhysicsEngineParameter(
        fixedTimeStep=scene.timestep,
        numSolverIterations=_SOLVER_ITERATIONS,
        deterministicOverlappingPairs=1,
        physicsClientId=client,
    )
    pybullet.setGravity(0.0, 0.0, -GRAVITY, physicsClientId=client)
    _add_surroundings(client, scene)
    every_arm = sum(FIRST_ARM << i for i in range(len(scene.arms)))
    arms: dict[str, BulletArm] = {}
    attached: dict[str, tuple[int, int]] = {}
    for number, mount in enumerate(scene.arms):
        builder = ArmBuilder(client, scene, number, every_arm, descriptions[mount.name])
        arms[mount.name] = builder.build()
        attached.update({name: (arms[mount.name].index, link) for name, link in builder.attached.items()})
    bodies = {body.name: _add_body(client, body) for body in scene.bodies if not body.attached_to}
    return BulletModel(arms, bodies, attached)


def _add_surroundings(client: int, scene: Scene) -> None:
    floor = pybullet.createCollisionShape(pybullet.GEOM_PLANE, physicsClientId=client)
    shapes = [(floor, (0.0, 0.0, _FLOOR))]
    if scene.table:
        shapes.append((collision_shape(client, [_TABLE]), (0.0, 0.0, 0.0)))
    for shape, position in shapes:
        index = pybullet.createMultiBody(0.0, shape, basePosition=position, physicsClientId=client)
        set_contact(client, index, -1, 1.0, STILL, ~STILL)


def _add_body(client: int, body: Body) -> BulletBody:
    free = body.motion == "free"
    center, turn = np.zeros(3), np.array([1.0, 0.0, 0.0, 0.0])
    moments = np.zeros(3)
    if free:
        center, inertia = mass_properties(body)
        moments, turn = principal_axes(inertia)
    index = pybullet.createMultiBody(
        baseMass=body.mass if free else 0.0,
        baseCollisionShapeIndex=collision_shape(client, list(body.shapes)),
        basePosition=list(body.position),
        baseOrientation=xyzw(body.orientation),
        baseInertialFramePosition=center.tolist(),
        baseInertialFrameOrientation=xyzw(turn),
        physicsClientId=client,
    )
    if free:
        pybullet.changeDynamics(index, -1, localInertiaDiagonal=moments.tolist(), physicsClientId=client)
    # Bullet multiplies the partners' coefficients: 1 beside the free body's own makes it that of the free body.
    friction = body.friction if free else 1.0
    group, others = (FREE, -1) if free else (STILL, ~STILL)
    set_contact(client, index, -1, friction, group, others)
    return BulletBody(index, center, turn)
