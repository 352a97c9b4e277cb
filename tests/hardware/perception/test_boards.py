"""Boards: what is drawn is found, and what is printed has its true size."""

import struct
import zlib

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2")

from hardware.perception import printing  # noqa: E402
from hardware.perception.boards import Board, draw_board, draw_marker, find_board  # noqa: E402
from hardware.perception.rendering import board_plate, render  # noqa: E402


@pytest.mark.parametrize("kind", ["charuco", "chessboard"])
def test_a_board_is_found_where_it_is(kind, webcam, board_views):
    board = Board(kind=kind, columns=8, rows=6, square=0.03, marker=0.022)
    rng = np.random.default_rng(0)
    pose = board_views(webcam, board, 6, rng, tilt=0.3, distance=(0.6, 0.7))[5]
    sighting = find_board(board, render(webcam, [board_plate(board, pose)], rng))
    assert sighting is not None and len(sighting.indices) == 35
    truth = webcam.project(board.corners[sighting.indices] @ pose[:3, :3].T + pose[:3, 3])
    away = sighting.pixels - truth
    if kind == "chessboard" and np.abs(away).max() > 5.0:  # symmetric: it may be read from the other end
        away = sighting.pixels[::-1] - truth
    assert np.abs(away).max() < 0.5
    assert find_board(board, np.full((480, 640), 90, np.uint8)) is None


def test_wrong_boards_are_refused():
    with pytest.raises(ValueError, match="marker is 0.03 m; expected more than 0 and less than 0.024"):
        Board(marker=0.03)
    with pytest.raises(ValueError, match="different numbers"):
        Board(kind="chessboard", columns=8, rows=8)
    with pytest.raises(ValueError, match="no marker 1000; expected 0 to 586"):
        draw_marker("apriltag_36h11", 1000)


def test_pdf_and_png_have_the_true_size(tmp_path):
    board = Board()
    image = draw_board(board, 40)
    printing.write_png(tmp_path / "b.png", image, board.size[0])
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "b.png"), cv2.IMREAD_GRAYSCALE), image)
    data = (tmp_path / "b.png").read_bytes()
    across = struct.unpack(">I", data[data.index(b"pHYs") + 4 :][:4])[0]
    assert image.shape[1] / across == pytest.approx(board.size[0], rel=1e-3)
    printing.write_pdf(tmp_path / "b.pdf", image, board.size[0], "a4", "11 x 8 (mm)")
    pdf = (tmp_path / "b.pdf").read_bytes()
    numbers = pdf[pdf.index(b"q ") : pdf.index(b" cm /Board")].split()
    assert float(numbers[1]) * 0.0254 / 72.0 == pytest.approx(0.264, abs=1e-6)
    assert float(numbers[4]) * 0.0254 / 72.0 == pytest.approx(0.192, abs=1e-6)
    assert b"MediaBox[0 0 841.8898 595.2756]" in pdf  # A4 lying
    stream = pdf[pdf.index(b"stream\n", pdf.index(b"/DeviceGray")) + 7 :]
    assert np.array_equal(np.frombuffer(zlib.decompressobj().decompress(stream), np.uint8), image.ravel())
    table = int(pdf.split(b"startxref\n")[1].split(b"\n")[0])
    assert pdf[table:].startswith(b"xref")
    with pytest.raises(ValueError, match="does not fit on a4"):
        printing.write_pdf(tmp_path / "c.pdf", image, 0.4, "a4", "")
