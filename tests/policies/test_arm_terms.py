"""Observation and action terms of arms: frames, scales, one arm or two, numpy and torch alike."""

import dataclasses

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
    "relative_pose": {"scale": 2.0, "limit": 9.0},
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
    memory = observations.initial_memory([config], observations.batch_like(state))
    return observations.observe([config], state, setpoint, memory, 0.1)[0]


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


def moved(arm, shift, turn):
    """The arm with its whole world moved: tool, objects and velocities."""

    def pose(value):
        position = shift + rotation.rotate(np.broadcast_to(turn, value[..., 3:].shape), value[..., :3])
        return np.concatenate(
            [position, rotation.multiply(np.broadcast_to(turn, value[..., 3:].shape), value[..., 3:])], -1
        )

    def velocity(value):
        turns = np.broadcast_to(turn, (*value.shape[:-1], 4))
        return np.concatenate([rotation.rotate(turns, value[..., :3]), rotation.rotate(turns, value[..., 3:])], -1)

    objects = {name: pose(value) for name, value in arm.objects.items()}
    changes = {"tool_pose": pose(arm.tool_pose), "tool_twist": velocity(arm.tool_twist), "objects": objects}
    return dataclasses.replace(arm, **changes), pose


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("relative_pose", {}),
        ("tool_twist", {"frame": "tool"}),
        ("position_difference", {"frame": "tool"}),
        ("rotation_difference", {"frame": "tool"}),
        ("behind_difference", {"frame": "tool"}),
        ("wrench", {}),
    ],
)
def test_relative_terms_do_not_see_where_the_world_is(name, changes):
    """An episode in a moved and turned world looks the same; from the base it does not."""
    rng = np.random.default_rng(8)
    shift, turn = np.array([0.3, -0.2, 0.1]), rotation.from_rotation_vector(np.array([0.4, -0.7, 1.1]))
    config = TermConfig(name=name, parameters={**EXAMPLES[name], **changes})
    memories = [observations.initial_memory([config], np.zeros((4, 1))) for _ in range(2)]
    for _ in range(3):
        here, setpoint = state(rng)
        there, pose = moved(here, shift, turn)
        one, memories[0] = observations.observe([config], here, setpoint, memories[0], 0.1)
        other, memories[1] = observations.observe(
            [config], there, ArmSetpoint(pose(setpoint.tool_pose)), memories[1], 0.1
        )
        np.testing.assert_allclose(other, one, atol=1e-9)
        if changes:
            assert not np.allclose(feature(name, there, setpoint), feature(name, here, setpoint), atol=0.1)


def test_the_first_pose_of_an_episode_is_latched_in_each_environment():
    rng = np.random.default_rng(9)
    config = TermConfig(name="relative_pose", parameters={"scale": 1.0, "limit": 9.0})
    spec = observations.memory_specs([config])["first_tool_pose"]
    assert (spec.shape, spec.initial) == ((7,), 0.0)
    memory = observations.initial_memory([config], np.zeros((4, 1)))
    first, setpoint = state(rng)
    start, memory = observations.observe([config], first, setpoint, memory, 0.1)
    np.testing.assert_allclose(start, np.tile([0, 0, 0, 1, 0, 0, 0, 1, 0], (4, 1)), atol=1e-12)
    second, _ = state(rng)
    seen, after = observations.observe([config], second, setpoint, memory, 0.1)
    way = second.tool_pose[:, :3] - first.tool_pose[:, :3]
    np.testing.assert_allclose(seen[:, :3], rotation.rotate_inverse(first.tool_pose[:, 3:], way), atol=1e-12)
    matrix = np.swapaxes(rotation.to_matrix(first.tool_pose[:, 3:]), -1, -2) @ rotation.to_matrix(
        second.tool_pose[:, 3:]
    )
    np.testing.assert_allclose(seen[:, 3:], np.concatenate([matrix[..., 0], matrix[..., 1]], -1), atol=1e-12)
    np.testing.assert_array_equal(after["first_tool_pose"], first.tool_pose)
    # Where an episode begins anew, and only there, the pose of that moment counts.
    anew = after["first_tool_pose"].copy()
    anew[2] = spec.initial
    seen, after = observations.observe([config], second, setpoint, {"first_tool_pose": anew}, 0.1)
    np.testing.assert_allclose(seen[2, :3], 0.0, atol=1e-12)
    np.testing.assert_array_equal(after["first_tool_pose"][[0, 1, 3]], first.tool_pose[[0, 1, 3]])
    np.testing.assert_array_equal(after["first_tool_pose"][2], second.tool_pose[2])


def test_two_arms_keep_a_first_pose_each():
    rng = np.random.default_rng(10)
    (left, setpoint), (right, _) = state(rng), state(rng)
    terms = [
        TermConfig(name="relative_pose", parameters={"scale": 1.0, "limit": 9.0, "arm": arm})
        for arm in ("left", "right")
    ]
    both = {"left": left, "right": right}
    memory = observations.initial_memory(terms, observations.batch_like(both))
    _, memory = observations.observe(terms, both, setpoint, memory, 0.1)
    np.testing.assert_array_equal(memory["first_tool_pose.left"], left.tool_pose)
    np.testing.assert_array_equal(memory["first_tool_pose.right"], right.tool_pose)


def test_the_twist_in_the_tool_frame_is_how_the_tool_s_own_point_moves():
    """Against differences along a motion of the tool."""
    rng = np.random.default_rng(11)
    arm, setpoint = state(rng)
    pose, twist, dt = arm.tool_pose, arm.tool_twist, 1e-6

    def at(time):
        turned = rotation.multiply(rotation.from_rotation_vector(twist[:, 3:] * time), pose[:, 3:])
        return pose[:, :3] + twist[:, :3] * time, turned

    (before, first), (after, last) = at(-dt), at(dt)
    linear = rotation.rotate_inverse(pose[:, 3:], (after - before) / (2 * dt))
    angular = rotation.to_rotation_vector(rotation.multiply(rotation.conjugate(first), last)) / (2 * dt)
    seen = feature("tool_twist", arm, setpoint, linear=1.0, angular=1.0, frame="tool")
    np.testing.assert_allclose(seen, np.concatenate([linear, angular], -1), atol=1e-7)


def test_an_unknown_frame_is_named():
    arm, setpoint = state(np.random.default_rng(12))
    with pytest.raises(ValueError, match="frame is 'world'"):
        feature("tool_twist", arm, setpoint, frame="world")


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
    assert observations.needed_signals(terms(of="cube", origin="goal", frame="base")) == ("objects",)
    assert observations.needed_signals(terms(of="cube", origin="goal", frame="tool")) == ("objects", "tool_pose")


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
