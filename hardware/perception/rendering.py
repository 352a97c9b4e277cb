"""Pictures of flat things by a calibrated camera, to try calibration and markers where there is no camera.

A ray is traced through every pixel, lens distortion included, so that the pictures are exact where OpenCV's own
projection is not used: they are the ground truth of the tests.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hardware.perception.boards import Board, Family, draw_board, draw_marker
from policies.camera import CameraModel, opencv, pixel_directions


@dataclass(frozen=True, kw_only=True, eq=False)
class Plate:
    """A flat printed rectangle."""

    texture: np.ndarray
    """Shape (h, w) uint8."""
    width: float
    """m, of the texture."""
    matrix: np.ndarray
    """Shape (4, 4): camera_T_plate; the origin is the upper left corner, x right, y down."""


def board_plate(board: Board, matrix: np.ndarray, margin: float = 0.01) -> Plate:
    """A board at camera_T_board (4, 4), on a white sheet that reaches `margin` m beyond it."""
    squares = 120
    border = round(margin / board.square * squares)
    texture = np.pad(draw_board(board, squares), border, constant_values=255)
    away = border / squares * board.square
    corner = np.eye(4)
    corner[:2, 3] = -away
    return Plate(texture=texture, width=board.size[0] + 2.0 * away, matrix=matrix @ corner)


def marker_plate(family: Family, number: int, side: float, matrix: np.ndarray) -> Plate:
    """A marker whose black square has `side` m, at camera_T_marker (4, 4) as of `hardware.perception.markers`."""
    pixels = 400
    border = pixels // 4
    reach = 0.5 * side * (1.0 + 2.0 * border / pixels)
    corner = np.diag([1.0, -1.0, -1.0, 1.0])
    corner[:3, 3] = [-reach, reach, 0.0]
    texture = np.pad(draw_marker(family, number, pixels), border, constant_values=255)
    return Plate(texture=texture, width=2.0 * reach, matrix=matrix @ corner)


def render(
    camera: CameraModel,
    plates: Sequence[Plate],
    rng: np.random.Generator,
    *,
    noise: float = 2.0,
    blur: float = 0.5,
    background: int = 110,
    finer: int = 2,
) -> np.ndarray:
    """Picture (H, W) uint8 of plates, later ones before earlier ones.

    Args:
        camera: At the origin.
        plates: What is seen.
        rng: Of the noise.
        noise: Grey levels, standard deviation.
        blur: Pixels, standard deviation.
        background: Grey level where no plate is.
        finer: Rays per pixel, along each side.
    """
    cv2 = opencv()
    fine = dataclasses.replace(
        camera,
        width=finer * camera.width,
        height=finer * camera.height,
        fx=finer * camera.fx,
        fy=finer * camera.fy,
        cx=finer * (camera.cx + 0.5) - 0.5,
        cy=finer * (camera.cy + 0.5) - 0.5,
    )
    rays = pixel_directions(fine)
    seen = np.full(rays.shape[:2], float(background), np.float32)
    for plate in plates:
        turn, place = plate.matrix[:3, :3], plate.matrix[:3, 3]
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = (turn[:, 2] @ place) / (rays @ turn[:, 2])
            x, y = (np.where(depth > 0.0, depth * (rays @ axis) - axis @ place, np.inf) for axis in turn.T[:2])
        # As many texels as rays: fewer would be blocks, more would flicker.
        texel = float(np.linalg.norm(place)) / fine.fx
        shrink = max(1.0, texel / (plate.width / plate.texture.shape[1]))
        rows, columns = (round(side / shrink) for side in plate.texture.shape)
        texture = cv2.resize(plate.texture, (columns, rows), interpolation=cv2.INTER_AREA).astype(np.float32)
        scale = columns / plate.width, rows / (plate.width * plate.texture.shape[0] / plate.texture.shape[1])
        u, v = x * scale[0] - 0.5, y * scale[1] - 0.5
        inside = (u > -0.5) & (u < columns - 0.5) & (v > -0.5) & (v < rows - 0.5)
        u, v = (np.where(inside, side, 0.0).astype(np.float32) for side in (u, v))
        seen = np.where(inside, cv2.remap(texture, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), seen)
    picture = cv2.resize(seen, (camera.width, camera.height), interpolation=cv2.INTER_AREA)
    if blur > 0.0:
        picture = cv2.GaussianBlur(picture, (0, 0), blur)
    picture = picture + noise * rng.standard_normal(picture.shape)
    return np.rint(picture).clip(0, 255).astype(np.uint8)
