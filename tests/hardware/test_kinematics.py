"""Forward kinematics and Jacobian against textbook tables, finite differences, autograd and an independent library."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hardware.descriptions import load_arm
from hardware.kinematics import forward_kinematics, joint_motions, link_frames, link_transforms, tool_frame
from hardware.urdf import to_urdf
from policies import rotation

QUARTER = np.pi / 2
# Rows (a, d, alpha) of Craig's modified convention; joint angles come on top.
PANDA = [
    (0, 0.333, 0), (0, 0, -QUARTER), (0, 0.316, QUARTER), (0.0825, 0, QUARTER), (-0.0825, 0.384, -QUARTER),
    (0, 0, QUARTER), (0.088, 0, QUARTER),
]  # fmt: skip
XARM7 = [
    (0, 0.267, 0), (0, 0, -QUARTER), (0, 0.293, QUARTER), (0.0525, 0, QUARTER), (0.0775, 0.3425, QUARTER),
    (0, 0, QUARTER), (0.076, 0.097, -QUARTER),
]  # fmt: skip
# Rows (a, d, alpha) of the original convention.
UR5E = [
    (0, 0.1625, QUARTER), (-0.425, 0, 0), (-0.3922, 0, 0), (0, 0.1333, QUARTER), (0, 0.0997, -QUARTER), (0, 0.0996, 0)
]  # fmt: skip


def about_x(angle):
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1, 0, 0, 0], [0, c, -s, 0], [0, s, c, 0], [0, 0, 0, 1.0]])


def about_z(angle):
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])


def shift(x=0.0, z=0.0):
    transform = np.eye(4)
    transform[[0, 2], 3] = x, z
    return transform


def modified(rows, q):
    transform = np.eye(4)
    for (a, d, alpha), angle in zip(rows, q, strict=True):
        transform = transform @ about_x(alpha) @ shift(x=a) @ about_z(angle) @ shift(z=d)
    return transform


def original(rows, q):
    transform = np.eye(4)
    for (a, d, alpha), angle in zip(rows, q, strict=True):
        transform = transform @ about_z(angle) @ shift(z=d) @ shift(x=a) @ about_x(alpha)
    return transform


TEXTBOOK = {
    # The hand is mounted at -45 degrees; its tool point lies 0.1034 m from the flange.
    "panda": lambda q: modified(PANDA, q) @ shift(z=0.107) @ about_z(-np.pi / 4) @ shift(z=0.1034),
    "fr3": lambda q: modified(PANDA, q) @ shift(z=0.107) @ about_z(-np.pi / 4) @ shift(z=0.1034),
    # ROS's base_link is the controller's base, turned by half a turn.
    "ur5e": lambda q: about_z(np.pi) @ original(UR5E, q) @ shift(z=0.149),
    "xarm7": lambda q: modified(XARM7, q) @ shift(z=0.172),
}


def test_the_tool_is_where_the_textbook_says(arm, random_angles):
    for q in random_angles(arm, 20):
        expected = TEXTBOOK[arm.interface.name](q)
        tool = forward_kinematics(arm, q)
        np.testing.assert_allclose(tool.tool_position, expected[:3, 3], atol=1e-12)
        np.testing.assert_allclose(rotation.to_matrix(tool.tool_orientation), expected[:3, :3], atol=1e-12)


def test_the_pandas_ready_pose():
    """The manufacturer's examples start here, with the tool at (0.307, 0, 0.487)."""
    q = np.array([0, -np.pi / 4, 0, -3 * np.pi / 4, 0, np.pi / 2, np.pi / 4])
    tool = forward_kinematics(load_arm("panda"), q)
    np.testing.assert_allclose(tool.tool_position, [0.3069, 0.0, 0.4869], atol=1e-4)
    np.testing.assert_allclose(tool.tool_orientation, [0.0, 1.0, 0.0, 0.0], atol=1e-9)


