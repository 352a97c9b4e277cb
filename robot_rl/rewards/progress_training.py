"""Training a progress reward from a few successful episodes; some are held out to say how monotone it is."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional

from robot_rl.errors import UserError
from robot_rl.hil.pixels import PixelEncoder
from robot_rl.rewards.dataset import LabelledEpisode
from robot_rl.rewards.files import write_reward
from robot_rl.rewards.networks import augmented, evaluate, load_encoder, to_onnx
from robot_rl.rewards.progress import spearman

MOST_REMEMBERED = 600
"""Frames of demonstrations that a reward compares with."""


@dataclass(frozen=True, kw_only=True)
class ProgressSettings:
    """How a progress reward is trained."""

    steps: int = 300
    """Gradient steps."""
    demonstrations: int = 4
    """Different demonstrations in a step; at most as many as there are."""
    frames: int = 16
    """Frames of each of them in a step."""
    learning_rate: float = 1e-3
    """Of AdamW at the beginning; it falls to 0 along a cosine."""
    embedding: int = 32
    """Length of what frames are compared by."""
    width: float = 0.05
    """Frames are of the same moment if their times, as a share of a demonstration, differ by about this."""
    sharpness: float = 10.0
    """Inverse temperature of the cosine similarity."""
    held_out: float = 0.25
    """Share of the demonstrations that only measure."""
    seed: int = 0
    """Of hold-out, weights and draws."""


class ProgressNetwork(nn.Module):
    """Pictures (N, h, w, 3) uint8 by camera to progress (N,); remembers the demonstrations' frames."""

    memory: Tensor
    times: Tensor

    def __init__(self, shapes: Mapping[str, tuple[int, int]], embedding: int, sharpness: float) -> None:
        """Build an untrained network without memory."""
        super().__init__()
        self.encoder = PixelEncoder(shapes, embedding=embedding)
        self.sharpness = sharpness
        self.register_buffer("memory", torch.zeros(1, embedding))
        self.register_buffer("times", torch.zeros(1))

    def embed(self, images: Mapping[str, Tensor]) -> Tensor:
        """Unit vectors (N, E)."""
        return functional.normalize(self.encoder.encode(images), dim=-1)

    def forward(self, images: Mapping[str, Tensor]) -> Tensor:
        """Progress (N,) in [0, 1]."""
        nearness = self.sharpness * self.embed(images) @ self.memory.T
        return torch.softmax(nearness, dim=-1) @ self.times


def contrast(embedded: Tensor, times: Tensor, owner: Tensor, sharpness: float, width: float) -> Tensor:
    """Cross-entropy between nearness in the embedding and nearness in time, over frames of other demonstrations.

    Frames of its own demonstration would be too easy: they share a look that says nothing of progress.

    Args:
        embedded: Unit vectors (N, E).
        times: Share of the demonstration (N,), in [0, 1].
        owner: Number of the demonstration (N,).
        sharpness: Inverse temperature.
        width: Of the same moment.
    """
    own = owner[:, None] == owner[None]
    nearness = (sharpness * embedded @ embedded.T).masked_fill(own, -1e9)
    apart = (times[:, None] - times[None]) / width
    target = torch.softmax((-0.5 * apart.square()).masked_fill(own, -1e9), dim=-1)
    return -(target * torch.log_softmax(nearness, dim=-1)).sum(-1).mean()


def train_progress(
    episodes: Sequence[LabelledEpisode],
    folder: Path,
    settings: ProgressSettings = ProgressSettings(),
    *,
    weights: Path | None = None,
) -> dict[str, Any]:
    """Train, measure and write a progress reward; returns the report.

    Args:
        episodes: Recorded ones; the successful are the demonstrations.
        folder: Where it is written.
        settings: How.
        weights: Encoder (safetensors, of the same network and cameras) to begin with.

    Raises:
        UserError: There are fewer than four demonstrations.
    """
    torch.set_num_threads(1)
    started = time.process_time()
    demonstrations = [episode for episode in episodes if episode.success and len(episode.labels) > 3]
    if len(demonstrations) < 4:
        raise UserError(f"{len(demonstrations)} successful episodes; progress needs 4: 3 to learn from, 1 to measure")
    generator = np.random.default_rng(settings.seed)
    order = [demonstrations[i] for i in generator.permutation(len(demonstrations))]
    count = max(1, round(settings.held_out * len(order)))
    held, own = order[:count], order[count:]
    shapes = {camera: images.shape[1:3] for camera, images in sorted(own[0].images.items())}
    network = _fit(own, shapes, settings, generator, weights)
    correlations = {e.name: spearman(evaluate(network, e.images), np.arange(len(e.labels))) for e in held}
    lost = [float(evaluate(network, episode.images)[-1]) for episode in episodes if not episode.success]
    report = {
        "held_out": correlations,
        "spearman_mean": float(np.mean(list(correlations.values()))),
        "spearman_worst": float(np.min(list(correlations.values()))),
        "final_progress_of_successes": float(np.mean([evaluate(network, e.images)[-1] for e in held])),
        "final_progress_of_failures": float(np.mean(lost)) if lost else None,
        "demonstrations": [episode.name for episode in own],
        "cpu_seconds": time.process_time() - started,
    }
    contents = {"task": own[0].task, "shapes": shapes, "settings": asdict(settings), "report": report}
    encoder = save({name: value.contiguous() for name, value in network.encoder.state_dict().items()})
    onnx = to_onnx(network, shapes, "progress")
    write_reward(folder, "progress", contents, {"reward.onnx": onnx, "encoder.safetensors": encoder})
    return contents


def _fit(
    demonstrations: Sequence[LabelledEpisode],
    shapes: Mapping[str, tuple[int, int]],
    settings: ProgressSettings,
    generator: np.random.Generator,
    weights: Path | None,
) -> ProgressNetwork:
    images, times, owner = _gather(demonstrations)
    starts = np.searchsorted(owner, np.arange(len(demonstrations) + 1))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = ProgressNetwork(shapes, settings.embedding, settings.sharpness).train()
        if weights is not None:
            load_encoder(network.encoder, weights)
        optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=1e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
        several = min(settings.demonstrations, len(demonstrations))
        for _ in range(settings.steps):
            chosen = generator.choice(len(demonstrations), several, replace=False)
            rows = np.concatenate([generator.integers(starts[k], starts[k + 1], settings.frames) for k in chosen])
            loss = contrast(
                network.embed(augmented(images, rows, generator)),
                torch.from_numpy(times[rows]),
                torch.from_numpy(owner[rows]),
                settings.sharpness,
                settings.width,
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()
    kept = np.unique(np.linspace(0, len(times) - 1, min(MOST_REMEMBERED, len(times))).astype(int))
    with torch.no_grad():
        network.memory = network.embed({c: torch.from_numpy(pictures[kept]) for c, pictures in images.items()})
        network.times = torch.from_numpy(times[kept])
    return network


def _gather(
    demonstrations: Sequence[LabelledEpisode],
) -> tuple[dict[str, NDArray[np.uint8]], NDArray[np.float32], NDArray[np.int64]]:
    """Pictures (K, h, w, 3) by camera of all frames, their times (K,) and the number of their demonstration (K,)."""
    cameras = demonstrations[0].images
    images = {camera: np.concatenate([e.images[camera] for e in demonstrations]) for camera in cameras}
    times = np.concatenate([np.linspace(0.0, 1.0, len(e.labels), dtype=np.float32) for e in demonstrations])
    return images, times, np.repeat(np.arange(len(demonstrations)), [len(e.labels) for e in demonstrations])
