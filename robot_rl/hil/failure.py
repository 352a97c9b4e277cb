"""Foresight: the chance that the running episode will fail, from how it has gone so far.

A logistic model, P(failure | features at step k, still running), fitted to every step of recorded episodes of the
policy. Each feature counts by itself and with the time: to be far from the goal means little at first and much later.
How good it is is told by cross-validation, episode by episode: at each step, which of the episodes that still ran it
would have called failures.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from robot_rl.episodes import Episode
from robot_rl.errors import UserError
from robot_rl.hil.restart import Alarm

Feature = Literal["time", "progress", "best", "since_best", "force", "peak_force", "observation"]
"""s since the beginning; progress as in `Moment`, its best value, s since that; contact force in the last control
period and the largest so far, N; the policy's observation."""
DEFAULT: tuple[Feature, ...] = ("time", "progress", "best", "since_best", "force", "peak_force")
GAVE_UP = "gave_up"
"""Entry of `Record.info` in the last step of an episode that was given up: nobody knows how it would have ended."""
_CLIP = 5.0
"""Features are kept within so many standard deviations: what was never seen must not decide alone."""


class Trace:
    """The features along an episode: one call of `look` per control step, before its action."""

    def __init__(self, features: Sequence[Feature], period: float) -> None:
        """Begin an episode of control periods of `period` s."""
        self._features, self._period = tuple(features), period
        self._step, self._best_step = -1, 0
        self._best, self._peak = -np.inf, 0.0

    def look(self, progress: float, force: float, observation: np.ndarray | None = None) -> NDArray[np.float64]:
        """The features (F,) now.

        Args:
            progress: How far the task seems to be.
            force: Largest contact force in the last control period, N; 0 at first.
            observation: The policy's (D,), where it is a feature.
        """
        self._step += 1
        if progress > self._best:
            self._best, self._best_step = progress, self._step
        self._peak = max(self._peak, force)
        known: dict[str, Any] = {
            "time": self._step * self._period,
            "progress": progress,
            "best": self._best,
            "since_best": (self._step - self._best_step) * self._period,
            "force": force,
            "peak_force": self._peak,
            "observation": observation,
        }
        if "observation" in self._features and observation is None:
            raise ValueError("the predictor wants the policy's observation, and it was not given")
        return np.concatenate([np.atleast_1d(known[name]) for name in self._features])


@dataclass(frozen=True, kw_only=True, eq=False)
class FailurePredictor:
    """A fitted model."""

    features: tuple[Feature, ...]
    """What it looks at, in order."""
    period: float
    """s between control steps."""
    limit: float
    """s, the longest episode that it was fitted to."""
    mean: NDArray[np.float64]
    """Of each feature. Shape (F,)."""
    spread: NDArray[np.float64]
    """Standard deviation of each feature. Shape (F,)."""
    weights: NDArray[np.float64]
    """Of 1, the features, and the features times the time. Shape (2 F + 1,)."""

    def failure(self, features: NDArray[np.float64], time: NDArray[Any] | float) -> NDArray[np.float64]:
        """Chance (...) of failure, from features (..., F) at a time (...) s."""
        return _chance(_design((features - self.mean) / self.spread, np.asarray(time) / self.limit) @ self.weights)

    def along(self, episode: Episode) -> NDArray[np.float64]:
        """Chance (T,) of failure at each step of a recorded episode."""
        rows = features_of(episode, self.features)
        return self.failure(rows, np.arange(len(rows)) * self.period)

    def save(self, path: Path) -> None:
        """Write it as safetensors, with what it looks at as JSON."""
        about = {"features": list(self.features), "period": self.period, "limit": self.limit}
        arrays = {"mean": self.mean, "spread": self.spread, "weights": self.weights}
        save_file(arrays, path, metadata={"failure_predictor": json.dumps(about)})

    @staticmethod
    def load(path: Path) -> FailurePredictor:
        """Read what `save` wrote.

        Raises:
            UserError: It is something else.
        """
        try:
            with safe_open(path, framework="numpy") as file:
                about = json.loads((file.metadata() or {})["failure_predictor"])
                arrays = {name: file.get_tensor(name) for name in ("mean", "spread", "weights")}
            if unknown := [name for name in about["features"] if name not in get_args(Feature)]:
                raise UserError(f"{path} wants the feature {unknown[0]!r}; known: {', '.join(get_args(Feature))}")
            shapes = {name: value.shape for name, value in arrays.items()}
            size = len(arrays["mean"])
            if shapes != {"mean": (size,), "spread": (size,), "weights": (2 * size + 1,)}:
                raise UserError(f"{path} is no failure predictor: its arrays have the shapes {shapes}")
            if not all(np.isfinite(value).all() for value in arrays.values()):
                raise UserError(f"{path} has weights that are not finite")
            period, limit = float(about["period"]), float(about["limit"])
        except (KeyError, TypeError, ValueError, OSError, SafetensorError) as error:
            raise UserError(f"{path} is no failure predictor: {error}") from error
        return FailurePredictor(features=tuple(about["features"]), period=period, limit=limit, **arrays)


