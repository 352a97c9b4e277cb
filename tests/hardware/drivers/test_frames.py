"""ENU/FLU ↔ NED/FRD: involutions, known attitudes, and that vectors and quaternions agree."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hardware.drivers import frames
from policies import rotation

numbers = st.floats(-100.0, 100.0)
vectors = arrays(np.float64, (3,), elements=numbers)
quaternions = (
    arrays(np.float64, (4,), elements=st.floats(-1.0, 1.0))
    .filter(lambda q: np.linalg.norm(q) > 1e-2)
    .map(rotation.normalize)
)


@settings(deadline=None)
@given(vectors)
def test_swapping_vectors_twice_changes_nothing(vector):
    np.testing.assert_array_equal(frames.swap_world(frames.swap_world(vector)), vector)
    np.testing.assert_array_equal(frames.swap_body(frames.swap_body(vector)), vector)


@settings(deadline=None)
@given(quaternions)
def test_swapping_orientations_twice_is_the_same_rotation(quaternion):
    again = frames.swap_orientation(frames.swap_orientation(quaternion))
    assert abs(np.dot(again, quaternion)) == pytest.approx(1.0, abs=1e-12)


@settings(deadline=None)
@given(quaternions, vectors)
def test_a_body_vector_points_the_same_way_in_both_conventions(quaternion, vector):
    """Rotate in FLU/ENU and convert, or convert and rotate in FRD/NED: the same arrow in the sky."""
    here = frames.swap_world(rotation.rotate(quaternion, vector))
    there = rotation.rotate(frames.swap_orientation(quaternion), frames.swap_body(vector))
    np.testing.assert_allclose(here, there, atol=1e-9)


@settings(deadline=None)
@given(st.floats(-10.0, 10.0))
def test_headings_agree_with_orientations(yaw):
    there = rotation.yaw_of(frames.swap_orientation(rotation.from_yaw(np.array(yaw))))
    assert math.remainder(float(there) - float(frames.swap_yaw(np.array(yaw))), 2 * math.pi) == pytest.approx(
        0, abs=1e-9
    )
    back = frames.swap_yaw(frames.swap_yaw(np.array(yaw)))
    assert math.remainder(float(back) - yaw, 2 * math.pi) == pytest.approx(0.0, abs=1e-9)


@settings(deadline=None)
@given(quaternions)
def test_tilt_is_the_same_in_both(quaternion):
    """FRD's down against NED's down is FLU's up against ENU's up."""
    there = rotation.tilt_of(frames.swap_orientation(quaternion))
    assert float(there) == pytest.approx(float(rotation.tilt_of(quaternion)), abs=1e-6)


def test_known_attitudes():
    """Level facing north is no rotation for an autopilot and 90° of yaw here; a right roll is positive there."""
    north = rotation.from_yaw(np.array(0.5 * math.pi))
    np.testing.assert_allclose(frames.swap_orientation(north), [1, 0, 0, 0], atol=1e-12)
    east = frames.swap_orientation(np.array([1.0, 0, 0, 0]))
    np.testing.assert_allclose(east, [math.sqrt(0.5), 0, 0, math.sqrt(0.5)], atol=1e-12)
    # Right wing down by 0.2 rad, facing north: +0.2 about the nose, which is x in both body frames.
    rolled = rotation.multiply(north, rotation.from_rotation_vector(np.array([0.2, 0.0, 0.0])))
    np.testing.assert_allclose(
        rotation.to_rotation_vector(frames.swap_orientation(rolled)), [0.2, 0.0, 0.0], atol=1e-12
    )
    # Nose up by 0.2 rad is -0.2 about left, +0.2 about right.
    pitched = rotation.multiply(north, rotation.from_rotation_vector(np.array([0.0, -0.2, 0.0])))
    np.testing.assert_allclose(
        rotation.to_rotation_vector(frames.swap_orientation(pitched)), [0.0, 0.2, 0.0], atol=1e-12
    )
    np.testing.assert_array_equal(frames.swap_world(np.array([1.0, 2.0, 3.0])), [2.0, 1.0, -3.0])


def test_batches_and_torch_take_the_same_path():
    torch = pytest.importorskip("torch")
    batch = rotation.normalize(np.random.default_rng(0).normal(size=(5, 7, 4)))
    one = np.stack([frames.swap_orientation(q) for q in batch.reshape(-1, 4)]).reshape(batch.shape)
    np.testing.assert_allclose(frames.swap_orientation(batch), one)
    np.testing.assert_allclose(frames.swap_orientation(torch.as_tensor(batch)).numpy(), one)
    np.testing.assert_allclose(
        frames.swap_world(torch.as_tensor(batch[..., :3])).numpy(), frames.swap_world(batch[..., :3])
    )
