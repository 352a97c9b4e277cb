"""Gripper: widths, speed, force, and a discrete form that counts its changes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hardware.controllers.gripper import DiscreteGripper, hold_force, move_width, width_from_command


def test_commands_span_the_range_of_widths():
    np.testing.assert_allclose(
        width_from_command(np.array([-5.0, -1.0, 0.0, 1.0, 5.0]), 0.08), [0, 0, 0.04, 0.08, 0.08]
    )


@given(st.lists(st.floats(-1.0, 1.0), min_size=1, max_size=30), st.floats(1e-3, 0.1))
def test_width_never_moves_faster_than_the_gripper_can_and_stays_in_range(commands, dt):
    width = np.array(0.08)
    for command in commands:
        new = move_width(width, width_from_command(np.array(command), 0.08), 0.1, dt)
        assert abs(new - width) <= 0.1 * dt * (1 + 1e-9) + 1e-15
        assert 0.0 <= new <= 0.08
        width = new


def test_width_arrives_and_stays():
    width = np.array([0.08, 0.0])
    for _ in range(82):
        width = move_width(width, np.array([0.0, 0.03]), 0.1, 0.01)
    np.testing.assert_array_equal(width, [0.0, 0.03])


def test_force_is_a_bounded_spring():
    width = np.array([0.0401, 0.06, 0.0])
    np.testing.assert_allclose(hold_force(np.array([0.04, 0.0, 0.08]), width, 2000.0, 70.0), [-0.2, -70.0, 70.0])


def test_discrete_gripper_has_hysteresis_and_counts_only_real_changes():
    gripper = DiscreteGripper((2,), threshold=0.5)
    seen = [gripper.command(np.array([c, -c])) for c in (0.9, 0.4, -0.4, -0.6, 0.49, -1.0, np.nan, 0.51)]
    np.testing.assert_array_equal(np.array(seen)[:, 0], [1, 1, 1, -1, -1, -1, -1, 1])
    np.testing.assert_array_equal(np.array(seen)[:, 1], [-1, -1, -1, 1, 1, 1, 1, -1])
    np.testing.assert_array_equal(gripper.toggles, [2, 3])
    np.testing.assert_array_equal(gripper.toggled, [True, True])
    gripper.reset(is_open=False, mask=np.array([True, False]))
    np.testing.assert_array_equal(gripper.toggles, [0, 3])
    np.testing.assert_array_equal(gripper.is_open, [False, False])
    gripper.command(np.zeros(2))
    assert not gripper.toggled.any()


def test_discrete_gripper_takes_torch():
    gripper = DiscreteGripper((3,), like=torch.zeros(()))
    out = gripper.command(torch.tensor([1.0, -1.0, 0.0]))
    assert out.tolist() == [1.0, -1.0, 1.0]
    assert gripper.toggles.tolist() == [0, 1, 0]


def test_a_threshold_that_nothing_passes_is_refused():
    with pytest.raises(ValueError, match=r"in \[0, 1\)"):
        DiscreteGripper(threshold=1.0)
