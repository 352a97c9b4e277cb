"""Quaternions against the matrix exponential, an independent definition of a rotation."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from policies import rotation

RNG = np.random.default_rng(0)
VECTORS = np.concatenate(
    [
        RNG.normal(size=(200, 3)) * RNG.uniform(0.0, math.pi, (200, 1)),
        [[0.0, 0.0, 0.0], [1e-13, 0.0, 0.0], [1e-8, -1e-8, 0.0], [math.pi, 0.0, 0.0], [0.0, 0.0, -math.pi]],
    ]
)
QUATERNIONS = rotation.from_rotation_vector(VECTORS)


def skew(vectors):
    x, y, z = np.moveaxis(vectors, -1, 0)
    zero = np.zeros_like(x)
    return np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(*x.shape, 3, 3)


def exponential(vectors):
    """Rotation matrices of rotation vectors, by the definition exp([r]x)."""
    return torch.linalg.matrix_exp(torch.as_tensor(skew(vectors))).numpy()


numbers = st.floats(-10.0, 10.0, allow_subnormal=False)
vectors = st.tuples(numbers, numbers, numbers).map(np.array)
angles = st.floats(-math.pi, math.pi)
quaternions = (
    st.tuples(numbers, numbers, numbers, numbers)
    .map(np.array)
    .filter(lambda q: np.linalg.norm(q) > 1e-3)
    .map(rotation.normalize)
)


def test_rotation_vectors_match_the_matrix_exponential():
    np.testing.assert_allclose(rotation.to_matrix(QUATERNIONS), exponential(VECTORS), atol=2e-14)


def test_products_compose_as_matrices_right_one_first():
    left, right = QUATERNIONS, QUATERNIONS[::-1].copy()
    expected = exponential(VECTORS) @ exponential(VECTORS[::-1].copy())
    np.testing.assert_allclose(rotation.to_matrix(rotation.multiply(left, right)), expected, atol=4e-14)


def test_rotate_is_the_matrix_times_the_vector_and_back():
    v = RNG.normal(size=VECTORS.shape)
    expected = np.einsum("nij,nj->ni", exponential(VECTORS), v)
    np.testing.assert_allclose(rotation.rotate(QUATERNIONS, v), expected, atol=2e-14)
    np.testing.assert_allclose(rotation.rotate_inverse(QUATERNIONS, expected), v, atol=4e-14)


def test_conjugate_is_the_inverse():
    identity = rotation.multiply(QUATERNIONS, rotation.conjugate(QUATERNIONS))
    np.testing.assert_allclose(identity, np.broadcast_to([1.0, 0.0, 0.0, 0.0], identity.shape), atol=1e-14)


def test_yaw_is_the_heading_of_the_body_x_axis():
    x_axis = exponential(VECTORS)[..., :, 0]
    level = np.hypot(x_axis[:, 0], x_axis[:, 1]) > 1e-6
    expected = np.arctan2(x_axis[:, 1], x_axis[:, 0])
    difference = rotation.yaw_of(QUATERNIONS) - expected
    np.testing.assert_allclose(np.cos(difference[level]), 1.0, atol=1e-12)


def test_tilt_is_the_angle_between_the_vertical_axes():
    up = exponential(VECTORS)[..., 2, 2]
    np.testing.assert_allclose(np.cos(rotation.tilt_of(QUATERNIONS)), up, atol=1e-13)


@pytest.mark.parametrize(
    ("quaternion", "tilt"),
    [((1.0, 0.0, 0.0, 0.0), 0.0), ((0.0, 1.0, 0.0, 0.0), math.pi), ((0.0, 0.0, 0.0, 1.0), 0.0)],
)
def test_tilt_stays_finite_at_both_ends_despite_rounding(quaternion, tilt):
    for scale in (1.0, 1.0 + 1e-15, 1.0 - 1e-15):
        assert rotation.tilt_of(scale * np.array(quaternion)) == pytest.approx(tilt, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("normalize", (QUATERNIONS * 3.0,)),
        ("multiply", (QUATERNIONS, QUATERNIONS[::-1].copy())),
        ("conjugate", (QUATERNIONS,)),
        ("rotate", (QUATERNIONS, VECTORS)),
        ("rotate_inverse", (QUATERNIONS, VECTORS)),
        ("to_matrix", (QUATERNIONS,)),
        ("yaw_of", (QUATERNIONS,)),
        ("from_yaw", (VECTORS[:, 0],)),
        ("from_rotation_vector", (VECTORS,)),
        ("tilt_of", (QUATERNIONS,)),
    ],
)
def test_numpy_single_numpy_batch_and_torch_give_the_same(name, arguments):
    function = getattr(rotation, name)
    batch = function(*arguments)
    tensors = function(*(torch.as_tensor(a) for a in arguments))
    assert isinstance(tensors, torch.Tensor)
    np.testing.assert_allclose(batch, tensors.numpy(), atol=1e-14)
    for row in (0, 7, -1):
        np.testing.assert_allclose(function(*(a[row] for a in arguments)), batch[row], atol=1e-15)
    single_precision = function(*(a.astype(np.float32) for a in arguments))
    assert single_precision.dtype == np.float32
    twice = function(*(np.stack([a, a]).reshape(2, 1, *a.shape) for a in arguments))
    np.testing.assert_array_equal(twice, np.stack([batch, batch])[:, None])


@settings(max_examples=60, deadline=None)
@given(quaternions, quaternions, vectors)
def test_rotations_keep_lengths_angles_and_handedness(p, q, v):
    np.testing.assert_allclose(np.linalg.norm(rotation.rotate(q, v)), np.linalg.norm(v), atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(rotation.multiply(p, q)), 1.0, atol=1e-14)
    matrix = rotation.to_matrix(q)
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(3), atol=1e-14)
    assert np.linalg.det(matrix) == pytest.approx(1.0, abs=1e-13)


@settings(max_examples=60, deadline=None)
@given(quaternions, vectors)
def test_a_quaternion_and_its_negative_are_one_rotation(q, v):
    np.testing.assert_allclose(rotation.rotate(-q, v), rotation.rotate(q, v), atol=1e-13)
    np.testing.assert_array_equal(rotation.to_matrix(-q), rotation.to_matrix(q))
    np.testing.assert_array_equal(rotation.tilt_of(-q), rotation.tilt_of(q))


@settings(max_examples=60, deadline=None)
@given(angles, quaternions)
def test_a_turn_about_the_vertical_adds_to_the_yaw_and_leaves_the_tilt(angle, q):
    turned = rotation.multiply(rotation.from_yaw(np.array(angle)), q)
    assert rotation.tilt_of(turned) == pytest.approx(float(rotation.tilt_of(q)), abs=1e-6)
    x_axis = rotation.to_matrix(q)[:, 0]
    if np.hypot(x_axis[0], x_axis[1]) > 1e-3:  # the heading of a vertical axis means nothing
        change = rotation.yaw_of(turned) - rotation.yaw_of(q) - angle
        assert math.cos(change) == pytest.approx(1.0, abs=1e-12)


def test_gradients_are_exact_where_a_formula_has_a_removable_singularity():
    small = torch.tensor([[0.0, 0.0, 0.0], [1e-9, 0.0, 0.0], [0.3, -0.2, 0.1]], dtype=torch.float64)
    assert torch.autograd.gradcheck(rotation.from_rotation_vector, (small.requires_grad_(),))
    quaternion = torch.as_tensor(QUATERNIONS[:5]).requires_grad_()
    vector = torch.as_tensor(VECTORS[:5]).requires_grad_()
    assert torch.autograd.gradcheck(rotation.rotate, (quaternion, vector))
    assert torch.autograd.gradcheck(rotation.to_matrix, (quaternion,))
    assert torch.autograd.gradcheck(rotation.yaw_of, (quaternion,))


def rigid_motion(time):
    """Pose of a body that moves and turns: position (3,) and quaternion (4,)."""
    position = np.array([0.3 + np.sin(time), 0.5 * time**2, np.cos(2.0 * time)])
    return position, rotation.from_rotation_vector(np.array([0.7 * time, np.sin(1.3 * time), 0.4 - time]))


def homogeneous(time):
    position, quaternion = rigid_motion(time)
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation.to_matrix(quaternion), position
    return matrix


def twist_of(matrix):
    """(linear, angular) of a 4 by 4 velocity matrix [[ω]×, v]."""
    return np.array([*matrix[:3, 3], matrix[2, 1], matrix[0, 2], matrix[1, 0]])


@pytest.mark.parametrize("time", [0.0, 0.4, 1.7])
def test_the_adjoint_takes_a_body_s_twist_to_the_base(time):
    """Against differences of a moving rigid body: inv(T) dT is its twist in its own frame, dT inv(T) in the base."""
    here, step = homogeneous(time), 1e-5
    change = (homogeneous(time + step) - homogeneous(time - step)) / (2.0 * step)
    own, base = twist_of(np.linalg.inv(here) @ change), twist_of(change @ np.linalg.inv(here))
    position, quaternion = rigid_motion(time)
    matrix = rotation.adjoint(quaternion, position)
    np.testing.assert_allclose(matrix @ own, base, atol=1e-8)
    # With the block on the other side, as published code has it, this does not hold.
    wrong = matrix.copy()
    wrong[:3, 3:], wrong[3:, :3] = 0.0, matrix[:3, 3:]
    assert not np.allclose(wrong @ own, base, atol=0.1)


def test_the_adjoint_couples_rotation_into_translation_and_never_the_other_way():
    position, quaternion = rigid_motion(0.9)
    matrix = rotation.adjoint(quaternion, position)
    turn = rotation.to_matrix(quaternion)
    np.testing.assert_array_equal(matrix[3:, :3], 0.0)
    np.testing.assert_allclose(matrix[:3, 3:], np.cross(position, turn, axisb=0, axisc=0), atol=1e-12)
    straight = matrix @ np.array([0.1, -0.2, 0.3, 0.0, 0.0, 0.0])
    np.testing.assert_array_equal(straight[3:], 0.0)


def test_adjoints_chain_like_poses_in_batches_of_numpy_and_torch():
    first, second = QUATERNIONS[:20], QUATERNIONS[20:40]
    here, there = RNG.normal(size=(20, 3)), RNG.normal(size=(20, 3))
    both = rotation.adjoint(rotation.multiply(first, second), here + rotation.rotate(first, there))
    np.testing.assert_allclose(rotation.adjoint(first, here) @ rotation.adjoint(second, there), both, atol=1e-12)
    tensors = rotation.adjoint(torch.as_tensor(first), torch.as_tensor(here))
    np.testing.assert_allclose(tensors.numpy(), rotation.adjoint(first, here), atol=1e-14)
    np.testing.assert_allclose(rotation.skew(here) @ there[..., None], np.cross(here, there)[..., None], atol=1e-12)
