"""One control step as it happened, and its form in files and on the wire: msgpack without pickle or extension types.

`check` says whether a record fits a schema; `decode` trusts nothing that it is given.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from robot_rl.hil.schema import MAX_NAME, RecordError, Schema, valid_name

__all__ = ["DRIVERS", "Record", "RecordError", "Schema", "check", "decode", "encode", "record_limit"]

DRIVERS = ("policy", "person", "base")
"""Who may act: the policy in training, a person (or a scripted operator), the frozen base policy."""
MAX_INFO = 64
"""Most entries of `info`."""
ACTION_LIMIT = 1.0 + 1e-6
"""Actions are in [-1, 1], with room for rounding."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Record:
    """One control step as it happened."""

    episode: int
    """Number of the episode within its log, from 0, always growing."""
    index: int
    """Number of the step in its episode, from 0."""
    observation: NDArray[np.float32]
    """What was measured before the action. Shape (D,), finite."""
    images: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    """Pictures before the action by camera. Shape (H, W, 3), RGB."""
    action: NDArray[np.float32]
    """What was executed, after every filter. Shape (A,), in [-1, 1]."""
    policy_action: NDArray[np.float32]
    """What the policy wanted, also while a person drove. Shape (A,), in [-1, 1]."""
    driver: str
    """Who acted: one of `DRIVERS`."""
    reward: float
    """Reward of the step."""
    terminated: bool = False
    """The episode ended by success or failure: nothing follows, its value is 0."""
    truncated: bool = False
    """The episode was cut off by the time limit or discarded by the operator: its value goes on."""
    success: bool = False
    """The task was done in this step."""
    observed_at: float
    """Monotonic clock of the actor when the observation was measured, s."""
    acted_at: float
    """Monotonic clock of the actor when the action was given, s."""
    wall_time: float
    """Unix time at the start of the episode, s."""
    final_observation: NDArray[np.float32] | None = None
    """What was measured after the last action, only where terminated or truncated. Shape (D,)."""
    final_images: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    """Pictures that belong to `final_observation`; all cameras or none."""
    info: Mapping[str, float] = field(default_factory=dict)
    """Small finite scalars, such as the peak force, N."""
    source: str = ""
    """Id of the log that the record was read from; not part of what is stored."""

    @property
    def ended(self) -> bool:
        """Whether this is the last record of its episode."""
        return self.terminated or self.truncated


_FIELDS = (
    *("episode", "index", "observation", "images", "action", "policy_action", "driver", "reward", "terminated"),
    *("truncated", "success", "observed_at", "acted_at", "wall_time", "final_observation", "final_images", "info"),
)
_NUMBERS = ("reward", "observed_at", "acted_at", "wall_time")


def record_limit(schema: Schema) -> int:
    """Most bytes that an encoded record of this schema can have."""
    pictures = sum(height * width * 3 for height, width, _ in schema.images.values())
    text = MAX_INFO * (MAX_NAME + 16) + len(schema.images) * 2 * (MAX_NAME + 32)
    return 2 * (4 * schema.observation + pictures) + 2 * 4 * schema.action + text + 1024


def encode(record: Record) -> bytes:
    """The bytes of a record; the same record always gives the same bytes. `check` it first."""
    return bytes(
        msgpack.packb(
            {
                "episode": int(record.episode),
                "index": int(record.index),
                "observation": _pack(record.observation),
                "images": {name: _pack(record.images[name]) for name in sorted(record.images)},
                "action": _pack(record.action),
                "policy_action": _pack(record.policy_action),
                "driver": str(record.driver),
                "reward": float(record.reward),
                "terminated": bool(record.terminated),
                "truncated": bool(record.truncated),
                "success": bool(record.success),
                "observed_at": float(record.observed_at),
                "acted_at": float(record.acted_at),
                "wall_time": float(record.wall_time),
                "final_observation": None if record.final_observation is None else _pack(record.final_observation),
                "final_images": {name: _pack(record.final_images[name]) for name in sorted(record.final_images)},
                "info": {str(name): float(record.info[name]) for name in sorted(record.info)},
            }
        )
    )


def _pack(array: NDArray[Any]) -> list[Any]:
    # Little-endian on every machine.
    plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return [plain.dtype.str, list(plain.shape), plain.tobytes()]


def decode(data: bytes, schema: Schema, source: str = "") -> Record:
    """The record in `data`. Its arrays are read-only.

    Raises:
        RecordError: It is none, or it does not fit the schema; the message names field, value and limit.
    """
    limit = record_limit(schema)
    if len(data) > limit:
        raise RecordError(f"a record has {len(data)} bytes; one of this schema has at most {limit}")
    try:
        fields = msgpack.unpackb(data, raw=False, strict_map_key=True, ext_hook=_no_extension)
    except RecordError:
        raise
    except Exception as error:  # msgpack raises its own errors, ValueError, UnicodeDecodeError, RecursionError
        raise RecordError(f"a record is not msgpack: {type(error).__name__} {error}"[:200]) from error
    if not isinstance(fields, dict) or set(fields) != set(_FIELDS):
        found = sorted(fields) if isinstance(fields, dict) else type(fields).__name__
        raise RecordError(f"a record has the fields {found!s:.200}; expected {sorted(_FIELDS)}")
    for name in ("episode", "index"):
        _typed(name, fields[name], int)
    for name in ("terminated", "truncated", "success"):
        _typed(name, fields[name], bool)
    for name in _NUMBERS:
        _typed(name, fields[name], float)
    _typed("driver", fields["driver"], str)
    for name in ("images", "final_images", "info"):
        _typed(name, fields[name], dict)
    final = fields["final_observation"]
    shape, one = (schema.observation,), (schema.action,)
    record = Record(
        **{
            **fields,
            "observation": _unpack("observation", fields["observation"], "<f4", shape),
            "action": _unpack("action", fields["action"], "<f4", one),
            "policy_action": _unpack("policy_action", fields["policy_action"], "<f4", one),
            "final_observation": None if final is None else _unpack("final_observation", final, "<f4", shape),
            "images": _unpack_images("images", fields["images"], schema),
            "final_images": _unpack_images("final_images", fields["final_images"], schema),
        },
        source=source,
    )
    for name, value in record.info.items():
        _typed(f"info[{name!r:.80}]", value, float)
    check(record, schema)
    return record


