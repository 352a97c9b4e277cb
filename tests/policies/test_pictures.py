"""Pictures made ready for a network: exact where nothing is to be done, true to the geometry where something is."""

import dataclasses

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2")

from policies.camera import CameraModel  # noqa: E402
from policies.pictures import View, pinhole_view, preparation  # noqa: E402

RNG = np.random.default_rng(0)
WEBCAM = CameraModel(
    name="webcam", width=320, height=240, fx=260.0, fy=258.0, cx=163.0, cy=117.5,
    distortion=(-0.3, 0.1, 0.002, -0.003, -0.01),
)  # fmt: skip


def world(directions):
    """A smooth coloured world at infinity, by direction: what a camera sees depends on the direction alone."""
    x, y = directions[..., 0] / directions[..., 2], directions[..., 1] / directions[..., 2]
    waves = [np.sin(9.0 * x + 2.0 * y), np.cos(7.0 * y - x), np.sin(6.0 * (x + y) + 1.0)]
    return np.rint(127.5 + 110.0 * np.stack(waves, axis=-1)).astype(np.uint8)


def picture_of(camera):
    grid = np.stack(np.meshgrid(np.arange(camera.width), np.arange(camera.height)), axis=-1)
    return world(camera.directions(grid))


def pinhole_camera(width, height, focal):
    return CameraModel(width=width, height=height, fx=focal, fy=focal, cx=(width - 1) / 2, cy=(height - 1) / 2)


def test_what_needs_nothing_stays_as_it_is_to_the_bit():
    image = RNG.integers(0, 256, (48, 64, 3), dtype=np.uint8)
    camera = pinhole_camera(64, 48, 50.0)
    for view, source in ((View(), (48, 64)), (View(rectify=True), camera), (pinhole_view(camera), camera)):
        assert preparation((48, 64), view, source).apply(image) is image


def test_whole_shrinking_is_the_mean_of_blocks_and_batches_are_their_pictures():
    images = RNG.integers(0, 256, (2, 3, 48, 64, 3), dtype=np.uint8)
    ready = preparation((12, 16), View(), (48, 64))
    found = ready.apply(images)
    means = images.reshape(2, 3, 12, 4, 16, 4, 3).mean(axis=(3, 5))
    assert np.abs(found - means).max() <= 0.51
    np.testing.assert_array_equal(found[1, 2], ready.apply(images[1, 2]))


def test_a_crop_is_a_share_of_the_picture():
    image = RNG.integers(0, 256, (40, 80, 3), dtype=np.uint8)
    ready = preparation((20, 20), View(crop=(0.25, 0.5, 0.5, 0.25)), (40, 80))
    np.testing.assert_array_equal(ready.apply(image), image[10:30, 40:60])


@pytest.mark.parametrize("size", [(64, 64), (120, 120), (200, 200)])
def test_any_camera_shows_the_pinhole_picture_of_the_manifest(size):
    wanted = pinhole_camera(size[1], size[0], size[0] * 1.3)
    truth = picture_of(wanted).astype(float)
    for camera in (WEBCAM, pinhole_camera(400, 300, 300.0)):
        found = preparation(size, pinhole_view(wanted), camera).apply(picture_of(camera))
        assert np.abs(found - truth).mean() < 0.8
        assert np.abs(found - truth).max() < 6.0
    # Without straightening, the same camera is far off: the test can tell.
    crop = preparation(size, View(crop=(0.05, 0.15, 0.9, 0.675)), WEBCAM).apply(picture_of(WEBCAM))
    assert np.abs(crop - truth).mean() > 4.0


def test_rectified_lines_are_straight():
    grid = np.stack(np.meshgrid(np.arange(320), np.arange(240)), axis=-1)
    direction = WEBCAM.directions(grid)
    bright = (np.abs(direction[..., 1] - 0.3 * direction[..., 0] - 0.18) < 0.01).astype(np.uint8) * 255
    image = np.repeat(bright[..., None], 3, axis=-1)

    def bow(image):
        weight = image[:, 10:310, 0].astype(float)
        columns, rows = np.arange(300), (weight * np.arange(240)[:, None]).sum(0) / weight.sum(0)
        return float(np.abs(rows - np.polyval(np.polyfit(columns, rows, 1), columns)).max())

    straight = preparation((240, 320), View(rectify=True), WEBCAM, largest_blank=0.1).apply(image)
    assert bow(straight) < 0.5 < 2.0 < bow(image)


def test_a_view_wider_than_the_camera_is_refused():
    wide = pinhole_view(pinhole_camera(64, 64, 30.0))
    with pytest.raises(ValueError, match=r"does not reach over .* % of what the network sees, limit 2 %"):
        preparation((64, 64), wide, WEBCAM)
    folding = dataclasses.replace(WEBCAM, distortion=(-0.5, 0.0, 0.0, 0.0, 0.0))
    with pytest.raises(ValueError, match="does not reach over"):
        preparation((64, 64), wide, folding)


def test_what_is_missing_or_wrong_is_said():
    with pytest.raises(ValueError, match="robot-rl calibrate intrinsics"):
        preparation((64, 64), View(rectify=True), (240, 320))
    with pytest.raises(ValueError, match="shares within 0 and 1"):
        View(crop=(0.5, 0.0, 0.6, 1.0))
    with pytest.raises(ValueError, match="either crop or pinhole"):
        View(crop=(0.0, 0.0, 0.5, 1.0), pinhole=(50.0, 50.0, 31.5, 31.5))
    with pytest.raises(ValueError, match="focal lengths"):
        View(pinhole=(0.0, 50.0, 31.5, 31.5))
    with pytest.raises(ValueError, match=r"expected uint8 \(..., 240, 320, 3\)"):
        preparation((64, 64), View(), (240, 320)).apply(np.zeros((240, 320, 3)))