def test_frames_and_jacobian_agree_with_pinocchio(arm, random_angles):
    pinocchio = pytest.importorskip("pinocchio")
    model = pinocchio.buildModelFromXML(to_urdf(arm))
    data, n = model.createData(), arm.num_joints
    tool = model.getFrameId("tool")
    for q in random_angles(arm, 10):
        full = np.append(q, [0.01, 0.01])
        jacobian = pinocchio.computeFrameJacobian(model, data, full, tool, pinocchio.LOCAL_WORLD_ALIGNED)
        pinocchio.framesForwardKinematics(model, data, full)
        ours = forward_kinematics(arm, q)
        np.testing.assert_allclose(ours.tool_position, data.oMf[tool].translation, atol=1e-9)
        np.testing.assert_allclose(rotation.to_matrix(ours.tool_orientation), data.oMf[tool].rotation, atol=1e-9)
        np.testing.assert_allclose(ours.jacobian, jacobian[:, :n], atol=1e-9)
        positions, orientations = link_frames(arm, q)
        for k, joint in enumerate(arm.interface.actuators, start=1):
            placement = data.oMi[model.getJointId(joint)]
            np.testing.assert_allclose(positions[k], placement.translation, atol=1e-9)
            np.testing.assert_allclose(rotation.to_matrix(orientations[k]), placement.rotation, atol=1e-9)


def test_the_jacobian_is_the_derivative_of_the_pose(arm, random_angles):
    step = 1e-6
    for q in random_angles(arm, 3):
        tool = forward_kinematics(arm, q)
        for joint in range(arm.num_joints):
            change = np.zeros_like(q)
            change[joint] = step
            after, before = forward_kinematics(arm, q + change), forward_kinematics(arm, q - change)
            linear = (after.tool_position - before.tool_position) / (2 * step)
            turn = rotation.multiply(after.tool_orientation, rotation.conjugate(before.tool_orientation))
            angular = turn[1:] * np.sign(turn[0]) / step  # 2 sin(x/2) = x for a small angle
            np.testing.assert_allclose(tool.jacobian[:, joint], [*linear, *angular], atol=1e-7)


def test_joint_motions_are_the_derivatives_of_the_links(arm, random_angles):
    step = 1e-6
    for q in random_angles(arm, 3):
        transforms = link_transforms(arm, q)
        motions = joint_motions(arm, transforms)
        for joint in range(arm.num_joints):
            change = step * np.eye(arm.num_joints)[joint]
            numeric = (link_transforms(arm, q + change) - link_transforms(arm, q - change)) / (2 * step)
            moved = np.arange(arm.num_joints) >= joint
            np.testing.assert_allclose(numeric[moved, :3], motions[joint] @ transforms[moved], atol=1e-8)
            np.testing.assert_array_equal(numeric[~moved], 0.0)


def test_autograd_gives_the_linear_jacobian(arm, random_angles):
    q = torch.as_tensor(random_angles(arm))
    derivative = torch.autograd.functional.jacobian(lambda q: forward_kinematics(arm, q).tool_position, q)
    np.testing.assert_allclose(derivative, forward_kinematics(arm, q).jacobian[:3], atol=1e-12)


@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (0,)])
def test_batches_and_torch_give_what_single_samples_give(arm, random_angles, shape):
    q = random_angles(arm, *shape)
    n = arm.num_joints
    batch, tensors = forward_kinematics(arm, q), forward_kinematics(arm, torch.as_tensor(q))
    assert batch.tool_position.shape == (*shape, 3)
    assert batch.tool_orientation.shape == (*shape, 4)
    assert batch.jacobian.shape == (*shape, 6, n)
    assert link_transforms(arm, q).shape == (*shape, n, 4, 4)
    assert [part.shape for part in link_frames(arm, q)] == [(*shape, n + 1, 3), (*shape, n + 1, 4)]
    for field in ("tool_position", "tool_orientation", "jacobian"):
        assert isinstance(getattr(tensors, field), torch.Tensor)
        np.testing.assert_allclose(getattr(tensors, field), getattr(batch, field), atol=1e-12)
        for index in np.ndindex(shape):
            single = getattr(forward_kinematics(arm, q[index]), field)
            np.testing.assert_allclose(getattr(batch, field)[index], single, atol=1e-12)


