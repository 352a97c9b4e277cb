"""Lee's controller: its attitude error, the exponential decrease that the paper proves, and flight."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from hardware import load_description
from hardware.controllers import geometric
from hardware.controllers.quadrotor import motor_speeds_from_thrust
from policies import rotation
from policies.types import QuadrotorSetpoint, QuadrotorState

BELIEVED = load_description("crazyflie").parameters
HOVER = motor_speeds_from_thrust(BELIEVED, np.full(4, float(BELIEVED["mass"]) * 9.81 / 4))


def resting(yaw=0.0):
    zero = np.zeros(3)
    return QuadrotorState(zero, rotation.from_yaw(np.asarray(yaw)), zero, zero, HOVER)


def at(position, yaw=0.0, velocity=(0, 0, 0), acceleration=(0, 0, 0)):
    return QuadrotorSetpoint(*(np.asarray(x, float) for x in (position, velocity, acceleration, yaw)))


@pytest.mark.parametrize("yaw", [0.0, 2.0, -3.1])
def test_at_rest_on_the_set_point_the_rotors_hover(yaw):
    speeds, integral = geometric.track(BELIEVED, resting(yaw), at([0, 0, 0], yaw), np.zeros(3), 0.01)
    np.testing.assert_allclose(speeds, HOVER, rtol=1e-9)
    np.testing.assert_array_equal(integral, 0.0)


def test_the_attitude_error_is_the_sine_of_the_angle_about_its_axis():
    rng = np.random.default_rng(0)
    wanted = Rotation.random(50, random_state=1)
    axis = rng.normal(size=(50, 3))
    axis /= np.linalg.norm(axis, axis=-1, keepdims=True)
    angle = rng.uniform(0.0, np.pi, (50, 1))
    turned = wanted * Rotation.from_rotvec(angle * axis)
    error = geometric.attitude_error(turned.as_matrix(), wanted.as_matrix())
    np.testing.assert_allclose(error, np.sin(angle) * axis, atol=1e-12)


def test_the_wanted_attitude_points_thrust_along_the_force_and_the_nose_along_the_heading():
    rng = np.random.default_rng(2)
    force = rng.normal(size=(40, 3)) + [0.0, 0.0, 6.0]
    heading = rng.uniform(-np.pi, np.pi, 40)
    wanted = geometric.wanted_attitude(force, heading)
    np.testing.assert_allclose(wanted @ np.swapaxes(wanted, -1, -2), np.broadcast_to(np.eye(3), (40, 3, 3)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(wanted), 1.0)
    np.testing.assert_allclose(wanted[:, :, 2], force / np.linalg.norm(force, axis=-1, keepdims=True), atol=1e-12)
    nose = np.stack([np.cos(heading), np.sin(heading), np.zeros(40)], axis=-1)
    seen = nose - np.sum(nose * wanted[:, :, 2], axis=-1, keepdims=True) * wanted[:, :, 2]
    np.testing.assert_allclose(wanted[:, :, 0], seen / np.linalg.norm(seen, axis=-1, keepdims=True), atol=1e-12)


def test_attitude_errors_decrease_exponentially_on_a_rigid_body():
    rng = np.random.default_rng(3)
    count, dt = 100, 2e-3
    inertia = np.array([16.8e-6, 16.8e-6, 29.8e-6])
    wanted = Rotation.random(count, random_state=4).as_matrix()
    axis = rng.normal(size=(count, 3))
    axis *= rng.uniform(0.1, 3.0, (count, 1)) / np.linalg.norm(axis, axis=-1, keepdims=True)  # up to 172 degrees
    attitude, rates = wanted @ Rotation.from_rotvec(axis).as_matrix(), np.zeros((count, 3))
    config = geometric.GeometricConfig(attitude_gain=(60.0, 60.0, 60.0), rate_gain=(12.0, 12.0, 12.0))
    history = []
    for _ in range(2000):
        torque = geometric.body_torque(inertia, attitude, rates, wanted, np.zeros((count, 3)), config)
        rates = rates + dt * (torque - np.cross(rates, inertia * rates)) / inertia
        attitude = attitude @ Rotation.from_rotvec(rates * dt).as_matrix()
        history.append(0.5 * np.trace(np.eye(3) - np.swapaxes(wanted, -1, -2) @ attitude, axis1=-2, axis2=-1))
    error = np.array(history)
    # Near the goal the error is that of s² + 12 s + 60: it falls with 6 1/s, and its square, Ψ, with 12 1/s.
    below = np.argmax(error < 1.0, axis=0)
    assert np.all(error[below, np.arange(count)] < 1.0) and below.max() < 1500
    after = np.arange(0, 500)
    envelope = 8.0 * np.exp(-9.0 * dt * after)
    for k in range(count):
        assert np.all(error[below[k] :, k][:500] <= envelope), k
    assert error[-1].max() < 1e-9


def test_following_a_moving_attitude_needs_the_feed_forward():
    """With the set-point's jerk the thrust axis follows a turning force; without, it lags behind."""
    inertia, dt, omega = np.array([16.8e-6, 16.8e-6, 29.8e-6]), 4e-3, 3.0
    lag = []
    for share in (1.0, 0.0):
        attitude, rates = np.eye(3), np.zeros(3)
        errors = []
        for k in range(750):
            t = k * dt
            force = np.array([3.0 * np.sin(omega * t), 0.0, 9.81])
            jerk = share * np.array([3.0 * omega * np.cos(omega * t), 0.0, 0.0])
            wanted = geometric.wanted_attitude(force, np.asarray(0.0))
            ahead = geometric._wanted_rates(force, wanted, jerk, geometric.GeometricConfig())
            torque = geometric.body_torque(inertia, attitude, rates, wanted, ahead)
            rates = rates + dt * (torque - np.cross(rates, inertia * rates)) / inertia
            attitude = attitude @ Rotation.from_rotvec(rates * dt).as_matrix()
            errors.append(np.linalg.norm(geometric.attitude_error(attitude, wanted)))
        lag.append(max(errors[250:]))
    assert lag[0] < 0.6 * lag[1]


