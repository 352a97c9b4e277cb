"""Joint-space dynamics against laws of mechanics and an independent library."""

import numpy as np
import pytest
import torch

from hardware.dynamics import bias_torques, gravity_torques, lumped_links, mass_matrix
from hardware.kinematics import forward_kinematics, link_frames, link_transforms
from hardware.urdf import to_urdf
from policies import rotation


def test_dynamics_agree_with_pinocchio(arm, random_angles):
    pinocchio = pytest.importorskip("pinocchio")
    whole = pinocchio.buildModelFromXML(to_urdf(arm))
    rest = pinocchio.neutral(whole)
    rest[arm.num_joints :] = arm.gripper.max_width / 4  # each finger, half open
    fingers = [whole.getJointId(name) for name in ("finger_left", "finger_right")]
    model = pinocchio.buildReducedModel(whole, fingers, rest)
    model.armature = arm.armature
    data, rng = model.createData(), np.random.default_rng(1)
    for q in random_angles(arm, 10):
        qd = rng.normal(size=arm.num_joints)
        upper = np.triu(pinocchio.crba(model, data, q))
        np.testing.assert_allclose(mass_matrix(arm, q), upper + np.triu(upper, 1).T, atol=1e-9)
        np.testing.assert_allclose(bias_torques(arm, q, qd), pinocchio.nle(model, data, q, qd), atol=1e-9)
        gravity = pinocchio.computeGeneralizedGravity(model, data, q)
        np.testing.assert_allclose(gravity_torques(arm, q), gravity, atol=1e-9)


def test_gravity_is_the_bias_at_rest_and_vanishes_without_gravity(arm, random_angles):
    q = random_angles(arm, 5)
    still = np.zeros_like(q)
    np.testing.assert_allclose(bias_torques(arm, q, still), gravity_torques(arm, q), atol=1e-10)
    assert np.abs(gravity_torques(arm, q)).max() > 1.0
    np.testing.assert_array_equal(gravity_torques(arm, q, gravity=(0, 0, 0)), still)
    # Mounted on a wall the first joint, vertical before, must carry too.
    assert np.abs(gravity_torques(arm, q)[:, 0]).max() < 1e-10
    assert np.abs(gravity_torques(arm, q, gravity=(9.81, 0, 0))[:, 0]).max() > 1.0


def test_gravity_is_the_slope_of_the_potential_energy(arm, random_angles):
    q, step, gripper = random_angles(arm), 1e-6, arm.gripper

    def energy(q):
        positions, orientations = link_frames(arm, q)
        positions, orientations = positions[..., 1:, :], orientations[..., 1:, :]
        heights = (positions + rotation.rotate(orientations, arm.link_centers))[..., 2]
        hand = rotation.multiply(arm.flange_orientation, rotation.from_yaw(np.asarray(gripper.mount_yaw)))
        between_fingers = np.array([0.0, 0.0, gripper.finger_root + gripper.finger_size[2]])
        moment = gripper.mass * gripper.center_of_mass + 2 * gripper.finger_mass * between_fingers
        mass = gripper.mass + 2 * gripper.finger_mass
        center = arm.flange_position + rotation.rotate(hand, moment / mass)
        hand_height = (positions[..., -1, :] + rotation.rotate(orientations[..., -1, :], center))[..., 2]
        return 9.81 * (heights @ arm.link_masses + mass * hand_height)

    changes = step * np.eye(arm.num_joints)
    slope = (energy(q + changes) - energy(q - changes)) / (2 * step)
    np.testing.assert_allclose(gravity_torques(arm, q), slope, atol=1e-6)


def test_a_payload_weighs_at_the_tool(arm, random_angles):
    q = random_angles(arm, 3)
    masses = np.array([0.0, 1.0, 3.0])
    extra = gravity_torques(arm, q, masses) - gravity_torques(arm, q)
    linear = forward_kinematics(arm, q).jacobian[:, :3]
    weight = masses[:, None] * np.array([0.0, 0.0, 9.81])
    np.testing.assert_allclose(extra, np.einsum("bij,bi->bj", linear, weight), atol=1e-10)


