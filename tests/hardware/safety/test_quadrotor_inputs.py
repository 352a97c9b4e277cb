"""What the supervisor believes, and what it refuses and counts."""

import math

import numpy as np
import pytest

from hardware.safety.quadrotor_inputs import AttitudeInput, CommandInput, InputConfig, StateInput
from policies.types import QuadrotorState

UPRIGHT = np.array([1.0, 0.0, 0.0, 0.0])


def state(position=(0.0, 0.0, 1.0), orientation=UPRIGHT, velocity=(0.0, 0.0, 0.0), rates=(0.0, 0.0, 0.0)):
    return QuadrotorState(*(np.array(x, dtype=float) for x in (position, orientation, velocity, rates)))


@pytest.fixture
def states():
    return StateInput(InputConfig(), max_speed=5.0)


@pytest.fixture
def commands():
    return CommandInput(InputConfig(), max_speed=2000.0)


@pytest.mark.parametrize("part", ["position", "orientation", "velocity", "rates"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_non_finite_state_is_refused_and_its_age_grows(states, part, value):
    assert states.observe(state(), 1.0, 1.0) == ""
    shape = 4 if part == "orientation" else 3
    bad = np.zeros(shape)
    bad[1] = value
    problem = states.observe(state(**{part: bad}), 1.01, 1.01)
    assert "non-finite" in problem
    assert states.age(1.2) == pytest.approx(0.2)
    assert states.counters["state_not_finite"] == 1
    np.testing.assert_array_equal(states.state.position, [0.0, 0.0, 1.0])


def test_orientation_of_wrong_length_is_refused_and_a_rounded_one_normalized(states):
    assert "unit quaternion" in states.observe(state(orientation=[0.0, 0.0, 0.0, 0.0]), 1.0, 1.0)
    assert states.observe(state(orientation=[1.01, 0.0, 0.0, 0.0]), 1.0, 1.0) == ""
    np.testing.assert_array_equal(states.state.orientation, UPRIGHT)


@pytest.mark.parametrize(
    ("stamp", "now", "key"),
    [
        (1.05, 1.0, "state_stamp_in_future"),
        (0.3, 1.0, "state_stamp_too_old"),
        (0.9, 1.0, "state_stamp_not_newer"),
        (0.8, 1.0, "state_stamp_not_newer"),
        (math.nan, 1.0, "state_not_finite"),
    ],
)
def test_bad_stamps_are_refused_and_counted(states, stamp, now, key):
    assert states.observe(state(), 0.9, 0.9) == ""
    assert states.observe(state(), stamp, now) != ""
    assert states.counters[key] == 1
    assert sum(states.counters.values()) == 1
    assert states.stamp == 0.9


def test_clocks_may_differ_by_the_tolerance_and_no_age_is_negative(states):
    assert states.observe(state(), 1.015, 1.0) == ""
    assert states.age(1.0) == 0.0


def test_a_jump_further_than_the_robot_can_move_is_ignored(states):
    states.observe(state(), 1.0, 1.0)
    assert "jumps by 1.00 m" in states.observe(state((1.0, 0.0, 1.0)), 1.01, 1.01)
    # 5 m/s for 20 ms and 0.1 m of margin.
    assert states.observe(state((0.19, 0.0, 1.0)), 1.02, 1.02) == ""
    assert states.trusted
    assert states.outliers_in_row == 0


def test_three_jumps_in_a_row_end_the_trust_until_it_forgets(states):
    states.observe(state(), 1.0, 1.0)
    for k in range(3):
        assert states.trusted
        states.observe(state((9.0, 0.0, 1.0)), 1.01 + k / 100, 1.01 + k / 100)
    assert not states.trusted
    assert "recover" in states.observe(state(), 1.04, 1.04)
    states.forget()
    assert states.observe(state((9.0, 0.0, 1.0)), 1.05, 1.05) == ""
    assert states.trusted


def test_attitude_is_checked_like_a_state():
    attitude = AttitudeInput(InputConfig())
    assert attitude.age(0.0) == math.inf
    assert attitude.observe([1.0, 0.0, 0.0, 0.0], [0.0, 0.0, math.nan], 1.0, 1.0) != ""
    assert attitude.observe([math.nan, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0], 1.0, 1.0) != ""
    assert attitude.counters["attitude_not_finite"] == 2
    assert attitude.observe([1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0], 1.0, 1.0) == ""
    assert attitude.age(1.03) == pytest.approx(0.03)


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ([1.0, 2.0, math.nan, 4.0], "command_not_finite"),
        ([1.0, 2.0, 3.0], "command_not_finite"),
        ([1.0, 2.0, 3.0, 2003.0], "command_out_of_limits"),
        ([-3.0, 2.0, 3.0, 4.0], "command_out_of_limits"),
    ],
)
def test_bad_commands_count_as_no_output(commands, values, key):
    assert commands.observe(np.array([1.0, 2.0, 3.0, 4.0]), 1.0, 1.0, "a") == ""
    assert commands.observe(np.array(values), 1.01, 1.01, "a") != ""
    assert commands.counters[key] == 1
    assert commands.age(1.05) == pytest.approx(0.05)
    np.testing.assert_array_equal(commands.values, [1.0, 2.0, 3.0, 4.0])


def test_rounding_beyond_the_limit_is_clipped(commands):
    assert commands.observe(np.array([-0.5, 0.0, 2000.5, 2000.0]), 1.0, 1.0, "a") == ""
    np.testing.assert_array_equal(commands.values, [0.0, 0.0, 2000.0, 2000.0])


def test_second_source_is_refused_until_the_first_has_been_silent(commands):
    one, two = np.full(4, 1.0), np.full(4, 2.0)
    assert commands.observe(one, 1.0, 1.0, "a") == ""
    assert "'b'" in commands.observe(two, 1.2, 1.2, "b")
    assert commands.observe(one, 1.4, 1.4, "a") == ""
    assert commands.observe(two, 1.8, 1.8, "b") != ""
    np.testing.assert_array_equal(commands.values, one)
    assert commands.counters["command_second_source"] == 2
    assert commands.observe(two, 1.91, 1.91, "b") == ""
    assert commands.observe(one, 1.92, 1.92, "a") != ""
    np.testing.assert_array_equal(commands.values, two)


def test_a_first_source_that_sends_rubbish_still_keeps_others_out(commands):
    commands.observe(np.full(4, 1.0), 1.0, 1.0, "a")
    for k in range(1, 100):
        commands.observe(np.full(4, math.nan), 1.0 + k / 100, 1.0 + k / 100, "a")
    assert commands.observe(np.full(4, 2.0), 2.0, 2.0, "b") != ""
    assert commands.age(2.0) == pytest.approx(1.0)
