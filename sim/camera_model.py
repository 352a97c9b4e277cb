"""Cameras of scenes as numbers, and the images of lenses that distort.

`CameraModel` and its files are `policies.camera`'s: the robot's camera and the simulated one are the same numbers.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import cv2
import numpy as np

from policies import rotation
from policies.camera import (
    CameraModel,
    distort,
    pixel_directions,
    pixel_grid,
    quaternion_of,
    read_camera_model,
    write_camera_model,
)
from sim.scene import Camera

__all__ = [
    "CameraModel",
    "Lens",
    "camera_model",
    "lens_of",
    "quaternion_of",
    "read_camera_model",
    "scene_camera",
    "write_camera_model",
]

_PRECISION = 0.05
"""Pixels: how well the inverse of a distortion has to be found."""
_LARGEST_MARGIN = 4.0
"""A distorted image may need a pinhole image this many times wider or higher."""


def camera_model(camera: Camera) -> CameraModel:
    """The model of a scene's camera: a pinhole with square pixels."""
    forward = np.subtract(camera.target, camera.position)
    forward = forward / np.linalg.norm(forward)
    right = np.cross(forward, camera.up)
    right = right / np.linalg.norm(right)
    optical = np.stack([right, np.cross(forward, right), forward], axis=1)  # x right, y down, z forward
    focal = 0.5 * camera.height / math.tan(0.5 * camera.field_of_view)
    return CameraModel(
        name=camera.name,
        width=camera.width,
        height=camera.height,
        fx=focal,
        fy=focal,
        cx=0.5 * (camera.width - 1),
        cy=0.5 * (camera.height - 1),
        position=camera.position,
        orientation=quaternion_of(optical),
        parent=camera.attached_to,
    )


def scene_camera(model: CameraModel) -> Camera:
    """A scene's camera at the place of a calibrated one, with its size and its vertical field of view.

    What a scene's camera can't say (fx, cx, cy, distortion) is given to `sim.cameras.Cameras` as the model itself.
    """
    turn = np.array(model.orientation)
    forward, down = (rotation.rotate(turn, np.array(axis)) for axis in ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0)))
    return Camera(
        name=model.name,
        position=model.position,
        target=tuple((np.array(model.position) + forward).tolist()),
        up=tuple((-down).tolist()),
        field_of_view=2.0 * math.atan(0.5 * model.height / model.fy),
        width=model.width,
        height=model.height,
        attached_to=model.parent,
    )


# Distorted images from pinhole images


@dataclass(frozen=True, kw_only=True, eq=False)
class Lens:
    """How the image of a distorting camera is made: a pinhole image with a margin, and where each pixel comes from."""

    pinhole: CameraModel
    """Of the same sharpness and pose, with room for everything that the lens bends into view."""
    source: np.ndarray
    """Shape (height, width, 2) float32: column and row in the pinhole image of each pixel."""

    def bend(self, image: np.ndarray, *, interpolate: bool = True) -> np.ndarray:
        """The distorted image of a pinhole image; without interpolation for depth, whose edges must not be mixed."""
        how = cv2.INTER_LINEAR if interpolate else cv2.INTER_NEAREST
        return cv2.remap(image, self.source, None, how, borderMode=cv2.BORDER_REPLICATE)


def lens_of(model: CameraModel) -> Lens:
    """What it takes to make a camera's distorted images.

    Raises:
        ValueError: The distortion can't be inverted everywhere in the image.
    """
    plane = pixel_directions(model)[..., :2]
    pixels = pixel_grid(model)
    back = distort(plane, model.distortion) * [model.fx, model.fy] + [model.cx, model.cy]
    error = float(np.abs(back - pixels).max())
    straight = plane * [model.fx, model.fy] + [model.cx, model.cy]
    low, high = straight.min(axis=(0, 1)), straight.max(axis=(0, 1))
    size = high - low
    # Past the radius where a polynomial turns back, no direction belongs to a pixel.
    if not (
        error < _PRECISION and size[0] < _LARGEST_MARGIN * model.width and size[1] < _LARGEST_MARGIN * model.height
    ):
        raise ValueError(
            f"camera {model.name!r}: distortion {model.distortion} can't be inverted in the whole image of "
            f"{model.width} x {model.height} pixels (off by {error:.3g} pixels, limit {_PRECISION}); "
            "calibrate with points out to the corners, or crop the image"
        )
    left, top = (max(0, math.ceil(1.0 - value)) for value in low)
    right = max(0, math.ceil(high[0] + 2.0 - model.width))
    bottom = max(0, math.ceil(high[1] + 2.0 - model.height))
    pinhole = dataclasses.replace(
        model,
        width=model.width + left + right,
        height=model.height + top + bottom,
        cx=model.cx + left,
        cy=model.cy + top,
        distortion=(0.0, 0.0, 0.0, 0.0, 0.0),
    )
    return Lens(pinhole=pinhole, source=(straight + [left, top]).astype(np.float32))
