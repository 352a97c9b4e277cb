"""Pictures for learning, each time a little different: random shifts (DrQ, Kostrikov et al. 2021) and colours.

Batches are uint8 (N, H, W, 3) before and after: a learner stores and moves a quarter of what floats would take.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

PAD = 4
"""Pixels of the largest shift. DrQ's, for pictures of 64 to 84 pixels."""


def random_shift(images: Tensor, generator: np.random.Generator, pad: int = PAD) -> Tensor:
    """Each picture moved by its own whole number of pixels, at most `pad`; what comes in repeats the edge.

    Args:
        images: Shape (N, H, W, 3) uint8.
        generator: Source of the shifts.
        pad: Largest shift in pixels, to any side.
    """
    return shift(images, generator.integers(-pad, pad + 1, size=(len(images), 2)))


def random_shifts(
    images: Mapping[str, Tensor], generator: np.random.Generator, pad: int = PAD, *, together: bool = False
) -> dict[str, Tensor]:
    """`random_shift` of the pictures of several cameras.

    Args:
        images: Shape (N, H, W, 3) uint8 by camera.
        generator: Source of the shifts.
        pad: Largest shift in pixels.
        together: The cameras of a sample share its shift, for pairs whose disparity matters. Otherwise each has its
            own, because cameras that stand in different places have no common direction in which the world moves.
    """
    if not together:
        return {camera: random_shift(pictures, generator, pad) for camera, pictures in images.items()}
    count = len(next(iter(images.values())))
    offsets = generator.integers(-pad, pad + 1, size=(count, 2))
    return {camera: shift(pictures, offsets) for camera, pictures in images.items()}


def shift(images: Tensor, offsets: np.ndarray) -> Tensor:
    """Pictures (N, H, W, 3) uint8 moved down and to the right by `offsets` (N, 2) pixels."""
    _check(images)
    source = images.numpy()
    count, height, width, _ = source.shape
    if np.abs(offsets).max(initial=0) >= min(height, width):
        raise ValueError(f"a shift of {np.abs(offsets).max()} pixels leaves nothing of {height} × {width}")
    result = np.empty_like(source)
    # One block copy per picture: gathering single pixels takes ten times as long.
    for old, new, (down, right) in zip(source, result, offsets.tolist(), strict=True):
        top, bottom = max(down, 0), height + min(down, 0)
        left, end = max(right, 0), width + min(right, 0)
        new[top:bottom, left:end] = old[top - down : bottom - down, left - right : end - right]
        new[top:bottom, :left] = new[top:bottom, left : left + 1]
        new[top:bottom, end:] = new[top:bottom, end - 1 : end]
        new[:top] = new[top]
        new[bottom:] = new[bottom - 1]
    return torch.from_numpy(result)


def color_jitter(
    images: Tensor,
    generator: np.random.Generator,
    *,
    brightness: float = 0.15,
    contrast: float = 0.2,
    tint: float = 0.1,
) -> Tensor:
    """Pictures (N, H, W, 3) uint8 under another light, each under its own.

    Args:
        images: The pictures.
        generator: Source of the lights.
        brightness: Largest change, as a share of white.
        contrast: Largest change of the contrast about middle grey, as a share.
        tint: Largest change of the gain of each of the three colours.
    """
    _check(images)
    count = len(images)
    contrasts = 1.0 + generator.uniform(-contrast, contrast, (count, 1))
    gains = contrasts * (1.0 + generator.uniform(-tint, tint, (count, 3)))
    offsets = 128.0 * (1.0 - contrasts) + 255.0 * generator.uniform(-brightness, brightness, (count, 1))
    # Whole lines at once: with three numbers as the innermost axis, this takes three times as long.
    lines = images.shape[2]
    gain = torch.from_numpy(np.tile(gains, lines).astype(np.float32))[:, None]
    offset = torch.from_numpy((offsets + 0.5).astype(np.float32))[:, None]
    changed = images.flatten(2).float().mul_(gain).add_(offset).clamp_(0.0, 255.0)
    return changed.to(torch.uint8).view(images.shape)


def _check(images: Tensor) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(f"pictures are {images.dtype} of shape {tuple(images.shape)}; expected uint8 (N, H, W, 3)")
