"""A vehicle behind its driver: what it is asked, what it is sent, and whose it is."""

import numpy as np
import pytest
from plain_quadrotor import CRAZYFLIE, HOVER, PlainQuadrotor

from hardware.drivers.driver import DriverError
from hardware.drivers.rate_command import RotorsAsRates
from policies.types import BodyRatesThrust, MotorSpeeds
from robot_rl.planes.quadrotor_settings import RateConfig
from robot_rl.planes.quadrotor_vehicle import Vehicle

OURS = ("streaming", "mode", "arming", "done")


def make(own_arming=True, patience=15.0, **options):
    driver = PlainQuadrotor(own_arming=own_arming, **options)
    driver.advance(1.0)
    vehicle = Vehicle(driver, CRAZYFLIE, RateConfig(), patience)
    vehicle.read()
    return vehicle, driver


def see(vehicle, now, **changes):
    """Time goes on, and the vehicle is read."""
    for name, value in changes.items():
        setattr(vehicle.driver, name, value)
    vehicle.driver.advance(now)
    return vehicle.read()


@pytest.mark.parametrize("options", [{"kind": "arm"}, {"commands": ("QuadrotorSetpoint",)}])
def test_what_takes_neither_rotor_speeds_nor_rates_is_refused(options):
    with pytest.raises(DriverError, match="needs one that takes BodyRatesThrust or MotorSpeeds"):
        make(**options)


# What it says


def test_a_sample_is_given_once():
    vehicle, driver = make()
    assert vehicle.read() is None
    newest = see(vehicle, 1.01)
    assert newest is vehicle.sample and newest.stamp == 1.01
    assert vehicle.read() is None


def test_a_driver_that_cannot_read_is_trouble_until_it_can():
    vehicle, driver = make(own_arming=False)
    assert vehicle.following
    assert see(vehicle, 1.01, broken="the wire is cut") is None
    assert vehicle.trouble == "the wire is cut" == vehicle.problem and not vehicle.following
    assert vehicle.sample.stamp == 1.0  # the last one stays
    assert see(vehicle, 1.02, broken="") is not None
    assert not vehicle.trouble and vehicle.following


def test_nothing_is_known_before_the_first_sample():
    vehicle = Vehicle(PlainQuadrotor(own_arming=False), CRAZYFLIE, RateConfig(), 15.0)
    assert vehicle.read() is None
    assert not vehicle.armed and not vehicle.following and vehicle.problem == ""


@pytest.mark.parametrize("missing", ["accepting", "arming"])
def test_it_follows_only_if_it_was_asked_and_accepts(missing):
    vehicle, driver = make()
    driver.follow()
    see(vehicle, 1.01)
    assert vehicle.following and vehicle.armed
    see(vehicle, 1.02, **{missing: {"accepting": False, "arming": "arming"}[missing]})
    assert not vehicle.following and vehicle.armed


def test_its_words_are_told_once():
    vehicle, driver = make()
    driver.arming_problem = "compass"
    see(vehicle, 1.01, fault="battery low")
    assert vehicle.problem == "compass; battery low"
    see(vehicle, 1.02, fault="compass; battery low")
    assert vehicle.problem == "compass; battery low"


# What it is sent


def test_rotor_speeds_go_as_they_are_to_a_vehicle_that_takes_them():
    vehicle, driver = make(commands=("BodyRatesThrust", "MotorSpeeds"))
    assert vehicle.write(HOVER, 2.0)
    assert isinstance(driver.sent[-1][1], MotorSpeeds) and np.array_equal(driver.values[-1], HOVER)


def test_only_so_many_are_sent_as_the_link_carries():
    vehicle, driver = make(rate_hz=100.0)
    sent = [round(now, 3) for now in np.arange(2.0, 2.0995, 0.002) if vehicle.write(HOVER, now)]
    assert np.diff(sent) == pytest.approx(np.full(len(sent) - 1, 0.01))  # the first tick after 9 ms
    assert len(driver.sent) == len(sent) == 10


def test_rotor_speeds_become_rates_and_thrust_through_rotors_that_take_their_time():
    vehicle, driver = make(commands=("BodyRatesThrust",), rate_hz=100.0)
    see(vehicle, 1.01, rates=np.array([0.3, -0.2, 0.1]))
    same = RotorsAsRates(CRAZYFLIE)
    # The first comes after no other one, and a pause counts for 0.1 s at most.
    for now, passed in ((2.0, 0.1), (2.01, 0.01), (2.03, 0.02), (3.0, 0.1)):
        assert vehicle.write(HOVER, now)
        wanted = same.convert(MotorSpeeds(HOVER), np.array([0.3, -0.2, 0.1]), passed)
        got = driver.sent[-1][1]
        assert isinstance(got, BodyRatesThrust)
        assert got.rates == pytest.approx(wanted.rates) and float(got.thrust) == pytest.approx(float(wanted.thrust))


