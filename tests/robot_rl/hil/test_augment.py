"""Augmented pictures are the same pictures: moved by whole pixels, or under another light."""

import numpy as np
import pytest
import torch

from robot_rl.hil.augment import color_jitter, random_shift, random_shifts, shift
from robot_rl.hil.shrink import area_weights, shrink


def pictures(count=12, height=20, width=24, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("down", [-3, 0, 4])
@pytest.mark.parametrize("right", [-4, 0, 2])
def test_a_shift_is_a_crop_of_the_picture_with_its_edge_repeated(down, right):
    images = pictures(count=2)
    padded = np.pad(images.numpy(), ((0, 0), (4, 4), (4, 4), (0, 0)), mode="edge")
    expected = padded[:, 4 - down : 24 - down, 4 - right : 28 - right]
    found = shift(images, np.array([[down, right]] * 2))
    assert found.dtype == torch.uint8
    np.testing.assert_array_equal(found.numpy(), expected)


def test_random_shifts_are_whole_uniform_and_leave_the_originals():
    images = pictures(count=400, height=16, width=16)
    before = images.clone()
    found = random_shift(images, np.random.default_rng(1), pad=2)
    assert torch.equal(images, before)
    seen = set()
    for one, moved in zip(images, found, strict=True):
        matches = [
            (down, right)
            for down in range(-2, 3)
            for right in range(-2, 3)
            if torch.equal(moved[2:-2, 2:-2], one[2 - down : 14 - down, 2 - right : 14 - right])
        ]
        assert len(matches) == 1
        seen.update(matches)
    assert len(seen) == 25


def test_cameras_move_together_only_where_asked_to():
    images = {"left": pictures(), "right": pictures()}
    apart = random_shifts(images, np.random.default_rng(0))
    together = random_shifts(images, np.random.default_rng(0), together=True)
    assert not torch.equal(apart["left"], apart["right"])
    assert torch.equal(together["left"], together["right"])
    assert not torch.equal(together["left"], images["left"])


def test_a_generator_decides():
    images = pictures()
    first, again, other = (random_shift(images, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    first, again, other = (color_jitter(images, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_jitter_is_one_line_per_colour_and_keeps_type_and_shape():
    images = pictures(count=50)
    before = images.clone()
    found = color_jitter(images, np.random.default_rng(0))
    assert found.dtype == torch.uint8
    assert found.shape == images.shape
    assert torch.equal(images, before)
    for one, changed in zip(images.numpy(), found.numpy(), strict=True):
        for color in range(3):
            old, new = one[..., color].astype(float).ravel(), changed[..., color].astype(float).ravel()
            inside = (new > 0) & (new < 255)
            gain, offset = np.polyfit(old[inside], new[inside], 1)
            assert 0.7 < gain < 1.35
            assert np.abs(gain * old + offset - new)[inside].max() < 1.01  # rounding alone


def test_jitter_of_nothing_changes_nothing():
    images = pictures()
    assert torch.equal(color_jitter(images, np.random.default_rng(0), brightness=0, contrast=0, tint=0), images)


@pytest.mark.parametrize("function", [random_shift, color_jitter])
def test_other_things_than_pictures_are_refused(function):
    for wrong in (pictures().float(), pictures()[0], pictures().permute(0, 3, 1, 2)):
        with pytest.raises(ValueError, match="expected uint8"):
            function(wrong, np.random.default_rng(0))


def test_a_shift_beyond_the_picture_is_refused():
    with pytest.raises(ValueError, match="leaves nothing of 20 × 24"):
        shift(pictures(count=1), np.array([[20, 0]]))


@pytest.mark.parametrize(("old", "new"), [(128, 64), (480, 64), (7, 3), (5, 5), (9, 1)])
def test_shrinking_takes_every_pixel_with_the_same_weight(old, new):
    weights = area_weights(old, new)
    np.testing.assert_allclose(weights.sum(1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(weights.sum(0), new / old, rtol=1e-5)


def test_halved_pictures_are_means_of_four_pixels():
    images = pictures(height=16, width=12).numpy()
    blocks = images.reshape(12, 8, 2, 6, 2, 3).astype(float).mean(axis=(2, 4))
    np.testing.assert_array_equal(shrink(images, (8, 6)), np.floor(blocks + 0.5))
    np.testing.assert_array_equal(shrink(images[0], (8, 6)), shrink(images, (8, 6))[0])
    assert shrink(images, (16, 12)) is images


def test_shrinking_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="a side of 16 pixels cannot be shrunk to 17"):
        shrink(pictures(height=16).numpy(), (17, 12))
    with pytest.raises(ValueError, match="expected uint8"):
        shrink(np.zeros((4, 4, 3)), (2, 2))
