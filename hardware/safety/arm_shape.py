"""How far an arm is from itself, from the table, from forbidden regions and from its workspace's faces.

Every distance comes with its Jacobian: the normal at the closest points is a wrench, and joint k changes the
distance by the work of that wrench on the joint's motion, if the joint moves one of the two bodies and not the other.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from hardware.descriptions.arm import ArmDescription
from hardware.kinematics import link_transforms, tool_frame
from hardware.safety.arm_envelope import ArmEnvelope, Box
from hardware.safety.capsules import between_segments, to_boxes
from policies import rotation

_FACES = np.concatenate([np.eye(3), -np.eye(3)])
"""Directions in which a point gets away from the faces of a box that it is in: lower x, y, z, then upper."""


@dataclass(frozen=True, eq=False)
class Distances:
    """Distances at one posture, in the order of `ArmShape.names`, margins taken off: negative is too close."""

    values: np.ndarray
    """Shape (m,), m."""
    jacobian: np.ndarray
    """Shape (m, n), m/rad."""
    tool_position: np.ndarray
    """Shape (3,), m, base frame."""
    tool_jacobian: np.ndarray
    """Shape (3, n), m/rad: of the tool's point."""


class ArmShape:
    """Constants of one arm in its surroundings; `distances` keeps nothing."""

    def __init__(self, description: ArmDescription, envelope: ArmEnvelope) -> None:
        """Collect capsules, pairs and obstacles.

        Raises:
            ValueError: At the arm's home a distance is below its margin, or the tool outside its workspace.
        """
        count = description.num_joints
        self._description = description
        self._axes = description.joint_axes
        capsules = _capsules(description)
        forbidden = [region for region in envelope.forbidden if not isinstance(region, Box)]
        for index, region in enumerate(forbidden):
            # A round region is a capsule fixed to the base.
            capsules.append(
                (0, np.array(region.start), np.array(region.end), region.radius, f"forbidden region {index}")
            )
        parts = len(capsules) - len(forbidden)
        self._link = np.array([capsule[0] for capsule in capsules])
        points = np.ones((len(capsules), 4, 2))
        points[:, :3, 0] = [capsule[1] for capsule in capsules]
        points[:, :3, 1] = [capsule[2] for capsule in capsules]
        self._points = points
        self._radius = np.array([capsule[3] for capsule in capsules])
        names = [capsule[4] for capsule in capsules]
        pairs = [
            (i, k)
            for i, k in itertools.combinations(range(len(capsules)), 2)
            if self._link[k if k < parts else i] > 0 and (k >= parts > i or abs(self._link[i] - self._link[k]) > 1)
        ]
        self._first, self._second = np.array(pairs).T
        self._pair_radius = self._radius[self._first] + self._radius[self._second]
        margin = [envelope.region_margin if k >= parts else envelope.self_collision_margin for _, k in pairs]
        self.names = [f"{names[i]} to {names[k]}" for i, k in pairs]
        self._moving = np.flatnonzero(self._link[:parts] > 0)
        boxes = [region for region in envelope.forbidden if isinstance(region, Box)]
        self._boxed = np.repeat(self._moving, len(boxes))
        self._box_lower = np.tile(np.array([box.lower for box in boxes]).reshape(-1, 3), (len(self._moving), 1))
        self._box_upper = np.tile(np.array([box.upper for box in boxes]).reshape(-1, 3), (len(self._moving), 1))
        self.names += [f"{names[i]} to forbidden box {k}" for i in self._moving for k in range(len(boxes))]
        margin += [envelope.region_margin] * len(self._boxed)
        self._table = envelope.table_height
        # The first link stands on the base: it cannot come nearer to the table.
        self._over = self._moving[self._link[self._moving] > 1] if self._table is not None else self._moving[:0]
        self.names += [f"{names[i]} to the table" for i in self._over]
        margin += [envelope.table_margin] * len(self._over)
        self._workspace = np.array([[box.lower, box.upper] for box in envelope.workspace]).reshape(-1, 2, 3)
        if len(self._workspace):
            # All six faces, not the nearest only: in a corner several of them bind.
            self.names += [
                f"the tool to its workspace's {end} {axis} face" for end in ("lower", "upper") for axis in "xyz"
            ]
            margin += [envelope.region_margin] * 6
        self._margin = np.array(margin)
        self._tool = np.append(tool_frame(description)[0], 1.0)
        # Which joints move the first body of a distance and not the second: +1, the other way round: -1.
        moved = np.arange(1, count + 1) <= np.arange(count + 1)[:, None]
        moves = moved.astype(np.float64)
        alone = np.concatenate(
            [self._link[self._boxed], self._link[self._over], [count] * (6 if len(self._workspace) else 0)]
        )
        self._moves = np.concatenate(
            [moves[self._link[self._first]] - moves[self._link[self._second]], moves[alone.astype(int)]]
        )
        self._check_home(description)

    def distances(self, q: np.ndarray) -> Distances:
        """At joint angles `q` (n,) rad."""
        frames = np.empty((len(q) + 1, 4, 4))
        frames[0] = np.eye(4)
        frames[1:] = link_transforms(self._description, q)
        placed = frames[self._link, :3] @ self._points
        start, end = placed[..., 0], placed[..., 1]
        motion = self._motion(frames)
        tool = frames[-1, :3] @ self._tool

        on_first, on_second = between_segments(
            start[self._first], end[self._first], start[self._second], end[self._second]
        )
        apart = on_first - on_second
        length = np.sqrt(np.einsum("ij,ij->i", apart, apart))
        values, points = [length - self._pair_radius], [on_first]
        normals = [apart / np.maximum(length, 1e-9)[:, None]]
        if len(self._boxed):
            distance, point, normal = to_boxes(start[self._boxed], end[self._boxed], self._box_lower, self._box_upper)
            values.append(distance - self._radius[self._boxed])
            points.append(point)
            normals.append(normal)
        if len(self._over):
            low = np.where((start[self._over, 2] < end[self._over, 2])[:, None], start[self._over], end[self._over])
            values.append(low[:, 2] - self._radius[self._over] - self._table)
            points.append(low)
            normals.append(np.tile([0.0, 0.0, 1.0], (len(low), 1)))
        if len(self._workspace):
            faces = np.concatenate([tool - self._workspace[:, 0], self._workspace[:, 1] - tool], axis=1)
            # Of several boxes, the one that it is deepest in.
            values.append(faces[int(np.argmax(np.min(faces, axis=1)))])
            points.append(np.tile(tool, (6, 1)))
            normals.append(_FACES)
        point, normal = np.concatenate(points), np.concatenate(normals)
        # Work of the wrench (moment, force) at the closest point on a joint's motion (angular, linear).
        wrench = np.concatenate([_cross(point, normal), normal], axis=1)
        jacobian = self._moves * (wrench @ motion.T)
        tool_jacobian = (motion[:, 3:] + _cross(motion[:, :3], tool)).T
        return Distances(np.concatenate(values) - self._margin, jacobian, tool, tool_jacobian)

    def _motion(self, frames: np.ndarray) -> np.ndarray:
        """Spatial velocity (n, 6), angular and linear at the base's origin, per joint velocity."""
        axes = (frames[1:, :3, :3] @ self._axes[..., None])[..., 0]
        return np.concatenate([axes, _cross(frames[1:, :3, 3], axes)], axis=1)

    def _check_home(self, description: ArmDescription) -> None:
        values = self.distances(description.home).values
        worst = int(np.argmin(values))
        if values[worst] < 0.0:
            raise ValueError(
                f"{description.interface.name!r} at home is {-values[worst]:.3f} m too close: {self.names[worst]}; "
                "correct the capsules, the margins or the regions"
            )


