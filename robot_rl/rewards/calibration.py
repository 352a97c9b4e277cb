"""From scores to decisions: temperature, threshold for a wanted rate of false positives, and what came of it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import UserError

LOWEST_THRESHOLD = 0.7
"""A threshold is no lower, however well the calibration's frames are separated: new ones may look different."""
_TEMPERATURES = np.geomspace(0.2, 10.0, 200)


def sigmoid(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """1 / (1 + exp(-x)) without overflow."""
    result: NDArray[np.float64] = 0.5 * (1.0 + np.tanh(0.5 * np.asarray(logits, np.float64)))
    return result


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.bool_]) -> float:
    """The T with which sigmoid(logits / T) says best how often it is right (Guo et al. 2017); both classes weigh alike.

    Args:
        logits: Shape (K,).
        labels: Shape (K,), both kinds among them.
    """
    weights = np.where(labels, 0.5 / labels.sum(), 0.5 / (~labels).sum())
    signed = np.where(labels, logits, -logits)[None] / _TEMPERATURES[:, None]
    losses = (weights * np.logaddexp(0.0, -signed)).sum(axis=1)
    return float(_TEMPERATURES[int(np.argmin(losses))])


def choose_threshold(negatives: NDArray[np.floating], rate: float) -> float:
    """Lowest threshold that a new negative frame passes with a probability of at most `rate`.

    The rank is that of split conformal prediction, ceil((n + 1)(1 - rate)) of n: it holds for finite n where the new
    frame is exchangeable with the calibration's.

    Args:
        negatives: Probabilities (n,) of calibration frames without success.
        rate: Wanted rate of false positives per frame.

    Raises:
        UserError: There are too few frames to say so.
    """
    count = len(negatives)
    rank = math.ceil((count + 1) * (1.0 - rate))
    if rank > count:
        raise UserError(
            f"{count} frames without success to calibrate with; a false-positive rate of {rate:g} needs "
            f"{math.ceil(1.0 / rate) - 1}: record more episodes or allow a higher rate"
        )
    edge = float(np.sort(negatives)[rank - 1])
    return max(LOWEST_THRESHOLD, float(np.nextafter(edge, 1.0)))


def confusion(probabilities: NDArray[np.floating], labels: NDArray[np.bool_], threshold: float) -> dict[str, Any]:
    """What a threshold makes of frames: counts, accuracy, rates."""
    said = probabilities >= threshold
    right, wrong = int((said & labels).sum()), int((said & ~labels).sum())
    missed, rejected = int((~said & labels).sum()), int((~said & ~labels).sum())
    recall = right / max(1, right + missed)
    false = wrong / max(1, wrong + rejected)
    return {
        "frames": len(labels),
        "accuracy": (right + rejected) / max(1, len(labels)),
        "balanced_accuracy": 0.5 * (recall + 1.0 - false),
        "true_positives": right,
        "false_positives": wrong,
        "false_negatives": missed,
        "true_negatives": rejected,
        "recall": recall,
        "false_positive_rate": false,
    }


def fires(probabilities: NDArray[np.floating], threshold: float, consecutive: int) -> int | None:
    """First frame of an episode (F,) at which so many frames in a row reached the threshold; None if there is none."""
    run = 0
    for frame, probability in enumerate(probabilities):
        run = run + 1 if probability >= threshold else 0
        if run >= consecutive:
            return frame
    return None
