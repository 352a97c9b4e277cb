"""Running a network that gives chunks, remembers or samples, step by step: for one robot or for rows of a batch.

Most networks give one action for one observation; for them nothing here does anything. The others say in their
manifest (`Execution`) what has to be kept between two steps, and `Executor` keeps it, row by row:

- a chunk of H actions: the first `executed` of them are carried out before the network runs again, or it runs at
  every step and what all chunks say about this step is averaged (temporal ensembling, Zhao et al. 2023);
- memory: earlier observations, or what a recurrent network gave last time;
- noise, from a generator of each row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

Infer = Callable[[Mapping[str, np.ndarray], np.ndarray], Mapping[str, np.ndarray]]
"""(inputs by name, their rows in the batch (K,)) → `action` (K, H, A) and, where it is recurrent, `next_memory` (K, M).

Inputs are `observation` (K, D) and, where there are any, `memory` (K, M) and `noise` (K, L).
"""


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How a network is run from step to step; the defaults are those of a network that maps observation to action."""

    horizon: int = 1
    """H, actions in a chunk: the first is for now, the others for the control periods after it."""
    executed: int = 1
    """Actions of a chunk that are carried out before the network runs again."""
    ensemble_decay: float | None = None
    """m of temporal ensembling: the i-th oldest chunk's action for this step has the weight exp(-m i), i from 0; None:
    no ensembling."""
    switches: tuple[int, ...] = ()
    """Elements of the action that are -1 or 1, such as a gripper's: an ensemble votes on them."""
    history: int = 0
    """Earlier observations in `memory`, newest first; before the first one of an episode all are like it."""
    memory_size: int = 0
    """M of a recurrent network, whose output `next_memory` is its next `memory`; 0 for any other."""
    memory_initial: float = 0.0
    """Every element of a recurrent network's memory when an episode begins."""
    noise_size: int = 0
    """L, elements of `noise`, standard normal."""

    @property
    def recurrent(self) -> bool:
        """Whether the network gives its own next memory."""
        return self.memory_size > 0

    def memory_length(self, observation_size: int) -> int:
        """M, the length of the input `memory`; 0 without one."""
        return self.memory_size or self.history * observation_size

    def inputs(self) -> tuple[str, ...]:
        """Inputs of the network besides pictures, in order."""
        given = ("memory",) if self.history or self.recurrent else ()
        return ("observation", *given, *(("noise",) if self.noise_size else ()))

    def outputs(self) -> tuple[str, ...]:
        """Outputs of the network, in order."""
        return ("action", "next_memory") if self.recurrent else ("action",)


def execution_violations(execution: Execution, action_size: int) -> list[str]:
    """Every way in which the parts of an execution do not fit together, in words."""
    problems = []
    if execution.executed > execution.horizon:
        problems.append(f"executed is {execution.executed}, but a chunk has {execution.horizon} actions")
    if execution.ensemble_decay is not None and execution.executed != 1:
        problems.append(f"executed is {execution.executed}; temporal ensembling runs the network at every step, so 1")
    if execution.history and execution.recurrent:
        problems.append(
            f"history is {execution.history} and memory_size {execution.memory_size}; one of them must be 0"
        )
    if out := [index for index in execution.switches if index >= action_size]:
        problems.append(f"switches names element {out[0]}, but the action has {action_size}")
    return problems


