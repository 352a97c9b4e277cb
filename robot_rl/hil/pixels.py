"""Learning from pictures on one core: one small encoder, which one loss trains and everything else shares.

    encoder = make_encoder({"front": (64, 64, 3), "wrist": (64, 64, 3)}, PixelConfig())
    policy = HilPolicy(observation_size, layout, hidden, encoder=encoder)
    features = policy.look(observation, images)                # (N, D + E): the scaled observation, the embedding
    critics(torch.cat([features.detach(), action], -1))        # whoever does not teach the encoder

Full backpropagation from every loss lets the actor's spoil what the critic needs (Yarats et al. 2021).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from robot_rl.hil.shrink import area_weights

SIDE = 64
"""Pixels at which pictures are looked at."""
WIDTHS = (32, 32, 32)
"""Channels of the convolutions. Forward and backward of two cameras at batch 64 take 42 ms of one core."""
EMBEDDING = 64
"""E."""
SPOTS = 8
"""Spatial embeddings per channel: learned weights over the places of the last feature map."""
PATCH, KERNEL = 4, 6
"""Stride and size of the first convolution: most of a small encoder's work is done at its finest resolution."""


@dataclass(frozen=True, kw_only=True)
class PixelConfig:
    """Learning from pictures, where there are cameras."""

    widths: tuple[int, ...] = WIDTHS
    """Channels of the convolutions."""
    embedding: int = EMBEDDING
    """Length of the pictures' embedding."""
    pooling: Literal["embeddings", "softmax"] = "embeddings"
    """From feature maps to numbers: learned weights over places, or each channel's expected place."""
    shift: int = 2
    """Pixels by which pictures are moved at random while learning."""
    teacher: Literal["imitation", "values"] = "imitation"
    """Whose loss trains the encoder after the warm start: that of staying near actions, or that of the critics."""


