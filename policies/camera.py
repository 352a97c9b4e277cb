"""A camera as numbers: intrinsics, lens distortion and pose, as a calibration gives them, and its file.

Frames and pixels are OpenCV's: a camera's optical frame has z out of the lens, x to the right and y down in the
image; the middle of the upper left pixel is (0, 0). The files are those of ROS calibrations (`camera_info`), so that
a real camera's calibration makes the simulated one. OpenCV is loaded when it is first needed.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import yaml

from policies import rotation

Vector: TypeAlias = tuple[float, float, float]
Quaternion: TypeAlias = tuple[float, float, float, float]
_UPRIGHT: Quaternion = (1.0, 0.0, 0.0, 0.0)


def opencv() -> Any:
    """The module `cv2`, loaded at the first call.

    Raises:
        RuntimeError: It is not installed; the message names the pip command.
    """
    try:
        import cv2
    except ImportError as error:
        raise RuntimeError(f"pictures need OpenCV ({error}); install with: pip install 'robot_rl[camera]'") from error
    return cv2


@dataclass(frozen=True, kw_only=True)
class CameraModel:
    """A camera with square or other pixels, a lens that distorts, and a place."""

    name: str = "camera"
    """As in the scene."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    fx: float
    """Focal length in widths of a pixel."""
    fy: float
    """Focal length in heights of a pixel."""
    cx: float
    """Pixels, column of the optical axis; (width - 1) / 2 is the middle."""
    cy: float
    """Pixels, row of the optical axis."""
    distortion: tuple[float, float, float, float, float] = (0.0, 0.0, 0.0, 0.0, 0.0)
    """OpenCV's k1, k2, p1, p2, k3; the model that ROS calls plumb_bob."""
    position: Vector = (0.0, 0.0, 0.0)
    """m, of the lens in the parent frame."""
    orientation: Quaternion = _UPRIGHT
    """wxyz, of the optical frame in the parent frame."""
    parent: str = ""
    """Name of the arm whose tool frame is the parent; empty for the world."""

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1 or not (self.fx > 0.0 and self.fy > 0.0):
            raise ValueError(
                f"camera {self.name!r}: width {self.width}, height {self.height}, fx {self.fx} and fy {self.fy} "
                "must be above 0"
            )

    @property
    def matrix(self) -> np.ndarray:
        """The camera matrix (3, 3)."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    @property
    def is_pinhole(self) -> bool:
        """Whether straight lines stay straight."""
        return not any(self.distortion)

    def in_world(self, parent_pose: np.ndarray) -> CameraModel:
        """The same camera with its pose in the world, where its parent has the pose (7,)."""
        turn = np.asarray(parent_pose[3:], dtype=float)
        position = parent_pose[:3] + rotation.rotate(turn, np.array(self.position))
        orientation = rotation.multiply(turn, np.array(self.orientation))
        return dataclasses.replace(
            self, position=tuple(position.tolist()), orientation=tuple(orientation.tolist()), parent=""
        )

    def project(self, points: np.ndarray) -> np.ndarray:
        """Pixels (..., 2), column and row, of points (..., 3) m in the parent frame; NaN behind the camera."""
        away = np.asarray(points, dtype=float) - np.array(self.position)
        local = rotation.rotate_inverse(np.broadcast_to(self.orientation, (*away.shape[:-1], 4)), away)
        depth = np.where(local[..., 2:] > 0.0, local[..., 2:], np.nan)
        distorted = distort(local[..., :2] / depth, self.distortion)
        return distorted * [self.fx, self.fy] + [self.cx, self.cy]

    def directions(self, pixels: np.ndarray) -> np.ndarray:
        """Directions (..., 3) in the optical frame, z = 1, of what appears at pixels (..., 2)."""
        cv2 = opencv()
        flat = np.asarray(pixels, dtype=float).reshape(-1, 1, 2)
        stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-10)
        found = cv2.undistortPointsIter(flat, self.matrix, np.array(self.distortion), None, None, stop)
        plane = np.asarray(found, dtype=float).reshape(np.shape(pixels))
        return np.concatenate([plane, np.ones_like(plane[..., :1])], axis=-1)

    def unproject(self, depth: np.ndarray) -> np.ndarray:
        """Points (height, width, 3) m in the parent frame that a depth image (height, width) m shows.

        Depth is measured along the optical axis, as depth cameras give it, not along the ray. Where it is infinite,
        the point is NaN.
        """
        if depth.shape != (self.height, self.width):
            raise ValueError(
                f"camera {self.name!r}: depth has shape {depth.shape}, expected {(self.height, self.width)}"
            )
        finite = np.where(np.isfinite(depth), depth, np.nan).astype(float)
        local = pixel_directions(self) * finite[..., None]
        return rotation.rotate(np.broadcast_to(self.orientation, (*depth.shape, 4)), local) + np.array(self.position)


def pixel_grid(model: CameraModel) -> np.ndarray:
    """Column and row (height, width, 2) of every pixel."""
    columns, rows = np.meshgrid(np.arange(model.width, dtype=float), np.arange(model.height, dtype=float))
    return np.stack([columns, rows], axis=-1)


@functools.lru_cache(maxsize=16)
def pixel_directions(model: CameraModel) -> np.ndarray:
    """Directions (height, width, 3) of every pixel, not to be written to."""
    found = model.directions(pixel_grid(model))
    found.flags.writeable = False
    return found


def distort(plane: np.ndarray, coefficients: tuple[float, float, float, float, float]) -> np.ndarray:
    """Where the lens bends points (..., 2) of the plane at distance 1: the model of Brown and Conrady."""
    k1, k2, p1, p2, k3 = coefficients
    x, y = plane[..., 0], plane[..., 1]
    r2 = x * x + y * y
    radial = 1.0 + r2 * (k1 + r2 * (k2 + r2 * k3))
    return np.stack(
        [
            x * radial + 2.0 * p1 * x * y + p2 * (r2 + 2.0 * x * x),
            y * radial + p1 * (r2 + 2.0 * y * y) + 2.0 * p2 * x * y,
        ],
        axis=-1,
    )


def quaternion_of(matrix: np.ndarray) -> Quaternion:
    """Unit quaternion wxyz of a rotation matrix (3, 3)."""
    # The eigenvector of the largest eigenvalue: no case is special.
    m = matrix
    symmetric = np.array(
        [
            [m[0, 0] + m[1, 1] + m[2, 2], m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]],
            [m[2, 1] - m[1, 2], m[0, 0] - m[1, 1] - m[2, 2], m[0, 1] + m[1, 0], m[0, 2] + m[2, 0]],
            [m[0, 2] - m[2, 0], m[0, 1] + m[1, 0], m[1, 1] - m[0, 0] - m[2, 2], m[1, 2] + m[2, 1]],
            [m[1, 0] - m[0, 1], m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], m[2, 2] - m[0, 0] - m[1, 1]],
        ]
    )
    found = np.linalg.eigh(symmetric)[1][:, -1]
    w, x, y, z = (found if found[0] >= 0.0 else -found).tolist()
    return (w, x, y, z)


# Files


def write_camera_model(path: str | Path, model: CameraModel) -> None:
    """Write the calibration file that `camera_calibration` of ROS would, with the pose beside it."""
    k = model.matrix
    content: dict[str, Any] = {
        "image_width": model.width,
        "image_height": model.height,
        "camera_name": model.name,
        "camera_matrix": {"rows": 3, "cols": 3, "data": k.flatten().tolist()},
        "distortion_model": "plumb_bob",
        "distortion_coefficients": {"rows": 1, "cols": 5, "data": list(model.distortion)},
        "rectification_matrix": {"rows": 3, "cols": 3, "data": np.eye(3).flatten().tolist()},
        "projection_matrix": {"rows": 3, "cols": 4, "data": np.hstack([k, np.zeros((3, 1))]).flatten().tolist()},
        "pose": {
            "parent": model.parent,
            "position": list(model.position),
            "orientation": list(model.orientation),
        },
    }
    Path(path).write_text(yaml.safe_dump(content, sort_keys=False, default_flow_style=None))


def read_camera_model(path: str | Path) -> CameraModel:
    """Read a calibration file; without our `pose` in it, the camera is at the origin of the world.

    Raises:
        ValueError: A field is missing or wrong, or the distortion model is another one.
    """
    content = yaml.safe_load(Path(path).read_text())
    if not isinstance(content, dict):
        raise ValueError(f"{path} is no calibration: expected fields such as image_width and camera_matrix")

    def numbers(name: str, field: str = "data") -> list[float]:
        try:
            return [float(value) for value in content[name][field]]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: {name}.{field} is missing or not a list of numbers") from error

    kind = content.get("distortion_model", "plumb_bob")
    if kind != "plumb_bob":
        raise ValueError(f"{path}: distortion_model is {kind!r}; calibrate with plumb_bob (k1, k2, p1, p2, k3)")
    k, bent = numbers("camera_matrix"), numbers("distortion_coefficients")
    if len(k) != 9 or len(bent) not in (4, 5):
        raise ValueError(
            f"{path}: camera_matrix has {len(k)} numbers, expected 9; distortion_coefficients has {len(bent)}, "
            "expected 4 or 5"
        )
    for name in ("image_width", "image_height"):
        if not isinstance(content.get(name), int):
            raise ValueError(f"{path}: {name} is {content.get(name)!r}; expected a number of pixels")
    pose = content.get("pose")
    position, orientation = (0.0, 0.0, 0.0), _UPRIGHT
    if pose is not None:
        px, py, pz = numbers("pose", "position")
        w, x, y, z = numbers("pose", "orientation")
        length = math.sqrt(w * w + x * x + y * y + z * z)
        if abs(length - 1.0) > 1e-3:
            raise ValueError(f"{path}: pose.orientation {[w, x, y, z]} is no unit quaternion wxyz")
        position, orientation = (px, py, pz), (w / length, x / length, y / length, z / length)
    k1, k2, p1, p2, k3 = (*bent, 0.0)[:5]
    return CameraModel(
        name=str(content.get("camera_name", "camera")),
        width=content["image_width"],
        height=content["image_height"],
        fx=k[0],
        fy=k[4],
        cx=k[2],
        cy=k[5],
        distortion=(k1, k2, p1, p2, k3),
        position=position,
        orientation=orientation,
        parent=str(pose.get("parent", "")) if pose else "",
    )