def test_rates_need_to_know_how_it_turns():
    vehicle = Vehicle(PlainQuadrotor(commands=("BodyRatesThrust",)), CRAZYFLIE, RateConfig(), 15.0)
    assert not vehicle.write(HOVER, 2.0) and not vehicle.driver.sent
    vehicle.driver.advance(2.0)
    vehicle.read()
    assert vehicle.write(HOVER, 2.001)  # what was not sent delays nothing


def test_a_command_that_does_not_arrive_is_tried_again_at_once():
    vehicle, driver = make(rate_hz=100.0)
    driver.deaf = "no radio"
    assert not vehicle.write(HOVER, 2.0) and "no radio" in vehicle.trouble
    driver.advance(2.0005)
    vehicle.read()
    assert "no radio" in vehicle.trouble  # it is heard, and does not hear
    driver.deaf = ""
    assert vehicle.write(HOVER, 2.001) and vehicle.trouble == ""


# What it is asked


def test_it_is_asked_once_and_followed_through_its_phases():
    vehicle, driver = make()
    assert vehicle.progress(1.0) == ("idle", "") and vehicle.requests == 0
    vehicle.ask(1.0)
    assert (vehicle.waiting, vehicle.requests, driver.requests) == (True, 1, 1)
    for phase in ("streaming", "mode", "arming"):
        see(vehicle, 1.1, arming=phase)
        assert vehicle.progress(1.1) == ("waiting", phase)
    see(vehicle, 1.2, arming="done")  # asked, but its newest sample does not say so yet
    assert vehicle.progress(1.2) == ("waiting", "done")
    driver.follow()
    see(vehicle, 1.3)
    assert vehicle.progress(1.3) == ("following", "") and not vehicle.waiting
    assert vehicle.progress(1.3) == ("idle", "")  # told once
    assert not driver.stops


@pytest.mark.parametrize(("phase", "said", "words"), [
    ("failed", "arming: denied; the autopilot says: compass", "arming: denied; the autopilot says: compass"),
    ("idle", "", "the vehicle does not arm and does not say why"),
])  # fmt: skip
def test_its_refusal_is_told_once_in_its_words(phase, said, words):
    vehicle, driver = make()
    vehicle.ask(1.0)
    see(vehicle, 1.1, arming=phase, arming_problem=said)
    assert vehicle.progress(1.1) == ("refused", words)
    assert vehicle.progress(1.2) == ("idle", "") and not driver.stops


def test_a_vehicle_that_takes_too_long_is_released():
    vehicle, driver = make(patience=2.0)
    vehicle.ask(1.0)
    assert vehicle.progress(3.0) == ("waiting", "streaming")
    assert vehicle.progress(3.1) == ("refused", "the vehicle did not arm within 2 s")
    assert driver.stops == 1 and not vehicle.waiting


@pytest.mark.parametrize("phase", OURS)
def test_what_is_flown_from_here_or_about_to_be_is_released(phase):
    vehicle, driver = make()
    vehicle.ask(1.0)
    driver.follow()
    see(vehicle, 1.1, arming=phase)
    vehicle.release()
    assert driver.stops == 1 and not vehicle.waiting


@pytest.mark.parametrize("phase", ["idle", "failed"])
def test_what_is_not_flown_from_here_is_left_alone(phase):
    vehicle, driver = make()
    see(vehicle, 1.1, arming=phase, armed=True)
    vehicle.release()
    assert not driver.stops


def test_a_vehicle_that_a_pilot_has_just_taken_is_left_alone():
    """Its driver finds out by itself, but perhaps only after this process did."""
    vehicle, driver = make()
    driver.follow()
    see(vehicle, 1.1, accepting=False)
    vehicle.release()
    assert not driver.stops


def test_a_vehicle_without_a_safety_of_its_own_has_nothing_to_be_released_from():
    vehicle, driver = make(own_arming=False)
    vehicle.release()
    assert not driver.stops


@pytest.mark.parametrize("phase", ["idle", *OURS])
def test_an_emergency_stop_is_for_everyone(phase):
    vehicle, driver = make()
    vehicle.ask(1.0)
    see(vehicle, 1.1, arming=phase)
    vehicle.kill()
    assert driver.kills == 1 and not vehicle.waiting


def test_an_emergency_stop_that_does_not_arrive_is_an_error():
    vehicle, driver = make()
    driver.broken = "no radio"
    with pytest.raises(DriverError, match="no radio"):
        vehicle.kill()
