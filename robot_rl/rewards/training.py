"""Training a success classifier from labelled episodes, on one core, from scratch.

Three parts of the episodes, never of the frames, do three jobs: one trains, one chooses temperature and threshold, and
on the third, which chose nothing, accuracy is reported.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional

from robot_rl.hil.pixels import PixelEncoder
from robot_rl.rewards.calibration import choose_threshold, confusion, fires, fit_temperature, sigmoid
from robot_rl.rewards.classifier import RewardClassifier
from robot_rl.rewards.dataset import Frames, LabelledEpisode, frames, split
from robot_rl.rewards.files import write_reward
from robot_rl.rewards.guard import Guard
from robot_rl.rewards.labels import SUCCESS
from robot_rl.rewards.networks import augmented, evaluate, load_encoder, to_onnx


@dataclass(frozen=True, kw_only=True)
class ClassifierSettings:
    """How a success classifier is trained."""

    steps: int = 1200
    """Gradient steps."""
    batch: int = 64
    """Frames of a step, half of them with success."""
    learning_rate: float = 1e-3
    """Of AdamW at the beginning; it falls to 0 along a cosine."""
    weight_decay: float = 1e-3
    """Of AdamW."""
    label_smoothing: float = 0.02
    """Share of a label that is given to the other one: logits stay small, so that a temperature can be right."""
    dropout: float = 0.1
    """Share of the embedding that is left out."""
    false_positive_rate: float = 0.01
    """Per frame without success, what the threshold is chosen for."""
    consecutive: int = 2
    """Frames in a row that must pass the threshold."""
    seed: int = 0
    """Of split, weights and draws."""


Answer = Callable[[Mapping[str, NDArray[np.uint8]]], NDArray[np.float64]]
"""From pictures (K, h, w, 3) by camera to probabilities (K,)."""


class SuccessNetwork(nn.Module):
    """Pictures (N, h, w, 3) uint8 by camera to a logit (N,)."""

    def __init__(self, shapes: Mapping[str, tuple[int, int]], dropout: float = 0.0) -> None:
        """Build an untrained network."""
        super().__init__()
        self.encoder = PixelEncoder(shapes)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(self.encoder.size, 1))

    def forward(self, images: Mapping[str, Tensor]) -> Tensor:
        """Logits (N,)."""
        logit: Tensor = self.head(self.encoder.encode(images))
        return logit[:, 0]


def train_classifier(
    episodes: Sequence[LabelledEpisode],
    folder: Path,
    settings: ClassifierSettings = ClassifierSettings(),
    *,
    guard: Guard | None = None,
    weights: Path | None = None,
) -> dict[str, Any]:
    """Train, calibrate, measure and write a classifier.

    Args:
        episodes: Labelled; their pictures have the size that the network sees.
        folder: Where it is written.
        settings: How.
        guard: Physical check that goes with it.
        weights: Encoder (safetensors, of the same network and cameras) to begin with.

    Returns:
        The report, which is in `reward.json` too.

    Raises:
        UserError: There are too few episodes, or `weights` do not fit.
    """
    torch.set_num_threads(1)
    started = time.process_time()
    parts = split(episodes, settings.seed)
    shapes = {camera: images.shape[1:3] for camera, images in sorted(episodes[0].images.items())}
    network = fit(frames(parts["train"]), shapes, settings, weights)
    onnx = to_onnx(network, shapes, "logit")
    held = frames(parts["calibration"])
    logits = evaluate(network, held.images)
    temperature = fit_temperature(logits, held.labels)
    negatives = sigmoid(logits / temperature)[~held.labels]
    threshold = choose_threshold(negatives, settings.false_positive_rate)
    contents = {
        "task": episodes[0].task,
        "shapes": shapes,
        "temperature": temperature,
        "threshold": threshold,
        "consecutive": settings.consecutive,
        "guard": None if guard is None else guard.to_data(),
        "settings": asdict(settings),
    }
    report = {
        "validation": report_of(network, parts["validation"], temperature, threshold, settings.consecutive),
        "calibration": confusion(sigmoid(logits / temperature), held.labels, threshold),
        "episodes": {name: [episode.name for episode in part] for name, part in parts.items()},
        "cpu_seconds": time.process_time() - started,
    }
    encoder = save({name: value.contiguous() for name, value in network.encoder.state_dict().items()})
    files = {"reward.onnx": onnx, "encoder.safetensors": encoder}
    write_reward(folder, "success", {**contents, "report": report}, files)
    _check(network, folder, held)
    return {**contents, "report": report}


def fit(
    data: Frames,
    shapes: Mapping[str, tuple[int, int]],
    settings: ClassifierSettings,
    weights: Path | None = None,
) -> SuccessNetwork:
    """A network trained on frames, in evaluation mode."""
    generator = np.random.default_rng(settings.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = SuccessNetwork(shapes, settings.dropout).train()
        if weights is not None:
            load_encoder(network.encoder, weights)
        optimizer = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
        half = settings.batch // 2
        places = [np.flatnonzero(data.labels), np.flatnonzero(~data.labels)]
        smooth = 0.5 * settings.label_smoothing
        target = torch.cat([torch.full((half,), 1.0 - smooth), torch.full((half,), smooth)])
        for _ in range(settings.steps):
            rows = np.concatenate([group[generator.integers(len(group), size=half)] for group in places])
            logits = network(augmented(data.images, rows, generator))
            loss = functional.binary_cross_entropy_with_logits(logits, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def report_of(
    network: nn.Module,
    episodes: Sequence[LabelledEpisode],
    temperature: float,
    threshold: float,
    consecutive: int,
) -> dict[str, Any]:
    """Frames and whole episodes that training has not seen; the guard, which needs a robot, is left out."""

    def answer(images: Mapping[str, NDArray[np.uint8]]) -> NDArray[np.float64]:
        return sigmoid(evaluate(network, images) / temperature)

    return measure(answer, episodes, threshold, consecutive)


def measure(answer: Answer, episodes: Sequence[LabelledEpisode], threshold: float, consecutive: int) -> dict[str, Any]:
    """What `answer`, pictures to probabilities (K,), is worth on labelled episodes."""
    data = frames(episodes)
    result = confusion(answer(data.images), data.labels, threshold)
    won = lost = found = early = false_alarms = 0
    for episode in episodes:
        first = fires(answer(episode.images), threshold, consecutive)
        positives = np.flatnonzero(episode.labels == SUCCESS)
        if len(positives) == 0:
            lost += 1
            false_alarms += first is not None
            continue
        won += 1
        found += first is not None
        early += first is not None and bool(episode.labels[first] == 0)
    return {
        **result,
        "successful_episodes": won,
        "found": found,
        "found_too_early": early,
        "failed_episodes": lost,
        "false_alarms": false_alarms,
    }


def _check(network: SuccessNetwork, folder: Path, data: Frames) -> None:
    """What was written answers as what was trained."""
    few = {camera: pictures[:64] for camera, pictures in data.images.items()}
    worst = float(np.abs(RewardClassifier.load(folder).logits(few) - evaluate(network, few)).max())
    if worst > 1e-3:
        raise RuntimeError(f"{folder} answers {worst:.2g} differently from the network that was trained")
