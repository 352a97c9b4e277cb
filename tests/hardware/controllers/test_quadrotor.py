"""The failsafe's controllers: allocation by physics, and closed loops on vehicles unlike the believed one."""

from dataclasses import fields

import numpy as np
import pytest
import torch

from hardware import load_description
from hardware.controllers import quadrotor as controller
from policies import rotation
from policies.types import QuadrotorSetpoint, QuadrotorState
from sim import quadrotor as physics
from sim.driver import single_parameters

DESCRIPTION = load_description("crazyflie")
BELIEVED = DESCRIPTION.parameters
WEIGHT = float(controller.hover_thrust(BELIEVED))
ARM_SQUARED = 2 * 0.028**2


def vehicles(mass, thrust_to_weight, inertia_ratio=None, rise=0.055, fall=0.249, yaw_ratio=0.00735):
    """Parameters of N true vehicles; inertia as believed where no ratio to mass × arm² is given."""
    nominal = single_parameters(DESCRIPTION)
    count = len(mass)
    base = {f.name: getattr(nominal, f.name) for f in fields(nominal)}
    base = {name: value.expand(count, *value.shape).clone() for name, value in base.items()}

    def full(value):
        return torch.as_tensor(value, dtype=torch.float64).expand(count).clone()

    mass = full(mass)
    base["thrust_coefficients"][:, :, 2] = (full(thrust_to_weight) * mass * 9.81 / 4 / base["max_speed"] ** 2)[:, None]
    if inertia_ratio is not None:
        jx = full(inertia_ratio) * mass * ARM_SQUARED
        base["inertia"] = torch.stack([jx, jx, 1.8 * jx], dim=-1)
    base |= {
        "mass": mass,
        "rise_time": full(rise),
        "fall_time": full(fall),
        "yaw_torque_ratio": full(yaw_ratio),
    }
    return physics.QuadrotorParameters(**base)


def thrown(count, tilt, seed=0, speed=1.0, away=0.5, rate=1.0):
    """States at random tilt up to `tilt` rad, heading, velocity and position, rotors at hover."""
    rng = np.random.default_rng(seed)
    axis = rng.normal(size=(count, 3)) * [1.0, 1.0, 0.0]
    axis *= rng.uniform(0.0, tilt, (count, 1)) / np.linalg.norm(axis, axis=-1, keepdims=True)
    heading = rotation.from_yaw(rng.uniform(-3.0, 3.0, count))
    hover = controller.motor_speeds_from_thrust(BELIEVED, np.full((count, 4), WEIGHT / 4))
    arrays = (
        rng.uniform(-away, away, (count, 3)),
        rotation.multiply(heading, rotation.from_rotation_vector(axis)),
        rng.uniform(-speed, speed, (count, 3)),
        rng.uniform(-rate, rate, (count, 3)),
        hover,
    )
    return QuadrotorState(*(torch.as_tensor(a) for a in arrays))


def fly(truth, state, control, seconds, period=0.01):
    """Close the loop at 100 Hz with one period of delay; yields the numpy state before each command."""
    motors = state.motor_speeds.numpy().copy()
    pending = motors
    for _ in range(round(seconds / period)):
        seen = QuadrotorState(
            state.position.numpy(), state.orientation.numpy(), state.linear_velocity.numpy(),
            state.angular_velocity.numpy(), motors,
        )  # fmt: skip
        yield seen
        command = control(seen)
        motors = controller.predict_motor_speeds(BELIEVED, motors, command, period)
        state = physics.step(state, torch.as_tensor(pending), truth, period)
        pending = command


def holding(target):
    integral = np.zeros_like(target.position)

    def control(seen):
        nonlocal integral
        speeds, integral = controller.hold_position(BELIEVED, seen, target, integral, 0.01)
        return speeds

    return control


def origin(state):
    zero = np.zeros(state.position.shape)
    return QuadrotorSetpoint(zero, zero, zero, rotation.yaw_of(state.orientation.numpy()))


@pytest.mark.parametrize("linear", [0.0, 0.4])
def test_rotors_make_exactly_the_wrench_that_was_asked_for(linear):
    max_speed = float(BELIEVED["max_speed"])
    full = 0.125
    curve = np.array([0.0, linear * full / max_speed, (1.0 - linear) * full / max_speed**2])
    parameters = dict(BELIEVED, thrust_coefficients=curve)
    rng = np.random.default_rng(1)
    thrust = rng.uniform(0.25, 0.35, 50)
    torque = rng.uniform(-1.0, 1.0, (50, 3)) * [8e-4, 8e-4, 2e-4]
    speeds = controller.motor_speeds_from_wrench(parameters, thrust, torque)
    rotors = controller.thrust_from_motor_speeds(parameters, speeds)
    x, y, _ = BELIEVED["rotor_positions"].T
    np.testing.assert_allclose(rotors.sum(-1), thrust)
    np.testing.assert_allclose(rotors @ y, torque[:, 0], atol=1e-12)
    np.testing.assert_allclose(-rotors @ x, torque[:, 1], atol=1e-12)
    yaw = BELIEVED["rotor_yaw_signs"] * BELIEVED["yaw_torque_ratio"]
    np.testing.assert_allclose(rotors @ yaw, torque[:, 2], atol=1e-12)


