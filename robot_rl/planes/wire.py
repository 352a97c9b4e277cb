"""A wire with latency, jitter and loss: what is sent comes later, in its order, or never."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

import numpy as np

Item = TypeVar("Item")


class Wire(Generic[Item]):
    """One direction of a wire."""

    def __init__(self, generator: np.random.Generator, capacity: int = 4096) -> None:
        """Start empty; of more than `capacity` things on their way the oldest are lost."""
        self._generator = generator
        self._waiting: deque[tuple[float, Item]] = deque(maxlen=capacity)
        self._last = 0.0

    def send(self, item: Item, now: float, latency: float, jitter: float, loss: float) -> None:
        """Put something on its way at `now` s."""
        if loss > 0.0 and self._generator.random() < loss:
            return
        extra = jitter * self._generator.random() if jitter > 0.0 else 0.0
        self._last = max(self._last, now + latency + extra)
        self._waiting.append((self._last, item))

    def receive(self, now: float) -> list[Item]:
        """What has come by `now` s, oldest first."""
        come = []
        while self._waiting and self._waiting[0][0] <= now:
            come.append(self._waiting.popleft()[1])
        return come

    def clear(self) -> None:
        """Lose what is on its way."""
        self._waiting.clear()
