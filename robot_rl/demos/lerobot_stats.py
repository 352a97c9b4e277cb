"""Statistics of a LeRobotDataset: of each feature per episode, and of all episodes together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Stats = dict[str, NDArray[np.float64]]

QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
_MOST_PICTURES = 100
_MOST_PIXELS = 150
"""Of a side of a picture, for its statistics."""


def episode_stats(values: NDArray[np.generic]) -> Stats:
    """Of a feature's values (T,) or (T, size)."""
    rows = np.asarray(values, np.float64).reshape(len(values), -1)
    return _stats(rows, len(rows))


def picture_stats(pictures: NDArray[np.uint8]) -> Stats:
    """Of pictures (T, H, W, 3): per channel, in [0, 1], of shape (3, 1, 1)."""
    count = min(len(pictures), _MOST_PICTURES)
    chosen = np.linspace(0, len(pictures) - 1, count).round().astype(int)
    stride = max(1, -(-max(pictures.shape[1:3]) // _MOST_PIXELS))
    pixels = pictures[chosen][:, ::stride, ::stride].reshape(-1, 3) / 255.0
    found = _stats(pixels, count)
    return {name: value if name == "count" else value.reshape(3, 1, 1) for name, value in found.items()}


def merge_stats(episodes: Sequence[dict[str, Stats]]) -> dict[str, Stats]:
    """Of all episodes: means weighted by their counts; so are the quantiles, which is an approximation."""
    return {name: _merge([stats[name] for stats in episodes]) for name in episodes[0]}


def _stats(rows: NDArray[np.float64], count: int) -> Stats:
    quantiles = np.quantile(rows, list(QUANTILES.values()), axis=0)
    return {
        "min": rows.min(axis=0),
        "max": rows.max(axis=0),
        "mean": rows.mean(axis=0),
        "std": rows.std(axis=0),
        "count": np.array([count]),
        **dict(zip(QUANTILES, quantiles, strict=True)),
    }


def _merge(parts: Sequence[Stats]) -> Stats:
    counts = np.array([part["count"][0] for part in parts], np.float64)
    weights = counts / counts.sum()

    def mean(name: str) -> NDArray[np.float64]:
        return np.asarray(sum(w * part[name] for w, part in zip(weights, parts, strict=True)))

    middle = mean("mean")
    spread = sum(w * (part["std"] ** 2 + (part["mean"] - middle) ** 2) for w, part in zip(weights, parts, strict=True))
    return {
        "min": np.min([part["min"] for part in parts], axis=0),
        "max": np.max([part["max"] for part in parts], axis=0),
        "mean": middle,
        "std": np.sqrt(spread),
        "count": np.array([int(counts.sum())]),
        **{name: mean(name) for name in QUANTILES},
    }