def test_numpy_equals_torch_batched_and_single():
    rng = np.random.default_rng(5)
    count = 12
    q = rng.normal(size=(count, 4))
    arrays = [rng.normal(size=(count, 3)), q / np.linalg.norm(q, axis=-1, keepdims=True),
              rng.normal(size=(count, 3)), rng.normal(size=(count, 3)), rng.uniform(0, 2000, (count, 4))]  # fmt: skip
    goal = [*rng.normal(size=(3, count, 3)), rng.uniform(-3, 3, count)]
    jerk = rng.normal(size=(count, 3))
    ours, kept = geometric.track(
        BELIEVED, QuadrotorState(*arrays), QuadrotorSetpoint(*goal), np.zeros((count, 3)), 0.01, jerk=jerk
    )
    tensors = [torch.as_tensor(x) for x in arrays], [torch.as_tensor(x) for x in goal]
    theirs, other = geometric.track(
        BELIEVED, QuadrotorState(*tensors[0]), QuadrotorSetpoint(*tensors[1]),
        torch.zeros(count, 3, dtype=torch.float64), 0.01, jerk=torch.as_tensor(jerk),
    )  # fmt: skip
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)
    np.testing.assert_allclose(kept, other)
    single, _ = geometric.track(
        BELIEVED, QuadrotorState(*(x[3] for x in arrays)), QuadrotorSetpoint(*(x[3] for x in goal)), np.zeros(3), 0.01,
        jerk=jerk[3],
    )  # fmt: skip
    np.testing.assert_allclose(single, ours[3], rtol=1e-9)


def test_a_heading_half_a_turn_away_is_led_and_does_not_freeze_the_tilt():
    state = QuadrotorState(*(np.zeros(3),), rotation.from_rotation_vector(np.array([0.3, 0.0, 0.0])), *np.zeros((2, 3)))
    speeds, _ = geometric.track(BELIEVED, state, at([0, 0, 0], np.pi), np.zeros(3), 0.01)
    # Rolled to the right of level: the right rotors (y < 0) must push harder.
    assert speeds[:2].min() > speeds[2:].max()


def test_the_integral_stays_within_its_bounds():
    integral = np.zeros(3)
    for _ in range(200):
        _, integral = geometric.track(BELIEVED, resting(), at([0.3, 0.3, 9.0]), integral, 0.1)
    limit = np.array(geometric.GeometricConfig().integral_limit)
    assert np.all(np.abs(integral) <= limit) and integral[2] == limit[2]
