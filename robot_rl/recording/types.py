"""ROS 2 message types without ROS: their definitions, and their form in bytes (CDR).

Standard types come with `rosbags`; `Step` is our own. Types that are found in a file are known to this file only.
"""

from __future__ import annotations

import importlib.util
import re
import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from rosbags.serde import SerdeError
from rosbags.typesys import Stores, TypesysError, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from policies.camera import opencv
from robot_rl.recording.errors import RecordingError

PICTURE = "sensor_msgs/msg/CompressedImage"
STEP = "robot_rl_interfaces/msg/Step"
_USUAL = (
    STEP, PICTURE, "sensor_msgs/msg/JointState", "geometry_msgs/msg/PoseStamped", "geometry_msgs/msg/TwistStamped",
    "geometry_msgs/msg/WrenchStamped", "std_msgs/msg/Float64MultiArray", "std_msgs/msg/String",
    "diagnostic_msgs/msg/DiagnosticArray",
)  # fmt: skip
STEP_DEFINITION = """\
# One control step of a robot, as it happened. stamp: when the observation was measured.
std_msgs/Header header
uint64 episode
uint64 index
# What was measured before the action.
float32[] observation
# What was executed, in [-1, 1].
float32[] action
# What the policy wanted.
float32[] policy_action
# Who acted: policy, person or base.
string driver
float64 reward
# Ended by success or failure.
bool terminated
# Cut off by the time limit or the operator.
bool truncated
bool success
# Monotonic clock, s.
float64 observed_at
float64 acted_at
# Unix time at the start of the episode, s.
float64 wall_time
# What was measured after the last action; empty where unknown.
float32[] final_observation
# Scalars by name.
string[] info_names
float64[] info_values
"""
MAX_DEFINITION = 1 << 16
"""Most characters of a type's definition."""
_TYPE_NAME = re.compile(r"[A-Za-z]\w{0,63}/(?:msg/)?[A-Z]\w{0,63}", re.ASCII)
_FIELD_NAME = re.compile(r"[A-Za-z]\w{0,127}", re.ASCII)
_FIXED_LENGTH = re.compile(r"\[(?:<=)?\s*(\d{7,})\]")


@lru_cache
def standard_types() -> Typestore:
    """The standard types and ours."""
    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(get_types_from_msg(STEP_DEFINITION, STEP))
    return store


@lru_cache
def definition(type_name: str) -> str:
    """Definition of a type of `standard_types`, with those that it is made of, as MCAP and rosbag2 store it.

    Raises:
        RecordingError: The type is not known.
    """
    try:
        text = standard_types().generate_msgdef(type_name, ros_version=2)[0]
    except TypesysError as error:
        raise RecordingError(f"the message type {type_name!r:.120} is not known; give its definition") from error
    if type_name == STEP:  # with its comments
        return STEP_DEFINITION + text[text.index("=" * 80) :]
    return text


def types_with(definitions: Mapping[str, str]) -> Typestore:
    """The types that a file defines, `definitions` by name of the type.

    Raises:
        RecordingError: A definition cannot be read, or is too large.
    """
    standard = standard_types()
    if all(name in standard.types and text == definition(name) for name, text in definitions.items()):
        return standard
    store = get_typestore(Stores.EMPTY)
    for name, text in definitions.items():
        if len(text) > MAX_DEFINITION:
            raise RecordingError(
                f"the definition of {name!r:.80} has {len(text)} characters; at most {MAX_DEFINITION} are read"
            )
        if _FIXED_LENGTH.search(text):
            raise RecordingError(f"the definition of {name!r:.80} has an array of a million elements or more; refused")
        try:
            found = get_types_from_msg(text, name)
            _check_names(found)
            store.register(found)
        except RecordingError:
            raise
        except Exception as error:  # the parser raises what it likes on hostile text
            why = " ".join(str(error).split())
            raise RecordingError(f"the definition of {name!r:.80} cannot be read: {why:.120}") from error
    return store


def _check_names(types: Mapping[str, Any]) -> None:
    # Python code is made of them.
    for name, (constants, fields) in types.items():
        if not _TYPE_NAME.fullmatch(name):
            raise RecordingError(f"a message type is named {name!r:.80}; expected a name such as std_msgs/msg/String")
        for part in (*constants, *fields):
            if not _FIELD_NAME.fullmatch(part[0]):
                raise RecordingError(f"the message type {name} has a field named {part[0]!r:.80}; refused")


def serialize(message: Any) -> bytearray:
    """The bytes of a message of `standard_types`.

    Raises:
        RecordingError: It is none, or a field has a wrong type.
    """
    name = getattr(message, "__msgtype__", None)
    store = standard_types()
    if name not in store.types:
        raise RecordingError(f"{message!r:.80} is no message; make one with robot_rl.recording.messages")
    try:
        return bytearray(store.serialize_cdr(message, name, little_endian=True))
    except (SerdeError, struct.error, TypeError, AttributeError, ValueError, AssertionError) as error:
        raise RecordingError(f"a message of type {name} cannot be stored: {error!s:.200}") from error


def deserialize(data: bytes, type_name: str, store: Typestore) -> Any:
    """The message in `data`.

    Raises:
        RecordingError: There is none of this type in it.
    """
    try:
        return store.deserialize_cdr(data, type_name)
    except (SerdeError, AssertionError, KeyError, IndexError, RecursionError, MemoryError, struct.error) as error:
        raise RecordingError(f"a message is no {type_name}: {error!s:.120}") from error
    except (ValueError, TypeError) as error:
        raise RecordingError(f"a message is no {type_name}: {error!s:.120}") from error


@lru_cache
def prepare() -> None:
    """Load and make now what the first message of each kind needs: that takes tenths of a second."""
    for name in _USUAL:
        standard_types().get_msgdef(name)
        definition(name)
    if importlib.util.find_spec("cv2"):
        opencv()


@lru_cache(maxsize=256)
def begins_with_header(type_name: str) -> bool:
    """Whether the first field of a standard type is a header, whose stamp says when it was measured."""
    fields = standard_types().fielddefs[type_name][1]
    return bool(fields) and fields[0][1][1] == "std_msgs/msg/Header"


def stamp_of(data: bytes | bytearray | memoryview) -> int:
    """The header's stamp of a serialized message that begins with a header, ns; 0 where it is not set."""
    if len(data) < 12:
        return 0
    seconds, nanoseconds = struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, 4)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)


def set_stamp(data: bytearray, nanoseconds: int) -> None:
    """Set the header's stamp of a little-endian serialized message that begins with a header."""
    struct.pack_into("<iI", data, 4, *divmod(nanoseconds, 1_000_000_000))
