"""What cameras do to images: each effect does what it says, a zero does nothing, a seed repeats it."""

import dataclasses
import time

import numpy as np
import pytest

from sim.image_randomization import MODERATE, ImageRandomization, apply, sample

SIZE = (128, 128)
STRONG = {
    "defocus": 1.5,
    "motion_blur": 5.0,
    "rolling_shutter": 6.0,
    "exposure": 0.7,
    "red": 0.3,
    "blue": -0.3,
    "shot_noise": 8.0,
    "read_noise": 6.0,
    "fixed_pattern": 6.0,
    "row_noise": 6.0,
    "gamma": 0.5,
    "compression": 80.0,
}
"""Every effect that changes a single image."""


def rng(seed=0):
    return np.random.default_rng(seed)


def picture():
    """A picture with edges, slopes and colours."""
    rows, columns = np.indices(SIZE)
    image = np.stack([rows + 60, columns + 60, 255 - rows], axis=-1)
    image[40:80, 50:90] = [200, 60, 40]
    image[90:, ::8] = 30
    image[100::8, :40] = 220
    return image.clip(0, 255).astype(np.uint8)


def gray(level):
    return np.full((*SIZE, 3), level, np.uint8)


def with_only(seed=0, **values):
    ranges = ImageRandomization(**{name: (value, value) for name, value in values.items()})
    return sample(ranges, SIZE, rng(seed))


def sharpness(image):
    return np.abs(np.diff(image.astype(float), axis=0)).sum() + np.abs(np.diff(image.astype(float), axis=1)).sum()


def test_zero_ranges_are_the_identity_to_the_bit():
    image = rng().integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    effects = sample(ImageRandomization(), SIZE, rng())
    for frame in range(3):
        np.testing.assert_array_equal(apply(image, effects, rng(), frame=frame, previous=gray(0)), image)


@pytest.mark.parametrize("name", STRONG)
def test_every_effect_changes_the_image_and_spares_the_input(name):
    image = picture()
    changed = apply(image, with_only(**{name: STRONG[name]}), rng(), frame=1)
    assert changed.shape == image.shape and changed.dtype == np.uint8
    assert np.abs(changed.astype(int) - image).mean() > 0.3
    np.testing.assert_array_equal(image, picture())


@pytest.mark.parametrize("name", [entry.name for entry in dataclasses.fields(ImageRandomization)])
def test_ranges_are_drawn_between_their_ends(name):
    low, high = getattr(MODERATE, name)
    drawn = [sample(MODERATE, (8, 8), generator).strength[name] for generator in map(rng, range(200))]
    assert low <= min(drawn) and max(drawn) <= high
    assert min(drawn) < low + 0.1 * (high - low) and max(drawn) > high - 0.1 * (high - low)


def test_a_range_does_not_change_the_draws_of_the_others():
    full = sample(MODERATE, SIZE, rng(3)).strength
    less = sample(dataclasses.replace(MODERATE, defocus=(0.0, 0.0), row_noise=(0.0, 0.0)), SIZE, rng(3)).strength
    assert {name: value for name, value in full.items() if name not in ("defocus", "row_noise")} == {
        name: value for name, value in less.items() if name not in ("defocus", "row_noise")
    }


def test_a_seed_repeats_everything():
    runs = [
        [apply(picture(), sample(MODERATE, SIZE, rng(5)), generator, frame=i) for i in range(3)]
        for generator in (rng(7), rng(7), rng(8))
    ]
    assert all(np.array_equal(a, b) for a, b in zip(runs[0], runs[1], strict=True))
    assert not np.array_equal(runs[0][0], runs[2][0])


# Each effect by its physics


def test_a_stop_more_is_twice_the_light():
    assert (apply(gray(50), with_only(exposure=1.0), rng()) == 100).all()
    assert (apply(gray(50), with_only(exposure=-1.0), rng()) == 25).all()
    assert (apply(gray(200), with_only(exposure=1.0), rng()) == 255).all()


def test_white_balance_tints():
    assert apply(gray(100), with_only(red=0.2, blue=-0.1), rng())[0, 0].tolist() == [120, 100, 90]


def test_gamma_keeps_black_and_white():
    image = np.stack([gray(0), gray(128), gray(255)])
    black, middle, white = (apply(i, with_only(gamma=1.0), rng())[0, 0, 0] for i in image)
    assert (black, middle, white) == (0, 64, 255)


