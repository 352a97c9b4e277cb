"""A mission that a person takes over in flight and hands back: the set-point and its speed never jump."""

import numpy as np
import pytest

from hardware.teleop.flying import FlyingConfig
from robot_rl.mission import MissionConfig, at, plan
from robot_rl.person_flight import SharedFlight

HOME = np.array([0.5, 0.0, 0.0])
PERIOD = 0.02
AHEAD = np.array([0.6, 0, 0, 0, 0, 0.5])


def shared(kind):
    mission = plan(MissionConfig(kind=kind), HOME, 0.2)
    return mission, SharedFlight(mission, HOME, FlyingConfig(), max_speed=0.7, max_acceleration=1.0)


def fly(flight, seconds, twist=None):
    """(driver, set-point) step by step; the vehicle follows at once."""
    said, place = [], HOME
    for _ in range(round(seconds / PERIOD)):
        said.append(flight.take(twist, place, PERIOD))
        place = said[-1][1].position
    return said


def check_smooth(said):
    places = np.array([point.position for _, point in said])
    speeds = np.array([point.velocity for _, point in said])
    np.testing.assert_allclose(np.diff(places, axis=0), 0.5 * (speeds[1:] + speeds[:-1]) * PERIOD, atol=5e-4)
    assert np.linalg.norm(np.diff(speeds, axis=0), axis=1).max() < 4.0 * PERIOD


@pytest.mark.parametrize("kind", ["hover", "figure-eight", "waypoints"])
def test_correction_in_flight(kind):
    mission, flight = shared(kind)
    said = fly(flight, 6.0)
    assert {driver for driver, _ in said} == {"mission"}
    elapsed = flight.elapsed
    said += fly(flight, 1.5, AHEAD)
    assert said[-1][0] == "person"
    said += fly(flight, 2.0)  # let go
    assert said[-1][0] == "held" and not np.any(said[-1][1].velocity)
    assert flight.elapsed == elapsed  # the mission waits
    where = said[-1][1].position
    assert np.linalg.norm(where - at(mission, elapsed)[1].position) > 0.3
    said += fly(flight, 5.0)
    np.testing.assert_array_equal(said[-1][1].position, where)  # for as long as it takes
    assert flight.hand_back()[0]
    back = fly(flight, 8.0)
    drivers = [driver for driver, _ in back]
    assert drivers[0] == "returning" and drivers[-1] == "mission"
    said += back
    check_smooth(said)
    # A second of the clock's start costs half a second of the mission.
    gone = drivers.count("mission") * PERIOD
    np.testing.assert_allclose(flight.elapsed - elapsed, gone - 0.5, atol=0.05)
    np.testing.assert_allclose(back[-1][1].position, at(mission, flight.elapsed)[1].position, atol=1e-9)


def test_handed_back_while_it_moves_it_brakes_first():
    _, flight = shared("hover")
    said = fly(flight, 4.0) + fly(flight, 1.0, AHEAD)
    assert flight.hand_back()[0]
    said += fly(flight, 6.0)
    assert said[-1][0] == "mission"
    check_smooth(said)


def test_taken_over_again_on_the_way_back():
    _, flight = shared("hover")
    said = fly(flight, 4.0) + fly(flight, 2.0, AHEAD) + fly(flight, 1.0)
    flight.hand_back()
    said += fly(flight, 0.7)
    assert said[-1][0] == "returning" and np.any(said[-1][1].velocity)
    said += fly(flight, 0.5, AHEAD) + fly(flight, 1.0)
    assert said[-1][0] == "held"
    check_smooth(said)


def test_there_is_nothing_to_hand_back_before():
    _, flight = shared("hover")
    fly(flight, 1.0)
    assert flight.hand_back() == (False, "nobody has taken over")


def test_what_did_not_follow_is_not_chased():
    _, flight = shared("hover")
    fly(flight, 4.0)
    fly(flight, 1.0, AHEAD)
    flight.stand(np.array([0.0, 3.0, 1.0]), 0.0)  # something else has moved the vehicle
    driver, point = flight.take(None, np.array([0.0, 3.0, 1.0]), PERIOD)
    assert driver == "held"
    np.testing.assert_allclose(point.position, [0.0, 3.0, 1.0])