def test_the_mass_matrix_is_symmetric_and_positive(arm, random_angles):
    matrices = mass_matrix(arm, random_angles(arm, 20))
    np.testing.assert_allclose(matrices, np.swapaxes(matrices, -1, -2), atol=1e-14)
    assert np.linalg.eigvalsh(matrices).min() >= arm.armature.min()


def test_kinetic_energy_is_that_of_the_links(arm, random_angles):
    """Half m v² + w I w of every body, velocities by finite differences: no use of the algorithm under test."""
    q, step = random_angles(arm), 1e-6
    qd = np.random.default_rng(2).normal(size=arm.num_joints)
    masses, centers, inertias = lumped_links(arm)
    before, now, after = (link_transforms(arm, q + sign * step * qd) for sign in (-1, 0, 1))
    energy = 0.5 * qd @ (arm.armature * qd)
    for k in range(arm.num_joints):
        center = np.append(centers[k], 1.0)
        velocity = ((after[k] - before[k]) @ center / (2 * step))[:3]
        spin = now[k, :3, :3].T @ (after[k, :3, :3] - before[k, :3, :3]) / (2 * step)
        rates = np.array([spin[2, 1], spin[0, 2], spin[1, 0]])
        energy += 0.5 * masses[k] * velocity @ velocity + 0.5 * rates @ inertias[k] @ rates
    np.testing.assert_allclose(0.5 * qd @ mass_matrix(arm, q) @ qd, energy, rtol=1e-7)
    assert masses.sum() == pytest.approx(arm.link_masses.sum() + arm.gripper.mass + 2 * arm.gripper.finger_mass)


def test_coriolis_forces_do_no_work_beyond_the_change_of_inertia(arm, random_angles):
    """The matrix dM/dt - 2 C is skew-symmetric (Featherstone 2008): qd·C qd = half qd·dM/dt qd."""
    rng, step = np.random.default_rng(5), 1e-6
    for q in random_angles(arm, 5):
        qd = rng.normal(size=arm.num_joints)
        change = (mass_matrix(arm, q + step * qd) - mass_matrix(arm, q - step * qd)) / (2 * step)
        power = qd @ bias_torques(arm, q, qd, gravity=(0, 0, 0))
        np.testing.assert_allclose(power, 0.5 * qd @ change @ qd, atol=1e-7)


def test_a_free_arm_keeps_its_energy(arm):
    """Released without torque and friction: kinetic energy gained is the work of gravity, over 0.2 s."""
    q, qd = arm.home.copy(), np.full(arm.num_joints, 0.2)
    dt, work = 1e-3, 0.0

    def rates(q, qd):
        return qd, np.linalg.solve(mass_matrix(arm, q), -bias_torques(arm, q, qd)), -qd @ gravity_torques(arm, q)

    start = 0.5 * qd @ mass_matrix(arm, q) @ qd
    for _ in range(200):
        k1 = rates(q, qd)
        k2 = rates(q + 0.5 * dt * k1[0], qd + 0.5 * dt * k1[1])
        k3 = rates(q + 0.5 * dt * k2[0], qd + 0.5 * dt * k2[1])
        k4 = rates(q + dt * k3[0], qd + dt * k3[1])
        q, qd, work = (
            value + dt / 6 * (a + 2 * b + 2 * c + d)
            for value, a, b, c, d in zip((q, qd, work), k1, k2, k3, k4, strict=True)
        )
    gained = 0.5 * qd @ mass_matrix(arm, q) @ qd - start
    assert work > 1.0
    np.testing.assert_allclose(gained, work, rtol=1e-8)


def test_batches_and_torch_give_what_single_samples_give(arm, random_angles):
    q = random_angles(arm, 2, 3)
    qd = np.random.default_rng(6).normal(size=q.shape)
    functions = (
        lambda q, qd: gravity_torques(arm, q, 0.5),
        lambda q, qd: bias_torques(arm, q, qd),
        lambda q, qd: mass_matrix(arm, q),
    )
    for function in functions:
        batch = function(q, qd)
        tensors = function(torch.as_tensor(q), torch.as_tensor(qd))
        assert isinstance(tensors, torch.Tensor)
        np.testing.assert_allclose(tensors, batch, atol=1e-12)
        for index in np.ndindex(q.shape[:-1]):
            np.testing.assert_allclose(batch[index], function(q[index], qd[index]), atol=1e-12)
