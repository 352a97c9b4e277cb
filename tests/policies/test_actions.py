"""Action terms: ends of the range, clipping, inverse, one result for every array kind."""

import inspect

import numpy as np
import pytest
import torch

from policies import actions
from policies.actions import ACTIONS, ActionConfig
from policies.types import BodyRatesThrust, CartesianTwist, JointPositions, MotorSpeeds

CONFIGS = {
    "motor_speeds": ActionConfig(name="motor_speeds", parameters={"low": 100.0, "high": 2200.0}),
    "body_rates_thrust": ActionConfig(
        name="body_rates_thrust",
        parameters={"max_rate": 8.0, "max_yaw_rate": 3.0, "min_thrust": 1.0, "max_thrust": 17.0},
    ),
    "cartesian_twist": ActionConfig(
        name="cartesian_twist",
        parameters={
            "axes": "x y z rx ry rz gripper",
            "linear": 0.2,
            "angular": 1.5,
            "frame": "base",
            "gripper": -1.0,
            "arms": "",
        },
    ),
    "joint_position_targets": ActionConfig(
        name="joint_position_targets", parameters={"low": "-2.5 -1.5 -0.5", "high": "2.5 1.5 0.7"}
    ),
}
SIZES = {name: actions.action_size(config) for name, config in CONFIGS.items()}
each_action = pytest.mark.parametrize("name", ACTIONS)
RNG = np.random.default_rng(0)


def flat(command):
    """All values of a command as one array (..., A)."""
    if isinstance(command, MotorSpeeds):
        return command.values
    if isinstance(command, (CartesianTwist, JointPositions)):
        xp = torch if isinstance(command.gripper, torch.Tensor) else np
        return xp.concatenate([command.values, command.gripper[..., None]], -1)
    assert isinstance(command, BodyRatesThrust)
    xp = torch if isinstance(command.thrust, torch.Tensor) else np
    return xp.concatenate([command.rates, command.thrust[..., None]], -1)


@each_action
def test_every_action_has_an_example_here_with_all_of_its_parameters(name):
    parameters = inspect.signature(ACTIONS[name].function).parameters.values()
    assert {p.name for p in parameters if p.kind is p.KEYWORD_ONLY} == set(CONFIGS[name].parameters)


@pytest.mark.parametrize(
    ("name", "low", "middle", "high"),
    [
        ("motor_speeds", [100.0] * 4, [1150.0] * 4, [2200.0] * 4),
        ("body_rates_thrust", [-8.0, -8.0, -3.0, 1.0], [0.0, 0.0, 0.0, 9.0], [8.0, 8.0, 3.0, 17.0]),
    ],
)
def test_ends_and_middle_of_the_range(name, low, middle, high):
    for value, expected in ((-1.0, low), (0.0, middle), (1.0, high)):
        command = actions.to_command(CONFIGS[name], np.full(SIZES[name], value))
        np.testing.assert_array_equal(flat(command), expected)


@each_action
def test_what_lies_outside_the_range_is_clipped(name):
    wild = 5.0 * RNG.normal(size=(50, SIZES[name]))
    clipped = actions.to_command(CONFIGS[name], np.clip(wild, -1.0, 1.0))
    np.testing.assert_array_equal(flat(actions.to_command(CONFIGS[name], wild)), flat(clipped))
    infinite = actions.to_command(CONFIGS[name], np.full(SIZES[name], np.inf))
    np.testing.assert_array_equal(flat(infinite), flat(actions.to_command(CONFIGS[name], np.ones(SIZES[name]))))


@each_action
def test_a_nan_stays_a_nan_so_that_it_is_seen_downstream(name):
    action = np.zeros(SIZES[name])
    action[-1] = np.nan
    assert np.isnan(flat(actions.to_command(CONFIGS[name], action))[-1])


@each_action
def test_the_map_is_linear_and_can_be_inverted(name):
    size = SIZES[name]
    low, high = (flat(actions.to_command(CONFIGS[name], np.full(size, value))) for value in (-1.0, 1.0))
    action = RNG.uniform(-1.0, 1.0, (40, size))
    command = flat(actions.to_command(CONFIGS[name], action))
    np.testing.assert_allclose(2.0 * (command - low) / (high - low) - 1.0, action, atol=1e-13)


@each_action
def test_numpy_single_numpy_batch_and_torch_agree_and_inputs_are_not_written(name):
    action = 1.5 * RNG.normal(size=(2, 3, SIZES[name]))
    action.flags.writeable = False
    batch = flat(actions.to_command(CONFIGS[name], action))
    np.testing.assert_array_equal(flat(actions.to_command(CONFIGS[name], action[1, 2])), batch[1, 2])
    tensors = flat(actions.to_command(CONFIGS[name], torch.tensor(action)))
    assert isinstance(tensors, torch.Tensor)
    np.testing.assert_allclose(tensors.numpy(), batch, rtol=1e-15)
    assert flat(actions.to_command(CONFIGS[name], action.astype(np.float32))).dtype == np.float32


@each_action
def test_gradients_are_exact_inside_the_range_and_zero_outside(name):
    inside = torch.tensor(RNG.uniform(-0.9, 0.9, (3, SIZES[name])), requires_grad=True)
    assert torch.autograd.gradcheck(lambda a: flat(actions.to_command(CONFIGS[name], a)), (inside,))
    outside = torch.full((SIZES[name],), 1.5, requires_grad=True)
    flat(actions.to_command(CONFIGS[name], outside)).sum().backward()
    assert not outside.grad.any()


@pytest.mark.parametrize(
    ("wrong", "hint"), [("motor_speed", "did you mean 'motor_speeds'?"), ("pwm", "known terms: motor_speeds")]
)
def test_unknown_terms_name_the_nearest(wrong, hint):
    with pytest.raises(ValueError, match=f"unknown action term {wrong!r}") as caught:
        actions.find_action(ActionConfig(name=wrong))
    assert hint in str(caught.value)
