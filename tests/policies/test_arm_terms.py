"""Observation and action terms of arms: frames, scales, one arm or two, numpy and torch alike."""

import numpy as np
import pytest
import torch

from policies import observations, rotation
from policies.actions import ActionConfig, action_size, to_command
from policies.arm_terms import ARM_TERMS
from policies.terms import TermConfig
from policies.types import ArmSetpoint, ArmState, CartesianTwist

EXAMPLES = {
    "joint_positions": {"joints": 7, "scale": 0.5},
    "joint_velocities": {"joints": 7, "scale": 0.1},
    "position": {"of": "cube", "x": 0.5, "y": 0.1, "z": 0.02, "scale": 3.0},
    "orientation": {"of": "tool"},
    "position_difference": {"of": "cube", "origin": "tool", "scale": 2.0, "limit": 9.0},
    "rotation_difference": {"of": "goal", "origin": "tool", "scale": 1.0, "limit": 9.0},
    "behind_difference": {"of": "cube", "offset": 0.05, "scale": 1.0, "limit": 9.0},
    "tool_twist": {"linear": 2.0, "angular": 0.5},
    "gripper_width": {"scale": 10.0},
    "wrench": {"force": 0.1, "torque": 1.0, "limit": 5.0},
}


def state(rng, batch=(4,)):
    def pose():
        return np.concatenate([rng.normal(size=(*batch, 3)), rotation.normalize(rng.normal(size=(*batch, 4)))], -1)

    return ArmState(
        joint_positions=rng.normal(size=(*batch, 7)),
        joint_velocities=rng.normal(size=(*batch, 7)),
        tool_pose=pose(),
        tool_twist=rng.normal(size=(*batch, 6)),
        gripper_width=rng.uniform(0, 0.08, size=batch),
        wrench=rng.normal(size=(*batch, 6)),
        objects={"cube": pose()},
    ), ArmSetpoint(tool_pose=pose())


def to_torch(record):
    def convert(value):
        if isinstance(value, dict):
            return {key: convert(item) for key, item in value.items()}
        return None if value is None else torch.as_tensor(np.asarray(value))

    return type(record)(**{name: convert(getattr(record, name)) for name in record.__dataclass_fields__})


def feature(name, state, setpoint, **changes):
    config = TermConfig(name=name, parameters={**EXAMPLES[name], **changes})
    return observations.observe([config], state, setpoint, {}, 0.1)[0]


def test_every_term_has_an_example():
    assert set(EXAMPLES) == set(ARM_TERMS)


@pytest.mark.parametrize("name", EXAMPLES)
def test_size_single_sample_and_torch_agree(name):
    arm, setpoint = state(np.random.default_rng(0))
    value = feature(name, arm, setpoint)
    config = TermConfig(name=name, parameters=EXAMPLES[name])
    assert value.shape == (4, observations.observation_size([config]))
    other = feature(name, to_torch(arm), to_torch(setpoint))
    np.testing.assert_allclose(other.numpy(), value, atol=1e-12)
    first = ArmState(
        **{
            key: {k: v[0] for k, v in item.items()} if isinstance(item, dict) else None if item is None else item[0]
            for key, item in vars(arm).items()
        }
    )
    np.testing.assert_allclose(feature(name, first, ArmSetpoint(setpoint.tool_pose[0])), value[0], atol=1e-12)


def test_one_of_two_arms_is_chosen_by_name():
    rng = np.random.default_rng(1)
    (left, setpoint), (right, _) = state(rng), state(rng)
    both = {"left": left, "right": right}
    np.testing.assert_array_equal(
        feature("gripper_width", both, setpoint, arm="right"), 10 * right.gripper_width[:, None]
    )
    across = feature("position_difference", both, setpoint, of="tool", origin="tool", arm="left", origin_arm="right")
    np.testing.assert_allclose(across, (2.0 * (left.tool_pose - right.tool_pose)[:, :3]).clip(-9, 9))


def test_rotation_difference_turns_the_origin_into_the_other():
    arm, setpoint = state(np.random.default_rng(2))
    vector = feature("rotation_difference", arm, setpoint)
    turned = rotation.multiply(rotation.from_rotation_vector(vector), arm.tool_pose[..., 3:])
    same = np.abs((turned * setpoint.tool_pose[..., 3:]).sum(-1))
    np.testing.assert_allclose(same, 1.0, atol=1e-9)


def test_behind_lies_on_the_line_through_goal_and_object():
    arm, setpoint = state(np.random.default_rng(3))
    point = feature("behind_difference", arm, setpoint) + arm.tool_pose[:, :3]
    cube, goal = arm.objects["cube"][:, :3], setpoint.tool_pose[:, :3]
    np.testing.assert_allclose(np.linalg.norm(point - cube, axis=1), 0.05, atol=1e-9)
    np.testing.assert_allclose(
        np.linalg.norm(point - goal, axis=1), np.linalg.norm(cube - goal, axis=1) + 0.05, atol=1e-9
    )


def test_needed_signals_follow_from_what_is_named():
    def terms(**parameters):
        return [TermConfig(name="position_difference", parameters={"scale": 1.0, "limit": 1.0, **parameters})]

    assert observations.needed_signals(terms(of="goal", origin="tool")) == ("tool_pose",)
    assert observations.needed_signals(terms(of="cube", origin="goal")) == ("objects",)


def test_twist_fills_the_axes_that_the_policy_has_and_clips():
    config = ActionConfig(name="cartesian_twist", parameters={"axes": "y rz gripper", "linear": 0.2, "angular": 2.0})
    assert action_size(config) == 3
    command = to_command(config, np.array([[0.5, -3.0, 1.0]]))
    assert isinstance(command, CartesianTwist)
    np.testing.assert_allclose(command.values, [[0.0, 0.1, 0.0, 0.0, 0.0, -2.0]])
    np.testing.assert_allclose(command.gripper, [1.0])
    still = ActionConfig(name="cartesian_twist", parameters={"axes": "x", "linear": 0.2, "gripper": 1.0})
    np.testing.assert_allclose(to_command(still, np.zeros((1, 1))).gripper, [1.0])


def test_two_arms_take_their_parts_in_order_and_unknown_axes_are_named():
    config = ActionConfig(name="cartesian_twist", parameters={"axes": "x gripper", "linear": 1.0, "arms": "left right"})
    assert action_size(config) == 4
    commands = to_command(config, np.array([0.1, 0.2, 0.3, 0.4]))
    assert list(commands) == ["left", "right"]
    assert commands["right"].values[0] == pytest.approx(0.3)
    assert commands["left"].gripper == pytest.approx(0.2)
    with pytest.raises(ValueError, match="unknown axis 'w'"):
        action_size(ActionConfig(name="cartesian_twist", parameters={"axes": "x w", "linear": 1.0}))


def test_joint_targets_span_their_ranges():
    config = ActionConfig(name="joint_position_targets", parameters={"low": "-1 0", "high": "1 2"})
    assert action_size(config) == 3
    command = to_command(config, np.array([-1.0, 0.5, 1.0]))
    np.testing.assert_allclose(command.values, [-1.0, 1.5])
