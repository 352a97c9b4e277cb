"""From a camera's picture to the one that a network sees: straighten the lens, crop, resize.

    ready = preparation((64, 64), manifest.views["front"], camera)   # once: camera is a `CameraModel`
    small = ready.apply(image)                                       # every picture, (..., H, W, 3) uint8

Training (`sim.camera_observations`) and the robot's camera node call this same function. What it does is in the
bundle's manifest: `images` has the size, `views` the rest. A view that states a pinhole is the same piece of the world
through any calibrated camera, whatever its lens and resolution; a view that states a crop is a share of the picture.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from policies.camera import CameraModel, distort, opencv

Size = tuple[int, int]
_EXACT = 1e-4
"""Pixels by which a place may be off and still be the middle of a pixel."""
_LARGEST_BLANK = 0.02
"""Share of the network's picture that the camera need not see; the nearest pixels fill it."""


@dataclass(frozen=True, kw_only=True)
class View:
    """What of a camera's picture a network sees; the default is all of it, as it is."""

    rectify: bool = False
    """Whether straight lines are made straight; needs the camera's calibration."""
    crop: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    """(top, left, height, width) as shares of the picture's height and width, after straightening."""
    pinhole: tuple[float, float, float, float] | None = None
    """(fx, fy, cx, cy) in pixels of the network's picture: it is what a pinhole camera with these numbers sees.

    Straightens and crops as it follows from the camera's calibration, so `rectify` and `crop` are left alone.
    """

    def __post_init__(self) -> None:
        top, left, height, width = self.crop
        numbers = (*self.crop, *(self.pinhole or ()))
        if not all(math.isfinite(value) for value in numbers):
            raise ValueError(f"view: crop {self.crop} and pinhole {self.pinhole} must be finite")
        if top < 0.0 or left < 0.0 or not (height > 0.0 and width > 0.0) or max(top + height, left + width) > 1.000001:
            raise ValueError(f"view: crop (top, left, height, width) is {self.crop}; expected shares within 0 and 1")
        if self.pinhole is not None:
            if self.pinhole[0] <= 0.0 or self.pinhole[1] <= 0.0:
                raise ValueError(f"view: focal lengths of pinhole {self.pinhole} must be above 0")
            if self.crop != (0.0, 0.0, 1.0, 1.0):
                raise ValueError("view: give either crop or pinhole; a pinhole says itself what is cropped")


