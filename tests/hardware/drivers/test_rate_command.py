"""Rotor speeds as body rates and thrust."""

import dataclasses

import numpy as np
import pytest
from flying_body import FlyingBody

import policies
from hardware.controllers import geometric
from hardware.controllers.quadrotor import motor_speeds_from_wrench, predict_motor_speeds
from hardware.descriptions import load_description
from hardware.drivers import frames
from hardware.drivers.rate_command import RotorsAsRates, rates_from_motor_speeds
from policies.types import MotorSpeeds, QuadrotorSetpoint, QuadrotorState

PERIOD = 0.01
DRONE = load_description("crazyflie")
P = DRONE.parameters


def test_hover_is_gravity_and_no_rates():
    speeds = motor_speeds_from_wrench(P, np.array(9.81 * P["mass"]), np.zeros(3))
    command = rates_from_motor_speeds(DRONE, MotorSpeeds(speeds), np.zeros(3))
    assert float(command.thrust) == pytest.approx(9.81)
    np.testing.assert_allclose(command.rates, 0.0, atol=1e-9)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_an_inner_loop_with_that_lag_turns_as_the_rotors_would(axis):
    """(commanded rate - rate) / lag is the angular acceleration of the torque, gyroscopic part included."""
    rates, lag = np.array([1.0, -0.5, 0.7]), 0.04
    torque = np.zeros(3)
    torque[axis] = 0.1 * P["mass"] * 9.81 * (P["yaw_torque_ratio"] if axis == 2 else 0.028)
    speeds = motor_speeds_from_wrench(P, np.array(9.81 * P["mass"]), torque)
    command = rates_from_motor_speeds(DRONE, MotorSpeeds(speeds), rates, inner_lag=lag, max_rate=100.0)
    expected = (torque - np.cross(rates, P["inertia"] * rates)) / P["inertia"]
    np.testing.assert_allclose((command.rates - rates) / lag, expected, rtol=1e-6)


def test_rates_are_bounded_and_standing_rotors_are_off():
    speeds = np.array([0.0, 0.0, 2000.0, 2000.0])
    command = rates_from_motor_speeds(DRONE, MotorSpeeds(speeds), np.zeros(3), max_rate=3.0)
    assert np.linalg.norm(command.rates) == pytest.approx(3.0)
    off = rates_from_motor_speeds(DRONE, MotorSpeeds(np.zeros(4)), np.ones(3))
    assert float(off.thrust) == 0.0
    assert not np.any(off.rates)


def hover_by(commands, converter, delay=2, seconds=8.0):
    """rms (m) and largest rate (rad/s) of the last 2 s of a hover through an autopilot 20 ms away.

    Its inner loops are quicker than assumed and its thrust is 5 % too strong.
    """
    body, goal, samples, rows = FlyingBody(), np.array([0.4, 0.8, 1.0]), [], []
    for tick in range(int(seconds / PERIOD)):
        samples.append(
            QuadrotorState(
                frames.swap_world(body.position),
                frames.swap_orientation(body.orientation),
                frames.swap_world(body.velocity),
                frames.swap_body(body.rates),
            )
        )
        seen = samples[max(0, tick - delay)]
        place = goal * min(1.0, tick * PERIOD / 2.0)
        setpoint = QuadrotorSetpoint(place, np.zeros(3), np.zeros(3), np.array(0.5 * np.pi))
        command = converter.convert(commands(seen, setpoint), seen.angular_velocity, PERIOD)
        for _ in range(4):
            body.step(frames.swap_body(command.rates), 1.05 * float(command.thrust), PERIOD / 4)
        rows.append([*(samples[-1].position - goal), np.linalg.norm(command.rates)])
    last = np.array(rows[-200:])
    return float(np.sqrt(np.mean(np.sum(last[:, :3] ** 2, axis=-1)))), float(np.max(last[:, 3]))


@pytest.mark.parametrize("name", ["quadrotor-track", "quadrotor-hover"])
def test_a_share_of_the_rotors_inertia_lets_a_policy_hover(name):
    """Without it a policy that was trained on slow rotors chatters at the bound of the rates; with it it is calm."""
    policy = policies.load(name, robot=DRONE.interface)
    errors = {}
    for share in (0.0, 0.3):
        policy.reset()
        errors[share] = hover_by(policy.step, RotorsAsRates(DRONE, rotor_share=share))
    print(f"{name}: (rms m, rad/s) by share of inertia {errors}")
    assert errors[0.0][1] > 4.0
    assert errors[0.3][0] < 0.03 and errors[0.3][1] < 0.5


@pytest.mark.parametrize("delay", [1, 3])
def test_a_controller_hovers_through_the_same_share(delay):
    memory = np.zeros(3)
    rotors = np.zeros(4)

    def commands(state, setpoint):
        nonlocal memory, rotors
        speeds, memory = geometric.track(P, dataclasses.replace(state, motor_speeds=rotors), setpoint, memory, PERIOD)
        rotors = predict_motor_speeds(P, rotors, speeds, PERIOD)
        return MotorSpeeds(speeds)

    error, rate = hover_by(commands, RotorsAsRates(DRONE), delay)
    assert error < 0.01 and rate < 0.2


def test_motors_off_is_at_once_and_a_start_is_soft():
    converter = RotorsAsRates(DRONE)
    hover = MotorSpeeds(motor_speeds_from_wrench(P, np.array(9.81 * P["mass"]), np.zeros(3)))
    thrusts = [float(converter.convert(hover, np.zeros(3), 0.01).thrust) for _ in range(40)]
    assert thrusts[0] < 0.5 * 9.81
    assert np.all(np.diff(thrusts) > 0.0)
    assert thrusts[-1] == pytest.approx(9.81, rel=1e-3)
    off = converter.convert(MotorSpeeds(np.zeros(4)), np.ones(3), 0.01)
    assert float(off.thrust) == 0.0 and not np.any(off.rates)
