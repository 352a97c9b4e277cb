"""The simulated vehicle behaves like a real one: ground, sensors, firmware watchdog."""

import math
import time

import numpy as np
import pytest
import torch

from hardware import load_description
from hardware.controllers import quadrotor as controller
from policies import rotation
from policies.types import MotorSpeeds, QuadrotorState
from sim import quadrotor as physics
from sim.driver import SensorNoise, SimulatedQuadrotor, SimulatedQuadrotorConfig, single_parameters

DESCRIPTION = load_description("crazyflie")
HOVER = float(
    controller.motor_speeds_from_thrust(
        DESCRIPTION.parameters, np.full(4, controller.hover_thrust(DESCRIPTION.parameters) / 4)
    )[0]
)


def command(vehicle, speed, seconds, every=0.01):
    for _ in range(round(seconds / every)):
        assert vehicle.write(MotorSpeeds(np.full(4, float(speed))), vehicle.time) == ""
        vehicle.advance(every)


def flying(height=1.0, **kwargs):
    """A vehicle that hovers at about `height`, its rotors at speed."""
    vehicle = SimulatedQuadrotor(DESCRIPTION, **kwargs)
    command(vehicle, 1.1 * HOVER, 0.6)
    while vehicle.truth().position[2] < height:
        command(vehicle, 1.03 * HOVER, 0.01)
    while vehicle.truth().linear_velocity[2] > 0.02:
        command(vehicle, 0.95 * HOVER, 0.01)
    command(vehicle, HOVER, 0.3)
    return vehicle


def test_stands_still_until_the_thrust_exceeds_the_weight():
    vehicle = SimulatedQuadrotor(DESCRIPTION, position=(1.0, 2.0, 0.0), yaw=0.7)
    command(vehicle, 0.99 * HOVER, 2.0)
    state = vehicle.truth()
    np.testing.assert_array_equal(state.position, [1.0, 2.0, 0.0])
    np.testing.assert_array_equal(state.linear_velocity, np.zeros(3))
    assert rotation.yaw_of(state.orientation) == pytest.approx(0.7)
    assert vehicle.on_ground
    command(vehicle, 1.05 * HOVER, 1.0)
    assert vehicle.truth().position[2] > 0.02
    assert not vehicle.on_ground
    assert not vehicle.crashed


def test_friction_and_feet_hold_it_against_wind_and_torque():
    vehicle = SimulatedQuadrotor(
        DESCRIPTION, overrides={"external_force": [0.05, 0.0, 0.0], "external_torque": [1e-4, 0.0, 1e-4]}
    )
    command(vehicle, 0.5 * HOVER, 1.0)
    state = vehicle.truth()
    np.testing.assert_array_equal(state.position, np.zeros(3))
    np.testing.assert_allclose(state.orientation, [1.0, 0.0, 0.0, 0.0])


