"""How far the task has come, from pictures: the place along a few demonstrations, in [0, 1].

An embedding is trained so that frames of the same moment of different demonstrations are near each other and those of
other moments are not (a time-contrastive loss, after Sermanet et al. 2018). The progress of a frame is the mean time of
the demonstrations' frames, weighted by how near they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from robot_rl.rewards.files import prepare, read_reward


class ProgressReward:
    """A trained progress reward; `reward` compares with the frame before, so one object belongs to one robot."""

    def __init__(self, session: onnxruntime.InferenceSession, shapes: Mapping[str, tuple[int, int]]) -> None:
        """Join the parts; use `load`."""
        self.shapes = dict(shapes)
        self._session = session
        self._last: float | None = None

    @classmethod
    def load(cls, path: Path | str) -> ProgressReward:
        """One that `robot-rl reward train --kind progress` wrote.

        Raises:
            UserError: There is none, or a file of it was changed.
        """
        data, session = read_reward(Path(path), "progress")
        return cls(session, {camera: (shape[0], shape[1]) for camera, shape in data["shapes"].items()})

    def values(self, images: Mapping[str, NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Progress (N,) in each of several frames (N, H, W, 3) uint8 by camera."""
        found: NDArray[np.float32] = self._session.run(["progress"], prepare(images, self.shapes))[0]
        return found

    def progress(self, images: Mapping[str, NDArray[np.uint8]]) -> float:
        """Progress in one frame (H, W, 3) uint8 by camera: 0 as the demonstrations begin, 1 as they end."""
        return float(self.values({camera: np.asarray(image)[None] for camera, image in images.items()})[0])

    def reset(self) -> None:
        """A new episode."""
        self._last = None

    def reward(self, images: Mapping[str, NDArray[np.uint8]], discount: float = 1.0) -> float:
        """The gain: discount × progress now - progress in the frame before; 0 in an episode's first frame.

        As a difference of a potential it does not change which policy is best (Ng et al. 1999), if `discount` is that
        of learning: add it to the reward of success.
        """
        now = self.progress(images)
        before, self._last = self._last, now
        return 0.0 if before is None else discount * now - before


def spearman(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Rank correlation of two series (K,); ties share the mean of their ranks. NaN where one is constant."""

    def ranks(values: NDArray[Any]) -> NDArray[np.float64]:
        _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
        ends = np.cumsum(counts)
        shared: NDArray[np.float64] = (ends - 0.5 * (counts - 1))[inverse]
        return shared - shared.mean()

    a, b = ranks(first), ranks(second)
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / scale if scale else float("nan")