def _no_extension(code: int, data: bytes) -> None:
    raise RecordError(f"a record holds the msgpack extension type {code}; none is allowed")


def _typed(name: str, value: object, kind: type) -> None:
    # `type` and not `isinstance`: True is an int for Python.
    if type(value) is not kind:
        raise RecordError(f"{name} is {value!r:.80} of type {type(value).__name__}; expected {kind.__name__}")


def _unpack(name: str, packed: object, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    if not isinstance(packed, list) or len(packed) != 3:
        raise RecordError(f"{name} is {packed!r:.80}; expected [dtype, shape, bytes]")
    if packed[0] != dtype:
        raise RecordError(f"{name} has dtype {packed[0]!r:.80}; expected {dtype!r}")
    if packed[1] != list(shape):
        raise RecordError(f"{name} has shape {packed[1]!r:.80}; expected {list(shape)}")
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if type(packed[2]) is not bytes or len(packed[2]) != size:
        length = len(packed[2]) if isinstance(packed[2], (bytes, str)) else type(packed[2]).__name__
        raise RecordError(f"{name} has {length} bytes; expected {size}")
    return np.frombuffer(packed[2], dtype).reshape(shape)


def _unpack_images(name: str, packed: Mapping[Any, object], schema: Schema) -> dict[str, NDArray[Any]]:
    unknown = [camera for camera in packed if camera not in schema.images]
    if unknown:
        raise RecordError(f"{name} holds the camera {unknown[0]!r:.80}; the schema has {sorted(schema.images)}")
    return {
        camera: _unpack(f"{name}[{camera!r}]", value, "|u1", schema.images[camera]) for camera, value in packed.items()
    }


def check(record: Record, schema: Schema) -> None:
    """Raise a RecordError, one sentence, where a record does not fit a schema."""
    for name in ("episode", "index"):
        value = getattr(record, name)
        if not 0 <= value < 2**53:
            raise RecordError(f"{name} is {value}; it must lie within 0 and 2^53")
    _check_array("observation", record.observation, np.float32, (schema.observation,))
    for name in ("action", "policy_action"):
        action = getattr(record, name)
        _check_array(name, action, np.float32, (schema.action,))
        worst = int(np.argmax(np.abs(action)))
        if abs(action[worst]) > ACTION_LIMIT:
            raise RecordError(f"{name}[{worst}] is {action[worst]:g}; it must lie within [-1, 1]")
    if record.driver not in DRIVERS:
        raise RecordError(f"driver is {record.driver!r:.80}; known: {', '.join(DRIVERS)}")
    for name in _NUMBERS:
        if not math.isfinite(getattr(record, name)):
            raise RecordError(f"{name} is {getattr(record, name)}; it must be finite")
    _check_images("images", record.images, schema)
    if record.final_observation is None:
        if record.final_images:
            raise RecordError("final_images are given without a final_observation; give both or neither")
    else:
        if not record.ended:
            raise RecordError("final_observation is given, but the record is neither terminated nor truncated")
        _check_array("final_observation", record.final_observation, np.float32, (schema.observation,))
        _check_images("final_images", record.final_images, schema)
    if len(record.info) > MAX_INFO:
        raise RecordError(f"info has {len(record.info)} entries; at most {MAX_INFO} are allowed")
    for name, value in record.info.items():
        if not valid_name(name):
            raise RecordError(f"info has the name {name!r:.80}; a name has 1 to {MAX_NAME} printable bytes")
        if not math.isfinite(value):
            raise RecordError(f"info[{name!r}] is {value}; it must be finite (leave out what is not known)")


def _check_array(name: str, array: NDArray[Any], dtype: type, shape: tuple[int, ...]) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != dtype:
        found = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise RecordError(f"{name} is of {found}; expected a numpy array of {np.dtype(dtype)}")
    if array.shape != shape:
        raise RecordError(f"{name} has shape {list(array.shape)}; expected {list(shape)}")
    if dtype is np.float32 and not np.isfinite(array).all():
        worst = int(np.argmin(np.isfinite(array)))
        raise RecordError(f"{name}[{worst}] is {array[worst]}; it must be finite")


def _check_images(name: str, images: Mapping[str, NDArray[Any]], schema: Schema) -> None:
    if set(images) != set(schema.images):
        raise RecordError(f"{name} holds the cameras {sorted(images)}; expected {sorted(schema.images)}")
    for camera, shape in schema.images.items():
        _check_array(f"{name}[{camera!r}]", images[camera], np.uint8, shape)
