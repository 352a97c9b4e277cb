"""What is known of an arm and of its gripper: geometry, inertia, limits; no behaviour.

The links form a chain: link 0 is the base, link k is moved by joint k. A joint's frame is given in the frame of
the link before it; the link's own frame is the joint's frame turned by the joint's angle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from policies.types import RobotInterface


@dataclass(frozen=True, kw_only=True, eq=False)
class Capsule:
    """A segment with a radius, fixed to a link: for collision, drawing and distances."""

    link: int
    """0 is the base, k the link moved by joint k; n + 1 is the gripper's palm (frame of the flange)."""
    start: np.ndarray
    """Shape (3,), m, in the link's frame."""
    end: np.ndarray
    """Shape (3,), m, in the link's frame; equal to `start` for a ball."""
    radius: float
    """m."""


@dataclass(frozen=True, kw_only=True, eq=False)
class GripperDescription:
    """A parallel gripper with two fingers that open along the y axis of the flange's gripper frame."""

    name: str
    """As in `hardware/descriptions/grippers/<name>.yaml`."""
    mass: float
    """kg, palm without the fingers."""
    center_of_mass: np.ndarray
    """Shape (3,), m, of the palm, gripper frame (the flange's frame turned by `mount_yaw` about its z axis)."""
    inertia: np.ndarray
    """Shape (3, 3), kg m², of the palm about its centre of mass, gripper frame."""
    mount_yaw: float
    """rad, from the flange's frame to the gripper frame about z."""
    palm_size: np.ndarray
    """Shape (3,), m, half sizes of the palm's box."""
    palm_center: np.ndarray
    """Shape (3,), m, centre of the palm's box in the gripper frame."""
    finger_mass: float
    """kg, each."""
    finger_size: np.ndarray
    """Shape (3,), m, half sizes of a finger's box."""
    finger_root: float
    """m, distance of the finger's root from the flange along z; the box reaches from there 2 × finger_size[2]."""
    tool_offset: float
    """m, distance of the tool frame's origin, between the fingertips, from the flange along z."""
    max_width: float
    """m between the fingers when open."""
    max_speed: float
    """m/s, of the width."""
    max_force: float
    """N, grasping force, of each finger on the object."""
    pad_friction: float
    """Coulomb friction coefficient of the finger pads."""
    sources: Mapping[str, str]
    """Where each value comes from."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ArmDescription:
    """One arm with n revolute joints: its interface, geometry, inertia and gripper."""

    interface: RobotInterface
    """Names, rates, signals, commands, and limits per joint: `position` rad, `velocity` rad/s,
    `acceleration` rad/s², `jerk` rad/s³, `torque` N m, `torque_rate` N m/s."""
    joint_positions: np.ndarray
    """Shape (n, 3), m, origin of each joint's frame in the frame of the link before it."""
    joint_orientations: np.ndarray
    """Shape (n, 4), wxyz, of each joint's frame in the frame of the link before it, at angle 0."""
    joint_axes: np.ndarray
    """Shape (n, 3), unit, axis of rotation in the joint's frame."""
    link_masses: np.ndarray
    """Shape (n,), kg."""
    link_centers: np.ndarray
    """Shape (n, 3), m, centre of mass in the link's frame."""
    link_inertias: np.ndarray
    """Shape (n, 3, 3), kg m², about the centre of mass, axes of the link's frame."""
    joint_damping: np.ndarray
    """Shape (n,), N m s/rad, viscous friction."""
    joint_friction: np.ndarray
    """Shape (n,), N m, Coulomb friction."""
    armature: np.ndarray
    """Shape (n,), kg m², rotor inertia seen at the joint."""
    flange_position: np.ndarray
    """Shape (3,), m, of the flange in the last link's frame."""
    flange_orientation: np.ndarray
    """Shape (4,), wxyz, of the flange in the last link's frame; z points away from the arm."""
    home: np.ndarray
    """Shape (n,), rad, a comfortable posture over a table in front of the base, tool pointing down."""
    capsules: tuple[Capsule, ...]
    """Shape of base and links; neighbours in the chain may overlap."""
    gripper: GripperDescription | None
    """What is mounted on the flange."""
    sources: Mapping[str, str]
    """Where each value comes from."""

    @property
    def num_joints(self) -> int:
        """Number of joints, n."""
        return len(self.joint_axes)
