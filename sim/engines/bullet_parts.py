"""What both bodies and arms are made of in PyBullet: compound shapes, inertial frames, contact parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sim.scene import Shape

try:
    import pybullet
except ImportError as error:
    raise ImportError(
        "the engine 'pybullet' needs PyBullet: pip install 'robot_rl[bullet]'; its wheels exist for Python 3.11 and "
        "older only, with a newer Python use the engine 'mujoco'"
    ) from error

STILL, FREE, FIRST_ARM = 1, 2, 4
"""Collision groups: what stands, what moves by physics, the first arm; every arm has a bit of its own."""


@dataclass(frozen=True, eq=False)
class BulletBody:
    """A body of the scene in a client."""

    index: int
    """PyBullet's number."""
    center: np.ndarray
    """Shape (3,), m, of the inertial frame in the body's frame: Bullet's poses are those of inertial frames."""
    turn: np.ndarray
    """Shape (4,), wxyz, of the inertial frame in the body's frame."""
    link: int = -1
    """Its link where it is part of an arm or a cable; -1 is the base."""


def motion_of(client: int, body: BulletBody) -> tuple[Any, Any, Any, Any]:
    """Position and orientation (xyzw) of a body's inertial frame, its linear and angular velocity, in the world."""
    if body.link < 0:
        pose = pybullet.getBasePositionAndOrientation(body.index, physicsClientId=client)
        return (*pose, *pybullet.getBaseVelocity(body.index, physicsClientId=client))
    state = pybullet.getLinkState(
        body.index, body.link, computeLinkVelocity=1, computeForwardKinematics=1, physicsClientId=client
    )
    return state[0], state[1], state[6], state[7]


def principal_axes(inertia: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Principal moments (3,) of an inertia (3, 3), and the orientation (4,) wxyz of its axes."""
    moments, axes = np.linalg.eigh(inertia)
    if np.linalg.det(axes) < 0.0:
        axes[:, 0] = -axes[:, 0]
    return moments, _quaternion(axes)


def _quaternion(matrix: np.ndarray) -> np.ndarray:
    """Orientation (4,) wxyz of a rotation matrix (3, 3)."""
    # The eigenvector of the largest eigenvalue of this matrix (Bar-Itzhack 2000), which has no singular case.
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = matrix
    rows = [
        [xx + yy + zz, zy - yz, xz - zx, yx - xy],
        [zy - yz, xx - yy - zz, xy + yx, xz + zx],
        [xz - zx, xy + yx, yy - xx - zz, yz + zy],
        [yx - xy, xz + zx, yz + zy, zz - xx - yy],
    ]
    return np.linalg.eigh(np.array(rows))[1][:, -1]


def xyzw(quaternion: Any) -> list[float]:
    """A quaternion wxyz in Bullet's order."""
    w, x, y, z = (float(value) for value in quaternion)
    return [x, y, z, w]


def collision_shape(client: int, shapes: list[Shape]) -> int:
    """A compound of the shapes that collide; -1 where there is none."""
    shapes = [shape for shape in shapes if shape.collides]
    if not shapes:
        return -1
    kinds = {
        "box": pybullet.GEOM_BOX,
        "sphere": pybullet.GEOM_SPHERE,
        "cylinder": pybullet.GEOM_CYLINDER,
        "capsule": pybullet.GEOM_CAPSULE,
    }
    return pybullet.createCollisionShapeArray(
        shapeTypes=[kinds[shape.kind] for shape in shapes],
        halfExtents=[list(shape.size) if shape.kind == "box" else [0.0] * 3 for shape in shapes],
        radii=[0.0 if shape.kind == "box" else shape.size[0] for shape in shapes],
        lengths=[2.0 * shape.size[1] if shape.kind in ("cylinder", "capsule") else 0.0 for shape in shapes],
        collisionFramePositions=[list(shape.position) for shape in shapes],
        collisionFrameOrientations=[xyzw(shape.orientation) for shape in shapes],
        physicsClientId=client,
    )


def set_contact(client: int, index: int, link: int, friction: float, group: int, others: int) -> None:
    """Friction, collision groups, and no damping of a link, or of a base where `link` is -1."""
    # Bullet slows bodies down by default, as no other engine does.
    pybullet.changeDynamics(
        index,
        link,
        lateralFriction=friction,
        spinningFriction=0.0,
        rollingFriction=0.0,
        restitution=0.0,
        linearDamping=0.0,
        angularDamping=0.0,
        jointDamping=0.0,
        physicsClientId=client,
    )
    pybullet.setCollisionFilterGroupMask(index, link, group, others, physicsClientId=client)
