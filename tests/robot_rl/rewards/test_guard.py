"""Physical guards: bounds on what is measured, from data that is checked."""

import json
import math

import numpy as np
import pytest

from policies.types import ArmState
from robot_rl.errors import UserError
from robot_rl.rewards.guard import GUARDS, Bound, Guard, signals_of

LIFT = GUARDS["arm-pick-lift"]


def state(width=0.04, height=0.15, wrench=None, speed=0.5):
    pose = np.array([0.5, -0.1, height, 1.0, 0.0, 0.0, 0.0])
    twist = np.array([0.6 * speed, 0.0, 0.8 * speed, 9.0, 9.0, 9.0])
    return ArmState(np.zeros(7), np.zeros(7), pose, twist, np.float64(width), wrench=wrench)


def test_signals_are_what_was_measured():
    signals = signals_of(state(wrench=np.array([3.0, 4.0, 0.0, 0.0, 0.0, 2.0])))
    place = {"tool_x": 0.5, "tool_y": -0.1, "tool_z": 0.15, "tool_speed": 0.5}
    assert signals == pytest.approx({"gripper_width": 0.04, **place, "force": 5.0, "torque": 2.0})
    assert "force" not in signals_of(state())
    both = signals_of({"left": state(), "right": state(width=0.01)})
    assert (both["left.gripper_width"], both["right.gripper_width"]) == (0.04, 0.01)


def test_a_batch_is_refused():
    many = ArmState(np.zeros((2, 7)), np.zeros((2, 7)), np.zeros((2, 7)), np.zeros((2, 6)), np.zeros(2))
    with pytest.raises(ValueError, match="one robot at a time"):
        signals_of(many)


@pytest.mark.parametrize(
    ("width", "height", "speed", "holds"),
    [
        (0.04, 0.15, 0.0, True),
        (0.025, 0.1, 0.08, True),
        (0.0, 0.15, 0.0, False),
        (0.08, 0.15, 0.0, False),
        (0.04, 0.03, 0.0, False),
        (0.04, 0.15, 0.2, False),
    ],
)
def test_pick_lift_needs_something_between_the_fingers_height_and_rest(width, height, speed, holds):
    signals = signals_of(state(width, height, speed=speed))
    assert LIFT.holds(signals) is holds
    assert (LIFT.violations(signals) == []) is holds


def test_what_is_not_a_number_speaks_against_success_and_what_is_missing_is_named():
    assert LIFT.violations({"gripper_width": math.nan, "tool_z": 0.2, "tool_speed": 0.0}) == [
        "gripper_width is nan, outside [0.025, 0.06]"
    ]
    with pytest.raises(ValueError, match="needs the signal 'tool_z'; measured are gripper_width"):
        LIFT.holds({"gripper_width": 0.04})


def test_files(tmp_path):
    guard = Guard((Bound(signal="force", high=20.0), Bound(signal="tool_z", low=0.0, high=0.5)))
    path = tmp_path / "guard.json"
    path.write_text(json.dumps(guard.to_data()))
    assert "low" not in guard.to_data()["bounds"][0]
    assert Guard.load(path) == guard
    with pytest.raises(UserError, match="cannot be read"):
        Guard.load(tmp_path / "none.json")


@pytest.mark.parametrize(
    "data",
    [
        None,
        {"bounds": []},
        {"bounds": [{"signal": "tool_z"}]},
        {"bounds": [{"low": 1.0}]},
        {"bounds": [{"signal": "tool_z", "low": "0.1"}]},
        {"bounds": [{"signal": "tool_z", "low": True}]},
        {"bounds": [{"signal": "tool_z", "low": 0.1, "at_least": 0.1}]},
        {"bounds": [{"signal": "tool_z", "low": 0.2, "high": 0.1}]},
        {"bounds": [{"signal": "tool_z", "low": 0.2}], "rule": "or"},
    ],
)
def test_data_that_is_no_guard_is_refused(data):
    with pytest.raises(UserError, match="guard|bounds of"):
        Guard.from_data(data)
