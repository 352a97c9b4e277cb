"""Reads an arm's and a gripper's YAML file, and refuses what no arm can be."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hardware.descriptions.arm import ArmDescription, Capsule, GripperDescription
from hardware.descriptions.fields import check_keys, read_array, read_sourced
from policies import rotation
from policies.types import RobotInterface

_FIELDS = (
    "name", "kind", "joints", "state_rate_hz", "command_rate_hz", "signals", "commands",
    "gripper", "kinematics", "limits", "inertia", "drive", "home", "shape",
)  # fmt: skip
_SYMMETRIC_LIMITS = ("velocity", "acceleration", "jerk", "torque", "torque_rate")
_DRIVE = ("damping", "friction", "armature")
_GRIPPER_SHAPES: dict[str, tuple[int, ...]] = {
    "mount_yaw": (),
    "palm_size": (3,),
    "palm_center": (3,),
    "finger_mass": (),
    "finger_size": (3,),
    "finger_root": (),
    "tool_offset": (),
    "max_width": (),
    "max_speed": (),
    "max_force": (),
    "pad_friction": (),
}
_POSITIVE = (
    "palm_size", "finger_mass", "finger_size", "tool_offset", "max_width", "max_speed", "max_force", "pad_friction"
)  # fmt: skip


def read_arm(data: dict[str, Any], gripper_data: Any) -> ArmDescription:
    """Check the content of an arm's file and of its gripper's file (None without a gripper).

    Raises:
        ValueError: A field is missing, unknown, of the wrong shape, or unphysical; names the joint.
    """
    check_keys("field", data, _FIELDS)
    joints = tuple(str(joint) for joint in data["joints"])
    if not joints or len(set(joints)) != len(joints):
        raise ValueError(f"joints are {data['joints']}; expected at least one, each with a name of its own")
    positions, orientations, axes, flange = _read_kinematics(data["kinematics"], joints)
    masses, centers, inertias = _read_inertias(data["inertia"], joints)
    limits = _read_limits(data["limits"], joints)
    check_keys("drive field", data["drive"], _DRIVE)
    drive = {key: read_sourced(f"drive {key}", data["drive"][key], (len(joints),)) for key in _DRIVE}
    for key, values in drive.items():
        for joint, value in zip(joints, values, strict=True):
            if value < 0.0:
                raise ValueError(f"drive {key} of {joint!r} is {value}; it must not be negative")
    home = read_sourced("home", data["home"], (len(joints),))
    for joint, angle, (lower, upper) in zip(joints, home, limits["position"], strict=True):
        if not lower <= angle <= upper:
            raise ValueError(f"home of {joint!r} is {angle}, outside its position limits {lower} to {upper}")
    gripper, palm_capsules = (None, ()) if gripper_data is None else read_gripper(gripper_data, len(joints) + 1)
    check_keys("shape field", data["shape"], ("unit", "source", "capsules"))
    capsules = tuple(_read_capsule(index, entry, len(joints)) for index, entry in enumerate(data["shape"]["capsules"]))
    sources = {key: str(data[key]["source"]) for key in ("kinematics", "inertia", "home", "shape")}
    sources |= {f"limits.{key}": str(entry["source"]) for key, entry in data["limits"].items()}
    sources |= {f"drive.{key}": str(entry["source"]) for key, entry in data["drive"].items()}
    return ArmDescription(
        interface=RobotInterface(
            name=str(data["name"]),
            kind="arm",
            actuators=joints,
            limits=limits,
            state_rate_hz=float(data["state_rate_hz"]),
            command_rate_hz=float(data["command_rate_hz"]),
            signals=tuple(data["signals"]),
            commands=tuple(data["commands"]),
        ),
        joint_positions=positions,
        joint_orientations=orientations,
        joint_axes=axes,
        link_masses=masses,
        link_centers=centers,
        link_inertias=inertias,
        joint_damping=drive["damping"],
        joint_friction=drive["friction"],
        armature=drive["armature"],
        flange_position=flange[0],
        flange_orientation=flange[1],
        home=home,
        capsules=capsules + palm_capsules,
        gripper=gripper,
        sources=sources,
    )


def read_gripper(data: Any, palm_link: int) -> tuple[GripperDescription, tuple[Capsule, ...]]:
    """Check the content of a gripper's file; its capsules are given in the flange's frame, as link `palm_link`."""
    try:
        check_keys("gripper field", data, ("name", "kind", "palm", "shape", *_GRIPPER_SHAPES))
        if data["kind"] != "gripper":
            raise ValueError(f"kind is {data['kind']!r}; expected 'gripper'")
        values = {key: read_sourced(key, data[key], shape) for key, shape in _GRIPPER_SHAPES.items()}
        for key in _POSITIVE:
            if not np.all(values[key] > 0.0):
                raise ValueError(f"{key} is {values[key].tolist()}; it must be positive")
        mass, center, inertia = _read_body("palm", data["palm"], ("unit", "source"))
        check_keys("shape field", data["shape"], ("unit", "source", "capsules"))
        turn = rotation.from_yaw(values["mount_yaw"])
        capsules = []
        for index, entry in enumerate(data["shape"]["capsules"]):
            start, end, radius = _read_segment(f"capsule {index}", entry, ("start", "end", "radius"))
            start, end = rotation.rotate(turn, start), rotation.rotate(turn, end)
            capsules.append(Capsule(link=palm_link, start=start, end=end, radius=radius))
        fields: dict[str, Any] = {key: value if value.shape else float(value) for key, value in values.items()}
        gripper = GripperDescription(
            name=str(data["name"]),
            mass=mass,
            center_of_mass=center,
            inertia=inertia,
            **fields,
            sources={key: str(data[key]["source"]) for key in ("palm", "shape", *_GRIPPER_SHAPES)},
        )
    except (ValueError, TypeError) as error:
        name = data.get("name") if isinstance(data, dict) else data
        raise ValueError(f"gripper {name!r}: {error}") from error
    return gripper, tuple(capsules)


def _read_kinematics(
    table: Any, joints: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    check_keys("kinematics field", table, ("unit", "source", "joints", "flange"))
    check_keys("kinematics joint", table["joints"], joints)
    positions, orientations, axes = [], [], []
    for joint in joints:
        row = table["joints"][joint]
        check_keys(f"kinematics field of {joint!r}", row, ("position", "orientation", "axis"))
        positions.append(read_array(f"position of {joint!r}", row["position"], (3,)))
        orientations.append(_read_unit(f"orientation of {joint!r}", row["orientation"], 4))
        axes.append(_read_unit(f"axis of {joint!r}", row["axis"], 3))
    check_keys("flange field", table["flange"], ("position", "orientation"))
    flange_position = read_array("position of the flange", table["flange"]["position"], (3,))
    flange_orientation = _read_unit("orientation of the flange", table["flange"]["orientation"], 4)
    return np.stack(positions), np.stack(orientations), np.stack(axes), (flange_position, flange_orientation)


def _read_unit(what: str, value: Any, size: int) -> np.ndarray:
    """A unit vector or quaternion, written with at least six digits; scaled to full precision."""
    array = read_array(what, value, (size,))
    length = float(np.linalg.norm(array))
    if abs(length - 1.0) > 1e-6:
        raise ValueError(f"{what} has length {length:.7f}; it must be 1 (within 1e-6)")
    return array / length


def _read_limits(table: Any, joints: tuple[str, ...]) -> dict[str, tuple[tuple[float, float], ...]]:
    check_keys("limit", table, ("position", *_SYMMETRIC_LIMITS))
    position = read_sourced("limits position", table["position"], (len(joints), 2))
    for joint, (lower, upper) in zip(joints, position, strict=True):
        if lower >= upper:
            raise ValueError(f"limits position of {joint!r} is {lower} to {upper}; the lower limit comes first")
    limits = {"position": tuple((float(lower), float(upper)) for lower, upper in position)}
    for key in _SYMMETRIC_LIMITS:
        values = read_sourced(f"limits {key}", table[key], (len(joints),))
        for joint, value in zip(joints, values, strict=True):
            if value <= 0.0:
                raise ValueError(f"limits {key} of {joint!r} is {value}; it must be positive (it holds both ways)")
        limits[key] = tuple((-float(value), float(value)) for value in values)
    return limits


def _read_inertias(table: Any, joints: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    check_keys("inertia field", table, ("unit", "source", "links"))
    check_keys("link moved by joint", table["links"], joints)
    bodies = [_read_body(f"link of {joint!r}", table["links"][joint]) for joint in joints]
    masses, centers, inertias = zip(*bodies, strict=True)
    return np.array(masses), np.stack(centers), np.stack(inertias)


def _read_body(what: str, row: Any, also: tuple[str, ...] = ()) -> tuple[float, np.ndarray, np.ndarray]:
    """Mass, centre of mass and inertia (3, 3) of one body that could exist."""
    check_keys(f"{what} field", row, ("mass", "center", "moments", *also))
    mass = float(read_array(f"mass of {what}", row["mass"], ()))
    if mass <= 0.0:
        raise ValueError(f"mass of {what} is {mass}; it must be positive")
    center = read_array(f"center of {what}", row["center"], (3,))
    xx, yy, zz, xy, xz, yz = read_array(f"moments of {what}", row["moments"], (6,))
    inertia = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    principal = np.linalg.eigvalsh(inertia)
    if principal[0] <= 0.0:
        raise ValueError(f"moments of {what} have principal values {principal}; all must be positive")
    if principal[2] > principal[0] + principal[1]:
        raise ValueError(
            f"moments of {what} have principal values {principal}; the largest must not exceed the sum of the "
            "others (triangle inequality): no body has these"
        )
    return mass, center, inertia


def _read_capsule(index: int, entry: Any, num_joints: int) -> Capsule:
    start, end, radius = _read_segment(f"capsule {index}", entry, ("link", "start", "end", "radius"))
    link = entry["link"]
    if not isinstance(link, int) or not 0 <= link <= num_joints:
        raise ValueError(f"link of capsule {index} is {link!r}; expected 0 (base) to {num_joints}")
    return Capsule(link=link, start=start, end=end, radius=radius)


def _read_segment(what: str, entry: Any, keys: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, float]:
    check_keys(f"{what} field", entry, keys)
    start, end = (read_array(f"{key} of {what}", entry[key], (3,)) for key in ("start", "end"))
    radius = float(entry["radius"])
    if not (math.isfinite(radius) and radius > 0.0):
        raise ValueError(f"radius of {what} is {radius}; it must be positive")
    return start, end, radius
