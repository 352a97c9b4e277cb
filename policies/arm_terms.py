"""Observation terms of arms; `policies.observations` says what a term is and how they are assembled.

Positions and rotations are in the base frame; terms with a parameter `frame` give them in that of the `tool` as it
stands now where they are told to. Every term scales its feature to about one and clips what can run away. With two
arms the state is a dict of `ArmState` by name, and the parameter `arm` chooses one.
"""

from __future__ import annotations

from array_api_compat import array_namespace

from policies import rotation
from policies.terms import Memory, MemorySpec, Term
from policies.types import ArmSetpoint, ArmState, Array

FARTHEST = 10.0
"""m, bound of what an episode's memory keeps of a pose."""


def arm_of(state: ArmState | dict[str, ArmState], arm: str = "") -> ArmState:
    """The arm of that name, or the only one; the first of several where no name is given."""
    if isinstance(state, ArmState):
        return state
    return state[arm] if arm else next(iter(state.values()))


def pose_of(state: ArmState | dict[str, ArmState], thing: str, arm: str = "") -> Array:
    """Pose (..., 7) of an object by name, or of the tool where `thing` is `tool`."""
    chosen = arm_of(state, arm)
    return chosen.tool_pose if thing == "tool" else chosen.objects[thing]


def joint_positions(
    state: ArmState, setpoint: ArmSetpoint, memory: Memory, *, period: float, joints: int, scale: float, arm: str = ""
) -> tuple[Array, Memory]:
    """Joint angles (..., joints) rad, multiplied by `scale`."""
    return arm_of(state, arm).joint_positions * scale, memory


def joint_velocities(
    state: ArmState, setpoint: ArmSetpoint, memory: Memory, *, period: float, joints: int, scale: float, arm: str = ""
) -> tuple[Array, Memory]:
    """Joint velocities (..., joints) rad/s, multiplied by `scale`."""
    return arm_of(state, arm).joint_velocities * scale, memory


def position(
    state: ArmState,
    setpoint: ArmSetpoint,
    memory: Memory,
    *,
    period: float,
    of: str,
    x: float,
    y: float,
    z: float,
    scale: float,
    arm: str = "",
) -> tuple[Array, Memory]:
    """Position (..., 3) m of the tool or an object `of`, from the point (x, y, z), multiplied by `scale`."""
    pose = pose_of(state, of, arm)
    return _minus(pose[..., :3], x, y, z) * scale, memory


def relative_pose(
    state: ArmState, setpoint: ArmSetpoint, memory: Memory, *, period: float, scale: float, limit: float, arm: str = ""
) -> tuple[Array, Memory]:
    """The tool as seen from where it stood when the episode began: its way m times `scale`, and its turn.

    Shape (..., 9): the position is clipped to ±`limit`, the turn is given as in `orientation`. The first pose of the
    episode is kept in memory, whose initial value, 0, is no pose: a quaternion is never 0.
    """
    pose = arm_of(state, arm).tool_pose
    xp, name = array_namespace(pose), _first_pose(arm)
    known = xp.any(memory[name][..., 3:] != 0.0, axis=-1, keepdims=True)
    first = xp.where(known, memory[name], pose.clip(-FARTHEST, FARTHEST))
    way = rotation.rotate_inverse(first[..., 3:], pose[..., :3] - first[..., :3])
    turn = rotation.multiply(rotation.conjugate(first[..., 3:]), pose[..., 3:])
    feature = xp.concat([(way * scale).clip(-limit, limit), _two_columns(turn)], axis=-1)
    return feature, {**memory, name: first}


def orientation(
    state: ArmState, setpoint: ArmSetpoint, memory: Memory, *, period: float, of: str, arm: str = ""
) -> tuple[Array, Memory]:
    """First two columns of the rotation matrix (..., 6) of the tool or an object `of`: continuous, without signs."""
    return _two_columns(pose_of(state, of, arm)[..., 3:]), memory


