"""How fast a joint can carry one part of an arm past another, whatever the posture.

A distance changes by no more than these lever arms times the angles by which the joints turn. So a distance that was
large a moment ago need not be computed anew: `ArmWatch` asks for what may have become small only.
"""

from __future__ import annotations

import numpy as np

from hardware.descriptions.arm import ArmDescription
from policies import rotation


def lever_arms(description: ArmDescription, links: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Bounds of the distance between joints' axes and segments, over all postures: (c, n), m.

    Segments behind a joint are carried by it; those before it are, seen from behind. Both bounds hold for the
    distance between two segments on either side of the joint.

    Args:
        description: The arm.
        links: Shape (c,), the link that each segment belongs to, 0 for the base.
        ends: Shape (c, 2, 3), m, in that link's frame.
    """
    count = description.num_joints
    origins = description.joint_positions
    """Of joint k + 1, in the frame of link k."""
    before = np.array([
        rotation.rotate(orientation, axis)
        for orientation, axis in zip(description.joint_orientations, description.joint_axes, strict=True)
    ])  # fmt: skip
    """The same joint's axis there."""
    steps = np.linalg.norm(origins, axis=1)
    levers = np.empty((len(links), count))
    for row, (link, points) in enumerate(zip(links.tolist(), ends, strict=True)):
        for joint in range(1, count + 1):
            axis = description.joint_axes[joint - 1]
            if joint == link:
                lever = _from_axis(points, np.zeros(3), axis)
            elif joint < link:
                lever = _from_axis(origins[joint][None], np.zeros(3), axis)
                lever += float(np.sum(steps[joint + 1 : link])) + _length(points)
            elif joint == link + 1:
                lever = _from_axis(points, origins[link], before[link])
            else:
                lever = _length(points - origins[link]) + float(np.sum(steps[link + 1 : joint - 1]))
                lever += _from_axis(np.zeros((1, 3)), origins[joint - 1], before[joint - 1])
            levers[row, joint - 1] = lever
    return levers


def _from_axis(points: np.ndarray, origin: np.ndarray, axis: np.ndarray) -> float:
    """Largest distance of points (k, 3) from a line."""
    return _length(np.cross(points - origin, axis))


def _length(vectors: np.ndarray) -> float:
    return float(np.max(np.linalg.norm(vectors, axis=-1)))