class Executor:
    """What a batch of N robots keeps between steps of one network.

    Row r draws its noise from a generator of seed `seed + r`. Resets do not rewind it: two episodes from the same
    start differ, and a new executor with the same seed repeats both.
    """

    _memory: np.ndarray  # (N, M)
    _left: np.ndarray  # (N,) actions of the chunk that are still to be carried out
    _chunk: np.ndarray  # (N, H, A), the newest
    _made: np.ndarray  # (N, H, H, A), chunks by age, of an ensemble
    _chunks_made: np.ndarray  # (N,) how many of these are of this episode

    def __init__(self, execution: Execution, seed: int = 0) -> None:
        """Stand by; the first `step` fixes N."""
        self.execution, self._seed = execution, seed
        self._generators: list[np.random.Generator] = []
        self._started: np.ndarray | None = None

    def reset(self, mask: np.ndarray | None = None) -> None:
        """Begin a new episode: everywhere, also with another N, or in the rows of `mask` (N,) bool."""
        if mask is None or self._started is None:
            self._started = None
            return
        self._started[mask] = False
        self._memory[mask] = self.execution.memory_initial
        self._left[mask] = 0
        self._chunks_made[mask] = 0

    def step(self, observation: np.ndarray, infer: Infer) -> np.ndarray:
        """Actions (N, A) for observations (N, D) float32; runs the network for the rows that need it.

        Raises:
            ValueError: N is not what it was since the last `reset` without a mask.
        """
        execution = self.execution
        if self._started is None:
            self._started = self._begin(*observation.shape)
        elif len(observation) != len(self._started):
            raise ValueError(f"the batch has {len(observation)} rows; it had {len(self._started)}: reset() it first")
        if execution.history:
            self._memory[~self._started] = np.tile(observation[~self._started], execution.history)
        self._started[:] = True
        due = np.flatnonzero(self._left == 0)
        if len(due):
            self._infer(observation, due, infer)
        if execution.history:
            self._memory = np.concatenate([observation, self._memory[:, : -observation.shape[1]]], axis=1)
        if execution.ensemble_decay is not None:
            self._left[:] = 0
            return self._ensemble(execution.ensemble_decay)
        at = execution.executed - self._left
        self._left -= 1
        action: np.ndarray = self._chunk[np.arange(len(at)), at]
        return action

    def _begin(self, rows: int, size: int) -> np.ndarray:
        """Make room for so many rows; returns which of them have started: none."""
        execution = self.execution
        self._memory = np.full((rows, execution.memory_length(size)), execution.memory_initial, np.float32)
        self._left = np.zeros(rows, np.int64)
        self._chunk = np.zeros((rows, execution.horizon, 0), np.float32)  # A is known after the first inference
        self._made = self._chunk[:, None]
        self._chunks_made = np.zeros(rows, np.int64)
        while len(self._generators) < rows:
            self._generators.append(np.random.default_rng(self._seed + len(self._generators)))
        return np.zeros(rows, bool)

    def _infer(self, observation: np.ndarray, due: np.ndarray, infer: Infer) -> None:
        """Run the network for the rows `due` (K,) and keep what it gives."""
        execution = self.execution
        inputs = {"observation": observation[due]}
        if self._memory.shape[1]:
            inputs["memory"] = self._memory[due]
        if execution.noise_size:
            drawn = [self._generators[row].standard_normal(execution.noise_size, np.float32) for row in due]
            inputs["noise"] = np.stack(drawn)
        given = infer(inputs, due)
        chunk = given["action"]
        if not self._chunk.size:
            self._chunk = np.zeros((len(self._left), *chunk.shape[1:]), np.float32)
        self._chunk[due] = chunk
        self._left[due] = execution.executed
        if execution.recurrent:
            self._memory[due] = given["next_memory"]

    def _ensemble(self, decay: float) -> np.ndarray:
        """What the chunks of the last H steps say about this one, averaged."""
        horizon = self.execution.horizon
        if self._made.shape[1] != horizon or not self._made.size:
            self._made = np.zeros((len(self._chunk), horizon, *self._chunk.shape[1:]), np.float32)
        self._made = np.concatenate([self._chunk[:, None], self._made[:, :-1]], axis=1)  # by age
        self._chunks_made = np.minimum(self._chunks_made + 1, horizon)
        age = np.arange(horizon)
        told = self._made[:, age, age]  # the chunk of that age about now (N, H, A)
        order = self._chunks_made[:, None] - 1 - age  # 0 is the oldest; negative ones are of another episode
        exponent = np.where(order >= 0, -decay * order, -np.inf)
        weight = np.exp(exponent - exponent.max(axis=1, keepdims=True))
        # Chunks of an earlier episode have no weight, and a value that is not a number must not come in with it.
        told = np.where(weight[..., None] > 0.0, told, 0.0)
        mean = (weight[..., None] * told).sum(axis=1) / weight.sum(axis=1, keepdims=True)
        switches = list(self.execution.switches)
        mean[:, switches] = np.where(mean[:, switches] > 0.0, 1.0, -1.0)
        action: np.ndarray = mean.astype(np.float32)
        return action