def position_difference(
    state: ArmState,
    setpoint: ArmSetpoint,
    memory: Memory,
    *,
    period: float,
    of: str,
    origin: str,
    scale: float,
    limit: float,
    arm: str = "",
    origin_arm: str = "",
    frame: str = "base",
) -> tuple[Array, Memory]:
    """Position of `of` minus that of `origin` (..., 3) m, times `scale`, clipped to ±`limit`.

    Either is `tool`, the name of an object, or `goal`: the set-point's tool pose. Axes are those of `frame`.
    """
    difference = _point(state, setpoint, of, arm) - _point(state, setpoint, origin, origin_arm or arm)
    difference = _in_frame(state, difference, frame, arm)
    return (difference * scale).clip(-limit, limit), memory


def rotation_difference(
    state: ArmState,
    setpoint: ArmSetpoint,
    memory: Memory,
    *,
    period: float,
    of: str,
    origin: str,
    scale: float,
    limit: float,
    arm: str = "",
    origin_arm: str = "",
    frame: str = "base",
) -> tuple[Array, Memory]:
    """Rotation vector (..., 3) rad that turns `origin` into `of`, times `scale`, clipped to ±`limit`.

    The turn and its axis are those of `frame`.
    """
    of_orientation = _turn(state, setpoint, of, arm)
    origin_orientation = _turn(state, setpoint, origin, origin_arm or arm)
    difference = rotation.to_rotation_vector(rotation.multiply(of_orientation, rotation.conjugate(origin_orientation)))
    return (_in_frame(state, difference, frame, arm) * scale).clip(-limit, limit), memory


def behind_difference(
    state: ArmState,
    setpoint: ArmSetpoint,
    memory: Memory,
    *,
    period: float,
    of: str,
    offset: float,
    scale: float,
    limit: float,
    arm: str = "",
    frame: str = "base",
) -> tuple[Array, Memory]:
    """Way (..., 3) m from the tool to the point `offset` m behind `of`, seen from the goal, times `scale`.

    Where a tool has to be to push `of` towards the goal. Clipped to ±`limit`. Axes are those of `frame`.
    """
    thing = pose_of(state, of, arm)[..., :3]
    xp = array_namespace(thing)
    way = _point(state, setpoint, "goal", arm) - thing
    length = xp.linalg.vector_norm(way, axis=-1, keepdims=True)
    behind = thing - way * (offset / length.clip(1e-3))
    way = _in_frame(state, behind - arm_of(state, arm).tool_pose[..., :3], frame, arm)
    return (way * scale).clip(-limit, limit), memory


def tool_twist(
    state: ArmState,
    setpoint: ArmSetpoint,
    memory: Memory,
    *,
    period: float,
    linear: float,
    angular: float,
    arm: str = "",
    frame: str = "base",
) -> tuple[Array, Memory]:
    """Tool twist (..., 6), m/s times `linear` and rad/s times `angular`, along the axes of `frame`.

    Either frame's twist is that of the tool's own point: the axes turn, the point stays (see `rotation.adjoint`).
    """
    twist = arm_of(state, arm).tool_twist
    xp = array_namespace(twist)
    velocity, rate = (_in_frame(state, part, frame, arm) for part in (twist[..., :3], twist[..., 3:]))
    return xp.concat([velocity * linear, rate * angular], axis=-1), memory


def gripper_width(
    state: ArmState, setpoint: ArmSetpoint, memory: Memory, *, period: float, scale: float, arm: str = ""
) -> tuple[Array, Memory]:
    """Distance between the fingers (..., 1) m, multiplied by `scale`."""
    return arm_of(state, arm).gripper_width[..., None] * scale, memory


