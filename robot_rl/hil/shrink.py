"""Smaller pictures by the mean over the area of each new pixel, at any ratio, without an image library."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


def shrink(images: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Pictures (..., H, W, 3) uint8 at `size` (h, w) pixels; where the ratio of the sides differs they are squashed.

    Raises:
        ValueError: They are no such pictures, or smaller than `size`.
    """
    if images.dtype != np.uint8 or images.ndim < 3 or images.shape[-1] != 3:
        raise ValueError(f"pictures are {images.dtype} of shape {images.shape}; expected uint8 (..., H, W, 3)")
    height, width = images.shape[-3:-1]
    if (height, width) == size:
        return images
    rows, columns = area_weights(height, size[0]), area_weights(width, size[1])
    flat = images.reshape(-1, height, width * 3)
    small = np.empty((len(flat), *size, 3), np.uint8)
    for picture, result in zip(flat, small, strict=True):  # one at a time: the intermediate ones are large
        stripes = (rows @ picture.astype(np.float32)).reshape(size[0], width, 3)
        result[:] = columns @ stripes + 0.5
    return small.reshape(*images.shape[:-3], *size, 3)


@lru_cache(maxsize=32)
def area_weights(old: int, new: int) -> NDArray[np.float32]:
    """Shares (new, old) of the old pixels of a line in each new one; each row sums to 1.

    Raises:
        ValueError: The new line is longer than the old one.
    """
    if not 0 < new <= old:
        raise ValueError(f"a side of {old} pixels cannot be shrunk to {new}; expected 1 to {old}")
    edges = np.linspace(0.0, old, new + 1)
    left, right = edges[:-1, None], edges[1:, None]
    pixel = np.arange(old)[None]
    overlap = np.clip(np.minimum(right, pixel + 1) - np.maximum(left, pixel), 0.0, None)
    weights: NDArray[np.float32] = (overlap * (new / old)).astype(np.float32)
    weights.flags.writeable = False
    return weights
