"""Messages to record, made from arrays: ROS 2 types, quaternions given as wxyz. The recorder sets their stamps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from robot_rl.recording.errors import RecordingError
from robot_rl.recording.types import standard_types


def _make(name: str, /, **fields: Any) -> Any:
    return standard_types().types[name](**fields)


def header(frame: str = "") -> Any:
    """A header without a stamp."""
    stamp = _make("builtin_interfaces/msg/Time", sec=0, nanosec=0)
    return _make("std_msgs/msg/Header", stamp=stamp, frame_id=frame)


def joint_state(names: Sequence[str], positions: ArrayLike, velocities: ArrayLike = (), efforts: ArrayLike = ()) -> Any:
    """sensor_msgs/JointState of joints (rad, rad/s, N m); for motors give their speeds as velocities."""
    values = [_vector(one) for one in (positions, velocities, efforts)]
    for what, value in zip(("positions", "velocities", "efforts"), values, strict=True):
        if value.size not in (0, len(names)):
            raise RecordingError(f"{what} has {value.size} numbers; there are {len(names)} joints")
    return _make(
        "sensor_msgs/msg/JointState",
        header=header(),
        name=list(names),
        position=values[0],
        velocity=values[1],
        effort=values[2],
    )


def pose(position: ArrayLike, orientation: ArrayLike, frame: str = "base") -> Any:
    """geometry_msgs/PoseStamped of a position (3,) m and an orientation (4,) wxyz."""
    w, x, y, z = _vector(orientation, 4, "orientation").tolist()
    return _make(
        "geometry_msgs/msg/PoseStamped",
        header=header(frame),
        pose=_make(
            "geometry_msgs/msg/Pose",
            position=_point("geometry_msgs/msg/Point", position, "position"),
            orientation=_make("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w),
        ),
    )


def twist(values: ArrayLike, frame: str = "base") -> Any:
    """geometry_msgs/TwistStamped of a twist (6,): linear m/s, angular rad/s."""
    values = _vector(values, 6, "twist")
    vector = "geometry_msgs/msg/Vector3"
    body = _make(
        "geometry_msgs/msg/Twist",
        linear=_point(vector, values[:3], "linear"),
        angular=_point(vector, values[3:], "angular"),
    )
    return _make("geometry_msgs/msg/TwistStamped", header=header(frame), twist=body)


def wrench(values: ArrayLike, frame: str = "tool") -> Any:
    """geometry_msgs/WrenchStamped of a wrench (6,): force N, torque N m."""
    values = _vector(values, 6, "wrench")
    vector = "geometry_msgs/msg/Vector3"
    body = _make(
        "geometry_msgs/msg/Wrench",
        force=_point(vector, values[:3], "force"),
        torque=_point(vector, values[3:], "torque"),
    )
    return _make("geometry_msgs/msg/WrenchStamped", header=header(frame), wrench=body)


def numbers(values: ArrayLike, names: str = "") -> Any:
    """std_msgs/Float64MultiArray: a vector without a type of its own, with a label."""
    values = _vector(values)
    one = _make("std_msgs/msg/MultiArrayDimension", label=names, size=values.size, stride=values.size)
    layout = _make("std_msgs/msg/MultiArrayLayout", dim=[one], data_offset=0)
    return _make("std_msgs/msg/Float64MultiArray", layout=layout, data=values)


def text(content: str) -> Any:
    """std_msgs/String."""
    return _make("std_msgs/msg/String", data=content)


def diagnostics(name: str, level: int, message: str, values: Mapping[str, object] = {}) -> Any:
    """diagnostic_msgs/DiagnosticArray with one status; level 0 ok, 1 warning, 2 error, 3 stale."""
    pairs = [_make("diagnostic_msgs/msg/KeyValue", key=str(key), value=str(value)) for key, value in values.items()]
    status = _make(
        "diagnostic_msgs/msg/DiagnosticStatus", level=level, name=name, message=message, hardware_id="", values=pairs
    )
    return _make("diagnostic_msgs/msg/DiagnosticArray", header=header(), status=[status])


def compressed_image(data: bytes, kind: str, frame: str = "") -> Any:
    """sensor_msgs/CompressedImage of packed bytes; `kind` is png or jpeg."""
    return _make(
        "sensor_msgs/msg/CompressedImage", header=header(frame), format=kind, data=np.frombuffer(data, np.uint8)
    )


def _vector(values: ArrayLike, size: int | None = None, what: str = "values") -> np.ndarray:
    array = np.ascontiguousarray(values, np.float64).reshape(-1)
    if size is not None and array.size != size:
        raise RecordingError(f"{what} has {array.size} numbers; expected {size}")
    return array


def _point(name: str, values: ArrayLike, what: str) -> Any:
    x, y, z = _vector(values, 3, what).tolist()
    return _make(name, x=x, y=y, z=z)
