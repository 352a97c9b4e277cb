"""What the records of a robot look like: sizes, cameras, task, robot, rate. Two ends of a link must agree on it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

MAX_NAME = 64
"""Most bytes of a name."""
MAX_SIZE = 65536
"""Most numbers of an observation or an action."""
MAX_CAMERAS = 16
MAX_PIXELS = 4096
"""Most pixels of a picture's height or width."""


class RecordError(ValueError):
    """A record or a schema that cannot be used, in one sentence."""


@dataclass(frozen=True, kw_only=True)
class Schema:
    """What every record of a log has in common."""

    observation: int
    """Numbers of an observation, D."""
    action: int
    """Numbers of an action, A."""
    images: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    """Shape (H, W, 3) of the pictures of each camera."""
    task: str
    """Name of the task."""
    robot: str
    """Name of the robot."""
    control_rate_hz: float
    """Control steps per second."""
    privileged: int = 0
    """How many numbers at the end of the observation a policy never sees: they are for the critics only."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", {name: tuple(shape) for name, shape in dict(self.images).items()})
        object.__setattr__(self, "control_rate_hz", float(self.control_rate_hz))
        for name, least, most in (
            ("observation", 1, MAX_SIZE),
            ("action", 1, MAX_SIZE),
            ("privileged", 0, max(0, int(self.observation) - 1)),
        ):
            size = getattr(self, name)
            if type(size) is not int or not least <= size <= most:
                raise RecordError(f"schema: {name} is {size!r:.80}; expected a whole number from {least} to {most}")
        for name in ("task", "robot"):
            _check_name(name, getattr(self, name))
        if not (math.isfinite(self.control_rate_hz) and 0.0 < self.control_rate_hz <= 10_000.0):
            raise RecordError(f"schema: control_rate_hz is {self.control_rate_hz}; expected above 0, at most 10000")
        if len(self.images) > MAX_CAMERAS:
            raise RecordError(f"schema: {len(self.images)} cameras; at most {MAX_CAMERAS} are allowed")
        for camera, shape in self.images.items():
            _check_name("a camera", camera)
            fits = len(shape) == 3 and all(type(n) is int and 1 <= n <= MAX_PIXELS for n in shape) and shape[2] == 3
            if not fits:
                raise RecordError(
                    f"schema: pictures of {camera!r} have shape {shape!r:.80}; expected (height, width, 3),"
                    f" at most {MAX_PIXELS} pixels a side"
                )

    def to_dict(self) -> dict[str, Any]:
        """It as JSON-able data."""
        plain = {one.name: getattr(self, one.name) for one in fields(self)}
        return {**plain, "images": {camera: list(shape) for camera, shape in sorted(self.images.items())}}

    @classmethod
    def from_dict(cls, data: object) -> Schema:
        """The schema that `to_dict` wrote; refuses anything else."""
        expected = {one.name for one in fields(cls)}
        if not isinstance(data, dict) or set(data) != expected:
            raise RecordError(f"schema: {data!r:.120} is none; expected the fields {sorted(expected)}")
        for name in ("observation", "action", "privileged"):
            if type(data[name]) is not int:
                raise RecordError(f"schema: {name} is {data[name]!r:.80}; expected a whole number")
        if type(data["control_rate_hz"]) not in (int, float):
            raise RecordError(f"schema: control_rate_hz is {data['control_rate_hz']!r:.80}; expected a number")
        images = data["images"]
        if not isinstance(images, dict) or not all(isinstance(shape, (list, tuple)) for shape in images.values()):
            raise RecordError(f"schema: images are {images!r:.80}; expected a shape per camera")
        return cls(**data)

    def difference(self, other: Schema) -> str:
        """What differs, for people; empty where they are equal."""
        pairs = ((one.name, getattr(self, one.name), getattr(other, one.name)) for one in fields(self))
        return ", ".join(
            f"{name} {theirs!r:.120} instead of {ours!r:.120}" for name, ours, theirs in pairs if ours != theirs
        )


def valid_name(name: object) -> bool:
    """Whether it can name a task, a robot, a camera or an entry of `info`."""
    return isinstance(name, str) and name.isprintable() and 0 < len(name.encode(errors="replace")) <= MAX_NAME


def _check_name(what: str, name: object) -> None:
    if not valid_name(name):
        raise RecordError(f"schema: {what} is named {name!r:.80}; expected 1 to {MAX_NAME} printable bytes")
