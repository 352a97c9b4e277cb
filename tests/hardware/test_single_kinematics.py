import numpy as np
import pytest

from hardware.descriptions import load_arm
from hardware.kinematics import forward_kinematics


@pytest.mark.parametrize("robot", ["panda", "ur5e", "xarm7"])
def test_one_posture_alone_and_in_a_batch(robot):
    description = load_arm(robot)
    postures = np.random.default_rng(0).uniform(-3.0, 3.0, (500, description.num_joints))
    # Straight postures have orientations whose quaternion has components of equal size.
    postures[:3] = [[0.0] * description.num_joints, [np.pi / 2] * description.num_joints, description.home]
    batch = forward_kinematics(description, postures)
    alone = [forward_kinematics(description, posture) for posture in postures]
    for name in ("tool_position", "jacobian"):
        np.testing.assert_allclose([getattr(each, name) for each in alone], getattr(batch, name), rtol=0, atol=1e-14)
    turns = np.array([each.tool_orientation for each in alone])
    np.testing.assert_allclose(np.abs(np.sum(turns * batch.tool_orientation, axis=1)), 1.0, rtol=0, atol=1e-14)
    # The largest component is positive; of two that are equal to rounding, either may be.
    assert (turns.max(axis=1) > -turns.min(axis=1) - 1e-12).all()


def test_single_precision_and_lists_of_one_take_the_array_path():
    description = load_arm("panda")
    single = forward_kinematics(description, description.home.astype(np.float32))
    assert single.tool_position.dtype == np.float32
    one = forward_kinematics(description, description.home[None])
    assert one.jacobian.shape == (1, 6, 7)
