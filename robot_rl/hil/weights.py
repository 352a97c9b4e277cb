"""Weights on their way from the learner to the actor: in chunks, and seen by nobody before they are whole."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from robot_rl.hil.messages import CHUNK, WEIGHTS_LIMIT


@dataclass(frozen=True)
class Weights:
    """A published version, at the learner."""

    version: int
    """Its number; each publication has a higher one."""
    blob: bytes = field(repr=False)
    """Safetensors bytes."""
    sha256: bytes = field(init=False, repr=False)
    """Digest of `blob`."""

    def __post_init__(self) -> None:
        if type(self.version) is not int or not 0 <= self.version < 2**53:
            raise ValueError(f"weights have the version {self.version!r}; expected a whole number from 0 on")
        if not 0 < len(self.blob) <= WEIGHTS_LIMIT:
            raise ValueError(f"weights {self.version} have {len(self.blob)} bytes; expected 1 to {WEIGHTS_LIMIT}")
        object.__setattr__(self, "sha256", hashlib.sha256(self.blob).digest())

    def offer(self) -> dict[str, Any]:
        """What is told of it."""
        return {"version": self.version, "size": len(self.blob), "sha256": self.sha256}

    def chunk(self, index: int) -> bytes:
        """A part of it; empty beyond the end."""
        return self.blob[index * CHUNK : (index + 1) * CHUNK]


class Inbox:
    """Puts chunks together at the actor. Its thread calls everything but `take`.

    Attributes:
        version: The newest version that arrived whole; -1 before the first.
    """

    def __init__(self) -> None:
        self.version = -1
        self._learner = b""
        self._offer: Mapping[str, Any] | None = None
        self._later: Mapping[str, Any] | None = None
        self._chunks: list[bytes] = []
        self._lock = threading.Lock()
        self._arrived: tuple[int, bytes] | None = None

    def take(self) -> tuple[int, bytes] | None:
        """The newest whole weights that were not taken yet."""
        with self._lock:
            arrived, self._arrived = self._arrived, None
        return arrived

    def begin(self, learner: bytes) -> None:
        """A session began. Half a transfer goes on with the same learner; versions grow within one life of it."""
        if learner != self._learner:
            self._learner, self.version = learner, -1
            self.forget()

    def forget(self) -> None:
        """Forget a transfer that does not go on."""
        self._offer, self._later, self._chunks = None, None, []

    def consider(self, offer: Mapping[str, Any]) -> str:
        """Fetch an offered version if it is newer; returns what is wrong with it, if anything."""
        if not 0 < offer["size"] <= WEIGHTS_LIMIT:
            return f"weights {offer['version']} of {offer['size']} bytes; expected 1 to {WEIGHTS_LIMIT}"
        if offer["version"] in (self.version, self._offer and self._offer["version"]):
            return ""  # said again after a new connection
        if offer["version"] < self.version:
            return f"weights {offer['version']}: the version {self.version} is there already"
        if self._offer is None:
            self._offer = offer
        else:
            # The transfer in progress is finished first: a learner that publishes often must not starve the actor.
            self._later = offer
        return ""

    def wanted(self) -> dict[str, int] | None:
        """Version and index of the chunk to ask for."""
        return None if self._offer is None else {"version": self._offer["version"], "index": len(self._chunks)}

    def add(self, version: int, index: int, data: bytes) -> str:
        """Take the chunk that was asked for; returns what is wrong with it, if anything."""
        offer = self._offer
        if offer is None or (version, index) != (offer["version"], len(self._chunks)):
            return f"chunk {index} of weights {version} was not asked for"
        if len(data) != min(CHUNK, offer["size"] - index * CHUNK):
            self.forget()
            return f"chunk {index} of weights {version} has {len(data)} bytes"
        self._chunks.append(data)
        if index * CHUNK + len(data) < offer["size"]:
            return ""
        blob = b"".join(self._chunks)
        self._offer, self._later, self._chunks = self._later, None, []
        if hashlib.sha256(blob).digest() != offer["sha256"]:
            return f"weights {version} arrived damaged; the old ones stay"
        with self._lock:
            self._arrived = (version, blob)
        self.version = version
        return ""
