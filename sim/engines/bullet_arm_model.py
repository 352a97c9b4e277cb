"""An arm in one PyBullet client, built with `createMultiBody`.

It takes the description's joint frames as they are, and each link's inertia by its principal axes, which Bullet needs
anyway. Links: 0 to n - 1 are the arm's own, then come the palm (fixed), the two fingers (prismatic) and the attached
bodies (fixed to the palm).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hardware.descriptions.arm import ArmDescription
from hardware.kinematics import tool_frame
from policies import rotation
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


@dataclass(frozen=True, eq=False)
class BulletArm:
    """An arm in a client."""

    index: int
    """PyBullet's number."""
    joints: list[int]
    """Links of the arm's joints."""
    palm: int
    """Link of the palm, whose fixed joint measures the wrench."""
    fingers: list[int]
    """Links of the fingers; empty without."""
    payload: float
    """kg, all that hangs on the palm."""
    payload_center: np.ndarray
    """Shape (3,), m, its centre of mass in the tool's frame, with symmetric fingers."""
    sensor_position: np.ndarray
    """Shape (3,), m, the point in the tool's frame about which the sensor's torque is."""
    sensor_turn: np.ndarray
    """Shape (3, 3), from the sensor's axes to the tool's."""
    attached: dict[str, BulletBody]
    """Bodies of the scene that the tool holds, by name."""


def shares_friction(scene: Scene, body: Body) -> bool:
    """Whether an attached body's own friction counts: where no free body is, whose would."""
    return bool(body.attached_to) and not any(b.motion == "free" and not b.attached_to for b in scene.bodies)


@dataclass
class _Links:
    """Columns of `createMultiBody`, one entry per link, and what is set afterwards."""

    masses: list[float] = field(default_factory=list)
    shapes: list[int] = field(default_factory=list)
    positions: list[list[float]] = field(default_factory=list)
    orientations: list[list[float]] = field(default_factory=list)
    centers: list[list[float]] = field(default_factory=list)
    turns: list[list[float]] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    kinds: list[int] = field(default_factory=list)
    axes: list[list[float]] = field(default_factory=list)
    moments: list[np.ndarray] = field(default_factory=list)
    frictions: list[float] = field(default_factory=list)


