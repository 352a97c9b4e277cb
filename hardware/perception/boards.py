"""Boards and markers: what is printed, and where it is found in a picture."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from policies.camera import opencv

Family = Literal["4x4_50", "4x4_250", "5x5_100", "6x6_250", "apriltag_36h11", "apriltag_25h9", "apriltag_16h5"]
_FAMILIES: dict[str, str] = {
    "4x4_50": "DICT_4X4_50",
    "4x4_250": "DICT_4X4_250",
    "5x5_100": "DICT_5X5_100",
    "6x6_250": "DICT_6X6_250",
    "apriltag_36h11": "DICT_APRILTAG_36h11",
    "apriltag_25h9": "DICT_APRILTAG_25h9",
    "apriltag_16h5": "DICT_APRILTAG_16h5",
}


@dataclass(frozen=True, kw_only=True)
class Board:
    """A flat calibration board; its origin is the outer corner at which corners are counted from, z into the board."""

    kind: Literal["charuco", "chessboard"] = "charuco"
    """A ChArUco board may be seen in part, and which way up it is is known; a chessboard must be seen whole."""
    columns: int = 11
    """Squares across."""
    rows: int = 8
    """Squares down."""
    square: float = 0.024
    """m, side of a square: measure it on the print."""
    marker: float = 0.018
    """m, side of a marker of a ChArUco board."""
    family: Family = "5x5_100"
    """Of the markers of a ChArUco board."""
    legacy: bool = False
    """ChArUco boards with an even number of rows that were made with OpenCV before 4.6."""

    def __post_init__(self) -> None:
        if self.columns < 3 or self.rows < 3:
            raise ValueError(f"a board of {self.columns} x {self.rows} squares is too small; expected 3 x 3 or more")
        if not self.square > 0.0:
            raise ValueError(f"the board's square is {self.square} m; expected more than 0")
        if self.kind == "charuco" and not 0.0 < self.marker < self.square:
            raise ValueError(f"the board's marker is {self.marker} m; expected more than 0 and less than {self.square}")
        if self.kind == "chessboard" and self.columns == self.rows:
            raise ValueError("a chessboard needs different numbers of columns and rows, or its way up is unknown")

    @property
    def corners(self) -> np.ndarray:
        """Inner corners (N, 3) m in the board's frame, row by row."""
        x, y = np.meshgrid(np.arange(1, self.columns), np.arange(1, self.rows))
        return self.square * np.stack([x.ravel(), y.ravel(), np.zeros(x.size)], axis=-1)

    @property
    def size(self) -> tuple[float, float]:
        """(width, height) m of all squares."""
        return self.columns * self.square, self.rows * self.square


@dataclass(frozen=True, kw_only=True, eq=False)
class Sighting:
    """A board in a picture."""

    indices: np.ndarray
    """Shape (K,) int: which of `Board.corners` were found."""
    pixels: np.ndarray
    """Shape (K, 2): where, column and row."""


def find_board(board: Board, image: np.ndarray, fewest: int = 8) -> Sighting | None:
    """The board in a picture (H, W, 3) or (H, W) uint8; None if fewer than `fewest` corners are seen."""
    cv2 = opencv()
    gray = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    if board.kind == "chessboard":
        shape = (board.columns - 1, board.rows - 1)
        flags = cv2.CALIB_CB_NORMALIZE_IMAGE | cv2.CALIB_CB_ACCURACY | cv2.CALIB_CB_EXHAUSTIVE
        found, corners = cv2.findChessboardCornersSB(gray, shape, None, flags)
        if not found:
            return None
        return Sighting(indices=np.arange(len(corners)), pixels=np.asarray(corners, dtype=float).reshape(-1, 2))
    corners, indices, _, _ = _charuco_detector(board).detectBoard(gray)
    if indices is None or len(indices) < fewest:
        return None
    pixels = np.asarray(corners, dtype=np.float32).reshape(-1, 1, 2)
    return Sighting(indices=np.asarray(indices).ravel(), pixels=np.asarray(pixels, dtype=float).reshape(-1, 2))


def draw_board(board: Board, pixels_per_square: int = 120) -> np.ndarray:
    """Picture (H, W) uint8 of the board, without a margin."""
    if board.kind == "charuco":
        size = (board.columns * pixels_per_square, board.rows * pixels_per_square)
        return np.asarray(_charuco_board(board).generateImage(size, marginSize=0, borderBits=1))
    dark = (np.add.outer(np.arange(board.rows), np.arange(board.columns)) % 2) == 0
    return np.kron(np.where(dark, 0, 255).astype(np.uint8), np.ones((pixels_per_square,) * 2, np.uint8))


def draw_marker(family: Family, number: int, pixels: int = 400) -> np.ndarray:
    """Picture (pixels, pixels) uint8 of a marker, its black border included, without a white margin."""
    known = dictionary(family)
    count = len(known.bytesList)
    if not 0 <= number < count:
        raise ValueError(f"family {family} has no marker {number}; expected 0 to {count - 1}")
    return np.asarray(opencv().aruco.generateImageMarker(known, number, pixels))


@functools.lru_cache(maxsize=8)
def dictionary(family: Family) -> Any:
    """OpenCV's dictionary of markers."""
    if family not in _FAMILIES:
        raise ValueError(f"unknown family of markers {family!r}; known: {', '.join(_FAMILIES)}")
    aruco = opencv().aruco
    return aruco.getPredefinedDictionary(getattr(aruco, _FAMILIES[family]))


@functools.lru_cache(maxsize=8)
def marker_detector(family: Family) -> Any:
    """A detector of markers."""
    aruco = opencv().aruco
    parameters = aruco.DetectorParameters()
    # Right to half a pixel, from where `hardware.perception.edges` goes on.
    parameters.cornerRefinementMethod = aruco.CORNER_REFINE_SUBPIX
    return aruco.ArucoDetector(dictionary(family), parameters)


@functools.lru_cache(maxsize=8)
def _charuco_board(board: Board) -> Any:
    made = opencv().aruco.CharucoBoard(
        (board.columns, board.rows), board.square, board.marker, dictionary(board.family)
    )
    made.setLegacyPattern(board.legacy)
    return made


@functools.lru_cache(maxsize=8)
def _charuco_detector(board: Board) -> Any:
    return opencv().aruco.CharucoDetector(_charuco_board(board))
