"""What networks of pictures have in common: batches with another look each time, answers, weights, ONNX."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from robot_rl.errors import UserError
from robot_rl.hil.augment import PAD, color_jitter, random_shift
from robot_rl.hil.pixels import SIDE, PixelEncoder


def augmented(
    images: Mapping[str, NDArray[np.uint8]], rows: NDArray[np.integer], generator: np.random.Generator
) -> dict[str, Tensor]:
    """Chosen frames by camera, each shifted and in another light, independently of the other cameras."""
    chosen = {}
    for camera, pictures in images.items():
        pad = max(1, PAD * min(pictures.shape[1:3]) // SIDE)
        chosen[camera] = color_jitter(random_shift(torch.from_numpy(pictures[rows]), generator, pad), generator)
    return chosen


@torch.no_grad()
def evaluate(network: nn.Module, images: Mapping[str, NDArray[np.uint8]], batch: int = 256) -> NDArray[np.float64]:
    """Answers (K, ...) of a network to pictures (K, h, w, 3) by camera."""
    count = len(next(iter(images.values())))
    parts = [
        network({camera: torch.from_numpy(pictures[k : k + batch]) for camera, pictures in images.items()}).numpy()
        for k in range(0, count, batch)
    ]
    return np.concatenate(parts).astype(np.float64)


def load_encoder(encoder: PixelEncoder, path: Path) -> None:
    """Begin with the weights of an encoder that was trained elsewhere.

    Raises:
        UserError: They are of another network.
    """
    try:
        encoder.load_state_dict(load_file(path))
    except (RuntimeError, OSError, ValueError) as error:
        raise UserError(f"{path} does not hold weights of this encoder: {error}") from error
    except Exception as error:  # safetensors' own error
        raise UserError(f"{path} is no safetensors file: {error}") from error


class _Ordered(nn.Module):
    """A network of pictures by name, as one of pictures in order."""

    def __init__(self, network: nn.Module, cameras: Sequence[str]) -> None:
        super().__init__()
        self.network, self.cameras = network, tuple(cameras)

    def forward(self, *pictures: Tensor) -> Tensor:
        found: Tensor = self.network(dict(zip(self.cameras, pictures, strict=True)))
        return found


def to_onnx(network: nn.Module, shapes: Mapping[str, tuple[int, int]], output: str) -> bytes:
    """A network of pictures as an ONNX model: `image_<camera>` (N, h, w, 3) uint8 in, `output` (N, ...) out."""
    names = [f"image_{camera}" for camera in shapes]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        path = Path(folder) / "reward.onnx"
        torch.onnx.export(
            _Ordered(network, tuple(shapes)).eval().cpu(),
            tuple(torch.zeros(2, *shape, 3, dtype=torch.uint8) for shape in shapes.values()),
            path,
            input_names=names,
            output_names=[output],
            dynamic_axes={name: {0: "N"} for name in [*names, output]},
            dynamo=False,
        )
        return path.read_bytes()