@dataclass(frozen=True, kw_only=True, eq=False)
class Preparation:
    """How pictures of one camera are made into those of one network."""

    given: Size
    """(H, W) of the camera's pictures."""
    size: Size
    """(h, w) of the network's."""
    blank: float
    """Share of the network's picture that the camera does not see."""
    places: tuple[np.ndarray, np.ndarray] | None
    """Where in the camera's picture each sample lies, as `cv2.remap` wants it; None: the picture stays as it is."""

    def apply(self, images: np.ndarray) -> np.ndarray:
        """Pictures (..., h, w, 3) uint8 of pictures (..., H, W, 3) uint8.

        Raises:
            ValueError: They are no such pictures.
        """
        if images.dtype != np.uint8 or images.ndim < 3 or images.shape[-3:] != (*self.given, 3):
            raise ValueError(
                f"the camera's picture is {images.dtype} of shape {images.shape}; expected uint8 (..., "
                f"{self.given[0]}, {self.given[1]}, 3)"
            )
        if self.places is None:
            return images
        cv2 = opencv()
        flat = images.reshape(-1, *self.given, 3)
        found = np.empty((len(flat), *self.size, 3), np.uint8)
        for image, result in zip(flat, found, strict=True):
            samples = cv2.remap(image, *self.places, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            result[:] = cv2.resize(samples, self.size[::-1], interpolation=cv2.INTER_AREA)
        return found.reshape(*images.shape[:-3], *self.size, 3)


@functools.lru_cache(maxsize=32)
def preparation(
    size: Size, view: View, camera: CameraModel | Size, largest_blank: float = _LARGEST_BLANK
) -> Preparation:
    """What it takes to make a network's pictures.

    Args:
        size: (h, w) of the network's pictures.
        view: What the network sees of the camera's picture.
        camera: The calibrated camera, or the (H, W) of its pictures where nothing else is known.
        largest_blank: Share of the network's picture that the camera need not see.

    Raises:
        ValueError: The view needs a calibration, or shows more than the camera sees.
    """
    calibrated = isinstance(camera, CameraModel)
    if (view.rectify or view.pinhole) and not calibrated:
        raise ValueError(
            "the network's view is straightened, which needs the camera's calibration; make one with: "
            "robot-rl calibrate intrinsics"
        )
    height, width = (camera.height, camera.width) if isinstance(camera, CameraModel) else camera
    columns, rows = _edges(view, size, camera if isinstance(camera, CameraModel) else (height, width))
    # So many samples per pixel that none of the camera's pixels is skipped, then their mean.
    finer = [
        max(1, math.ceil((high - low) / count - 0.05)) for (low, high), count in zip((rows, columns), size, strict=True)
    ]
    v, u = (low + (np.arange(n * k) + 0.5) * (high - low) / (n * k)
            for (low, high), n, k in zip((rows, columns), size, finer, strict=True))  # fmt: skip
    places = np.stack(np.meshgrid(u, v), axis=-1)
    seen = np.ones(places.shape[:2], dtype=bool)
    if isinstance(camera, CameraModel) and (view.rectify or view.pinhole) and not camera.is_pinhole:
        places, seen = _bend(camera, places)
    seen &= np.all((places > -0.5 - _EXACT) & (places < np.array([width, height]) - 0.5 + _EXACT), axis=-1)
    blank = 1.0 - float(seen.mean())
    if blank > largest_blank:
        raise ValueError(
            f"the camera's picture of {width} x {height} pixels does not reach over {100.0 * blank:.1f} % of what the "
            f"network sees, limit {100.0 * largest_blank:g} %: use a wider lens or move the crop"
        )
    same = places.shape[:2] == (height, width) == size
    if same and np.abs(places - np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1)).max() < _EXACT:
        return Preparation(given=(height, width), size=size, blank=blank, places=None)
    cv2 = opencv()
    fixed = cv2.convertMaps(places.astype(np.float32), None, cv2.CV_16SC2)
    return Preparation(given=(height, width), size=size, blank=blank, places=(fixed[0], fixed[1]))


def pinhole_view(camera: CameraModel, size: Size | None = None) -> View:
    """The view of all that a camera without distortion sees, at `size` (h, w): for any other camera to reproduce."""
    height, width = size or (camera.height, camera.width)
    across, down = width / camera.width, height / camera.height
    cx, cy = (camera.cx + 0.5) * across - 0.5, (camera.cy + 0.5) * down - 0.5
    return View(pinhole=(camera.fx * across, camera.fy * down, cx, cy))


def _edges(view: View, size: Size, camera: CameraModel | Size) -> tuple[tuple[float, float], tuple[float, float]]:
    """(left, right) and (top, bottom) of what is seen, in pixels of the straightened picture.

    Pixel 0 reaches from -0.5 to 0.5.
    """
    height, width = size
    if view.pinhole is not None and isinstance(camera, CameraModel):
        fx, fy, cx, cy = view.pinhole
        columns = [(edge - cx) / fx * camera.fx + camera.cx for edge in (-0.5, width - 0.5)]
        rows = [(edge - cy) / fy * camera.fy + camera.cy for edge in (-0.5, height - 0.5)]
    else:
        given = (camera.height, camera.width) if isinstance(camera, CameraModel) else camera
        top, left, tall, wide = view.crop
        columns = [share * given[1] - 0.5 for share in (left, left + wide)]
        rows = [share * given[0] - 0.5 for share in (top, top + tall)]
    return (columns[0], columns[1]), (rows[0], rows[1])


def _bend(camera: CameraModel, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the lens shows places (..., 2) of the straightened picture, and whether it does."""
    focal, center = np.array([camera.fx, camera.fy]), np.array([camera.cx, camera.cy])
    plane = (places - center) / focal
    bent = distort(plane, camera.distortion) * focal + center
    # Past the radius where a polynomial turns back, a place looks as if it were in the picture, and is not.
    back = camera.directions(bent)[..., :2]
    return bent, np.abs(back - plane).max(axis=-1) < 1e-3
