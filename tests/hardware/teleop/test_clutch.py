"""Clutch: no jump at engagement, relative motion afterwards, leaders that match."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.teleop.clutch import (
    ClutchConfig,
    engage,
    follow,
    limited,
    matched,
    mismatch,
    speed_share,
    target,
    twist_towards,
)
from policies import rotation

numbers = st.floats(-2.0, 2.0, allow_nan=False, width=32)
poses = st.tuples(st.lists(numbers, min_size=3, max_size=3), st.lists(numbers, min_size=3, max_size=3)).map(
    lambda parts: np.concatenate([parts[0], rotation.from_rotation_vector(np.array(parts[1]))])
)


@settings(max_examples=50)
@given(device=poses, tool=poses, moved=poses, scale=st.floats(0.1, 2.0))
def test_the_tool_begins_where_it_is_and_moves_as_the_device_does(device, tool, moved, scale):
    clutch = engage(device, tool)
    np.testing.assert_allclose(twist_towards(tool, target(clutch, device, scale), 0.1), 0.0, atol=1e-6)
    wanted = target(clutch, moved, scale)
    np.testing.assert_allclose(wanted[:3] - tool[:3], scale * (moved[:3] - device[:3]), atol=1e-9)
    turn = rotation.multiply(wanted[3:], rotation.conjugate(tool[3:]))
    of_device = rotation.multiply(moved[3:], rotation.conjugate(device[3:]))
    assert abs(turn @ of_device) == pytest.approx(1.0, abs=1e-6)


def test_the_origin_stays_when_the_caller_reuses_its_array():
    device, tool = np.array([0.0, 0, 0, 1, 0, 0, 0]), np.array([0.5, 0, 0.2, 0, 1, 0, 0])
    clutch, measured = engage(device, tool), tool.copy()
    device[0] = tool[0] = 9.0
    np.testing.assert_allclose(target(clutch, np.array([0.0, 0, 0, 1, 0, 0, 0])), measured)


@settings(max_examples=50)
@given(twist=st.lists(numbers, min_size=6, max_size=6), linear=st.floats(0, 1), angular=st.floats(0, 1))
def test_a_limited_twist_keeps_its_direction(twist, linear, angular):
    twist = np.array(twist)
    slower = limited(twist, linear, angular)
    assert np.linalg.norm(slower[:3]) <= linear + 1e-9 and np.linalg.norm(slower[3:]) <= angular + 1e-9
    np.testing.assert_allclose(np.cross(slower[:3], twist[:3]), 0.0, atol=1e-9)
    assert slower[:3] @ twist[:3] >= 0.0
    if np.linalg.norm(twist[:3]) <= linear:
        np.testing.assert_array_equal(slower[:3], twist[:3])


def test_speed_grows_over_the_first_second():
    config = ClutchConfig(ease_time=1.0, ease_share=0.2)
    shares = [speed_share(since, config) for since in (0.0, 0.5, 1.0, 5.0)]
    assert shares == [0.2, pytest.approx(0.6), 1.0, 1.0]


def test_a_leader_must_stand_as_its_follower():
    follower = np.array([0.0, 1.0, -2.0])
    assert matched(follower + 0.05, follower, 0.1)
    assert not matched(follower + [0.0, 0.2, 0.0], follower, 0.1)
    assert "joint 2" in mismatch(follower + [0.0, 0.2, 0.0], follower, 0.1)
    assert "joint 3" in mismatch(np.array([0.0, 1.0, np.nan]), follower, 0.1)
    assert "4 joints" in mismatch(np.zeros(4), follower, 0.1)


def test_a_follower_moves_at_most_one_step_from_where_it_is_measured():
    np.testing.assert_allclose(follow(np.array([0.0, 1.0]), np.array([3.0, 1.02]), 0.05), [0.05, 1.02])
