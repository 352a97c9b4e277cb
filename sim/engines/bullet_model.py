"""A scene in one PyBullet client, built from numbers: no mesh files, no URDF files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import mujoco
import numpy as np

from hardware.descriptions.arm import ArmDescription
from sim.engines.bullet_arm_model import ArmBuilder, BulletArm
from sim.engines.bullet_cable_model import BulletCable, build_cable, chains, tie
from sim.engines.bullet_own_model import OwnArmBuilder
from sim.engines.bullet_parts import (
    FIRST_ARM,
    FREE,
    STILL,
    BulletBody,
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
_CABLE_PARTS = 5
"""Steps in a time step where there are cables: a taut one trembles faster than a time step can follow."""


@dataclass(frozen=True, eq=False)
class BulletModel:
    """All that is in a client."""

    arms: dict[str, BulletArm]
    """By name."""
    bodies: dict[str, BulletBody]
    """By name; those that are attached to a tool are links of their arm."""
    cables: dict[str, BulletCable]
    """By name."""
    parts: int
    """Steps that Bullet takes in a time step of the scene."""


def build_model(
    client: int,
    scene: Scene,
    descriptions: Mapping[str, ArmDescription],
    own_models: Mapping[str, mujoco.MjModel],
) -> BulletModel:
    """Build a scene in an empty client; `descriptions` and `own_models` are those of the arms, by their names."""
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
    bodies: dict[str, BulletBody] = {}
    for number, mount in enumerate(scene.arms):
        what = client, scene, number, every_arm, descriptions[mount.name]
        builder = OwnArmBuilder(*what, own_models[mount.name]) if mount.model else ArmBuilder(*what)
        arms[mount.name] = builder.build()
        bodies.update(arms[mount.name].attached)
    ropes = chains(scene)
    chained = {body.name for chain in ropes for body in chain}
    for body in scene.bodies:
        if not body.attached_to and body.name not in chained:
            bodies[body.name] = _add_body(client, body)
    cables = {chain[0].cable: build_cable(client, chain, bodies.get(chain[0].name)) for chain in ropes}
    for cable in cables.values():
        bodies.update({body.name: place for body, place in zip(cable.members, cable.places, strict=True)})
    for cable in cables.values():
        tie(client, cable, bodies)
    if cables:
        # Bullet stops iterating where velocities change little, which for a light cable they always do.
        pybullet.setPhysicsEngineParameter(
            fixedTimeStep=scene.timestep / _CABLE_PARTS, solverResidualThreshold=0.0, physicsClientId=client
        )
    return BulletModel(arms, bodies, cables, _CABLE_PARTS if cables else 1)


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