class CameraEncoder(nn.Module):
    """Pictures (N, H, W, 3) uint8 of one camera to features (N, `size`)."""

    rows: Tensor
    columns: Tensor

    def __init__(
        self,
        height: int,
        width: int,
        widths: Sequence[int] = WIDTHS,
        pooling: Literal["embeddings", "softmax"] = "embeddings",
    ) -> None:
        """Build an untrained encoder of pictures of height × width pixels.

        Args:
            height: H.
            width: W.
            widths: Channels of the convolutions; the first two divide the resolution by 4 and by 2.
            pooling: `embeddings`: learned weights over places (Levine et al.; SERL); `softmax`: the expected place of
                each channel (Finn et al. 2016), four times smaller, enough where it matters only where things are.
        """
        super().__init__()
        self.shape = (height, width)
        side_h, side_w = min(height, SIDE), min(width, SIDE)
        self.smaller = (side_h, side_w) != self.shape
        self.register_buffer("rows", torch.tensor(area_weights(height, side_h)), persistent=False)
        self.register_buffer("columns", torch.tensor(area_weights(width, side_w)).T.contiguous(), persistent=False)
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], KERNEL, PATCH, (KERNEL - PATCH) // 2), nn.ReLU()]
        for i, (before, after) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
            layers += [nn.Conv2d(before, after, 3, 2 if i == 0 else 1, 1), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        with torch.no_grad():
            _, channels, h, w = self.layers(torch.zeros(1, 3, side_h, side_w)).shape
        self.pooling: nn.Module
        if pooling == "softmax":
            self.pooling, self.size = SpatialSoftmax(h, w), 2 * channels
        else:
            self.pooling, self.size = SpatialEmbedding(channels, h, w), SPOTS * channels

    def forward(self, images: Tensor) -> Tensor:
        """Features (N, `size`)."""
        x = images.permute(0, 3, 1, 2).float()
        if self.smaller:
            x = self.rows @ x @ self.columns
        found: Tensor = self.pooling(self.layers(x.contiguous() / 127.5 - 1.0))
        return found


class SpatialEmbedding(nn.Module):
    """Feature maps (N, C, h, w) to sums over places with `SPOTS` learned weights per channel (N, C × SPOTS)."""

    def __init__(self, channels: int, height: int, width: int) -> None:
        """Random weights."""
        super().__init__()
        self.weights = nn.Parameter(torch.randn(channels, height * width, SPOTS) / (height * width) ** 0.5)

    def forward(self, maps: Tensor) -> Tensor:
        """Sums (N, C × SPOTS)."""
        # A batched product over channels (C, N, P) @ (C, P, K).
        return (maps.flatten(2).transpose(0, 1) @ self.weights).transpose(0, 1).flatten(1)


class SpatialSoftmax(nn.Module):
    """Feature maps (N, C, h, w) to the expected place of each channel (N, 2 C), in [-1, 1]."""

    places: Tensor

    def __init__(self, height: int, width: int) -> None:
        """For maps of height × width."""
        super().__init__()
        rows, columns = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
        self.register_buffer("places", torch.stack([rows.flatten(), columns.flatten()], dim=1), persistent=False)
        self.sharpness = nn.Parameter(torch.ones(()))

    def forward(self, maps: Tensor) -> Tensor:
        """Places (N, 2 C)."""
        share = torch.softmax(self.sharpness * maps.flatten(2), dim=-1)
        return (share @ self.places).flatten(1)


class PixelEncoder(nn.Module):
    """Pictures of all cameras to one embedding (N, `size`)."""

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, int]],
        *,
        widths: Sequence[int] = WIDTHS,
        embedding: int = EMBEDDING,
        pooling: Literal["embeddings", "softmax"] = "embeddings",
    ) -> None:
        """Build an untrained encoder.

        Args:
            shapes: (H, W) of the pictures of each camera; what is larger than 64 pixels is shrunk in the network.
            widths: Channels of the convolutions.
            embedding: E, length of the result.
            pooling: See `CameraEncoder`.
        """
        super().__init__()
        if not shapes:
            raise ValueError("an encoder of pictures needs at least one camera; shapes is empty")
        self.shapes = {camera: (int(shapes[camera][0]), int(shapes[camera][1])) for camera in sorted(shapes)}
        """(H, W) by camera, in the order of names."""
        self.size = embedding
        """E."""
        eyes = [CameraEncoder(*shape, widths, pooling) for shape in self.shapes.values()]
        self.eyes = nn.ModuleList(eyes)
        self.bottleneck = nn.Linear(sum(eye.size for eye in eyes), embedding)
        self.norm = nn.LayerNorm(embedding)

    def encode(self, images: Mapping[str, Tensor]) -> Tensor:
        """Embedding (N, E) in [-1, 1] of pictures (N, H, W, 3) uint8 by camera.

        Raises:
            ValueError: A camera is missing, or its pictures have another shape.
        """
        if not torch.jit.is_tracing():
            self._check(images)
        seen = [eye(images[camera]) for camera, eye in zip(self.shapes, self.eyes, strict=True)]
        return torch.tanh(self.norm(self.bottleneck(torch.cat(seen, dim=-1))))

    def _check(self, images: Mapping[str, Tensor]) -> None:
        for camera, shape in self.shapes.items():
            if camera not in images:
                raise ValueError(f"no picture of camera {camera!r}; given are {', '.join(images) or 'none'}")
            found = tuple(images[camera].shape[1:])
            if found != (*shape, 3):
                raise ValueError(f"pictures of {camera!r} have shape {found}; expected {(*shape, 3)}")

    def forward(self, images: Mapping[str, Tensor]) -> Tensor:
        """The same as `encode`."""
        return self.encode(images)


def make_encoder(shapes: Mapping[str, tuple[int, int, int]], config: PixelConfig) -> PixelEncoder | None:
    """An untrained encoder of pictures of `shapes` (H, W, 3) by camera; None where there are none."""
    if not shapes:
        return None
    sides = {camera: (shape[0], shape[1]) for camera, shape in shapes.items()}
    return PixelEncoder(sides, widths=config.widths, embedding=config.embedding, pooling=config.pooling)
