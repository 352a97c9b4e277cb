"""What is in a scene, as data that every engine builds from: arms, rigid bodies, cameras.

World frame ENU with z up; the table's top is at z = 0. All shapes are primitive, so that collision, drawing and
inertia are the same everywhere. The Coulomb friction of a contact is that of the free body in it: engines mix the
two partners' coefficients in different ways, and one number per object keeps them alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from sim import body_shapes

Vector: TypeAlias = tuple[float, float, float]
Quaternion: TypeAlias = tuple[float, float, float, float]
Color: TypeAlias = tuple[float, float, float, float]

UPRIGHT: Quaternion = (1.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A primitive shape, fixed to a body."""

    kind: Literal["box", "sphere", "cylinder", "capsule"]
    """Cylinders and capsules lie along their z axis."""
    size: tuple[float, ...]
    """m: half sizes of a box, radius of a sphere, radius and half length of a cylinder or a capsule (without caps)."""
    position: Vector = (0.0, 0.0, 0.0)
    """m, in the body's frame."""
    orientation: Quaternion = UPRIGHT
    """wxyz, in the body's frame."""
    color: Color = (0.7, 0.7, 0.7, 1.0)
    """Red, green, blue, opacity in [0, 1]."""
    collides: bool = True
    """False for what is only seen."""

    @property
    def volume(self) -> float:
        """m³."""
        if self.kind == "box":
            x, y, z = self.size
            return 8.0 * x * y * z
        radius = self.size[0]
        ball = 4.0 / 3.0 * math.pi * radius**3
        if self.kind == "sphere":
            return ball
        tube = 2.0 * math.pi * radius**2 * self.size[1]
        return tube + (ball if self.kind == "capsule" else 0.0)


NO_SHAPE = Shape(kind="sphere", size=(1e-3,), color=(0.0, 0.0, 0.0, 0.0), collides=False)
"""Stands in where a body has fewer shapes than its cousins."""


@dataclass(frozen=True, kw_only=True)
class Body:
    """A rigid body made of shapes."""

    name: str
    """Unique in the scene; observations name the body by it."""
    shapes: tuple[Shape, ...]
    """What it is made of, of one density."""
    motion: Literal["free", "placed", "fixed"] = "free"
    """`free` moves by physics, `placed` stands where each episode puts it, `fixed` stands always in one place."""
    mass: float = 0.1
    """kg; counts for `free` bodies and for those attached to a tool."""
    friction: float = 0.8
    """Coulomb coefficient of its contacts."""
    position: Vector = (0.0, 0.0, 0.0)
    """m, in the world, or in the tool's frame of the arm that it is attached to."""
    orientation: Quaternion = UPRIGHT
    """wxyz, likewise."""
    attached_to: str = ""
    """Name of the arm whose tool holds it firmly; empty for a body of the world."""
    cable: str = ""
    """Bodies with one cable name form a chain in their order: each is joined to the one before by a ball joint at
    the middle of their facing ends. The first one may be `fixed` or attached to a tool."""
    cable_stiffness: float = 0.0
    """N m/rad, of the joint to the body before."""
    cable_damping: float = 0.0
    """N m s/rad, likewise."""
    tied_to: str = ""
    """Body that the far end of a cable's segment is tied to; empty for a loose end."""
    tie_point: Vector = (0.0, 0.0, 0.0)
    """m, where, in that body's frame."""
    cousins: tuple[tuple[Shape, ...], ...] = ()
    """Other shapes that it may have instead of `shapes`, of the same mass and with the same use: "digital cousins",
    which the randomized variable `<name>.cousin` chooses among."""

    @property
    def has_mass(self) -> bool:
        """Whether it moves by physics or with a tool."""
        return bool(self.motion == "free" or self.attached_to)

    @property
    def variants(self) -> tuple[tuple[Shape, ...], ...]:
        """Its shapes and those of its cousins, as many in each: what lacks is invisible and collides with nothing."""
        choices = (self.shapes, *self.cousins)
        most = max(len(shapes) for shapes in choices)
        return tuple((*shapes, *[NO_SHAPE] * (most - len(shapes))) for shapes in choices)


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A pinhole camera; images have square pixels and the principal point in the middle."""

    name: str
    """Unique in the scene."""
    position: Vector
    """m, in the world, or in the tool's frame of the arm that it is attached to."""
    target: Vector
    """m, point in the same frame that appears in the middle of the image."""
    up: Vector = (0.0, 0.0, 1.0)
    """Direction in the same frame that points up in the image."""
    field_of_view: float = 0.8
    """rad, vertical."""
    width: int = 128
    """Pixels."""
    height: int = 128
    """Pixels."""
    attached_to: str = ""
    """Name of the arm whose tool it is mounted on; empty for a camera that stands in the world."""


@dataclass(frozen=True, kw_only=True)
class ArmMount:
    """An arm in the scene."""

    name: str = "arm"
    """Unique in the scene."""
    robot: str = "panda"
    """Robot description: a name or the path of a YAML file."""
    position: Vector = (0.0, 0.0, 0.0)
    """m, of the base in the world."""
    yaw: float = 0.0
    """rad, of the base about the world's z axis."""
    gripper: bool = True
    """Whether the fingers are there; without, the palm remains, to hold an attached body."""
    wrench: bool = False
    """Whether a force-torque sensor sits between flange and palm."""
    model: str = ""
    """Path of an own MJCF or URDF file in place of the built model; its joints have the description's names, and a
    body or site is called `tool`."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything that an engine builds."""

    arms: tuple[ArmMount, ...] = (ArmMount(),)
    """One or two arms."""
    bodies: tuple[Body, ...] = ()
    """What stands on the table, and the table itself where it is not the default one."""
    cameras: tuple[Camera, ...] = ()
    """What sees it."""
    table: bool = True
    """Whether there is a table top around the arms, its surface at z = 0."""
    timestep: float = 0.002
    """s, of physics and controllers."""
    contact_time: float = 0.01
    """s, time constant of contacts: shorter is stiffer; at least twice the time step."""

    def __post_init__(self) -> None:
        names = [item.name for group in (self.arms, self.bodies, self.cameras) for item in group]
        for name in names:
            if names.count(name) > 1 or not name:
                raise ValueError(f"scene: the name {name!r} is used {names.count(name)} times; names are unique")
        arms = {arm.name for arm in self.arms}
        parents = [(body.name, body.attached_to) for body in self.bodies]
        parents += [(camera.name, camera.attached_to) for camera in self.cameras]
        for name, parent in parents:
            if parent and parent not in arms:
                raise ValueError(f"scene: {name!r} is attached to {parent!r}; arms: {sorted(arms)}")
        for body in self.bodies:
            if body.tied_to and (not body.cable or body.tied_to not in [other.name for other in self.bodies]):
                raise ValueError(
                    f"scene: {body.name!r} is tied to {body.tied_to!r}; only segments of cables are tied, and to bodies"
                )

    def body(self, name: str) -> Body:
        """The body of that name."""
        return next(body for body in self.bodies if body.name == name)


def mass_properties(body: Body) -> tuple[np.ndarray, np.ndarray]:
    """Centre of mass (3,) m and inertia (3, 3) kg m² about it, in the body's frame, of one density."""
    center, inertia = body_shapes.mass_properties(body.shapes, np.array([body.mass]), np.ones((1, 3)))
    return center[0], inertia[0]
