"""One open page: what is still to be sent to it, of everything the newest only.

Nobody waits for a page. What it has not yet been sent is replaced by what is newer, and of each picture at most two
are on their way to it: a slow network or a busy phone sees fewer pictures, not older ones.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from robot_rl.cockpit.clock import ClockOffset
from robot_rl.cockpit.messages import POSES_SLOT

MOST_UNSEEN = 2
"""Pictures of one camera that were sent and not yet shown."""
_GIVEN_UP = 1.0
"""s after which a picture that was sent counts as lost: a page that was hidden shows nothing."""


class Viewer:
    """A page, from its opening to its end."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.offset = ClockOffset()
        """Of its clock."""
        self.sent = self.dropped = 0
        """Pictures and poses that went out, and that were replaced by newer ones before."""
        self._texts: dict[str, str] = {}
        self._binaries: dict[int, tuple[int, bytes]] = {}
        self._unseen: dict[int, dict[int, float]] = {}
        self._something = asyncio.Event()

    def tell(self, kind: str, text: str) -> None:
        """Send a state; it replaces one of its kind that still waits."""
        self._texts[kind] = text
        self._something.set()

    def show(self, slot: int, sequence: int, data: bytes) -> None:
        """Send a picture of camera `slot`, or the scene's poses."""
        self.dropped += slot in self._binaries
        self._binaries[slot] = (sequence, data)
        self._something.set()

    def shown(self, slot: int, sequence: int) -> None:
        """The page has shown it, and everything before it."""
        unseen = self._unseen.get(slot, {})
        for number in [number for number in unseen if number <= sequence]:
            del unseen[number]
        self._something.set()

    async def run(self, socket: Any) -> None:
        """Send until cancelled."""
        while True:
            await self._something.wait()
            self._something.clear()
            while (message := self._next()) is not None:
                if isinstance(message, str):
                    await socket.send_str(message)
                else:
                    await socket.send_bytes(message)

    def _next(self) -> str | bytes | None:
        if self._texts:
            return self._texts.pop(next(iter(self._texts)))
        # The scene's poses are small, and first.
        for slot in sorted(self._binaries, key=lambda slot: (slot != POSES_SLOT, slot)):
            unseen = self._unseen.setdefault(slot, {})
            now = time.monotonic()
            for number in [number for number, at in unseen.items() if now - at > _GIVEN_UP]:
                del unseen[number]
            if len(unseen) < MOST_UNSEEN:
                sequence, data = self._binaries.pop(slot)
                unseen[sequence] = now
                self.sent += 1
                return data
        return None
