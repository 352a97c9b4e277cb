"""Whether the task is done, from pictures: what runs beside the robot.

reward = RewardClassifier.load("runs/lift-reward")
reward.reset()                                  # at the start of an episode
if reward.success(images, state): ...           # once per control period
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from robot_rl.rewards.calibration import sigmoid
from robot_rl.rewards.files import prepare, read_reward
from robot_rl.rewards.guard import Guard, signals_of

_BATCH = 256


@dataclass(frozen=True, kw_only=True)
class Decision:
    """When a classifier says success."""

    temperature: float
    """What logits are divided by."""
    threshold: float
    """Least probability of a frame that counts."""
    consecutive: int
    """So many frames in a row must count."""
    guard: Guard | None
    """Physical check of each of them."""


class RewardClassifier:
    """A trained success classifier; `success` counts frames, so one object belongs to one robot."""

    def __init__(
        self, session: onnxruntime.InferenceSession, shapes: Mapping[str, tuple[int, int]], decision: Decision
    ) -> None:
        """Join the parts; use `load`.

        Args:
            session: The network.
            shapes: (h, w) by camera, what the network sees.
            decision: When it says success.
        """
        self.shapes, self.decision = dict(shapes), decision
        self._session = session
        self._run = 0
        self.last_probability = 0.0
        """Of the last frame that `success` saw."""

    @classmethod
    def load(cls, path: Path | str) -> RewardClassifier:
        """A classifier that `robot-rl reward train` wrote.

        Raises:
            UserError: There is none, or a file of it was changed.
        """
        data, session = read_reward(Path(path), "success")
        decision = Decision(
            temperature=float(data["temperature"]),
            threshold=float(data["threshold"]),
            consecutive=int(data["consecutive"]),
            guard=None if data["guard"] is None else Guard.from_data(data["guard"]),
        )
        return cls(session, {camera: (shape[0], shape[1]) for camera, shape in data["shapes"].items()}, decision)

    def logits(self, images: Mapping[str, NDArray[np.uint8]]) -> NDArray[np.float32]:
        """The network's answers (N,) to pictures (N, H, W, 3) by camera, before temperature."""
        inputs = prepare(images, self.shapes)
        count = len(next(iter(inputs.values())))
        parts = [
            self._session.run(["logit"], {name: value[k : k + _BATCH] for name, value in inputs.items()})[0]
            for k in range(0, count, _BATCH)
        ]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def probabilities(self, images: Mapping[str, NDArray[np.uint8]]) -> NDArray[np.float64]:
        """Probability (N,) of success in each of several frames (N, H, W, 3) by camera."""
        return sigmoid(self.logits(images) / self.decision.temperature)

    def probability(self, images: Mapping[str, NDArray[np.uint8]]) -> float:
        """Probability of success in one frame, (H, W, 3) uint8 by camera, larger or as large as what was trained on."""
        return float(self.probabilities({camera: np.asarray(image)[None] for camera, image in images.items()})[0])

    def reset(self) -> None:
        """A new episode: no frame has counted yet."""
        self._run, self.last_probability = 0, 0.0

    def success(self, images: Mapping[str, NDArray[np.uint8]], state: Any = None) -> bool:
        """Whether the task is done: threshold and guard have held in this frame and enough before it.

        Args:
            images: The newest frame, by camera.
            state: What was measured with it, an `ArmState` or one by arm name; needed where there is a guard.

        Raises:
            ValueError: There is a guard, but no state.
        """
        guard = self.decision.guard
        if guard is not None and state is None:
            raise ValueError("this classifier has a physical guard; give success() the measured state too")
        self.last_probability = self.probability(images)
        counts = self.last_probability >= self.decision.threshold
        if counts and guard is not None:
            counts = guard.holds(signals_of(state))
        self._run = self._run + 1 if counts else 0
        return self._run >= self.decision.consecutive
