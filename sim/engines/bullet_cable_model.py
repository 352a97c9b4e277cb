"""A cable in one PyBullet client: a chain of segments in reduced coordinates, built with `createMultiBody`.

Its segments turn about spherical joints, so that it cannot stretch; the first one is the base. A segment that an arm
holds belongs to the arm, and a ball joint of constraints hangs the chain on it. Another such joint is the knot at a
tied end. The joints' springs and dampers are not Bullet's: see `sim.engines.bullet_cable`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from policies import rotation
from sim.engines.bullet_parts import (
    FREE,
    BulletBody,
    collision_shape,
    principal_axes,
    pybullet,
    set_contact,
    xyzw,
)
from sim.scene import Body, Scene, mass_properties

_KNOT_FORCE = 1e4
"""N that a ball joint of constraints stands."""


@dataclass(frozen=True, eq=False)
class BulletCable:
    """A cable in a client."""

    members: tuple[Body, ...]
    """Segments of the multibody, from its base on: all but one that an arm holds."""
    places: tuple[BulletBody, ...]
    """Their numbers."""
    held: Body | None
    """The segment before them, which an arm holds."""
    held_place: BulletBody | None
    """Its numbers."""

    @property
    def index(self) -> int:
        """PyBullet's number of the multibody."""
        return self.places[0].index

    @property
    def first(self) -> int:
        """Number of the first segment that moves: 1 where the base stands."""
        return 0 if self.held is not None or self.members[0].motion == "free" else 1


def chains(scene: Scene) -> list[list[Body]]:
    """The segments of each cable, in order; a single one is a body like any other."""
    found: dict[str, list[Body]] = {}
    for body in scene.bodies:
        if body.cable:
            found.setdefault(body.cable, []).append(body)
    return [chain for chain in found.values() if len(chain) > 1]


def reach(body: Body) -> float:
    """m, half length of a segment along its z axis."""
    shape = body.shapes[0]
    return shape.size[2] if shape.kind == "box" else shape.size[-1]


def build_cable(client: int, chain: Sequence[Body], held: BulletBody | None) -> BulletCable:
    """Make a cable; `held` is its first segment where an arm holds that."""
    members = tuple(chain[1:] if held is not None else chain)
    inertial = []
    for body in members:
        center, inertia = mass_properties(body)
        inertial.append((center, *principal_axes(inertia)))
    shapes = [collision_shape(client, list(body.shapes)) for body in members]
    count = len(members) - 1
    index = pybullet.createMultiBody(
        baseMass=members[0].mass if held is not None or members[0].motion == "free" else 0.0,
        baseCollisionShapeIndex=shapes[0],
        basePosition=list(members[0].position),
        baseOrientation=xyzw(members[0].orientation),
        baseInertialFramePosition=inertial[0][0].tolist(),
        baseInertialFrameOrientation=xyzw(inertial[0][2]),
        linkMasses=[body.mass for body in members[1:]],
        linkCollisionShapeIndices=shapes[1:],
        linkVisualShapeIndices=[-1] * count,
        # A link's frame is in its joint: the near end of the segment. The base's is in its middle.
        linkPositions=[[0.0, 0.0, (1.0 if k == 0 else 2.0) * reach(members[k])] for k in range(count)],
        linkOrientations=[[0.0, 0.0, 0.0, 1.0]] * count,
        linkInertialFramePositions=[
            (center + [0.0, 0.0, reach(body)]).tolist()
            for body, (center, _, _) in zip(members[1:], inertial[1:], strict=True)
        ],
        linkInertialFrameOrientations=[xyzw(turn) for _, _, turn in inertial[1:]],
        linkParentIndices=list(range(count)),
        linkJointTypes=[pybullet.JOINT_SPHERICAL] * count,
        linkJointAxis=[[0.0, 0.0, 1.0]] * count,
        flags=pybullet.URDF_USE_SELF_COLLISION,
        physicsClientId=client,
    )
    places = []
    for link, (body, (center, moments, turn)) in enumerate(zip(members, inertial, strict=True), start=-1):
        places.append(BulletBody(index, center, turn, link))
        pybullet.changeDynamics(index, link, localInertiaDiagonal=moments.tolist(), physicsClientId=client)
        set_contact(client, index, link, body.friction, FREE, -1)
        if link < 0:
            continue
        pybullet.setCollisionFilterPair(index, index, link - 1, link, 0, physicsClientId=client)
        # The motors that Bullet starts with would hold the joints.
        pybullet.setJointMotorControlMultiDof(
            index,
            link,
            pybullet.POSITION_CONTROL,
            targetPosition=[0.0, 0.0, 0.0, 1.0],
            positionGain=0.0,
            velocityGain=0.0,
            force=[0.0, 0.0, 0.0],
            physicsClientId=client,
        )
    if held is None:
        return BulletCable(members, tuple(places), None, None)
    # As in MuJoCo, segments that a joint joins do not touch each other.
    pybullet.setCollisionFilterPair(held.index, index, held.link, -1, 0, physicsClientId=client)
    ends = np.array([0.0, 0.0, reach(chain[0])]), np.array([0.0, 0.0, -reach(members[0])])
    _join(client, held, ends[0], places[0], ends[1])
    return BulletCable(members, tuple(places), chain[0], held)


def tie(client: int, cable: BulletCable, bodies: Mapping[str, BulletBody]) -> None:
    """Tie the ends that are tied to something."""
    for body, place in zip(cable.members, cable.places, strict=True):
        if body.tied_to:
            end = np.array([0.0, 0.0, reach(body)])
            _join(client, bodies[body.tied_to], np.array(body.tie_point), place, end)


def _join(client: int, parent: BulletBody, point: np.ndarray, child: BulletBody, end: np.ndarray) -> None:
    """Keep a point of a body and one of another together, both given in the bodies' frames."""
    pivots = [
        rotation.rotate_inverse(place.turn, where - place.center).tolist()
        for place, where in ((parent, point), (child, end))
    ]
    knot = pybullet.createConstraint(
        parent.index,
        parent.link,
        child.index,
        child.link,
        pybullet.JOINT_POINT2POINT,
        [0.0, 0.0, 0.0],
        *pivots,
        physicsClientId=client,
    )
    pybullet.changeConstraint(knot, maxForce=_KNOT_FORCE, physicsClientId=client)
