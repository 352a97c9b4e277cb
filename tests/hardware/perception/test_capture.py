"""Reading pictures in a thread: the newest one, stamped when it came, and clear words where none comes."""

import time

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2")

from hardware.perception.capture import Capture, CaptureConfig, CaptureError  # noqa: E402


@pytest.fixture
def folder(tmp_path):
    for index in range(5):
        image = np.full((24, 32, 3), 40 * index, np.uint8)
        image[..., 0] = 250  # blue, as OpenCV writes it
        cv2.imwrite(str(tmp_path / f"p{index}.png"), image)
    return tmp_path


def test_a_folder_is_read_at_its_rate_and_the_newest_is_kept(folder):
    begin = time.monotonic()
    with Capture(CaptureConfig(source=str(folder), rate=50.0, loop=False)) as capture:
        first = capture.wait(timeout=5.0)
        assert first is not None and first.image[0, 0, 2] == 250  # red-green-blue
        assert begin <= first.stamp <= time.monotonic()
        while not capture.finished:
            time.sleep(0.01)
        last = capture.newest(first.number)
        assert last.number == 5 and last.name == "p4.png" and last.image[0, 0, 0] == 160
        assert capture.newest(5) is None
        assert last.stamp - first.stamp == pytest.approx((5 - first.number) * 0.02, abs=0.06)
        with pytest.raises(ValueError, match="read-only"):
            last.image[0] = 0


def test_a_video_file_is_read_and_begins_again(tmp_path):
    file = str(tmp_path / "v.avi")
    writer = cv2.VideoWriter(file, cv2.VideoWriter_fourcc(*"MJPG"), 50.0, (64, 48))
    assert writer.isOpened()
    for index in range(6):
        writer.write(np.full((48, 64, 3), 30 * index, np.uint8))
    writer.release()
    with Capture(CaptureConfig(source=file)) as capture:
        frame = None
        for number in (0, 8):  # more than there are
            frame = capture.wait(number, timeout=10.0)
            assert frame is not None and frame.number > number
            while capture.newest(8) is None and number == 0:
                time.sleep(0.01)
        assert frame.image.shape == (48, 64, 3)


def test_what_cannot_be_opened_is_said(tmp_path):
    with pytest.raises(CaptureError, match="no pictures from /dev/video97"):
        Capture(CaptureConfig(source="97"))
    with pytest.raises(CaptureError, match="has no pictures"):
        Capture(CaptureConfig(source=str(tmp_path)))


def test_a_broken_picture_ends_it_with_the_reason(folder):
    (folder / "p2.png").write_bytes(b"no picture")
    with Capture(CaptureConfig(source=str(folder), rate=100.0)) as capture:
        end = time.monotonic() + 5.0
        while not capture.finished and time.monotonic() < end:
            time.sleep(0.01)
        assert capture.finished and "p2.png cannot be read" in capture.problem
