"""A task in relative frames: the same motion, said along the tool's axes; solved by the same expert."""

import dataclasses

import numpy as np
import pytest
import torch

from policies import observations, rotation
from policies.actions import ActionConfig, action_size, to_command
from policies.types import ArmState
from robot_rl.hil.plant import SimulatedPlant, expert_action
from robot_rl.hil.relative import relative, relative_terms, to_base_frame, to_tool_frame
from sim.tasks import TASKS

RNG = np.random.default_rng(0)
FULL = ActionConfig(
    name="cartesian_twist",
    parameters={"axes": "x y z rx ry rz gripper", "linear": 0.3, "angular": 1.5, "frame": "tool"},
)


def arm(turns):
    """States whose tool is turned by rotation vectors (N, 3)."""
    pose = np.concatenate([RNG.normal(size=turns.shape), rotation.from_rotation_vector(turns)], -1)
    zeros = np.zeros((len(turns), 7))
    return ArmState(zeros, zeros, pose, np.zeros((len(turns), 6)), np.zeros(len(turns)))


def test_the_converted_action_commands_the_same_motion():
    state, action = arm(RNG.normal(size=(50, 3))), RNG.uniform(-0.5, 0.5, (50, 7))
    command = to_command(FULL, to_tool_frame(action, state, FULL))
    assert command.frame == "tool"
    turn = state.tool_pose[:, 3:]
    np.testing.assert_allclose(rotation.rotate(turn, command.values[:, :3]), 0.3 * action[:, :3], atol=1e-12)
    np.testing.assert_allclose(rotation.rotate(turn, command.values[:, 3:]), 1.5 * action[:, 3:6], atol=1e-12)
    np.testing.assert_array_equal(command.gripper, action[:, 6])


def test_there_and_back_in_numpy_and_torch():
    state, action = arm(RNG.normal(size=(20, 3))), RNG.uniform(-0.5, 0.5, (20, 7))
    np.testing.assert_allclose(to_base_frame(to_tool_frame(action, state, FULL), state, FULL), action, atol=1e-12)
    tensors = dataclasses.replace(state, tool_pose=torch.as_tensor(state.tool_pose))
    converted = to_tool_frame(torch.as_tensor(action), tensors, FULL)
    np.testing.assert_allclose(converted.numpy(), to_tool_frame(action, state, FULL), atol=1e-12)


def test_what_is_too_fast_for_an_axis_keeps_its_direction():
    state = arm(np.array([[0.0, 0.0, np.pi / 4]]))
    converted = to_tool_frame(np.array([[1.0, 1.0, 0.5, 0.0, 0.0, 0.2, 1.0]]), state, FULL)
    np.testing.assert_allclose(converted[0, :3], np.array([2.0**0.5, 0.0, 0.5]) / 2.0**0.5, atol=1e-12)
    np.testing.assert_allclose(converted[0, 3:], [0.0, 0.0, 0.2, 1.0], atol=1e-12)


def test_a_tool_that_points_down_turns_the_other_way_round_its_axis():
    config = dataclasses.replace(FULL, parameters={**FULL.parameters, "axes": "x y z rz gripper"})
    state = arm(np.array([[np.pi, 0.0, 0.0]]))
    converted = to_tool_frame(np.array([[0.1, 0.2, 0.3, 0.4, -1.0]]), state, config)
    np.testing.assert_allclose(converted, [[0.1, -0.2, -0.3, -0.4, -1.0]], atol=1e-12)


def test_two_arms_are_turned_each_by_its_own_tool():
    config = dataclasses.replace(FULL, parameters={**FULL.parameters, "axes": "x y z gripper", "arms": "left right"})
    both = {"left": arm(np.zeros((1, 3))), "right": arm(np.array([[0.0, 0.0, np.pi / 2]]))}
    converted = to_tool_frame(np.array([[0.1, 0.2, 0.3, 1.0, 0.1, 0.2, 0.3, -1.0]]), both, config)
    np.testing.assert_allclose(converted, [[0.1, 0.2, 0.3, 1.0, 0.2, -0.1, 0.3, -1.0]], atol=1e-12)


def test_terms_are_rewritten_once_and_sizes_agree():
    task = TASKS["arm-flip"]
    names = [term.name for term in relative_terms(task.terms)]
    assert names.count("relative_pose") == 1  # position and orientation of the tool were two terms
    assert sum(term.name == "orientation" for term in relative_terms(task.terms)) == 1  # the object's
    lift = relative(TASKS["arm-pick-lift"])
    turned = {term.name for term in lift.terms if term.parameters.get("frame") == "tool"}
    assert turned == {"position_difference", "rotation_difference", "tool_twist"}
    assert action_size(lift.action) == action_size(TASKS["arm-pick-lift"].action)
    assert observations.observation_size(lift.terms) == observations.observation_size(TASKS["arm-pick-lift"].terms) + 6
    assert set(observations.memory_specs(lift.terms)) == {"first_tool_pose", "action_history"}


def test_settings_are_kept_and_changed_tasks_are_relative_too():
    from sim.tasks.arm import with_settings

    changed = with_settings(relative(TASKS["arm-peg-insert"]), {"clearance": 0.001})
    assert changed.settings.clearance == 0.001
    assert changed.action.parameters["frame"] == "tool"
    assert changed.terms == relative(TASKS["arm-peg-insert"]).terms


@pytest.mark.parametrize("name", ["arm-push", "arm-flip"])
def test_actions_along_the_base_s_axes_only_are_refused(name):
    with pytest.raises(ValueError, match="no axes of the tool"):
        relative(TASKS[name])


def test_the_expert_solves_pick_lift_through_relative_frames():
    """Eight episodes, with the task's randomization, and the observation is that of the runtime's function."""
    task = relative(TASKS["arm-pick-lift"])
    plant = SimulatedPlant(task, seed=3)
    solved, lengths = 0, []
    for _ in range(8):
        moment, memory = plant.reset(), observations.initial_memory(task.terms, np.zeros((1, 1), np.float32))
        for step in range(80):
            expected, memory = observations.observe(
                task.terms, numpy_of(moment.state), moment.setpoint, memory, task.period
            )
            np.testing.assert_allclose(moment.observation, expected[0], atol=1e-6)
            action = expert_action(task, moment.state, moment.setpoint)
            outcome = plant.step(action)
            memory = observations.record_action(memory, action[None])
            moment = outcome.moment
            if outcome.terminated or outcome.truncated:
                solved += outcome.success
                lengths.append(step + 1)
                break
    plant.close()
    assert solved == 8
    assert np.mean(lengths) < 35  # the expert along the base's axes needs some 25


def numpy_of(state):
    values = {name: getattr(state, name) for name in ("joint_positions", "joint_velocities", "tool_pose", "tool_twist")}
    return ArmState(
        **{name: value.numpy() for name, value in values.items()},
        gripper_width=state.gripper_width.numpy(),
        objects={name: pose.numpy() for name, pose in state.objects.items()},
    )