def features_of(episode: Episode, features: Sequence[Feature] = DEFAULT) -> NDArray[np.float64]:
    """Features (T, F) before each action of a recorded episode.

    Raises:
        UserError: Progress is wanted and was not recorded.
    """
    progress = np.zeros(len(episode))
    if {"progress", "best", "since_best"} & set(features):
        if "progress" not in episode.info:
            raise UserError(
                f"{episode.source} has no `progress` in its steps' info; record it, or leave it out of the features"
            )
        progress = episode.info["progress"]
    names = [name for name in episode.info if name.startswith("peak_force")]
    force = np.max([np.nan_to_num(episode.info[name]) for name in names], axis=0) if names else np.zeros(len(episode))
    felt = np.concatenate([[0.0], force[:-1]])  # the force of a step is known after its action
    trace = Trace(features, 1.0 / episode.schema.control_rate_hz)
    rows = [trace.look(float(p), float(f), o) for p, f, o in zip(progress, felt, episode.observations, strict=False)]
    return np.array(rows)


def usable(episodes: Sequence[Episode]) -> list[Episode]:
    """Those that say how the policy does: they ended by themselves, nobody helped, nobody gave up."""
    return [
        one
        for one in episodes
        if one.complete and "person" not in one.drivers and not np.any(one.info.get(GAVE_UP, np.zeros(1)) > 0.0)
    ]