def test_flight_is_that_of_the_dynamics():
    vehicle = SimulatedQuadrotor(DESCRIPTION, position=(0.0, 0.0, 5.0), overrides={"mass": 0.03})
    state = QuadrotorState(*(torch.as_tensor(x) for x in vars(vehicle.truth()).values()))
    parameters = single_parameters(DESCRIPTION, {"mass": 0.03})
    speeds = np.array([1900.0, 1850.0, 1900.0, 1860.0])
    for _ in range(20):
        vehicle.write(MotorSpeeds(speeds), vehicle.time)
        vehicle.advance(0.005)
        state = physics.step(state, torch.as_tensor(speeds), parameters, 0.005)
    for ours, theirs in zip(vars(vehicle.truth()).values(), vars(state).values(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_soft_landing_leaves_it_whole_and_a_fall_breaks_it():
    soft = flying(0.3)
    command(soft, 0.97 * HOVER, 3.0)
    assert soft.on_ground
    assert not soft.crashed
    hard = SimulatedQuadrotor(DESCRIPTION, position=(0.0, 0.0, 0.5))
    hard.advance(1.0)
    assert hard.crashed
    assert hard.truth().position[2] == 0.0
    assert hard.counters["crashes"] == 1
    command(hard, 1.2 * HOVER, 1.0)
    assert hard.truth().position[2] == 0.0
    hard.reset()
    command(hard, 1.2 * HOVER, 1.0)
    assert hard.truth().position[2] > 0.1


def test_touching_the_ground_tilted_breaks_it():
    vehicle = SimulatedQuadrotor(
        DESCRIPTION, position=(0.0, 0.0, 0.05), overrides={"external_torque": [3e-3, 0.0, 0.0]}
    )
    vehicle.advance(0.3)
    assert vehicle.crashed
    assert rotation.tilt_of(vehicle.truth().orientation) > 0.6


def test_time_advances_in_whole_steps_whatever_the_calls():
    coarse, fine = (SimulatedQuadrotor(DESCRIPTION, position=(0, 0, 9), start_time=100.0) for _ in range(2))
    coarse.advance(0.5)
    for _ in range(700):
        fine.advance(0.5 / 700)
    assert coarse.time == fine.time == pytest.approx(100.5)
    np.testing.assert_array_equal(coarse.truth().position, fine.truth().position)
    assert coarse.truth().position[2] == pytest.approx(9.0 - 0.5 * 9.81 * 0.25, abs=0.06)
    with pytest.raises(ValueError, match="only advance"):
        coarse.advance(-0.1)


def test_accelerometer_feels_gravity_at_rest_and_nothing_in_free_fall():
    vehicle = SimulatedQuadrotor(DESCRIPTION, overrides={"drag": [0.0, 0.0, 0.0]})
    vehicle.advance(0.1)
    np.testing.assert_allclose(vehicle.imu()[2], [0.0, 0.0, 9.81])
    falling = SimulatedQuadrotor(DESCRIPTION, position=(0, 0, 5), overrides={"drag": [0.0, 0.0, 0.0]})
    np.testing.assert_allclose(falling.imu()[2], np.zeros(3), atol=1e-12)
    falling.advance(0.2)
    np.testing.assert_allclose(falling.imu()[2], np.zeros(3), atol=1e-9)


def test_accelerometer_of_a_tilted_flight_points_along_the_thrust():
    vehicle = SimulatedQuadrotor(
        DESCRIPTION,
        position=(0, 0, 5),
        overrides={"external_torque": [3e-5, 1e-5, 0], "drag": [0.0, 0.0, 0.0]},
    )
    command(vehicle, HOVER, 0.4)
    orientation, rates, force = vehicle.imu()
    assert rotation.tilt_of(orientation) > 0.1
    assert np.linalg.norm(rates) > 0.1
    assert np.linalg.norm(force[:2]) < 0.02 * force[2]


def test_noise_has_the_deviation_that_was_asked_for_and_comes_from_the_seed():
    noise = SensorNoise(position=0.01, orientation=0.02, linear_velocity=0.03, angular_velocity=0.04, acceleration=0.5)
    config = SimulatedQuadrotorConfig(noise=noise)
    one, two, other = (SimulatedQuadrotor(DESCRIPTION, config, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.read().position, two.read().position)
    assert np.any(one.read().position != other.read().position)
    reads = [one.read() for _ in range(2000)]
    tilts = [rotation.tilt_of(r.orientation) for r in reads]
    assert np.std([r.position for r in reads]) == pytest.approx(0.01, rel=0.05)
    assert np.std([r.linear_velocity for r in reads]) == pytest.approx(0.03, rel=0.05)
    assert np.std([r.angular_velocity for r in reads]) == pytest.approx(0.04, rel=0.05)
    assert np.sqrt(np.mean(np.square(tilts)) / 2) == pytest.approx(0.02, rel=0.05)
    assert np.std([one.imu()[2][0] for _ in range(2000)]) == pytest.approx(0.5, rel=0.05)
    np.testing.assert_array_equal(one.truth().position, np.zeros(3))


@pytest.mark.parametrize(
    ("values", "offset", "key"),
    [
        ([1.0, 2.0, math.nan, 3.0], 0.0, "not_finite"),
        ([1.0, 2.0, 3.0], 0.0, "not_finite"),
        ([1.0] * 4, math.nan, "not_finite"),
        ([1.0] * 4, -0.11, "stale"),
        ([1.0] * 4, -0.02, "not_newer"),
        ([1.0] * 4, 0.05, "future"),
    ],
)
def test_bad_commands_are_refused_and_counted(values, offset, key):
    vehicle = flying()
    before = vehicle.truth()
    refusal = vehicle.write(MotorSpeeds(np.array(values)), vehicle.time + offset)
    assert refusal
    assert vehicle.counters[key] == 1
    vehicle.advance(0.05)
    assert vehicle.watchdog == "ok"
    assert abs(vehicle.truth().position[2] - before.position[2]) < 0.02


def test_speeds_are_limited_to_what_the_rotors_can():
    vehicle = SimulatedQuadrotor(DESCRIPTION, position=(0, 0, 5))
    assert vehicle.write(MotorSpeeds(np.array([-50.0, 9e9, 0.0, 100.0])), vehicle.time) == ""
    assert vehicle.counters["clipped"] == 1
    vehicle.advance(0.09)
    speeds = vehicle.truth().motor_speeds
    assert speeds[0] == 0.0
    assert speeds[1] < float(DESCRIPTION.parameters["max_speed"])


def test_watchdog_levels_descends_and_locks_at_its_times():
    vehicle = flying(2.0)
    command(vehicle, HOVER, 0.01)
    silent, seen, heights = vehicle.time - 0.01, {}, []
    for _ in range(440):
        vehicle.advance(0.005)
        seen.setdefault(vehicle.watchdog, vehicle.time - 0.005 - silent)
        heights.append(vehicle.truth().position[2])
    assert seen["level"] == pytest.approx(0.1, abs=0.006)
    assert seen["descending"] == pytest.approx(0.5, abs=0.006)
    assert seen["locked"] == pytest.approx(2.0, abs=0.006)
    # It stayed up at first, then sank at half a metre per second.
    assert abs(heights[90] - heights[0]) < 0.1
    assert heights[300] - heights[380] == pytest.approx(0.2, abs=0.05)
    assert vehicle.counters["watchdog_trips"] == 3


def test_watchdog_rights_a_vehicle_left_tilted():
    vehicle = flying(1.5)
    kick = HOVER * np.array([0.99, 0.99, 1.01, 1.01])
    for _ in range(20):
        vehicle.write(MotorSpeeds(kick), vehicle.time)
        vehicle.advance(0.005)
    vehicle.advance(0.1)
    assert np.linalg.norm(vehicle.truth().angular_velocity) > 0.8
    vehicle.advance(0.39)
    assert vehicle.watchdog == "level"
    assert rotation.tilt_of(vehicle.truth().orientation) < 0.1  # left alone it would be at 0.5


def test_watchdog_lets_go_when_commands_return_but_not_once_locked():
    vehicle = flying(2.0)
    vehicle.advance(0.4)
    assert vehicle.watchdog == "level"
    command(vehicle, HOVER, 0.05)
    assert vehicle.watchdog == "ok"
    vehicle.advance(2.2)
    assert vehicle.watchdog == "locked"
    vehicle.reset((0.0, 0.0, 0.0))
    vehicle._watchdog = "locked"
    command(vehicle, 1.2 * HOVER, 0.5)
    assert vehicle.watchdog == "locked"
    assert vehicle.truth().position[2] == 0.0
    command(vehicle, 0.0, 0.02)
    command(vehicle, 1.2 * HOVER, 0.5)
    assert vehicle.truth().position[2] > 0.01


def test_watchdog_does_not_start_motors_that_were_off_or_a_vehicle_on_the_ground():
    vehicle = SimulatedQuadrotor(DESCRIPTION)
    vehicle.advance(3.0)
    assert vehicle.watchdog == "off"
    command(vehicle, 0.5 * HOVER, 0.5)
    vehicle.advance(0.3)
    assert vehicle.watchdog == "off"
    dropped = flying(0.5)
    command(dropped, 0.0, 0.02)
    dropped.advance(0.25)
    assert dropped.watchdog == "off"
    assert dropped.truth().linear_velocity[2] < -0.5


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"weight": 1.0}, "unknown parameter 'weight'"),
        ({"mass": math.nan}, "'mass'"),
        ({"drag": 1.0}, "shape (3,)"),
    ],
)
def test_wrong_overrides_are_refused_in_words(overrides, words):
    with pytest.raises(ValueError, match="parameter") as error:
        SimulatedQuadrotor(DESCRIPTION, overrides=overrides)
    assert words in str(error.value)


