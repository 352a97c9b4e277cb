"""What actions and observations say about motion: when the robot rests, and how late it follows its actions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robot_rl.episodes import Episode

REST = 0.03
"""Largest action that is rest."""
MOTION = 0.25
"""Change of a number of the observation in a step, in its deviations, that is motion and no noise."""
_LEAST_DEVIATION = 1e-6


@dataclass(frozen=True, kw_only=True, eq=False)
class Columns:
    """What the numbers of actions and observations are, as far as the data show it."""

    moving: NDArray[np.bool_]
    """Components (A,) of the action that are no switches, such as grippers: a switch is at a limit in 80 % of the
    steps."""
    measured: NDArray[np.bool_]
    """Numbers (D,) of the observation that do not repeat the action of one of the last eight steps."""
    deviation: NDArray[np.float32]
    """Of each number (D,) of the observation."""


def columns_of(episodes: Sequence[Episode]) -> Columns:
    """The columns of episodes of one kind."""
    actions = np.abs(np.concatenate([e.actions for e in episodes]))
    return Columns(
        moving=np.asarray((actions > 0.99).mean(axis=0) <= 0.8),
        measured=~_repeats_actions(episodes),
        deviation=np.concatenate([e.observations for e in episodes]).std(axis=0),
    )


def _repeats_actions(episodes: Sequence[Episode]) -> NDArray[np.bool_]:
    repeated = np.zeros(episodes[0].observations.shape[1], bool)
    for back in range(1, 9):
        pairs = [(e.observations[back : len(e)], e.actions[: len(e) - back]) for e in episodes if len(e) > back]
        if not pairs:
            break
        seen, done = (np.concatenate([pair[i] for pair in pairs]) for i in (0, 1))
        for column in range(done.shape[1]):
            if done[:, column].std() > _LEAST_DEVIATION:
                repeated |= (np.abs(seen - done[:, column, None]) < 1e-5).mean(axis=0) > 0.9
    return repeated


def moving_steps(episode: Episode, columns: Columns) -> NDArray[np.bool_]:
    """In which steps (T,) something is wanted or happens: an action, or a change of what is observed."""
    wanted = np.abs(episode.actions[:, columns.moving]).max(axis=1, initial=0.0) > REST
    turned = np.zeros(len(episode), bool)
    turned[1:] = (np.abs(np.diff(episode.actions[:, ~columns.moving], axis=0)) > REST).any(axis=1)
    observations = episode.observations[:, columns.measured]
    change = np.abs(np.diff(observations, axis=0, append=observations[-1:]))[: len(episode)]
    scale = columns.deviation[columns.measured] + _LEAST_DEVIATION
    happens = (change / scale).max(axis=1, initial=0.0) > MOTION
    return np.asarray(wanted | turned | happens)


def follow_strength(episodes: Sequence[Episode], columns: Columns, lags: range) -> dict[int, float]:
    """How well motion follows action at each lag: cross-correlation of their changes, from 0 to 1.

    Of every component of the action that is no switch the number of the observation that goes along with it best
    counts; numbers that repeat actions do not. Changes from step to step are compared, since actions themselves are
    alike over many steps. At lag 0 the observation after an action has moved with it; below 0 motion would come first.
    """
    found = {}
    for lag in lags:
        pairs = []
        for episode in episodes:
            count = len(episode.observations) - 1
            actions = np.diff(episode.actions[:count, columns.moving], axis=0)
            motion = np.diff(np.diff(episode.observations[:, columns.measured], axis=0), axis=0)
            length = len(actions) - abs(lag)
            if length > 0:
                pairs.append((actions[max(0, -lag) :][:length], motion[max(0, lag) :][:length]))
        found[lag] = _correlation(*(np.concatenate([pair[i] for pair in pairs]) for i in (0, 1))) if pairs else 0.0
    return found


def _correlation(actions: NDArray[np.float32], motion: NDArray[np.float32]) -> float:
    if not (actions.shape[1] and motion.shape[1]) or len(actions) < 3:
        return 0.0
    a, m = (values.astype(np.float64) - values.mean(axis=0) for values in (actions, motion))
    scale = np.sqrt(np.square(a).sum(axis=0))[:, None] * np.sqrt(np.square(m).sum(axis=0))
    squared = np.square(a.T @ m / np.maximum(scale, 1e-12))
    return float(squared.max(axis=1).mean())
