"""Control steps as messages: a `Record` of the human in the loop, and back, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.hil.records import Record
from robot_rl.recording.messages import header
from robot_rl.recording.types import STEP, standard_types

TOPIC = "step"
"""Topic of the steps."""


def picture_topic(camera: str) -> str:
    """Topic of the pictures that belong to steps; their sequence numbers are the steps' indices."""
    return f"step/{camera}/compressed"


def to_message(record: Record) -> Any:
    """The message of a step, without its pictures."""
    final = record.final_observation
    return standard_types().types[STEP](
        header=header(),
        episode=int(record.episode),
        index=int(record.index),
        observation=np.ascontiguousarray(record.observation),
        action=np.ascontiguousarray(record.action),
        policy_action=np.ascontiguousarray(record.policy_action),
        driver=str(record.driver),
        reward=float(record.reward),
        terminated=bool(record.terminated),
        truncated=bool(record.truncated),
        success=bool(record.success),
        observed_at=float(record.observed_at),
        acted_at=float(record.acted_at),
        wall_time=float(record.wall_time),
        final_observation=np.zeros(0, np.float32) if final is None else np.ascontiguousarray(final),
        info_names=sorted(record.info),
        info_values=np.array([record.info[name] for name in sorted(record.info)], np.float64),
    )


def from_message(
    message: Any, images: dict[str, NDArray[np.uint8]], final_images: dict[str, NDArray[np.uint8]], source: str = ""
) -> Record:
    """The step in a message, with its pictures; it is still to be checked against a schema."""
    return Record(
        episode=message.episode,
        index=message.index,
        observation=message.observation,
        images=images,
        action=message.action,
        policy_action=message.policy_action,
        driver=message.driver,
        reward=message.reward,
        terminated=bool(message.terminated),
        truncated=bool(message.truncated),
        success=bool(message.success),
        observed_at=message.observed_at,
        acted_at=message.acted_at,
        wall_time=message.wall_time,
        final_observation=message.final_observation if len(message.final_observation) else None,
        final_images=final_images,
        info=dict(zip(message.info_names, message.info_values.tolist(), strict=True)),
        source=source,
    )
