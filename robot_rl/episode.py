"""A recorded episode as arrays, whatever file it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.hil.records import Record
from robot_rl.hil.schema import Schema


@dataclass(frozen=True, kw_only=True, eq=False)
class Episode:
    """The T steps of an episode."""

    source: Path
    """The file that it was read from."""
    number: int
    """Its number in that file."""
    schema: Schema
    """Sizes, cameras, task, robot, rate."""
    complete: bool
    """Whether it ended by itself; False where recording stopped in the middle of it."""
    observations: NDArray[np.float32]
    """What was measured before each action and, where known, after the last one. Shape (T + 1, D) or (T, D)."""
    images: Mapping[str, NDArray[np.uint8]]
    """Pictures of each camera at the times of `observations`. Shape (T + 1, H, W, 3) or (T, H, W, 3). Read from the
    file at every look-up: keep what is needed again."""
    actions: NDArray[np.float32]
    """What was executed. Shape (T, A), in [-1, 1]."""
    policy_actions: NDArray[np.float32]
    """What the policy wanted. Shape (T, A)."""
    drivers: NDArray[np.str_]
    """Who acted: "policy", "person" or "base". Shape (T,)."""
    rewards: NDArray[np.float32]
    """Shape (T,)."""
    terminated: NDArray[np.bool_]
    """Success or failure. Shape (T,), true at the last step at most."""
    truncated: NDArray[np.bool_]
    """Time limit, or discarded by the operator. Shape (T,), true at the last step at most."""
    success: bool
    """Whether the task was done."""
    observed_at: NDArray[np.float64]
    """Monotonic clock at each measurement, s. Shape (T,)."""
    acted_at: NDArray[np.float64]
    """Monotonic clock at each action, s. Shape (T,)."""
    wall_time: float
    """Unix time at its start, s."""
    info: Mapping[str, NDArray[np.float64]]
    """Scalars of each step, NaN where a step has none. Shape (T,)."""

    def __len__(self) -> int:
        """T, the number of steps."""
        return len(self.actions)

    @property
    def has_final(self) -> bool:
        """Whether the observation after the last action is known."""
        return len(self.observations) > len(self.actions)


def stack(records: list[Record], schema: Schema, source: Path, images: Mapping[str, NDArray[np.uint8]]) -> Episode:
    """The records of one episode, in order and at least one, as arrays, with their pictures."""
    last = records[-1]
    observations = [record.observation for record in records]
    if last.final_observation is not None:
        observations.append(last.final_observation)
    names = sorted({name for record in records for name in record.info})

    def column(name: str, dtype: Any) -> NDArray[Any]:
        return np.array([getattr(record, name) for record in records], dtype)

    return Episode(
        source=source,
        number=last.episode,
        schema=schema,
        complete=last.ended,
        observations=np.stack(observations),
        images=images,
        actions=column("action", np.float32),
        policy_actions=column("policy_action", np.float32),
        drivers=column("driver", np.str_),
        rewards=column("reward", np.float32),
        terminated=column("terminated", np.bool_),
        truncated=column("truncated", np.bool_),
        success=any(record.success for record in records),
        observed_at=column("observed_at", np.float64),
        acted_at=column("acted_at", np.float64),
        wall_time=records[0].wall_time,
        info={name: np.array([record.info.get(name, np.nan) for record in records]) for name in names},
    )