def test_single_precision_stays_single(arm, random_angles):
    q = random_angles(arm, 4)
    tool = forward_kinematics(arm, torch.as_tensor(q, dtype=torch.float32))
    assert {tool.tool_position.dtype, tool.tool_orientation.dtype, tool.jacobian.dtype} == {torch.float32}
    np.testing.assert_allclose(tool.tool_position, forward_kinematics(arm, q).tool_position, atol=1e-5)


def test_whole_numbers_are_refused(arm):
    with pytest.raises(TypeError, match=f"joint angles of '{arm.interface.name}' are int64"):
        forward_kinematics(arm, np.zeros(arm.num_joints, dtype=int))


def test_link_frames_start_at_the_base_and_end_before_the_tool(arm, random_angles):
    q = random_angles(arm, 6)
    positions, orientations = link_frames(arm, q)
    np.testing.assert_array_equal(positions[:, 0], np.zeros((6, 3)))
    np.testing.assert_array_equal(orientations[:, 0], [[1, 0, 0, 0]] * 6)
    np.testing.assert_allclose(np.linalg.norm(orientations, axis=-1), 1.0, atol=1e-12)
    # Links are rigid: joints keep their distance.
    lengths = np.linalg.norm(np.diff(positions, axis=-2), axis=-1)
    np.testing.assert_allclose(lengths, np.broadcast_to(np.linalg.norm(arm.joint_positions, axis=-1), lengths.shape))
    tool = forward_kinematics(arm, q)
    position, orientation = tool_frame(arm)
    np.testing.assert_allclose(
        positions[:, -1] + rotation.rotate(orientations[:, -1], position), tool.tool_position, atol=1e-12
    )
    np.testing.assert_allclose(
        rotation.to_matrix(rotation.multiply(orientations[:, -1], orientation)),
        rotation.to_matrix(tool.tool_orientation),
        atol=1e-12,
    )


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, -1, 0), (0, 0, -1), (0.6, 0.0, -0.8), (-2 / 3, 1 / 3, 2 / 3)])
def test_joints_turn_about_any_axis(random_angles, axis):
    arm = load_arm("panda")
    axes = np.array([axis, *arm.joint_axes[1:3], axis, *arm.joint_axes[4:]], dtype=float)
    arm = replace(arm, joint_axes=axes)
    q = random_angles(arm)
    position, orientation = np.zeros(3), np.array([1.0, 0.0, 0.0, 0.0])
    for k in range(arm.num_joints):
        position = position + rotation.rotate(orientation, arm.joint_positions[k])
        orientation = rotation.multiply(orientation, arm.joint_orientations[k])
        orientation = rotation.multiply(orientation, rotation.from_rotation_vector(q[k] * axes[k]))
        positions, orientations = link_frames(arm, q)
        np.testing.assert_allclose(positions[k + 1], position, atol=1e-12)
        np.testing.assert_allclose(rotation.to_matrix(orientations[k + 1]), rotation.to_matrix(orientation), atol=1e-12)
    jacobian = forward_kinematics(arm, q).jacobian
    np.testing.assert_allclose(jacobian[3:, 0], rotation.rotate(arm.joint_orientations[0], axes[0]), atol=1e-12)


def test_orientations_are_continuous_around_home(arm):
    """The largest component is positive, so that the sign does not flip where a tool points down."""
    rng = np.random.default_rng(3)
    q = arm.home + rng.uniform(-0.3, 0.3, (200, arm.num_joints))
    orientation = forward_kinematics(arm, q).tool_orientation
    assert (orientation[:, 1] > 0.7).all()
    np.testing.assert_allclose(np.linalg.norm(orientation, axis=-1), 1.0, atol=1e-12)
