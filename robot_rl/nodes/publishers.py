"""Who published a message: the first publisher of commands is kept, a second one refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def source_of(info: Mapping[str, Any] | None) -> str:
    """The publisher of a message as hex text, from rclpy's message info; "" where rclpy does not tell."""
    gid = (info or {}).get("publisher_gid")
    if not gid:
        return ""
    return bytes(gid["data"]).hex()


class FirstPublisher:
    """Keeps to the publisher that came first, until it has been silent for a while."""

    def __init__(self, release: float = 1.0) -> None:
        """Release the place after `release` s of silence, so that a restarted node can take it again."""
        self._release = release
        self._source = ""
        self._last = float("-inf")

    def refusal(self, source: str, now: float) -> str:
        """Why a message of `source` at `now` s is refused; "" if it is taken."""
        if self._source and source != self._source and now - self._last < self._release:
            return f"publisher {source[:24]} is a second one; {self._source[:24]} came first and is kept"
        self._source, self._last = source, now
        return ""
