"""Shapes of a body in K sizes at once: what they measure, what they weigh, how they resist turning.

A size is three factors along the axes of the body's frame. A shape keeps its kind: a box takes the factors of its own
axes, a cylinder or capsule their mean across and its own along, a sphere their mean. A shape that is turned in the
body takes of each factor the square of how far its axis points along it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np


class Shape(Protocol):
    """A primitive shape, such as `sim.scene.Shape`."""

    @property
    def kind(self) -> str:
        """Box, sphere, cylinder or capsule."""

    @property
    def size(self) -> tuple[float, ...]:
        """M."""

    @property
    def position(self) -> tuple[float, float, float]:
        """m, in the body's frame."""

    @property
    def orientation(self) -> tuple[float, float, float, float]:
        """Likewise, wxyz."""


def scaled(shape: Shape, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Dimensions (K, 3), padded with 0, and positions (K, 3) of a shape in sizes (K, 3)."""
    factors = size @ matrix(shape.orientation) ** 2
    dimensions = np.zeros((len(size), 3))
    if shape.kind == "box":
        dimensions[:] = np.array(shape.size) * factors
    elif shape.kind == "sphere":
        dimensions[:, 0] = shape.size[0] * factors.mean(axis=1)
    else:
        dimensions[:, 0] = shape.size[0] * factors[:, :2].mean(axis=1)
        dimensions[:, 1] = shape.size[1] * factors[:, 2]
    return dimensions, np.array(shape.position) * size


def mass_properties(shapes: Sequence[Shape], mass: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centres of mass (K, 3) m and inertias (K, 3, 3) kg m² about them, in the body's frame, of one density.

    Args:
        shapes: What the body is made of.
        mass: kg (K,), of the whole body.
        size: Factors (K, 3) along the axes of the body's frame.
    """
    made = [scaled(shape, size) for shape in shapes]
    volumes = np.stack([_volume(shape.kind, dim) for shape, (dim, _) in zip(shapes, made, strict=True)])
    masses = mass * volumes / volumes.sum(axis=0)
    center = sum(m[:, None] * position for m, (_, position) in zip(masses, made, strict=True)) / mass[:, None]
    inertia = np.zeros((len(size), 3, 3))
    for shape, share, (dimensions, position) in zip(shapes, masses, made, strict=True):
        turn = matrix(shape.orientation)
        offset = position - center
        inertia += (turn * _moments(shape.kind, dimensions, share)[:, None, :]) @ turn.T
        square = (offset * offset).sum(axis=1)[:, None, None] * np.eye(3)
        inertia += share[:, None, None] * (square - offset[:, :, None] * offset[:, None, :])
    return center, inertia


def principal_frame(inertia: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Principal moments (K, 3) and the quaternions wxyz (K, 4) of their axes of inertias (K, 3, 3)."""
    moments, axes = np.linalg.eigh(inertia)
    axes[np.linalg.det(axes) < 0.0, :, 2] *= -1.0
    return moments, _quaternions(axes)


def reshaped_moments(moments: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Principal moments (..., 3) after the second moments of mass ∫x² dm along each axis took factors (..., 3).

    Any positive factors are those of some body: the moments stay positive and none exceeds the sum of the others.
    """
    second = factors * (0.5 * moments.sum(axis=-1, keepdims=True) - moments)
    return second.sum(axis=-1, keepdims=True) - second


def _volume(kind: str, dimensions: np.ndarray) -> np.ndarray:
    x, y, z = dimensions.T
    if kind == "box":
        return 8.0 * x * y * z
    ball = 4.0 / 3.0 * math.pi * x**3
    if kind == "sphere":
        return ball
    tube = 2.0 * math.pi * x**2 * y
    return tube + ball if kind == "capsule" else tube


def _moments(kind: str, dimensions: np.ndarray, mass: np.ndarray) -> np.ndarray:
    """Principal moments (K, 3) kg m² of a shape about its middle."""
    x, y, z = dimensions.T
    if kind == "box":
        return np.stack([mass / 3.0 * pair for pair in (y * y + z * z, x * x + z * z, x * x + y * y)], axis=1)
    if kind == "sphere":
        return np.stack([0.4 * mass * x**2] * 3, axis=1)
    across = mass * (x**2 / 4.0 + y**2 / 3.0)
    cylinder = np.stack([across, across, 0.5 * mass * x**2], axis=1)
    if kind == "cylinder":
        return cylinder
    # A capsule is a cylinder and a ball cut in two halves, which are 3/8 radius off their flat sides.
    share = 2.0 * y / (2.0 * y + 4.0 / 3.0 * x)
    ball = (1.0 - share) * mass
    cap = ball * (0.4 * x**2 + y**2 + 0.75 * y * x)
    return share[:, None] * cylinder + np.stack([cap, cap, 0.4 * ball * x**2], axis=1)


def matrix(quaternion: Sequence[float]) -> np.ndarray:
    """Rotation matrix (3, 3) of a unit quaternion wxyz."""
    w, x, y, z = quaternion
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def _quaternions(turn: np.ndarray) -> np.ndarray:
    """Unit quaternions (K, 4) of rotation matrices (K, 3, 3), from the largest of their components."""
    xx, yy, zz = turn[:, 0, 0], turn[:, 1, 1], turn[:, 2, 2]
    a, b, c = turn[:, 2, 1] - turn[:, 1, 2], turn[:, 0, 2] - turn[:, 2, 0], turn[:, 1, 0] - turn[:, 0, 1]
    d, e, f = turn[:, 1, 0] + turn[:, 0, 1], turn[:, 0, 2] + turn[:, 2, 0], turn[:, 2, 1] + turn[:, 1, 2]
    # Each row is the quaternion times four times one of its components.
    rows = np.stack(
        [
            np.stack([1 + xx + yy + zz, a, b, c], axis=1),
            np.stack([a, 1 + xx - yy - zz, d, e], axis=1),
            np.stack([b, d, 1 - xx + yy - zz, f], axis=1),
            np.stack([c, e, f, 1 - xx - yy + zz], axis=1),
        ],
        axis=1,
    )
    best = np.argmax(np.einsum("kii->ki", rows), axis=1)
    chosen = rows[np.arange(len(turn)), best]
    return chosen / np.linalg.norm(chosen, axis=1, keepdims=True)
