"""The text of message definitions: as installed on this machine, or as ROS 2 defines the standard ones."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path

from robot_rl.recording.errors import RecordingError
from robot_rl.recording.types import definition

_SEPARATOR = "=" * 80
_FIELD = re.compile(r"^\s*([A-Za-z]\w*(?:/\w+){0,2})(?:<=\d+)?(?:\[[^\]]*\])?\s+[A-Za-z]\w*", re.ASCII)
_PLAIN = frozenset(
    ("bool", "byte", "char", "string", "wstring", "float32", "float64", "int8", "uint8", "int16", "uint16", "int32")
) | {"uint32", "int64", "uint64"}


@lru_cache
def full_definition(type_name: str) -> str:
    """The definition of a type such as sensor_msgs/msg/JointState, with all that it is made of, as rosbag2 stores it.

    Raises:
        RecordingError: It is neither installed nor a standard one.
    """
    package, _, name = type_name.split("/")
    text = _installed(package, name)
    if text is None:
        return definition(type_name)
    parts, known, waiting = [text], {type_name}, _used(text, package)
    while waiting:
        part = waiting.pop(0)
        if part in known:
            continue
        known.add(part)
        of, _, name = part.split("/")
        inner = _installed(of, name)
        if inner is None:
            raise RecordingError(f"the definition of {part}, a part of {type_name}, is not installed here")
        parts.append(f"{_SEPARATOR}\nMSG: {of}/{name}\n{inner}")
        waiting += _used(inner, of)
    return "\n".join(part.rstrip("\n") for part in parts) + "\n"


def has_header(text: str) -> bool:
    """Whether the first field of a definition is a header, whose stamp says when it was measured."""
    fields = (_FIELD.match(line) for line in text.splitlines() if not line.lstrip().startswith("#"))
    first = next((match[1] for match in fields if match), "")
    return first in ("std_msgs/Header", "std_msgs/msg/Header", "Header")


def _installed(package: str, name: str) -> str | None:
    for prefix in filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)):
        path = Path(prefix) / "share" / package / "msg" / f"{name}.msg"
        if path.is_file():
            return path.read_text()
    return None


def _used(text: str, package: str) -> list[str]:
    found = []
    for line in text.splitlines():
        match = _FIELD.match(line)
        if match is None or match[1] in _PLAIN or "=" in line.split("#")[0].split('"')[0].replace("<=", ""):
            continue
        parts = match[1].split("/")
        # Header alone is how older definitions name it.
        of = parts[0] if len(parts) > 1 else "std_msgs" if parts[-1] == "Header" else package
        found.append(f"{of}/msg/{parts[-1]}")
    return found
