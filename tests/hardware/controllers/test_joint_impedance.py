"""Joint impedance: springs with bounded pull."""

import numpy as np
import torch

from hardware.controllers.joint_impedance import JointImpedanceGains, joint_impedance, joint_impedance_arrays

LIMIT = np.array([87.0, 87.0, 12.0])


def test_small_errors_make_springs_and_dampers():
    gains = joint_impedance_arrays(JointImpedanceGains(stiffness=(100.0, 50.0, 10.0), damping=(10.0, 5.0, 1.0)), LIMIT)
    q, qd = np.array([0.1, 0.2, -0.1]), np.array([1.0, -1.0, 0.5])
    torques = joint_impedance(q, qd, np.zeros(3), None, gains)
    np.testing.assert_allclose(torques, [-10.0 - 10.0, -10.0 + 5.0, 1.0 - 0.5])
    with_feedforward = joint_impedance(q, qd, np.zeros(3), None, gains, feedforward=np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(with_feedforward - torques, [1.0, 2.0, 3.0])


def test_no_reference_pulls_with_more_than_stiffness_times_clip():
    gains = joint_impedance_arrays(JointImpedanceGains(stiffness=(100.0, 50.0, 10.0), clip=0.2), LIMIT)
    for sign in (1.0, -1.0):
        torques = joint_impedance(np.zeros(3), np.zeros(3), np.full(3, sign * 9.0), np.full(3, sign * 9.0), gains)
        np.testing.assert_allclose(torques, sign * np.array([20.0, 10.0, 2.0]))


def test_joints_that_move_with_their_reference_feel_nothing():
    gains = joint_impedance_arrays(JointImpedanceGains(), LIMIT)
    q, qd = np.array([0.1, 0.2, 0.3]), np.array([0.5, -1.0, 2.0])
    np.testing.assert_allclose(joint_impedance(q, qd, q, qd, gains), 0.0, atol=1e-12)


def test_default_gains_follow_the_torque_limits_and_scale_per_environment():
    nominal = joint_impedance_arrays(JointImpedanceGains(), LIMIT)
    np.testing.assert_allclose(nominal.stiffness, 7.0 * LIMIT)
    np.testing.assert_allclose(nominal.damping, 0.56 * LIMIT)
    scaled = joint_impedance_arrays(JointImpedanceGains(), LIMIT, stiffness=np.array([1.0, 2.0]), damping=np.array(3.0))
    np.testing.assert_allclose(scaled.stiffness, [7.0 * LIMIT, 14.0 * LIMIT])
    np.testing.assert_allclose(scaled.lead, [np.full(3, 0.24), np.full(3, 0.12)])


def test_numpy_equals_torch():
    rng = np.random.default_rng(0)
    q, qd, q_ref, qd_ref = rng.normal(size=(4, 10, 3)) * 0.2
    ours = joint_impedance(q, qd, q_ref, qd_ref, joint_impedance_arrays(JointImpedanceGains(), LIMIT))
    arrays = joint_impedance_arrays(JointImpedanceGains(), torch.from_numpy(LIMIT))
    theirs = joint_impedance(*(torch.from_numpy(a) for a in (q, qd, q_ref, qd_ref)), arrays)
    np.testing.assert_allclose(theirs.numpy(), ours)
