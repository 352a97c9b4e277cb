"""Writes an arm as URDF: for other simulators, for ROS and for tools that plan motions."""

from __future__ import annotations

import math
from collections.abc import Iterable
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from hardware.descriptions.arm import ArmDescription, Capsule, GripperDescription
from policies import rotation

_COLORS = {"light": "0.92 0.92 0.90 1", "dark": "0.25 0.26 0.28 1"}
_BASE_MASS = 3.0  # kg; the base stands still, but some simulators drop links without mass


def to_urdf(description: ArmDescription, *, name: str | None = None) -> str:
    """URDF of the arm with its gripper, primitive shapes only.

    Links are `base`, then each joint's name with `_link`, `palm`, `finger_left`, `finger_right` and `tool`; the
    fingers' prismatic joints are `finger_left` and `finger_right` (each moves by half the width, and the second
    mimics the first). URDF has no rotor inertia: add `description.armature` in the simulator.

    Args:
        description: The arm.
        name: Of the robot, instead of the description's.
    """
    robot = Element("robot", name=name or description.interface.name)
    for color, rgba in _COLORS.items():
        SubElement(SubElement(robot, "material", name=color), "color", rgba=rgba)
    joints = description.interface.actuators
    links = ["base", *(f"{joint}_link" for joint in joints)]
    base = SubElement(robot, "link", name="base")
    _inertial(base, _BASE_MASS, np.zeros(3), 0.02 * np.eye(3))
    _shapes(base, description.capsules, 0)
    for k, joint in enumerate(joints):
        link = SubElement(robot, "link", name=links[k + 1])
        _inertial(link, description.link_masses[k], description.link_centers[k], description.link_inertias[k])
        _shapes(link, description.capsules, k + 1)
        element = _joint(robot, joint, "revolute", links[k], links[k + 1])
        _origin(element, description.joint_positions[k], description.joint_orientations[k])
        SubElement(element, "axis", xyz=_text(description.joint_axes[k]))
        limits = {key: description.interface.limits[key][k] for key in ("position", "velocity", "torque")}
        lower, upper = limits["position"]
        _limit(element, lower, upper, limits["torque"][1], limits["velocity"][1])
        damping, friction = description.joint_damping[k], description.joint_friction[k]
        SubElement(element, "dynamics", damping=_text([damping]), friction=_text([friction]))
    if description.gripper is None:
        tool = np.zeros(3)
        flange = _fixed(robot, "flange", links[-1], description.flange_position, description.flange_orientation)
        _inertial(flange, 0.0, np.zeros(3), np.zeros((3, 3)))
    else:
        _add_gripper(robot, description, description.gripper, links[-1])
        tool = np.array([0.0, 0.0, description.gripper.tool_offset])
    # A link without inertia weighs 1 kg in PyBullet: say that it weighs nothing.
    frame = _fixed(robot, "tool", "flange" if description.gripper is None else "palm", tool)
    _inertial(frame, 0.0, np.zeros(3), np.zeros((3, 3)))
    ElementTree.indent(robot)
    return '<?xml version="1.0"?>\n' + ElementTree.tostring(robot, encoding="unicode") + "\n"


def _add_gripper(robot: Element, description: ArmDescription, gripper: GripperDescription, last_link: str) -> None:
    turn = rotation.multiply(description.flange_orientation, rotation.from_yaw(np.asarray(gripper.mount_yaw)))
    palm = _fixed(robot, "palm", last_link, description.flange_position, turn)
    _inertial(palm, gripper.mass, gripper.center_of_mass, gripper.inertia)
    _box(palm, gripper.palm_center, gripper.palm_size, "light")
    sx, sy, sz = gripper.finger_size
    inertia = gripper.finger_mass / 3.0 * np.diag([sy * sy + sz * sz, sx * sx + sz * sz, sx * sx + sy * sy])
    for side, sign in (("finger_left", 1.0), ("finger_right", -1.0)):
        # The finger's frame lies on its pad, at its root; closed, the pads touch in the middle.
        finger = SubElement(robot, "link", name=side)
        center = np.array([0.0, sign * sy, sz])
        _inertial(finger, gripper.finger_mass, center, inertia)
        _box(finger, center, gripper.finger_size, "dark")
        joint = _joint(robot, side, "prismatic", "palm", side)
        _origin(joint, np.array([0.0, 0.0, gripper.finger_root]))
        SubElement(joint, "axis", xyz=_text([0.0, sign, 0.0]))
        _limit(joint, 0.0, 0.5 * gripper.max_width, gripper.max_force, 0.5 * gripper.max_speed)
        if side == "finger_right":
            SubElement(joint, "mimic", joint="finger_left")