def _capsules(description: ArmDescription) -> list[tuple[int, np.ndarray, np.ndarray, float, str]]:
    """Link, start, end, radius and name; palm and fingers belong to the last link, in whose frame they are given."""
    count = description.num_joints
    names = ["the base", *(f"link {index}" for index in range(1, count + 1))]
    position, orientation = description.flange_position, description.flange_orientation
    capsules = []
    for capsule in description.capsules:
        start, end = capsule.start, capsule.end
        if capsule.link > count:
            start, end = (position + rotation.rotate(orientation, point) for point in (start, end))
        name = names[capsule.link] if capsule.link <= count else "the gripper"
        capsules.append((min(capsule.link, count), start, end, capsule.radius, name))
    gripper = description.gripper
    if gripper is not None:
        turn = rotation.multiply(orientation, rotation.from_yaw(np.asarray(gripper.mount_yaw)))
        radius = float(np.max(gripper.finger_size[:2]))
        for name, sign in (("a finger", 1.0), ("the other finger", -1.0)):
            # Open: the widest that they can be. The end's ball touches the tool point's height.
            side = sign * (0.5 * gripper.max_width + float(gripper.finger_size[1]))
            ends = (np.array([0.0, side, gripper.finger_root]), np.array([0.0, side, gripper.tool_offset - radius]))
            start, end = (position + rotation.rotate(turn, point) for point in ends)
            capsules.append((count, start, end, radius, name))
    return capsules


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    ax, ay, az = (a[..., i] for i in range(3))
    bx, by, bz = (b[..., i] for i in range(3))
    return np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=-1)