def fit(
    episodes: Sequence[Episode],
    features: Sequence[Feature] = DEFAULT,
    *,
    limit: float | None = None,
    ridge: float = 1.0,
) -> FailurePredictor:
    """Fit a predictor to the `usable` ones of recorded episodes.

    Args:
        episodes: What happened.
        features: What to look at.
        limit: s, the time-out; the length of the longest episode if not given.
        ridge: Weight of the squared weights, against over-fitting.

    Raises:
        UserError: There is no success or no failure among them.
    """
    chosen = usable(episodes)
    failed = [one for one in chosen if not one.success]
    if not failed or len(failed) == len(chosen):
        raise UserError(
            f"{len(chosen)} episodes of the policy alone, {len(failed)} of them failures: it takes some of both to "
            "tell them apart"
        )
    period = 1.0 / chosen[0].schema.control_rate_hz
    longest = limit if limit is not None else period * max(len(one) for one in chosen)
    rows = [features_of(one, features) for one in chosen]
    everything = np.concatenate(rows)
    mean, spread = everything.mean(axis=0), everything.std(axis=0)
    spread = np.where(spread > 1e-9, spread, 1.0)
    time = np.concatenate([np.arange(len(row)) * period for row in rows]) / longest
    label = np.concatenate([np.full(len(row), not one.success) for row, one in zip(rows, chosen, strict=True)])
    weights = _logistic(_design((everything - mean) / spread, time), label.astype(float), ridge)
    return FailurePredictor(
        features=tuple(features), period=period, limit=longest, mean=mean, spread=spread, weights=weights
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Confusion:
    """At each step, episodes that still ran by what they were called and how they ended. Counts of shape (K,)."""

    threshold: float
    """Chance of failure above which an episode is called one."""
    period: float
    """s between steps."""
    true_positives: NDArray[np.int64]
    """Failures that were called failures."""
    false_positives: NDArray[np.int64]
    """Successes that were called failures."""
    true_negatives: NDArray[np.int64]
    """Successes that were called successes."""
    false_negatives: NDArray[np.int64]
    """Failures that were called successes."""

    def alarms(self, least: int = 5) -> list[Alarm]:
        """The rates at each step at which at least so many episodes of either end still ran."""
        found = []
        for k in range(len(self.true_positives)):
            true, false = int(self.true_positives[k]), int(self.false_positives[k])
            failures, successes = true + int(self.false_negatives[k]), false + int(self.true_negatives[k])
            if min(failures, successes) >= least:
                rates = {"true_positives": true / failures, "false_positives": false / successes}
                found.append(Alarm(time=k * self.period, **rates))
        return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """Episodes, and what predictors that had not seen them said along each."""

    period: float
    """s between steps."""
    chances: list[NDArray[np.float64]]
    """Chance of failure (T,) at each step of each episode."""
    failed: NDArray[np.bool_]
    """How each ended."""

    def confusion(self, threshold: float = 0.5) -> Confusion:
        """Confusion matrix of each step."""
        size = max(len(one) for one in self.chances)
        called = np.array([np.pad(one > threshold, (0, size - len(one))) for one in self.chances])
        running = np.array([np.arange(size) < len(one) for one in self.chances])
        failed = self.failed[:, None]
        return Confusion(
            threshold=threshold,
            period=self.period,
            true_positives=(running & called & failed).sum(axis=0),
            false_positives=(running & called & ~failed).sum(axis=0),
            true_negatives=(running & ~called & ~failed).sum(axis=0),
            false_negatives=(running & ~called & failed).sum(axis=0),
        )


def cross_validate(
    episodes: Sequence[Episode],
    features: Sequence[Feature] = DEFAULT,
    *,
    folds: int = 5,
    seed: int = 0,
    ridge: float = 1.0,
) -> Judged:
    """Judge every usable episode by a predictor fitted to others; either end is spread evenly over the folds.

    Raises:
        UserError: There are less than two of either end.
    """
    chosen = usable(episodes)
    failed = np.array([not one.success for one in chosen], dtype=bool)
    rare = int(min(failed.sum(), (~failed).sum())) if len(chosen) else 0
    if rare < 2:
        raise UserError(f"cross-validation takes two failures and two successes; there are {rare} of the rarer")
    generator = np.random.default_rng(seed)
    fold = np.empty(len(chosen), dtype=int)
    for end in (True, False):
        places = generator.permutation(np.flatnonzero(failed == end))
        fold[places] = np.arange(len(places)) % min(folds, rare)
    period = 1.0 / chosen[0].schema.control_rate_hz
    limit = period * max(len(one) for one in chosen)
    chances: list[NDArray[np.float64]] = [np.empty(0)] * len(chosen)
    for number in range(min(folds, rare)):
        others = [one for one, k in zip(chosen, fold, strict=True) if k != number]
        predictor = fit(others, features, limit=limit, ridge=ridge)
        for place in np.flatnonzero(fold == number):
            chances[place] = predictor.along(chosen[place])
    return Judged(period=period, chances=chances, failed=failed)


def _design(standard: NDArray[np.float64], time: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows (..., 2 F + 1) of the model, from features in units of their spread."""
    kept = np.clip(standard, -_CLIP, _CLIP)
    return np.concatenate([np.ones((*kept.shape[:-1], 1)), kept, kept * time[..., None]], axis=-1)


def _chance(logit: NDArray[np.float64]) -> NDArray[np.float64]:
    value: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-np.clip(logit, -30.0, 30.0)))
    return value


def _logistic(rows: NDArray[np.float64], label: NDArray[np.float64], ridge: float) -> NDArray[np.float64]:
    """Weights of a logistic regression by Newton's method; the constant is not shrunk."""
    shrink = np.full(rows.shape[1], ridge)
    shrink[0] = 1e-6

    def loss(weights: NDArray[np.float64]) -> float:
        logit = rows @ weights
        return float(np.sum(np.logaddexp(0.0, logit) - label * logit) + 0.5 * np.sum(shrink * weights * weights))

    weights = np.zeros(rows.shape[1])
    for _ in range(100):
        chance = _chance(rows @ weights)
        gradient = rows.T @ (chance - label) + shrink * weights
        curvature = (rows * (chance * (1.0 - chance))[:, None]).T @ rows + np.diag(shrink)
        step, size = np.linalg.solve(curvature, gradient), 1.0
        while loss(weights - size * step) > loss(weights) and size > 1e-6:
            size *= 0.5
        weights = weights - size * step
        if np.abs(step).max() < 1e-8:
            break
    return weights