class ArmBuilder:
    """Builds one arm."""

    def __init__(self, client: int, scene: Scene, number: int, every_arm: int, description: ArmDescription) -> None:
        self.client, self.scene, self.mount = client, scene, scene.arms[number]
        self.group = FIRST_ARM << number
        self.others = STILL | FREE | (every_arm & ~self.group)
        self.description = description
        self.links = _Links()
        self.loads: list[tuple[float, np.ndarray]] = []
        """Masses kg on the palm, it included, and their centres (3,) m in its frame."""
        offset = description.gripper.tool_offset if description.gripper is not None else 0.0
        self.tool = np.array([0.0, 0.0, offset]), np.array([1.0, 0.0, 0.0, 0.0])
        """Position (3,) m and orientation (4,) of the tool's frame in the palm's."""

    def build(self) -> BulletArm:
        """Make it in the client."""
        joints, palm, fingers = self._add_arm()
        held = {b.name: self._attach(palm, b) for b in self.scene.bodies if b.attached_to == self.mount.name}
        index = self._create()
        self._set_joints(index, joints, palm, fingers)
        masses = np.array([mass for mass, _ in self.loads])
        moment = sum((mass * center for mass, center in self.loads), np.zeros(3))
        tool, orientation = self.tool
        # The sensor's axes are those of the palm's inertial frame, its point is their origin.
        turn = np.array(self.links.turns[palm])[[3, 0, 1, 2]]
        return BulletArm(
            index=index,
            joints=joints,
            palm=palm,
            fingers=fingers,
            payload=float(masses.sum()),
            payload_center=rotation.rotate_inverse(orientation, moment / max(masses.sum(), 1e-9) - tool),
            sensor_position=rotation.rotate_inverse(orientation, np.array(self.links.centers[palm]) - tool),
            sensor_turn=rotation.to_matrix(rotation.multiply(rotation.conjugate(orientation), turn)),
            attached={name: self._numbers(index, link) for name, link in held.items()},
        )

    def _add_arm(self) -> tuple[list[int], int, list[int]]:
        """Add the links of joints, palm and fingers, in this order; returns their numbers."""
        description, gripper = self.description, self.description.gripper
        for k in range(description.num_joints):
            self._link(
                mass=description.link_masses[k],
                center=description.link_centers[k],
                inertia=description.link_inertias[k],
                shapes=_capsules(description, k + 1),
                position=description.joint_positions[k],
                orientation=description.joint_orientations[k],
                parent=k - 1,
                kind=pybullet.JOINT_REVOLUTE,
                axis=description.joint_axes[k],
            )
        palm = self._palm()
        fingers = self._fingers(palm) if gripper is not None and self.mount.gripper else []
        return list(range(description.num_joints)), palm, fingers

    def _base_shapes(self) -> list[Shape]:
        """What stands."""
        return _capsules(self.description, 0)

    def _link(
        self,
        *,
        mass: float,
        center: Any,
        inertia: np.ndarray,
        shapes: list[Shape],
        position: Any,
        parent: int,
        kind: int,
        orientation: Any = (1.0, 0.0, 0.0, 0.0),
        axis: Any = (0.0, 0.0, 1.0),
        friction: float = 1.0,
    ) -> int:
        links = self.links
        moments, turn = principal_axes(inertia)
        links.masses.append(float(mass))
        links.shapes.append(collision_shape(self.client, shapes))
        links.positions.append([float(value) for value in position])
        links.orientations.append(xyzw(orientation))
        links.centers.append([float(value) for value in center])
        links.turns.append(xyzw(turn))
        links.parents.append(parent + 1)  # 0 is the base
        links.kinds.append(kind)
        links.axes.append([float(value) for value in axis])
        links.moments.append(moments)
        links.frictions.append(friction)
        return len(links.masses) - 1

    def _palm(self) -> int:
        """The palm, in the tool's axes with its origin in the flange."""
        description, gripper = self.description, self.description.gripper
        mass, center, inertia, shapes = 0.0, np.zeros(3), np.zeros((3, 3)), []
        if gripper is not None:
            mass, center, inertia = gripper.mass, gripper.center_of_mass, gripper.inertia
            shapes = [Shape(kind="box", size=_vector(gripper.palm_size), position=_vector(gripper.palm_center))]
            shapes += _capsules(
                description, description.num_joints + 1, rotation.from_yaw(np.array(-gripper.mount_yaw))
            )
        self.loads.append((mass, np.asarray(center)))
        return self._link(
            mass=mass,
            center=center,
            inertia=inertia,
            shapes=shapes,
            position=description.flange_position,
            orientation=tool_frame(description)[1],
            parent=description.num_joints - 1,
            kind=pybullet.JOINT_FIXED,
        )

    def _fingers(self, palm: int) -> list[int]:
        gripper = self.description.gripper
        assert gripper is not None
        x, y, z = (float(value) for value in gripper.finger_size)
        inertia = gripper.finger_mass / 3.0 * np.diag([y * y + z * z, x * x + z * z, x * x + y * y])
        found = []
        for side in (1.0, -1.0):
            middle = (0.0, side * y, z)
            self.loads.append((gripper.finger_mass, np.array([0.0, 0.0, gripper.finger_root + z])))
            found.append(
                self._link(
                    mass=gripper.finger_mass,
                    center=middle,
                    inertia=inertia,
                    shapes=[Shape(kind="box", size=(x, y, z), position=middle)],
                    position=(0.0, 0.0, gripper.finger_root),
                    parent=palm,
                    kind=pybullet.JOINT_PRISMATIC,
                    axis=(0.0, side, 0.0),
                )
            )
        return found

    def _attach(self, palm: int, body: Body) -> int:
        position = self.tool[0] + rotation.rotate(self.tool[1], np.array(body.position))
        orientation = rotation.multiply(self.tool[1], np.array(body.orientation))
        center, inertia = mass_properties(body)
        self.loads.append((body.mass, position + rotation.rotate(orientation, center)))
        return self._link(
            mass=body.mass,
            center=center,
            inertia=inertia,
            shapes=list(body.shapes),
            position=position,
            orientation=orientation,
            parent=palm,
            kind=pybullet.JOINT_FIXED,
            friction=body.friction if shares_friction(self.scene, body) else 1.0,
        )

    def _create(self) -> int:
        links, mount = self.links, self.mount
        return pybullet.createMultiBody(
            baseMass=0.0,
            baseCollisionShapeIndex=collision_shape(self.client, self._base_shapes()),
            basePosition=list(mount.position),
            baseOrientation=[0.0, 0.0, math.sin(mount.yaw / 2), math.cos(mount.yaw / 2)],
            linkMasses=links.masses,
            linkCollisionShapeIndices=links.shapes,
            linkVisualShapeIndices=[-1] * len(links.masses),
            linkPositions=links.positions,
            linkOrientations=links.orientations,
            linkInertialFramePositions=links.centers,
            linkInertialFrameOrientations=links.turns,
            linkParentIndices=links.parents,
            linkJointTypes=links.kinds,
            linkJointAxis=links.axes,
            physicsClientId=self.client,
        )

    def _numbers(self, index: int, link: int) -> BulletBody:
        x, y, z, w = self.links.turns[link]
        return BulletBody(index, np.array(self.links.centers[link]), np.array([w, x, y, z]), link)

    def _set_joints(self, index: int, joints: list[int], palm: int, fingers: list[int]) -> None:
        description, client = self.description, self.client
        for link, moments in enumerate(self.links.moments):
            pybullet.changeDynamics(index, link, localInertiaDiagonal=moments.tolist(), physicsClientId=client)
            set_contact(client, index, link, self.links.frictions[link], self.group, self.others)
        set_contact(client, index, -1, 1.0, self.group, self.others)
        limits = description.interface.limits["position"]
        for link, (lower, upper) in zip(joints, limits, strict=True):
            pybullet.changeDynamics(index, link, jointLowerLimit=lower, jointUpperLimit=upper, physicsClientId=client)
            # The motors that Bullet starts with would hold the joints.
            pybullet.setJointMotorControl2(index, link, pybullet.VELOCITY_CONTROL, force=0.0, physicsClientId=client)
        if self.mount.wrench:
            pybullet.enableJointForceTorqueSensor(index, palm, True, physicsClientId=client)
        if not fingers:
            return
        assert description.gripper is not None
        for link in fingers:
            pybullet.changeDynamics(
                index,
                link,
                jointLowerLimit=0.0,
                jointUpperLimit=0.5 * float(description.gripper.max_width),
                physicsClientId=client,
            )
        # One drive moves both fingers: a gear keeps them symmetric.
        gear = pybullet.createConstraint(
            index,
            fingers[0],
            index,
            fingers[1],
            pybullet.JOINT_GEAR,
            [0.0, 1.0, 0.0],
            [0.0, 0.0, 0.0],
            [0.0, 0.0, 0.0],
            physicsClientId=client,
        )
        pybullet.changeConstraint(
            gear, gearRatio=-1.0, erp=0.2, maxForce=4.0 * float(description.gripper.max_force), physicsClientId=client
        )


def _capsules(description: ArmDescription, link: int, turn: np.ndarray | None = None) -> list[Shape]:
    """The collision shapes of a link, `turn`ed into another frame."""
    shapes = []
    for capsule in description.capsules:
        if capsule.link != link:
            continue
        start, end = np.asarray(capsule.start), np.asarray(capsule.end)
        if turn is not None:
            start, end = rotation.rotate(turn, start), rotation.rotate(turn, end)
        length = float(np.linalg.norm(end - start))
        middle = _vector(0.5 * (start + end))
        if length < 1e-9:
            shapes.append(Shape(kind="sphere", size=(float(capsule.radius),), position=middle))
            continue
        # A capsule does not mind which way round it is: the turn from z to its upward direction is never singular.
        x, y, z = (end - start) / length if end[2] >= start[2] else (start - end) / length
        w, x, y, z = rotation.normalize(np.array([1.0 + z, -y, x, 0.0]))
        size = (float(capsule.radius), 0.5 * length)
        shapes.append(Shape(kind="capsule", size=size, position=middle, orientation=(w, x, y, z)))
    return shapes


def _vector(values: Any) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values)
    return x, y, z
