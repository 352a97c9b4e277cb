"""How far an arm is from itself, from the table, from forbidden regions and from its workspace's faces.

Every distance comes with its Jacobian: joint k changes the distance by the way of the closest point along the normal,
if the joint moves one of the two bodies and not the other.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from hardware.descriptions.arm import ArmDescription
from hardware.kinematics import joint_motions, link_transforms, tool_frame
from hardware.safety.arm_envelope import ArmEnvelope, Box
from hardware.safety.arm_reach import lever_arms
from hardware.safety.capsules import between_segments, to_boxes
from policies import rotation

_Found: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Distances (k,), closest points (k, 3), normals (k, 3)."""
_BASE = np.eye(4)[None]
_ANYWHERE = 1e9
"""m/rad, of what no lever arm bounds."""
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


@dataclass(frozen=True, eq=False)
class Closest:
    """Where the arm comes closest, at one posture, for some of the distances."""

    rows: np.ndarray
    """Shape (k,), which of `ArmShape.names`."""
    values: np.ndarray
    """Shape (k,), m, margins taken off."""
    points: np.ndarray
    """Shape (k, 3), m, base frame, on the first body."""
    normals: np.ndarray
    """Shape (k, 3), the direction in which the first body gets away."""
    transforms: np.ndarray
    """Shape (n, 4, 4), `link_transforms` of the posture."""
    tool: np.ndarray
    """Shape (4,), homogeneous position of the tool's point in the base frame."""


class ArmShape:
    """Constants of one arm in its surroundings; what it computes it does not keep."""

    def __init__(self, description: ArmDescription, envelope: ArmEnvelope) -> None:
        """Collect capsules, pairs and obstacles.

        Raises:
            ValueError: At the arm's home a distance is below its margin, or the tool outside its workspace.
        """
        count = description.num_joints
        self._description = description
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
        levers = lever_arms(description, self._link, np.swapaxes(points[:, :3], 1, 2))
        tool = lever_arms(description, np.array([count]), self._tool[None, None, :3])
        pair_levers = np.minimum(levers[self._first], levers[self._second])
        # In the workspace's next box the faces are others at once.
        tools = np.repeat(tool if len(self._workspace) < 2 else np.full_like(tool, _ANYWHERE), len(self.names), axis=0)
        apart, single = len(self._pair_radius), np.concatenate([self._boxed, self._over])
        self.reach = np.abs(self._moves) * np.concatenate([pair_levers, levers[single], tools])[: len(self.names)]
        """Shape (m, n), m/rad: bounds of the Jacobian's entries, whatever the posture."""
        ends = [0, apart, apart + len(self._boxed), len(self.names)]
        rows = np.arange(len(self.names))
        self.parts = [rows[start:end] for start, end in zip(ends[:-1], ends[1:], strict=True)]
        """Rows of capsules to capsules, of capsules to boxes, and of single points: what can be computed apart."""
        self._check_home(description)

    def distances(self, q: np.ndarray) -> Distances:
        """At joint angles `q` (n,) rad."""
        closest = self.closest(q)
        return Distances(closest.values, self.jacobian(closest), closest.tool[:3], self.tool_jacobian(closest))

    def closest(self, q: np.ndarray, parts: Sequence[int] = (0, 1, 2)) -> Closest:
        """Distances without their Jacobian, of `parts` only, at joint angles `q` (n,) rad."""
        transforms = link_transforms(self._description, q)
        frames = np.concatenate([_BASE, transforms])
        placed = frames.take(self._link, axis=0)[:, :3] @ self._points
        start, end = placed[..., 0], placed[..., 1]
        tool = transforms[-1] @ self._tool
        measure = (self._to_capsules, self._to_boxes, self._of_points)
        found = [measure[part](start, end, tool) for part in parts if len(self.parts[part])]
        rows = [self.parts[part] for part in parts if len(self.parts[part])]
        if len(rows) > 1:
            values, points, normals = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
            row = np.concatenate(rows)
        else:
            (values, points, normals), row = found[0], rows[0]
        return Closest(row, values - self._margin[row], points, normals, transforms, tool)

    def jacobian(self, closest: Closest, some: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Change of `some` of the distances per joint angle, (k, n) m/rad."""
        normals, points = closest.normals[some], closest.points[some]
        # A joint moves the closest point by its motion times the point's homogeneous coordinates.
        work = np.empty((len(points), 3, 4))
        np.multiply(normals[..., None], points[:, None], out=work[..., :3])
        work[..., 3] = normals
        motions = joint_motions(self._description, closest.transforms).reshape(-1, 12)
        jacobian: np.ndarray = self._moves[closest.rows[some]] * (work.reshape(-1, 12) @ motions.T)
        return jacobian

    def tool_jacobian(self, closest: Closest) -> np.ndarray:
        """Change of the tool's position per joint angle, (3, n) m/rad."""
        jacobian: np.ndarray = (joint_motions(self._description, closest.transforms) @ closest.tool).T
        return jacobian

    def _to_capsules(self, start: np.ndarray, end: np.ndarray, _: np.ndarray) -> _Found:
        on_first, on_second = between_segments(
            *(points.take(rows, axis=0) for rows in (self._first, self._second) for points in (start, end))
        )
        apart = on_first - on_second
        length = np.sqrt(np.einsum("ij,ij->i", apart, apart))
        return length - self._pair_radius, on_first, apart / np.maximum(length, 1e-9)[:, None]

    def _to_boxes(self, start: np.ndarray, end: np.ndarray, _: np.ndarray) -> _Found:
        distance, point, normal = to_boxes(start[self._boxed], end[self._boxed], self._box_lower, self._box_upper)
        return distance - self._radius[self._boxed], point, normal

    def _of_points(self, start: np.ndarray, end: np.ndarray, tool: np.ndarray) -> _Found:
        """Capsules' lowest points over the table, and the tool's point in its workspace."""
        start, end = start[self._over], end[self._over]
        points = np.where((start[:, 2] < end[:, 2])[:, None], start, end)
        values, normals = points[:, 2] - self._radius[self._over], np.tile([0.0, 0.0, 1.0], (len(points), 1))
        if self._table is not None:
            values = values - self._table
        if len(self._workspace):
            place = tool[:3]
            faces = np.concatenate([place - self._workspace[:, 0], self._workspace[:, 1] - place], axis=1)
            # Of several boxes, the one that it is deepest in.
            values = np.concatenate([values, faces[int(np.argmax(np.min(faces, axis=1)))]])
            points = np.concatenate([points, np.tile(place, (6, 1))])
            normals = np.concatenate([normals, _FACES])
        return values, points, normals

    def _check_home(self, description: ArmDescription) -> None:
        values = self.closest(description.home).values
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