def _fixed(
    robot: Element, name: str, parent: str, position: np.ndarray, orientation: np.ndarray | None = None
) -> Element:
    link = SubElement(robot, "link", name=name)
    _origin(_joint(robot, f"{name}_fixed", "fixed", parent, name), position, orientation)
    return link


def _joint(robot: Element, name: str, kind: str, parent: str, child: str) -> Element:
    joint = SubElement(robot, "joint", name=name, type=kind)
    SubElement(joint, "parent", link=parent)
    SubElement(joint, "child", link=child)
    return joint


def _limit(joint: Element, lower: float, upper: float, effort: float, velocity: float) -> None:
    values = {"lower": lower, "upper": upper, "effort": effort, "velocity": velocity}
    SubElement(joint, "limit", {key: _text([value]) for key, value in values.items()})


def _inertial(link: Element, mass: float, center: np.ndarray, inertia: np.ndarray) -> None:
    element = SubElement(link, "inertial")
    _origin(element, center)
    SubElement(element, "mass", value=_text([mass]))
    entries = {"ixx": (0, 0), "ixy": (0, 1), "ixz": (0, 2), "iyy": (1, 1), "iyz": (1, 2), "izz": (2, 2)}
    SubElement(element, "inertia", {key: _text([inertia[entry]]) for key, entry in entries.items()})


def _shapes(link: Element, capsules: Iterable[Capsule], index: int) -> None:
    """A cylinder and two spheres for each capsule of the link: URDF has no capsules."""
    color = "dark" if index == 0 else "light"
    for capsule in capsules:
        if capsule.link != index:
            continue
        along = capsule.end - capsule.start
        length = float(np.linalg.norm(along))
        sphere = {"radius": _text([capsule.radius])}
        _shape(link, "sphere", sphere, color, capsule.start)
        if length > 0.0:
            _shape(link, "sphere", sphere, color, capsule.end)
            middle = 0.5 * (capsule.start + capsule.end)
            _shape(link, "cylinder", {**sphere, "length": _text([length])}, color, middle, _turn_to(along / length))


def _box(link: Element, center: np.ndarray, half_sizes: np.ndarray, color: str) -> None:
    _shape(link, "box", {"size": _text(2.0 * half_sizes)}, color, center)


def _shape(
    link: Element,
    kind: str,
    sizes: dict[str, str],
    color: str,
    position: np.ndarray,
    orientation: np.ndarray | None = None,
) -> None:
    for use in ("visual", "collision"):
        element = SubElement(link, use)
        _origin(element, position, orientation)
        SubElement(SubElement(element, "geometry"), kind, sizes)
        if use == "visual":
            SubElement(element, "material", name=color)


def _origin(parent: Element, position: np.ndarray, orientation: np.ndarray | None = None) -> None:
    angles = (0.0, 0.0, 0.0) if orientation is None else _roll_pitch_yaw(orientation)
    SubElement(parent, "origin", xyz=_text(position), rpy=_text(angles))


def _roll_pitch_yaw(quaternion: np.ndarray) -> tuple[float, float, float]:
    """Angles about the fixed x, y and z axes, in this order."""
    matrix = rotation.to_matrix(quaternion)
    flat = math.hypot(matrix[0, 0], matrix[1, 0])
    pitch = math.atan2(-matrix[2, 0], flat)
    if flat < 1e-9:  # straight up or down: only the sum of roll and yaw counts
        return math.atan2(-matrix[1, 2], matrix[1, 1]), pitch, 0.0
    return math.atan2(matrix[2, 1], matrix[2, 2]), pitch, math.atan2(matrix[1, 0], matrix[0, 0])


def _turn_to(axis: np.ndarray) -> np.ndarray:
    """A quaternion that turns a cylinder's z axis to the line along `axis`; which way round does not matter."""
    axis = axis if axis[2] >= 0.0 else -axis
    return rotation.normalize(np.array([1.0 + axis[2], -axis[1], axis[0], 0.0]))


def _text(values: Iterable[float]) -> str:
    """Numbers with all their digits."""
    return " ".join(repr(float(value)) for value in values)
