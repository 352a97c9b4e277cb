"""The cascade: equilibrium, limits, anti-windup."""

import numpy as np
import pytest
import torch

from hardware import load_description
from hardware.controllers import cascaded_pid as pid
from hardware.controllers.quadrotor import motor_speeds_from_thrust
from policies import rotation
from policies.types import QuadrotorSetpoint, QuadrotorState

BELIEVED = load_description("crazyflie").parameters
HOVER = motor_speeds_from_thrust(BELIEVED, np.full(4, float(BELIEVED["mass"]) * 9.81 / 4))
CONFIG = pid.PidConfig()


def resting(orientation=(1.0, 0.0, 0.0, 0.0)):
    return QuadrotorState(np.zeros(3), np.asarray(orientation), np.zeros(3), np.zeros(3), HOVER)


def at(position, yaw=0.0):
    return QuadrotorSetpoint(np.asarray(position, float), np.zeros(3), np.zeros(3), np.asarray(yaw))


def test_at_rest_on_the_set_point_the_rotors_hover():
    state = resting()
    speeds, memory = pid.track(BELIEVED, state, at([0, 0, 0]), pid.initial_memory(state), 0.01)
    np.testing.assert_allclose(speeds, HOVER, rtol=1e-9)
    np.testing.assert_array_equal(memory.velocity_integral, 0.0)
    np.testing.assert_array_equal(memory.rate_integral, 0.0)


def test_the_outer_loops_bound_speed_and_tilt():
    push, _ = pid.velocity_loop(resting(), at([100.0, 0.0, 0.0]), np.zeros(3), 0.01)
    assert np.arctan2(push[0], push[2]) == pytest.approx(
        min(CONFIG.max_tilt, np.arctan(CONFIG.velocity_gain[0] * CONFIG.max_speed / CONFIG.gravity))
    )
    state = QuadrotorState(np.zeros(3), resting().orientation, np.array([CONFIG.max_speed, 0.0, 0.0]), np.zeros(3))
    push, _ = pid.velocity_loop(state, at([100.0, 0.0, 0.0]), np.zeros(3), 0.01)
    np.testing.assert_allclose(push, [0.0, 0.0, CONFIG.gravity], atol=1e-12)


@pytest.mark.parametrize("axis", [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.6, -0.8, 0.0)])
def test_the_attitude_loop_turns_the_shortest_way(axis):
    state = rotation.from_rotation_vector(0.2 * np.asarray(axis))
    rates = pid.attitude_loop(state, np.array([0.0, 0.0, 9.81]), rotation.yaw_of(state))
    np.testing.assert_allclose(rates[:2], -0.2 * CONFIG.attitude_gain[0] * np.asarray(axis)[:2], atol=1e-9)
    upside_down = pid.attitude_loop(np.array([0.0, 1.0, 0.0, 0.0]), np.array([0.0, 0.0, 9.81]), np.asarray(0.0))
    assert np.linalg.norm(upside_down[:2]) == pytest.approx(CONFIG.max_rates[0])


def test_integrals_do_not_wind_up_while_limits_hold():
    """A vehicle that is held: sideways the lean is at its limit, and no more integral would change it."""
    config = pid.PidConfig(max_tilt=0.3)
    state = resting()
    memory = pid.initial_memory(state)
    for _ in range(200):
        _, memory = pid.track(BELIEVED, state, at([50.0, 0.0, 0.0]), memory, 0.05, config)
    assert memory.velocity_integral[0] == 0.0
    # A held, tilted vehicle whose rotors are at their limits: the rates' integral waits.
    tilted = resting(rotation.from_rotation_vector(np.array([1.0, 0.0, 0.0])))
    config = pid.PidConfig(max_rates=(60.0, 60.0, 1.5), attitude_gain=(60.0, 60.0, 1.5))
    memory = pid.initial_memory(tilted)
    for _ in range(200):
        _, memory = pid.track(BELIEVED, tilted, at([0.0, 0.0, 0.0]), memory, 0.05, config)
    assert abs(memory.rate_integral[0]) < 0.2 * config.rate_integral_limit[0]


def test_integrals_are_bounded_and_forget_when_the_error_turns():
    state, memory = resting(), pid.initial_memory(resting())
    for _ in range(300):
        _, memory = pid.track(BELIEVED, state, at([0.2, 0.2, 0.2]), memory, 0.1)
    np.testing.assert_allclose(memory.velocity_integral, CONFIG.velocity_integral_limit)
    _, after = pid.track(BELIEVED, state, at([-0.2, -0.2, -0.2]), memory, 0.01)
    assert np.all(after.velocity_integral < memory.velocity_integral)


def test_the_derivative_damps_the_measured_rates_and_ignores_the_set_point():
    config = pid.PidConfig(rate_derivative_gain=(0.2, 0.2, 0.0))
    calm = pid.initial_memory(resting())
    jumped, _ = pid.track(BELIEVED, resting(), at([0.0, 0.4, 0.0]), calm, 0.01, config)
    without, _ = pid.track(BELIEVED, resting(), at([0.0, 0.4, 0.0]), calm, 0.01)
    np.testing.assert_allclose(jumped, without)
    turning = QuadrotorState(np.zeros(3), resting().orientation, np.zeros(3), np.array([0.5, 0.0, 0.0]), HOVER)
    damped, _ = pid.track(BELIEVED, turning, at([0, 0, 0]), calm, 0.01, config)
    plain, _ = pid.track(BELIEVED, turning, at([0, 0, 0]), calm, 0.01)
    # Rolling to the right (about +x): the right rotors push harder still.
    assert (damped[:2] - damped[2:]).sum() > (plain[:2] - plain[2:]).sum()


def test_numpy_equals_torch():
    rng = np.random.default_rng(5)
    q = rng.normal(size=(8, 4))
    arrays = [rng.normal(size=(8, 3)), q / np.linalg.norm(q, axis=-1, keepdims=True), rng.normal(size=(8, 3)),
              rng.normal(size=(8, 3)), rng.uniform(0, 2000, (8, 4))]  # fmt: skip
    goal = [*rng.normal(size=(3, 8, 3)), rng.uniform(-3, 3, 8)]
    state, setpoint = QuadrotorState(*arrays), QuadrotorSetpoint(*goal)
    tensors = QuadrotorState(*map(torch.as_tensor, arrays)), QuadrotorSetpoint(*map(torch.as_tensor, goal))
    ours, kept = pid.track(BELIEVED, state, setpoint, pid.initial_memory(state), 0.01)
    theirs, other = pid.track(BELIEVED, *tensors, pid.initial_memory(tensors[0]), 0.01)
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)
    np.testing.assert_allclose(kept.rate_integral, other.rate_integral, atol=1e-12)
