"""What page and server say to each other. Nothing that a page says is believed before it is checked here.

The page speaks JSON, at most `MAX_TEXT` bytes: `pong`, `take`, `leave`, `command`, `shown`, `do`. The server speaks
JSON for states and binary for what is large: a header of 16 bytes, then a JPEG, or float32 poses.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hardware.teleop.device import BUTTONS

MAX_TEXT = 4096
"""Most bytes of what a page says."""
MAX_PRESSED = 8
"""Most buttons at once."""
PICTURE, POSES = 1, 2
"""Kinds of binary messages."""
HEADER = struct.Struct("<BBHId")
"""Kind, number of the camera, 0, sequence number, server's time at which what is shown was so, s."""
ACTIONS = ("record", "stop")
"""What `do` can ask for: recording on or off, and the robot to rest."""
POSES_SLOT = 255
"""Stands for the number of a camera where the 3-D scene is meant."""


class MessageError(ValueError):
    """A page says what it can't; one sentence."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """What the person who drives wants now."""

    sequence: int
    """Grows from command to command."""
    at: float
    """The page's time at which hands and sticks were looked at, s."""
    motion: tuple[float, ...]
    """Deflections (6,) in [-1, 1]: x, y, z, rx, ry, rz."""
    dead_man: bool
    """Held."""
    clutch: bool
    """Closed: motion is meant for the robot."""
    held: frozenset[str]
    """Buttons that are down."""
    pressed: frozenset[str]
    """Buttons that went down since the last command."""


def parse(text: str) -> dict[str, Any]:
    """The checked message in `text`; `command` holds a `Command`.

    Raises:
        MessageError: It is none.
    """
    if len(text) > MAX_TEXT:
        raise MessageError(f"a message has {len(text)} characters; at most {MAX_TEXT} are read")
    try:
        data = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise MessageError(f"a message is no JSON: {error}"[:200]) from error
    kind = data.get("type") if isinstance(data, dict) else None
    if kind == "command":
        return {"type": kind, "command": _command(data)}
    if kind == "pong":
        return {"type": kind, "asked": _number(data, "asked"), "at": _number(data, "at")}
    if kind == "shown":
        return {"type": kind, "camera": _whole(data, "camera"), "sequence": _whole(data, "sequence"), **_code(data)}
    if kind in ("take", "leave"):
        return {"type": kind}
    if kind == "do" and data.get("action") in ACTIONS:
        return {"type": kind, "action": data["action"], "on": data.get("on") is True}
    raise MessageError(f"a message has the type {kind!r:.40}, which means nothing here")


def picture(camera: int, sequence: int, at: float, jpeg: bytes) -> bytes:
    """A picture as it is sent."""
    return HEADER.pack(PICTURE, camera, 0, sequence % 2**32, at) + jpeg


def poses(sequence: int, at: float, data: bytes) -> bytes:
    """Poses (B, 7) float32 of the bodies of the 3-D scene as they are sent."""
    return HEADER.pack(POSES, 0, 0, sequence % 2**32, at) + data


def text(kind: str, payload: Mapping[str, Any]) -> str:
    """A state as it is sent; what is no number becomes null, which JSON knows."""
    return json.dumps({"type": kind, **payload}, default=_plain, allow_nan=False, separators=(",", ":"))


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} can't be said in JSON")


def finite(value: float, digits: int = 4) -> float | None:
    """A number as JSON can say it."""
    return round(float(value), digits) if math.isfinite(value) else None


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _command(data: dict[str, Any]) -> Command:
    motion = data.get("motion")
    if not isinstance(motion, list) or len(motion) != 6:
        raise MessageError(f"a command's motion is {motion!r:.80}; expected six numbers")
    if not all(type(value) in (int, float) and abs(value) <= 1.0 for value in motion):
        raise MessageError(f"a command's motion is {motion!r:.80}; expected numbers within [-1, 1]")
    names = {}
    for key in ("held", "pressed"):
        value = data.get(key, [])
        known = isinstance(value, list) and len(value) <= MAX_PRESSED
        if not (known and all(isinstance(name, str) and name in BUTTONS for name in value)):
            raise MessageError(f"a command's {key} is {value!r:.80}; known: {', '.join(BUTTONS)}")
        names[key] = frozenset(value)
    return Command(
        sequence=_whole(data, "sequence"),
        at=_number(data, "at"),
        motion=tuple(float(value) for value in motion),
        dead_man=data.get("dead_man") is True,
        clutch=data.get("clutch") is True,
        **names,
    )


def _code(data: dict[str, Any]) -> dict[str, int]:
    return {"code": _whole(data, "code")} if "code" in data else {}


def _number(data: dict[str, Any], key: str) -> float:
    value: Any = data.get(key)
    if type(value) not in (int, float) or abs(value) > 1e15 or not math.isfinite(value):
        raise MessageError(f"{key} of a message is {value!r:.40}; expected a number")
    return float(value)


def _whole(data: dict[str, Any], key: str) -> int:
    value = data.get(key)
    if type(value) is not int or not 0 <= value < 2**53:
        raise MessageError(f"{key} of a message is {value!r:.40}; expected a whole number")
    return value
