"""A thread that drains a character device, so that what is read is always the newest, and opens it again when lost."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import select
import threading
import time
from collections.abc import Callable

TICK = 0.04
"""s between two looks at a silent device; its sample is never reported older than this while the thread runs."""

_logger = logging.getLogger(__name__)


class Reader:
    """Feeds the bytes of a device to a parser as they come.

    Should the parser fail, the thread ends, `age` grows, and whoever drives with the device sees it as lost.
    """

    def __init__(
        self,
        name: str,
        opener: Callable[[], int],
        feed: Callable[[bytes, float], None],
        lost: Callable[[], None],
        *,
        retry: float | None = None,
        wait: bool = False,
        ask: Callable[[int, float], float] | None = None,
    ) -> None:
        """Open the device and read it.

        Args:
            name: For messages.
            opener: Opens the device and returns its file descriptor, non-blocking.
            feed: Takes bytes and the time at which they came, in the thread.
            lost: Called in the thread when the device has gone: forget what was held.
            retry: s between attempts to open a device that has gone; None: once gone, it stays so.
            wait: Do not raise when it cannot be opened now, but go on trying.
            ask: For devices that only speak when asked: called in the thread with the descriptor and the time, writes a
                request and returns after how many s it wants to be called again.

        Raises:
            OSError: It cannot be opened.
        """
        self._name, self._opener, self._feed, self._lost, self._retry = name, opener, feed, lost, retry
        self._ask = ask
        self._heard = -math.inf
        self.connected = False
        """Whether the device is open."""
        self.problem = ""
        """Why it is not."""
        descriptor = None
        try:
            descriptor = opener()
        except OSError as error:
            if not wait or retry is None:
                raise
            self.problem = str(error)
        if descriptor is not None:
            self._heard, self.connected = time.monotonic(), True
        self._wake, self._waker = os.pipe()
        self._closed = False
        self._thread = threading.Thread(target=self._run, args=(descriptor,), name=f"read {name}", daemon=True)
        self._thread.start()

    @property
    def age(self) -> float:
        """Time since the device was heard or found alive, s; infinite when it has gone."""
        return time.monotonic() - self._heard if self.connected else math.inf

    def close(self) -> None:
        """End the thread and close the device."""
        if self._closed:
            return
        self._closed = True
        os.write(self._waker, b"x")
        self._thread.join(timeout=2.0)
        self.connected = False
        os.close(self._wake)
        os.close(self._waker)

    def _run(self, descriptor: int | None) -> None:
        while True:
            if descriptor is not None:
                try:
                    reason = self._drain(descriptor)
                finally:
                    self.connected = False
                    self._lost()
                    with contextlib.suppress(OSError):
                        os.close(descriptor)  # a device that was pulled out may refuse even this
                if reason is None:
                    return
                self.problem = reason
                _logger.warning("%s is gone: %s", self._name, reason)
            if self._retry is None or self._told_to_stop(self._retry):
                return
            try:
                descriptor = self._opener()
            except OSError as error:
                descriptor, self.problem = None, str(error)
            else:
                self._heard, self.connected, self.problem = time.monotonic(), True, ""
                _logger.warning("%s is connected", self._name)

    def _drain(self, descriptor: int) -> str | None:
        """Read until told to stop (None) or the device has gone (why)."""
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        due = time.monotonic()
        while True:
            if self._ask is not None and (now := time.monotonic()) >= due:
                try:
                    due = now + self._ask(descriptor, now)
                except OSError as error:
                    return error.strerror or str(error)
            wait = TICK if self._ask is None else min(TICK, max(0.0, due - time.monotonic()))
            ready = dict(poll.poll(wait * 1000.0))
            if self._wake in ready:
                return None
            now = time.monotonic()
            if descriptor in ready:
                try:
                    data = os.read(descriptor, 65536)
                except BlockingIOError:
                    continue
                except OSError as error:
                    return error.strerror or str(error)
                if not data:
                    return "end of its data"
                self._feed(data, now)
            self._heard = now

    def _told_to_stop(self, seconds: float) -> bool:
        return bool(select.select([self._wake], [], [], seconds)[0])
