"""The two conventions of the sky and the one place where they meet.

Here: world ENU (x east, y north, z up), body FLU (x forward, y left, z up). Autopilots: world NED (x north, y east,
z down), body FRD (x forward, y right, z down). Both changes of frame are half turns, so that each function is its own
inverse and serves both ways:

- world: (x, y, z) → (y, x, -z), the half turn about (1, 1, 0)/√2;
- body: (x, y, z) → (x, -y, -z), the half turn about x.

A local frame that is not aligned with north (MAVLink's LOCAL_FRD) is converted alike: its x axis then plays north.
Array functions with leading batch axes, for numpy and torch.
"""

from __future__ import annotations

import math

from array_api_compat import array_namespace

from policies.types import Array

_R = math.sqrt(0.5)


def swap_world(vector: Array) -> Array:
    """Vectors (..., 3) from ENU to NED or back: positions, velocities, accelerations."""
    xp = array_namespace(vector)
    return xp.stack([vector[..., 1], vector[..., 0], -vector[..., 2]], axis=-1)


def swap_body(vector: Array) -> Array:
    """Vectors (..., 3) from FLU to FRD or back: body rates, forces, torques."""
    xp = array_namespace(vector)
    return xp.stack([vector[..., 0], -vector[..., 1], -vector[..., 2]], axis=-1)


def swap_orientation(quaternion: Array) -> Array:
    """Quaternions (..., 4) wxyz from FLU→ENU to FRD→NED or back, with w ≥ 0."""
    xp = array_namespace(quaternion)
    w, x, y, z = (quaternion[..., i] for i in range(4))
    # (0, √½, √½, 0) · q · (0, 1, 0, 0), written out.
    swapped = xp.stack([_R * (w + z), _R * (x + y), _R * (x - y), _R * (w - z)], axis=-1)
    return xp.where(swapped[..., :1] < 0.0, -swapped, swapped)


def swap_yaw(yaw: Array) -> Array:
    """Headings (...) rad from counter-clockwise of east to clockwise of north or back, in (-π, π]."""
    xp = array_namespace(yaw)
    turned = 0.5 * math.pi - yaw
    return xp.atan2(xp.sin(turned), xp.cos(turned))