def test_too_much_thrust_gives_up_height_and_keeps_the_torque():
    torque = np.array([5e-4, -3e-4, 0.0])
    speeds = controller.motor_speeds_from_wrench(BELIEVED, np.asarray(10.0 * WEIGHT), torque)
    assert speeds.max() == pytest.approx(float(BELIEVED["max_speed"]))
    rotors = controller.thrust_from_motor_speeds(BELIEVED, speeds)
    assert rotors @ BELIEVED["rotor_positions"][:, 1] == pytest.approx(torque[0])
    assert np.all(controller.motor_speeds_from_wrench(BELIEVED, np.asarray(-1.0), np.zeros(3)) == 0.0)


def test_thrust_curve_and_its_inverse_agree_with_the_simulator():
    thrust = np.linspace(0.0, 0.12, 40).reshape(10, 4)
    speeds = controller.motor_speeds_from_thrust(BELIEVED, thrust)
    truth = vehicles(np.full(10, BELIEVED["mass"]), 1.0)
    truth.thrust_coefficients[:] = torch.as_tensor(BELIEVED["thrust_coefficients"])
    np.testing.assert_allclose(physics.rotor_thrusts(torch.as_tensor(speeds), truth), thrust, atol=1e-15)


def test_predicted_rotor_speeds_are_those_of_the_simulator():
    state = thrown(3, 0.0)
    command = np.array([[0.0, 500.0, 2000.0, 2272.6]] * 3)
    truth = vehicles(np.full(3, 0.03), 1.6)
    after = physics.step(state, torch.as_tensor(command), truth, 0.005)
    predicted = controller.predict_motor_speeds(BELIEVED, state.motor_speeds.numpy(), command, 0.005)
    np.testing.assert_allclose(after.motor_speeds, predicted, rtol=1e-6)


def test_rotors_without_lag_follow_at_once():
    ideal = dict(BELIEVED, rise_time=np.asarray(0.0), fall_time=np.asarray(0.0))
    before, command = np.full(4, 1000.0), np.array([0.0, 900.0, 1000.0, 2000.0])
    np.testing.assert_array_equal(controller.predict_motor_speeds(ideal, before, command, 0.01), command)


def test_numpy_equals_torch():
    state = thrown(16, 1.5)
    arrays = QuadrotorState(*(x.numpy() for x in vars(state).values()))
    target = origin(state)
    tensors = QuadrotorSetpoint(*(torch.as_tensor(x) for x in vars(target).values()))
    ours, integral = controller.hold_position(BELIEVED, arrays, target, np.zeros((16, 3)), 0.01)
    theirs, other = controller.hold_position(BELIEVED, state, tensors, torch.zeros(16, 3, dtype=torch.float64), 0.01)
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)
    np.testing.assert_allclose(integral, other)
    single = controller.level(BELIEVED, arrays.orientation[3], arrays.angular_velocity[3], np.asarray(WEIGHT))
    batch = controller.level(
        BELIEVED, state.orientation, state.angular_velocity, torch.full((16,), WEIGHT, dtype=torch.float64)
    )
    np.testing.assert_allclose(single, batch[3], rtol=1e-9)


def test_level_rights_the_nominal_vehicle_keeps_height_and_heading():
    truth = vehicles(np.full(32, BELIEVED["mass"]), 1.53)
    start = thrown(32, 0.6)

    def control(seen):
        return controller.level(
            BELIEVED, seen.orientation, seen.angular_velocity, np.full(32, WEIGHT), seen.motor_speeds
        )

    seen = list(fly(truth, start, control, 1.5))
    assert rotation.tilt_of(seen[60].orientation).max() < 0.08
    assert rotation.tilt_of(seen[-1].orientation).max() < 0.01
    turned = rotation.yaw_of(seen[-1].orientation) - rotation.yaw_of(start.orientation.numpy())
    # What it had turned by when the yaw rate of up to 1 rad/s was stopped.
    assert np.abs((turned + np.pi) % (2 * np.pi) - np.pi).max() < 0.6
    assert np.abs(seen[-1].linear_velocity[:, 2] - start.linear_velocity.numpy()[:, 2]).max() < 0.7


