"""The messages between actor and learner: what each kind holds, checked on arrival before anything is done.

One message is one msgpack map: "v" the protocol's version, "t" the kind, and the fields of the kind.

    actor -> learner          learner -> actor
    hello (log, schema)       welcome (next record wanted)   begins a session
    records                   ack (next record wanted)
    ping                      pong
                              offer (version of weights)     at once, and after each publication
    get (a chunk)             chunk
                              refused (why)
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import Any, Literal

import msgpack

from robot_rl.hil.frames import is_log_id

PROTOCOL = 1
"""Version of the protocol; another one is refused."""
CHUNK = 1 << 17
"""Bytes of a chunk of weights."""
BATCH = 1 << 18
"""Most bytes of the records of a message; a larger record goes alone."""
BATCH_RECORDS = 256
"""Most records of a message."""
OVERHEAD = 1 << 16
"""Bytes that a message may have besides records or a chunk."""
WEIGHTS_LIMIT = 1 << 28
"""Most bytes of weights."""

Kind = Literal["hello", "welcome", "records", "ack", "ping", "pong", "offer", "get", "chunk", "refused"]
FROM_ACTOR: frozenset[Kind] = frozenset({"hello", "records", "ping", "get"})
FROM_LEARNER: frozenset[Kind] = frozenset({"welcome", "ack", "pong", "offer", "chunk", "refused"})

_SESSION = {"session": "token"}
_FIELDS: dict[str, dict[str, str]] = {
    "hello": {**_SESSION, "log_id": "log", "schema": "map", "count": "number"},
    "welcome": {**_SESSION, "learner": "token", "next": "number", "checksum": "number"},
    "records": {**_SESSION, "first": "number", "payloads": "records"},
    "ack": {**_SESSION, "next": "number"},
    "ping": {**_SESSION, "number": "number"},
    "pong": {**_SESSION, "number": "number"},
    "offer": {**_SESSION, "version": "number", "size": "number", "sha256": "digest"},
    "get": {**_SESSION, "version": "number", "index": "number"},
    "chunk": {**_SESSION, "version": "number", "index": "number", "data": "bytes"},
    "refused": {**_SESSION, "code": "text", "reason": "text"},
}


class MessageError(ValueError):
    """A message that is none, or holds something else than its kind says."""


def pack(kind: Kind, **values: Any) -> bytes:
    """The bytes of a message."""
    return bytes(msgpack.packb({"v": PROTOCOL, "t": kind, **values}))


def unpack(data: bytes, allowed: frozenset[Kind]) -> tuple[Kind, dict[str, Any]]:
    """The kind and the fields of a message.

    Raises:
        MessageError: It is garbage, of another version, of a kind that is not allowed, or a field is wrong.
    """
    try:
        message = msgpack.unpackb(data, raw=False, strict_map_key=True, ext_hook=_no_extension)
    except MessageError:
        raise
    except Exception as error:  # msgpack raises its own errors, ValueError, UnicodeDecodeError, RecursionError
        raise MessageError(f"{len(data)} bytes that are no message ({type(error).__name__})") from error
    if not isinstance(message, dict):
        raise MessageError(f"a message is {type(message).__name__}; expected a map")
    version, kind = message.pop("v", None), message.pop("t", None)
    if type(version) is not int or version != PROTOCOL:
        raise MessageError(f"a message has the protocol version {version!r:.40}; expected {PROTOCOL}")
    if not isinstance(kind, str) or kind not in allowed:
        raise MessageError(f"a message is of the kind {kind!r:.40}; expected one of {sorted(allowed)}")
    fields = _FIELDS[kind]
    if set(message) != set(fields):
        raise MessageError(f"{kind} has the fields {sorted(message)!s:.200}; expected {sorted(fields)}")
    for name, form in fields.items():
        if not _fits(message[name], form):
            raise MessageError(f"{kind}: {name} is {message[name]!r:.80}; expected a {form}")
    return kind, message


def _no_extension(code: int, data: bytes) -> None:
    raise MessageError(f"a message holds the msgpack extension type {code}; none is allowed")


def _fits(value: object, form: str) -> bool:
    if form == "number":
        return type(value) is int and 0 <= value < 2**53
    if form == "token":
        return type(value) is bytes and len(value) == 16
    if form == "digest":
        return type(value) is bytes and len(value) == 32
    if form == "bytes":
        return type(value) is bytes and len(value) <= CHUNK
    if form == "text":
        return isinstance(value, str) and len(value) <= 2000
    if form == "log":
        return is_log_id(value)
    if form == "records":
        return isinstance(value, list) and 0 < len(value) <= BATCH_RECORDS and all(type(one) is bytes for one in value)
    return isinstance(value, dict)


class Refusals:
    """Counts and logs what was refused, without letting a flood of it fill the disk.

    Attributes:
        count: How many things were refused.
    """

    def __init__(self, logger: logging.Logger, burst: int = 10, per_s: float = 10.0) -> None:
        """At most `burst` lines of one kind in `per_s` seconds; the next line says how many were left out."""
        self._logger, self._burst, self._per = logger, burst, per_s
        self._since = time.monotonic()
        self._lines: Counter[str] = Counter()
        self.count = 0

    def add(self, kind: str, sentence: str) -> None:
        """Refuse something of a kind."""
        self.count += 1
        now = time.monotonic()
        if now - self._since > self._per:
            silent = sum(self._lines.values()) - sum(min(n, self._burst) for n in self._lines.values())
            if silent:
                self._logger.warning("refused %d more of the same", silent)
            self._since, self._lines = now, Counter()
        self._lines[kind] += 1
        if self._lines[kind] <= self._burst:
            self._logger.warning("refused: %s", sentence)