def wrench(
    state: ArmState,
    setpoint: ArmSetpoint,
    memory: Memory,
    *,
    period: float,
    force: float,
    torque: float,
    limit: float,
    arm: str = "",
) -> tuple[Array, Memory]:
    """Measured wrench (..., 6), tool frame, N times `force` and N m times `torque`, clipped to ±`limit`."""
    measured: Array = arm_of(state, arm).wrench
    xp = array_namespace(measured)
    scaled = xp.concat([measured[..., :3] * force, measured[..., 3:] * torque], axis=-1)
    return scaled.clip(-limit, limit), memory


def _in_frame(state: ArmState, vector: Array, frame: str, arm: str) -> Array:
    """A vector (..., 3) of the base frame along the axes of `frame`: `base` or the `tool` of that arm.

    Raises:
        ValueError: There is no such frame.
    """
    if frame == "base":
        return vector
    if frame != "tool":
        raise ValueError(f"frame is {frame!r}; expected base or tool")
    return rotation.rotate_inverse(arm_of(state, arm).tool_pose[..., 3:], vector)


def _first_pose(arm: str) -> str:
    """Name of the memory that holds the first pose of an arm's tool in the episode."""
    return f"first_tool_pose.{arm}" if arm else "first_tool_pose"


def _minus(vector: Array, x: float, y: float, z: float) -> Array:
    xp = array_namespace(vector)
    return xp.concat([vector[..., :1] - x, vector[..., 1:2] - y, vector[..., 2:] - z], axis=-1)


def _pose(state: ArmState, setpoint: ArmSetpoint, name: str, arm: str) -> Array:
    return setpoint.tool_pose if name == "goal" else pose_of(state, name, arm)


def _point(state: ArmState, setpoint: ArmSetpoint, name: str, arm: str) -> Array:
    return _pose(state, setpoint, name, arm)[..., :3]


def _turn(state: ArmState, setpoint: ArmSetpoint, name: str, arm: str) -> Array:
    return _pose(state, setpoint, name, arm)[..., 3:]


def _two_columns(quaternion: Array) -> Array:
    xp = array_namespace(quaternion)
    w, x, y, z = (quaternion[..., i : i + 1] for i in range(4))
    twice = quaternion * 2.0  # exact, and so are products with it
    x2, y2, z2 = (twice[..., i : i + 1] for i in range(1, 4))
    xy, wz, xz, wy, zz = x * y2, w * z2, x * z2, w * y2, z * z2
    first = [1.0 - (y * y2 + zz), xy + wz, xz - wy]
    second = [xy - wz, 1.0 - (x * x2 + zz), y * z2 + w * x2]
    return xp.concat(first + second, axis=-1)


ARM_TERMS: dict[str, Term] = {
    "joint_positions": Term(
        function=joint_positions, size=lambda joints, **_: int(joints), signals=("joint_positions",)
    ),
    "joint_velocities": Term(
        function=joint_velocities, size=lambda joints, **_: int(joints), signals=("joint_velocities",)
    ),
    "position": Term(function=position, size=lambda **_: 3, poses=("of",)),
    "relative_pose": Term(
        function=relative_pose,
        size=lambda **_: 9,
        memory=lambda arm="", **_: {_first_pose(arm): MemorySpec(shape=(7,), clip=FARTHEST)},
        signals=("tool_pose",),
    ),
    "orientation": Term(function=orientation, size=lambda **_: 6, poses=("of",)),
    "position_difference": Term(function=position_difference, size=lambda **_: 3, poses=("of", "origin", "frame")),
    "rotation_difference": Term(function=rotation_difference, size=lambda **_: 3, poses=("of", "origin", "frame")),
    "behind_difference": Term(function=behind_difference, size=lambda **_: 3, signals=("tool_pose",), poses=("of",)),
    "tool_twist": Term(function=tool_twist, size=lambda **_: 6, signals=("tool_twist",), poses=("frame",)),
    "gripper_width": Term(function=gripper_width, size=lambda **_: 1, signals=("gripper_width",)),
    "wrench": Term(function=wrench, size=lambda **_: 6, signals=("wrench",)),
}
