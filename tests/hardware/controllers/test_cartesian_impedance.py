"""Cartesian impedance: its law, its bounds, its nullspace, the limits of torques."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.controllers.cartesian_impedance import (
    ImpedanceGains,
    cartesian_impedance,
    impedance_arrays,
    pose_error,
    saturate,
)
from hardware.kinematics import ArmKinematics, forward_kinematics
from policies import rotation

SINGULAR = {
    "elbow stretched": [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    "shoulder": [0.3, 0.0, 1.5707963, -1.5, 0.2, 1.0, 0.5],
    "overhead": [0.0, 0.0, 0.0, 0.0, 0.0, 1.5707963, 0.0],
}


def pose(kinematics, shift=0.0, turn=None):
    orientation = kinematics.tool_orientation
    if turn is not None:
        orientation = rotation.multiply(rotation.from_rotation_vector(turn), orientation)
    return np.concatenate([kinematics.tool_position + shift, orientation], axis=-1)


def to_torch(kinematics):
    return ArmKinematics(*(torch.from_numpy(np.ascontiguousarray(a)) for a in vars(kinematics).values()))


def tool_wrench(jacobian, torques):
    """The wrench at the tool that these torques hold in equilibrium, by least squares: (J⁺)ᵀ τ."""
    return np.linalg.pinv(jacobian).swapaxes(-1, -2) @ torques[..., None]


@given(st.integers(0, 10_000), st.floats(1e-9, 3.1))
@settings(max_examples=50, deadline=None)
def test_rotation_error_is_the_shortest_rotation_vector_whatever_the_quaternions_signs(seed, angle):
    rng = np.random.default_rng(seed)
    actual = rotation.normalize(rng.normal(size=4))
    axis = rng.normal(size=3)
    vector = angle * axis / np.linalg.norm(axis)
    target = rotation.multiply(rotation.from_rotation_vector(vector), actual)
    for sign in (1.0, -1.0):
        error = pose_error(np.concatenate([[1.0, 2.0, 3.0], sign * target]), np.array([0.5, 2.0, 4.0]), actual)
        np.testing.assert_allclose(error[:3], [0.5, 0.0, -1.0])
        np.testing.assert_allclose(error[3:], vector, atol=1e-12)


def test_no_rotation_and_half_a_turn_are_finite():
    identity = np.array([1.0, 0.0, 0.0, 0.0])
    for target, angle in (([1.0, 0.0, 0.0, 0.0], 0.0), ([0.0, 0.0, 1.0, 0.0], np.pi)):
        error = pose_error(np.array([0.0, 0.0, 0.0, *target]), np.zeros(3), identity)
        assert np.linalg.norm(error[3:]) == pytest.approx(angle)


def test_small_errors_make_the_forces_of_springs(panda, postures):
    q = postures(20)
    kinematics = forward_kinematics(panda, q)
    shift, turn = np.array([0.004, -0.003, 0.005]), np.array([0.03, 0.02, -0.04])
    gains = ImpedanceGains(
        translational_stiffness=(500.0, 1000.0, 2000.0), rotational_stiffness=(50.0, 100.0, 200.0),
        nullspace_stiffness=0.0, nullspace_damping=0.0,
    )  # fmt: skip
    target = pose(kinematics, shift, np.broadcast_to(turn, (20, 3)))
    torques = cartesian_impedance(kinematics, q, np.zeros_like(q), target, None, gains, panda.home)
    expected = np.array([2.0, -3.0, 10.0, 1.5, 2.0, -8.0])
    np.testing.assert_allclose(tool_wrench(kinematics.jacobian, torques)[..., 0], [expected] * 20, rtol=1e-6)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_force_is_bounded_per_axis_and_per_sign_however_far_the_target_is(panda, postures, sign):
    lower, upper = (-0.002, -0.01, -0.005, -0.1, -0.05, -0.2), (0.0075, 0.0, 0.0055, 0.2, 0.1, 0.15)
    gains = ImpedanceGains(clip_lower=lower, clip_upper=upper, nullspace_stiffness=0.0)
    q = postures(20, seed=1)
    kinematics = forward_kinematics(panda, q)
    turn = np.broadcast_to(sign * np.array([0.5, 0.5, 0.5]), (20, 3))
    twist = sign * np.full((20, 6), 3.0)
    torques = cartesian_impedance(
        kinematics, q, np.zeros_like(q), pose(kinematics, sign * 5.0, turn), twist, gains, panda.home
    )
    bound = np.array([2000.0] * 3 + [150.0] * 3) * (upper if sign > 0 else lower)
    np.testing.assert_allclose(tool_wrench(kinematics.jacobian, torques)[..., 0], [bound] * 20, atol=1e-6)


def test_a_tool_that_moves_with_its_reference_feels_nothing(panda, postures):
    q = postures(1, seed=2)[0]
    qd = np.array([0.1, -0.05, 0.08, 0.1, 0.0, -0.1, 0.05])
    kinematics = forward_kinematics(panda, q)
    twist = kinematics.jacobian @ qd
    gains = ImpedanceGains(nullspace_stiffness=0.0, nullspace_damping=0.0)
    torques = cartesian_impedance(kinematics, q, qd, pose(kinematics), twist, gains, panda.home)
    np.testing.assert_allclose(torques, 0.0, atol=1e-9)


def test_an_axis_without_stiffness_has_damping_only(panda):
    q = panda.home
    kinematics = forward_kinematics(panda, q)
    gains = ImpedanceGains(
        translational_stiffness=(0.0, 1000.0, 1000.0), damping=(30.0,) * 3 + (2.0,) * 3, nullspace_stiffness=0.0,
        nullspace_damping=0.0,
    )  # fmt: skip
    qd = np.linalg.pinv(kinematics.jacobian) @ [0.2, 0.0, 0.0, 0.0, 0.0, 0.0]
    far, twist = pose(kinematics, np.array([1.0, 0.0, 0.0])), np.array([1.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    torques = cartesian_impedance(kinematics, q, qd, far, twist, gains, panda.home)
    wrench = tool_wrench(kinematics.jacobian, torques)[:, 0]
    np.testing.assert_allclose(wrench, [-6.0, 0.0, 0.0, 0.0, 0.0, 0.0], atol=1e-9)


def test_nullspace_torque_makes_no_force_at_the_tool_but_moves_the_posture(panda, postures):
    gains = impedance_arrays(
        ImpedanceGains(translational_stiffness=(0.0,) * 3, rotational_stiffness=(0.0,) * 3), panda.home
    )
    q = postures(200, seed=3)
    qd = np.random.default_rng(3).normal(size=q.shape) * 0.3
    kinematics = forward_kinematics(panda, q)
    torques = cartesian_impedance(kinematics, q, qd, pose(kinematics), None, gains, panda.home)
    asked = np.clip(panda.home - q, -0.5, 0.5) * 10.0 - 2.0 * qd
    leaked = np.linalg.norm(tool_wrench(kinematics.jacobian, torques)[..., 0], axis=-1)
    unprojected = np.linalg.norm(tool_wrench(kinematics.jacobian, asked)[..., 0], axis=-1)
    assert np.all(leaked < 0.05)
    assert np.median(leaked / unprojected) < 2e-3
    # The projector only takes away: what is left works in the direction that was asked for.
    assert np.all(np.sum(torques * asked, axis=-1) > 0.0)
    assert np.all(np.linalg.norm(torques, axis=-1) <= np.linalg.norm(asked, axis=-1) + 1e-9)


@pytest.mark.parametrize("name", SINGULAR)
def test_torques_stay_finite_bounded_and_smooth_at_singular_configurations(panda, name):
    q = np.array(SINGULAR[name])
    rng = np.random.default_rng(0)
    around = np.concatenate([[q], q + 1e-9 * rng.normal(size=(20, 7)), q + 1e-4 * rng.normal(size=(20, 7))])
    assert np.linalg.svd(forward_kinematics(panda, q).jacobian)[1][-1] < 2e-3
    kinematics = forward_kinematics(panda, around)
    qd = np.full((41, 7), 0.5)
    target = pose(kinematics, 1.0, np.broadcast_to([0.3, -1.0, 0.5], (41, 3)))
    torques = cartesian_impedance(kinematics, around, qd, target, np.ones((41, 6)), ImpedanceGains(), panda.home)
    assert np.all(np.isfinite(torques))
    assert np.abs(torques).max() < 150.0
    assert np.abs(torques[1:21] - torques[0]).max() < 1e-3
    assert np.abs(torques[21:] - torques[0]).max() < 2.0


def test_batch_single_and_torch_agree(panda, postures):
    q = postures(32, seed=4, spread=1.0)
    rng = np.random.default_rng(4)
    qd, twist = rng.normal(size=q.shape) * 0.5, rng.normal(size=(32, 6)) * 0.3
    kinematics = forward_kinematics(panda, q)
    target = pose(kinematics, rng.normal(size=(32, 3)) * 0.02, rng.normal(size=(32, 3)))
    gains = impedance_arrays(ImpedanceGains(), q)
    batch = cartesian_impedance(kinematics, q, qd, target, twist, gains, panda.home)
    for i in range(32):
        alone = ArmKinematics(*(a[i] for a in vars(kinematics).values()))
        single = cartesian_impedance(alone, q[i], qd[i], target[i], twist[i], gains, panda.home)
        np.testing.assert_allclose(single, batch[i], rtol=1e-10, atol=1e-10)
    tensors = [torch.from_numpy(a) for a in (q, qd, target, twist)]
    arrays = impedance_arrays(ImpedanceGains(), tensors[0])
    theirs = cartesian_impedance(to_torch(kinematics), *tensors, arrays, torch.from_numpy(panda.home))
    np.testing.assert_allclose(theirs.numpy(), batch, rtol=1e-9, atol=1e-9)
    floats = [t.float() for t in tensors]
    kinematics = ArmKinematics(*(a.float() for a in vars(to_torch(kinematics)).values()))
    arrays = impedance_arrays(ImpedanceGains(), floats[0])
    single_precision = cartesian_impedance(kinematics, *floats, arrays, torch.from_numpy(panda.home).float())
    assert single_precision.dtype == torch.float32
    np.testing.assert_allclose(single_precision.numpy(), batch, atol=0.05)


def test_a_row_that_is_no_number_leaves_the_others_alone(panda, postures):
    q = postures(3)
    kinematics = forward_kinematics(panda, q)
    target = pose(kinematics, 0.01)
    good = cartesian_impedance(kinematics, q, 0.1 * q, target, None, ImpedanceGains(), panda.home)
    q = q.copy()
    q[1] = np.nan
    bad = cartesian_impedance(forward_kinematics(panda, q), q, 0.1 * q, target, None, ImpedanceGains(), panda.home)
    assert np.all(np.isnan(bad[1]))
    np.testing.assert_array_equal(bad[[0, 2]], good[[0, 2]])


def test_gains_may_differ_between_environments(panda):
    q = np.broadcast_to(panda.home, (3, 7))
    kinematics = forward_kinematics(panda, q)
    arrays = impedance_arrays(ImpedanceGains(nullspace_stiffness=0.0), q, stiffness=np.array([0.5, 1.0, 2.0]))
    torques = cartesian_impedance(kinematics, q, np.zeros((3, 7)), pose(kinematics, 0.001), None, arrays, panda.home)
    force = tool_wrench(kinematics.jacobian, torques)[:, :3, 0]
    np.testing.assert_allclose(force, [[1.0] * 3, [2.0] * 3, [4.0] * 3], rtol=1e-4)


def test_an_arm_of_six_joints_needs_no_nullspace(panda):
    kinematics = forward_kinematics(panda, panda.home)
    six = ArmKinematics(kinematics.tool_position, kinematics.tool_orientation, kinematics.jacobian[:, :6])
    torques = cartesian_impedance(
        six, panda.home[:6], np.zeros(6), pose(six, 0.01), None, ImpedanceGains(), np.zeros(6)
    )
    np.testing.assert_allclose(torques, six.jacobian.T @ [20.0, 20.0, 20.0, 0.0, 0.0, 0.0], atol=1e-9)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"clip_lower": (0.01, -0.1, -0.1, -0.1, -0.1, -0.1)}, "lower bounds must be at most 0"),
        ({"translational_stiffness": (-1.0, 0.0, 0.0)}, "not negative"),
        ({"nullspace_regularization": 0.0}, "must be positive"),
    ],
)
def test_senseless_gains_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        ImpedanceGains(**change)


@given(st.integers(0, 10_000), st.floats(1e-4, 0.01), st.floats(0.1, 1e6))
@settings(max_examples=50, deadline=None)
def test_saturation_keeps_both_limits_for_any_sequence(seed, dt, size):
    rng = np.random.default_rng(seed)
    limit, rate = rng.uniform(5.0, 90.0, 7), rng.uniform(100.0, 2000.0, 7)
    previous = np.zeros((4, 7))
    for _ in range(20):
        now = saturate(size * rng.normal(size=(4, 7)), previous, limit, rate, dt)
        assert np.all(np.abs(now) <= limit)
        assert np.all(np.abs(now - previous) <= rate * dt * (1.0 + 1e-9) + 1e-12)
        previous = now


def test_saturation_leaves_small_changes_alone_and_takes_large_ones_as_far_as_allowed():
    limit, rate = np.array([10.0, 10.0]), np.array([1000.0, np.inf])
    np.testing.assert_allclose(saturate(np.array([0.5, -0.5]), np.zeros(2), limit, rate, 0.001), [0.5, -0.5])
    np.testing.assert_allclose(saturate(np.array([5.0, -50.0]), np.zeros(2), limit, rate, 0.001), [1.0, -10.0])
