"""Recorded episodes drawn with numpy: a square moves towards a dock; the task is done when it stands in it."""

from pathlib import Path

import numpy as np

from robot_rl.hil.log import RecordLog
from robot_rl.hil.records import Record
from robot_rl.hil.schema import Schema

SIDE = 32
SHAPES = {"front": (SIDE, SIDE, 3), "wrist": (SIDE, SIDE, 3)}
SCHEMA = Schema(observation=2, action=2, images=SHAPES, task="drawn-dock", robot="none", control_rate_hz=10.0)
DOCK = (20.0, 20.0)


def draw(place, tone, rng):
    """Pictures of a square at `place` (row, column), px: from the front with the dock, and from the square itself."""
    front = np.full((SIDE, SIDE, 3), tone, np.float32)
    row, column = (int(value) for value in DOCK)
    front[row - 2 : row + 9, column - 2 : column + 9] = (90, 90, 200)
    row, column = (int(round(value)) for value in place)
    front[row : row + 7, column : column + 7] = (220, 90, 50)
    wrist = np.full((SIDE, SIDE, 3), tone, np.float32)
    away = np.round(np.array(DOCK) - place).astype(int)
    low, high = np.clip(away + 10, 0, SIDE), np.clip(away + 21, 0, SIDE)
    wrist[low[0] : high[0], low[1] : high[1]] = (90, 90, 200)
    return {
        name: np.clip(picture + rng.normal(0.0, 6.0, picture.shape), 0, 255).astype(np.uint8)
        for name, picture in {"front": front, "wrist": wrist}.items()
    }


def path_of(success, steps, rng):
    """Places (steps + 1, 2): straight into the dock and four frames in it, or to a place at least 6 px from it."""
    start = rng.uniform(0.0, 8.0, 2)
    end = np.array(DOCK)
    while not success and np.abs(end - DOCK).max() < 6.0:
        end = rng.uniform(4.0, 24.0, 2)
    share = np.clip(np.arange(steps + 1) / (steps - 3), 0.0, 1.0)[:, None]
    return start + share * (end - start)


def record_scene(log, success, steps=20, seed=0, complete=True):
    """One episode into an open log; also returns the places."""
    episode = log.next_episode
    rng = np.random.default_rng((seed, episode, success))
    places, tone = path_of(success, steps, rng), rng.uniform(90.0, 150.0)
    pictures = [draw(place, tone, rng) for place in places]
    zero = np.zeros(2, np.float32)
    for index in range(steps):
        ended = complete and index == steps - 1
        log.append(
            Record(
                episode=episode,
                index=index,
                observation=places[index].astype(np.float32),
                images=pictures[index],
                action=zero,
                policy_action=zero,
                driver="policy",
                reward=float(ended and success),
                terminated=ended and success,
                truncated=ended and not success,
                success=ended and success,
                observed_at=0.1 * index,
                acted_at=0.1 * index,
                wall_time=1.0,
                final_observation=places[-1].astype(np.float32) if ended else None,
                final_images=pictures[-1] if ended else {},
            )  # fmt: skip
        )
    return places


def record_scenes(path: Path, outcomes, seed=0, steps=20):
    """A log with one episode per outcome."""
    with RecordLog(path, SCHEMA) as log:
        for success in outcomes:
            record_scene(log, success, steps=steps, seed=seed)
    return path