def test_battery_sags_under_load():
    fresh, weak = (SimulatedQuadrotor(DESCRIPTION, overrides={"battery_sag": sag}) for sag in (0.0, 0.1))
    for vehicle in (fresh, weak):
        command(vehicle, 0.9 * HOVER, 3.0)
    ratio = weak.truth().motor_speeds[0] / fresh.truth().motor_speeds[0]
    load = (weak.truth().motor_speeds[0] / float(DESCRIPTION.parameters["max_speed"])) ** 2
    assert ratio == pytest.approx(1.0 - 0.1 * load, abs=1e-4)
    with pytest.raises(ValueError, match="'battery_sag' is 1.5"):
        SimulatedQuadrotor(DESCRIPTION, overrides={"battery_sag": 1.5})


def test_start_below_the_ground_is_refused():
    with pytest.raises(ValueError, match="z at or above 0"):
        SimulatedQuadrotor(DESCRIPTION, position=(0.0, 0.0, -0.1))


def test_thrust_curve_may_differ_per_rotor():
    curve = np.broadcast_to(DESCRIPTION.parameters["thrust_coefficients"], (4, 3)).copy()
    curve[0, 2] *= 0.9
    parameters = single_parameters(DESCRIPTION, {"thrust_coefficients": curve})
    thrusts = physics.rotor_thrusts(torch.full((4,), 1800.0, dtype=torch.float64), parameters)
    assert thrusts[0] == pytest.approx(0.9 * float(thrusts[1]))


def test_is_cheap_enough_for_real_time():
    vehicle = flying()
    begin = time.process_time()
    command(vehicle, HOVER, 1.0)
    # A fifth of a core is the aim, 0.13 measured; this leaves room for a slow, busy machine.
    assert time.process_time() - begin < 0.6
