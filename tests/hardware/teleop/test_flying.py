"""A set-point flown by hand: it moves as sticks say, never jumps, and stays in its space whatever they say."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hardware import setpoints
from hardware.teleop.flying import FlyingConfig, advance, begin
from policies.types import QuadrotorSetpoint

HOME = np.array([1.0, -2.0, 0.5])
PERIOD = 0.02
CONFIG = FlyingConfig()


def hovering(position=HOME + np.array([0, 0, 1.0]), yaw=0.0):
    return begin(setpoints.hover(position, yaw, like=HOME), HOME)


def fly(flight, twist, seconds, config=CONFIG, measured=None):
    """Flights step by step; the vehicle follows at once unless it is held at `measured`."""
    flights = [flight]
    for _ in range(round(seconds / PERIOD)):
        place = flights[-1].setpoint.position if measured is None else measured
        flights.append(advance(flights[-1], np.asarray(twist, dtype=float), place, PERIOD, config))
    return flights


@pytest.mark.parametrize("yaw", [0.0, math.pi / 2, -2.0])
def test_ahead_is_where_it_heads(yaw):
    flight = fly(hovering(yaw=yaw), [0.5, 0.25, 0.2, 0, 0, 0], 2.0)[-1]
    c, s = math.cos(yaw), math.sin(yaw)
    expected = [0.5 * c - 0.25 * s, 0.5 * s + 0.25 * c, 0.2]
    np.testing.assert_allclose(flight.setpoint.velocity, expected, atol=1e-9)
    np.testing.assert_allclose(flight.setpoint.yaw, yaw, atol=1e-9)


def test_it_turns_and_flies_a_circle():
    """Speed v with yaw rate w: a circle of radius v / w."""
    flights = fly(hovering(), [0.5, 0, 0, 0, 0, 1.0], 10.0)[200:]
    places = np.array([flight.setpoint.position[:2] for flight in flights])
    middle = 0.5 * (places.max(axis=0) + places.min(axis=0))
    radii = np.linalg.norm(places - middle, axis=1)
    np.testing.assert_allclose(radii, 0.5, atol=0.02)


def test_centred_it_brakes_and_stands_where_it_is():
    moving = fly(hovering(), [1.0, 0, 0, 0, 0, 1.0], 2.0)[-1]
    braked = fly(moving, np.zeros(6), 1.0)
    assert braked[-1].stands
    way = np.linalg.norm(braked[-1].setpoint.position - moving.setpoint.position)
    np.testing.assert_allclose(way, 1.0**2 / (2 * CONFIG.acceleration), rtol=0.05)
    later = fly(braked[-1], np.zeros(6), 1.0)[-1]
    np.testing.assert_array_equal(later.setpoint.position, braked[-1].setpoint.position)


def test_it_goes_on_from_a_moving_set_point_without_a_jump():
    mission = QuadrotorSetpoint(HOME + [0, 0, 1.0], np.array([0.7, 0, 0]), np.zeros(3), np.asarray(0.3))
    flights = fly(begin(mission, HOME), np.zeros(6), 1.0)
    np.testing.assert_array_equal(flights[0].setpoint.velocity, [0.7, 0, 0])
    steps = np.diff([flight.setpoint.velocity for flight in flights], axis=0)
    assert np.linalg.norm(steps, axis=1).max() <= CONFIG.acceleration * PERIOD + 1e-9
    assert flights[-1].stands


@settings(max_examples=20, deadline=None)
@example([[0, 8.786, 0, 0, 0, -26.1], [47.05, -23.08, 0, 0, 0, 28.94], [12.5, -6, 1, 0, 0, 0], [0] * 6])
@given(st.lists(st.lists(st.floats(-50, 50), min_size=6, max_size=6), min_size=1, max_size=5))
def test_whatever_is_said_speed_acceleration_and_space_hold(twists):
    config = FlyingConfig(radius=1.0, ceiling=1.5, floor=0.3)
    flights = [hovering()]
    for twist in twists:
        flights += fly(flights[-1], twist, 0.8, config)[1:]
    points = [flight.setpoint for flight in flights]
    places, speeds = np.array([p.position for p in points]), np.array([p.velocity for p in points])
    away = places - HOME
    assert np.linalg.norm(away[:, :2], axis=1).max() <= 1.0 + 0.02
    assert away[:, 2].min() >= 0.3 - 0.02 and away[:, 2].max() <= 1.5 + 0.02
    assert np.linalg.norm(speeds[:, :2], axis=1).max() <= config.speed + 1e-9
    assert np.abs(speeds[:, 2]).max() <= config.climb + 1e-9
    assert np.linalg.norm(np.diff(speeds, axis=0), axis=1).max() <= config.acceleration * PERIOD + 1e-9
    # What the derivatives say is what the position does.
    np.testing.assert_allclose(np.diff(places, axis=0), 0.5 * (speeds[1:] + speeds[:-1]) * PERIOD, atol=1e-12)


def test_a_box_of_the_world_holds_too():
    config = FlyingConfig(box=((-9.0, 1.5), (-2.3, 9.0), (-9.0, 2.0)))
    ends = fly(hovering(), [1.0, -1.0, 1.0, 0, 0, 0], 8.0, config)[-1].setpoint.position
    np.testing.assert_allclose(ends, [1.5, -2.3, 2.0], atol=0.03)


def test_beyond_an_edge_it_may_only_come_back():
    outside = hovering(HOME + [8.0, 0, 1.0])
    stuck = fly(outside, [1.0, 0, 0, 0, 0, 0], 1.0)[-1]
    np.testing.assert_allclose(stuck.setpoint.position, HOME + [8.0, 0, 1.0], atol=1e-9)
    back = fly(outside, [-1.0, 0, 0, 0, 0, 0], 2.0)[-1]
    assert back.setpoint.position[0] < HOME[0] + 6.6


def test_it_waits_for_a_vehicle_that_does_not_follow():
    start = hovering()
    held = fly(start, [1.0, 0, 0, 0, 0, 0], 5.0, measured=start.setpoint.position)[-1]
    assert np.linalg.norm(held.setpoint.position - start.setpoint.position) <= CONFIG.leash + 0.02
    sideways = fly(held, [0, 0.5, 0, 0, 0, 0], 0.4, measured=start.setpoint.position)[-1]
    assert sideways.setpoint.position[1] > held.setpoint.position[1] + 0.02  # not stuck


@pytest.mark.parametrize("name", ["speed", "climb", "yaw_rate", "acceleration", "radius", "leash"])
def test_a_bound_that_is_none_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} of flying by hand is 0"):
        FlyingConfig(**{name: 0.0})


def test_a_floor_above_the_ceiling_is_refused():
    with pytest.raises(ValueError, match="floor"):
        FlyingConfig(floor=2.0, ceiling=1.0)