def test_read_noise_has_its_deviation_everywhere():
    for level in (60, 180):
        noise = apply(gray(level), with_only(read_noise=5.0), rng()).astype(float) - level
        assert noise.std() == pytest.approx(5.0, rel=0.05) and abs(noise.mean()) < 0.1


def test_shot_noise_grows_with_the_root_of_brightness():
    noise = [apply(gray(v), with_only(shot_noise=8.0), rng()).astype(float).std() for v in (40, 160)]
    assert noise[1] == pytest.approx(2.0 * noise[0], rel=0.05)
    assert noise[1] == pytest.approx(8.0 * np.sqrt(160.0 / 255.0), rel=0.05)


def test_noise_is_new_in_every_frame_and_a_fixed_pattern_is_not():
    generator = rng()
    fixed, fresh = with_only(fixed_pattern=5.0), with_only(read_noise=5.0)
    np.testing.assert_array_equal(apply(gray(99), fixed, generator), apply(gray(99), fixed, generator, frame=1))
    assert not np.array_equal(apply(gray(99), fresh, generator), apply(gray(99), fresh, generator, frame=1))
    assert not np.array_equal(apply(gray(99), with_only(1, fixed_pattern=5.0), generator),
                              apply(gray(99), fixed, generator))  # fmt: skip


def test_row_noise_is_stripes_that_roll():
    effects = with_only(row_noise=6.0, row_speed=3.0)
    first, second = (apply(gray(120), effects, rng(), frame=frame) for frame in (0, 1))
    assert (first == first[:, :1, :1]).all()  # a row has one value
    assert first[:, 0, 0].astype(float).std() == pytest.approx(6.0, rel=0.3)
    np.testing.assert_array_equal(second, np.roll(first, 3, axis=0))


def test_blur_keeps_the_light_and_takes_edges():
    for effects in (with_only(defocus=2.0), with_only(motion_blur=7.0)):
        blurred = apply(picture(), effects, rng())
        assert sharpness(blurred) < 0.8 * sharpness(picture())
        assert blurred.mean() == pytest.approx(picture().mean(), rel=0.01)


def test_motion_blur_is_as_long_as_it_says():
    dot = gray(0)
    dot[64, 64] = 255
    effects = with_only(motion_blur=9.0)
    rows, columns, _ = np.nonzero(apply(dot, effects, rng()) > 10)
    length = np.hypot(np.ptp(rows), np.ptp(columns))
    assert 7.0 <= length <= 10.5
    assert effects.streak.sum() == pytest.approx(1.0)


def test_a_rolling_shutter_shears_by_at_most_what_it_says():
    image = gray(0)
    image[:, 64:] = 255
    effects = with_only(rolling_shutter=6.0)
    edges = [(apply(image, effects, rng(), frame=i)[..., 0] < 128).sum(axis=1) for i in range(40)]
    lean = np.array([int(edge[-1]) - int(edge[0]) for edge in edges])
    assert 4 <= np.abs(lean).max() <= 6
    assert lean.min() < 0 < lean.max()  # a camera that vibrates leans both ways
    assert all(abs(int(edge[64]) - 64) <= 1 for edge in edges)


def test_compression_loses_more_with_lower_quality():
    loss = [np.abs(apply(picture(), with_only(compression=c), rng()).astype(int) - picture()).mean() for c in (10, 90)]
    assert 0.0 < loss[0] < loss[1]


def test_colours_keep_their_order_in_compression():
    image = gray(0)
    image[..., 0] = 220
    assert apply(image, with_only(compression=30.0), rng())[64, 64, 0] > 200


def test_dropped_frames_show_the_one_before():
    effects, generator = with_only(drop=0.3), rng()
    held = [bool((apply(gray(9), effects, generator, previous=gray(5)) == 5).all()) for _ in range(1000)]
    assert np.mean(held) == pytest.approx(0.3, abs=0.05)
    assert (apply(gray(9), with_only(drop=1.0), generator) == 9).all()  # the first frame has none before


@pytest.mark.parametrize(
    ("name", "value"),
    [("defocus", (-1.0, 0.0)), ("drop", (0.0, 1.5)), ("exposure", (1.0, -1.0)), ("red", (0.0, np.nan))],
)
def test_senseless_ranges_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=name):
        ImageRandomization(**{name: value})


def test_the_whole_chain_takes_less_than_two_milliseconds():
    image, generator = picture(), rng()
    effects = with_only(**STRONG)
    times = []
    for frame in range(60):
        start = time.thread_time()
        apply(image, effects, generator, frame=frame)
        times.append(time.thread_time() - start)
    assert min(times) < 2e-3