def test_level_recovers_from_upside_down():
    truth = vehicles(np.full(1, BELIEVED["mass"]), 1.53)
    start = thrown(1, 0.0, rate=0.0)
    start = QuadrotorState(
        start.position, torch.tensor([[0.0, 1.0, 0.0, 0.0]]).double(), start.linear_velocity,
        start.angular_velocity, start.motor_speeds,
    )  # fmt: skip

    def control(seen):
        return controller.level(
            BELIEVED, seen.orientation, seen.angular_velocity, np.full(1, WEIGHT), seen.motor_speeds
        )

    assert rotation.tilt_of(list(fly(truth, start, control, 3.0))[-1].orientation)[0] < 0.05


@pytest.mark.parametrize("rate", [100, 250])
def test_hold_position_settles_on_the_nominal_vehicle(rate):
    truth = vehicles(np.full(32, BELIEVED["mass"]), 1.53)
    start = thrown(32, 0.6)
    target, integral = origin(start), np.zeros((32, 3))

    def control(seen):
        nonlocal integral
        speeds, integral = controller.hold_position(BELIEVED, seen, target, integral, 1.0 / rate)
        return speeds

    seen = list(fly(truth, start, control, 8.0, period=1.0 / rate))
    distance = np.linalg.norm([s.position for s in seen[-rate:]], axis=-1)
    assert distance.max() < 0.05
    assert max(np.linalg.norm(s.position, axis=-1).max() for s in seen) < 2.0


def test_hold_position_flies_every_mass_and_thrust_of_the_randomization():
    mass, thrust_to_weight = (x.ravel() for x in np.meshgrid([0.025, 0.0319, 0.045], [1.45, 1.53, 1.9, 2.3]))
    truth = vehicles(mass, thrust_to_weight)
    seen = list(fly(truth, thrown(len(mass), 0.3, speed=0.5), holding(origin(thrown(len(mass), 0.3))), 10.0))
    distance = np.linalg.norm([s.position for s in seen], axis=-1)
    assert distance.max() < 1.5
    assert distance[-100:].max() < 0.1


def test_hold_position_stays_upright_with_other_inertia_and_rotors():
    rng = np.random.default_rng(5)
    count = 64
    rise = rng.uniform(0.03, 0.15, count)
    truth = vehicles(
        rng.uniform(0.025, 0.045, count), rng.uniform(1.45, 2.3, count), rng.uniform(0.08, 0.4, count), rise,
        np.maximum(rise, rng.uniform(0.03, 0.25, count)), rng.uniform(0.0045, 0.034, count),
    )  # fmt: skip
    start = thrown(count, 0.3, speed=0.5)
    seen = list(fly(truth, start, holding(origin(start)), 8.0))
    assert max(rotation.tilt_of(s.orientation).max() for s in seen) < 0.9
    assert np.linalg.norm(seen[-1].position, axis=-1).max() < 0.5


@pytest.mark.parametrize(("sideways", "lag"), [(0.0, 0.1), (50.0, 0.4)])
def test_hold_position_follows_a_descent_and_bounds_its_lean(sideways, lag):
    truth = vehicles(np.full(1, BELIEVED["mass"]), 1.53)
    start = thrown(1, 0.0, speed=0.0, away=0.0, rate=0.0)
    sink = np.array([[0.0, 0.0, -0.5]])
    time = 0.0
    integral = np.zeros((1, 3))

    def control(seen):
        nonlocal time, integral
        time += 0.01
        # A target far away sideways must not make it lean further than allowed.
        target = QuadrotorSetpoint(sink * time + [sideways, 0.0, 0.0], sink, np.zeros((1, 3)), np.zeros(1))
        speeds, integral = controller.hold_position(BELIEVED, seen, target, integral, 0.01)
        return speeds

    seen = list(fly(truth, start, control, 4.0))
    assert max(rotation.tilt_of(s.orientation)[0] for s in seen) < controller.QuadrotorControllerConfig().max_tilt + 0.1
    assert seen[-1].position[0, 2] == pytest.approx(-2.0, abs=lag)


def test_integral_stays_within_its_bounds():
    seen = thrown(1, 0.0)
    seen = QuadrotorState(*(x.numpy() for x in vars(seen).values()))
    target = QuadrotorSetpoint(seen.position + [0.3, 0.3, 9.0], *np.zeros((2, 1, 3)), np.zeros(1))
    integral = np.zeros((1, 3))
    for _ in range(5000):
        _, integral = controller.hold_position(BELIEVED, seen, target, integral, 0.01)
    limit = controller.QuadrotorControllerConfig().integral_limit
    assert np.all(np.abs(integral[0]) <= limit)
    assert integral[0, 2] == limit[2]
