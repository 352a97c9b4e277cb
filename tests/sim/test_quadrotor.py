"""The dynamics obey mechanics: conservation, equilibria, order of convergence, exact gradients, symmetry."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from hardware import load_description
from policies import rotation
from policies.types import QuadrotorState
from sim import quadrotor
from sim.quadrotor import QuadrotorParameters, fast_step, hover_speed, step

P = load_description("crazyflie").parameters
DOUBLE = torch.float64
both_steps = pytest.mark.parametrize("advance", [step, fast_step], ids=["step", "fast_step"])


def parameters(count=1, dtype=DOUBLE, **changes):
    """The Crazyflie's parameters, some changed; each (count, ...)."""
    values = {
        **{name: P[name] for name in P if name not in ("thrust_coefficients", "battery_sag")},
        "thrust_coefficients": np.tile(P["thrust_coefficients"], (4, 1)),
        "wind": [0.0] * 3,
        "gravity": 9.81,
        "external_force": [0.0] * 3,
        "external_torque": [0.0] * 3,
        "supply": 1.0,
        **changes,
    }
    tensors = {name: torch.as_tensor(value, dtype=dtype) for name, value in values.items()}
    return QuadrotorParameters(**{name: v.expand(count, *v.shape) for name, v in tensors.items()})


def state(count=1, dtype=DOUBLE, **changes):
    values = {
        "position": [0.0] * 3,
        "orientation": [1.0, 0.0, 0.0, 0.0],
        "linear_velocity": [0.0] * 3,
        "angular_velocity": [0.0] * 3,
        "motor_speeds": [0.0] * 4,
        **changes,
    }
    tensors = {name: torch.as_tensor(value, dtype=dtype) for name, value in values.items()}
    return QuadrotorState(**{name: v.expand(count, *v.shape[-1:]) for name, v in tensors.items()})


def speeds(*values):
    return torch.tensor([float(value) for value in values * (4 // len(values))], dtype=DOUBLE)[None]


def run(advance, start, setpoints, params, dt, steps):
    for _ in range(steps):
        start = advance(start, setpoints, params, dt)
    return start


def flat(s):
    return torch.cat([getattr(s, f.name) for f in dataclasses.fields(s)], dim=-1)


FREE = {"thrust_coefficients": np.zeros((4, 3)), "drag": [0.0] * 3}
TILTED = rotation.normalize(np.array([0.8, 0.3, -0.4, 0.2]))


@both_steps
@pytest.mark.parametrize("dt", [0.001, 0.01, 0.1])
def test_free_fall_is_exact(advance, dt):
    start = state(linear_velocity=[1.0, -2.0, 3.0], orientation=TILTED, angular_velocity=[1.0, 2.0, 3.0])
    end = run(advance, start, speeds(0.0), parameters(**FREE), dt, 20)
    t = 20 * dt
    np.testing.assert_allclose(end.position[0], [t, -2.0 * t, 3.0 * t - 0.5 * 9.81 * t * t], rtol=1e-12)
    np.testing.assert_allclose(end.linear_velocity[0], [1.0, -2.0, 3.0 - 9.81 * t], rtol=1e-12)


def test_a_free_asymmetric_body_keeps_energy_and_angular_momentum():
    inertia = torch.tensor([1.0e-5, 2.0e-5, 2.6e-5], dtype=DOUBLE)
    # Rotation about the middle axis is unstable: the body flips, so nothing here is constant by symmetry.
    now = state(angular_velocity=[0.1, 20.0, 0.1], orientation=TILTED, linear_velocity=[0.3, 0.2, 0.1])
    params = parameters(**FREE, inertia=inertia, gravity=0.0)

    def conserved(s):
        momentum = rotation.rotate(s.orientation, inertia * s.angular_velocity)
        energy = 0.5 * (inertia * s.angular_velocity**2).sum(-1, keepdim=True)
        return torch.cat([momentum, energy, s.linear_velocity], dim=-1)

    before, lowest = conserved(now), 1.0
    for _ in range(1000):
        now = step(now, speeds(0.0), params, 1e-3)
        lowest = min(lowest, float(now.angular_velocity[0, 1]) / 20.0)
        np.testing.assert_allclose(torch.linalg.vector_norm(now.orientation, dim=-1), 1.0, rtol=1e-15)
    assert lowest < -0.9, "it never flipped"
    np.testing.assert_allclose(conserved(now), before, rtol=1e-6, atol=1e-13)


@both_steps
@pytest.mark.parametrize("curve", [(0.0, 0.0, 2.3e-8), (0.0, 2e-5, 1.6e-8), (1e-3, 1e-5, 2e-8), (0.0, 5e-5, 0.0)])
def test_hover_thrust_is_an_equilibrium(advance, curve):
    params = parameters(thrust_coefficients=np.tile(curve, (4, 1)))
    hover = hover_speed(params)
    total = quadrotor.rotor_thrusts(hover[:, None].expand(1, 4), params).sum(-1)
    np.testing.assert_allclose(total, params.mass * params.gravity, rtol=1e-13)
    level = rotation.from_yaw(np.array(0.7))
    start = state(motor_speeds=hover.expand(4), orientation=level, position=[1.0, 2.0, 3.0])
    end = run(advance, start, hover[:, None].expand(1, 4), params, 0.01, 200)
    np.testing.assert_allclose(flat(end), flat(start), rtol=1e-12, atol=1e-11)


def manoeuvre():
    """Violent but smooth: every rotor speeds up all the time, so its time constant never switches."""
    start = state(
        orientation=TILTED,
        linear_velocity=[2.0, -1.0, 0.5],
        angular_velocity=[6.0, -9.0, 4.0],
        motor_speeds=[300.0, 500.0, 200.0, 400.0],
    )
    params = parameters(
        wind=[1.0, -2.0, 0.5],
        external_force=[0.02, 0.01, -0.03],
        external_torque=[1e-4, -2e-4, 5e-5],
        supply=0.97,
    )
    return start, speeds(1800.0, 1500.0, 1700.0, 1600.0), params


@pytest.mark.parametrize(("advance", "order"), [(step, 4), (fast_step, 2)], ids=["step", "fast_step"])
def test_order_of_convergence_and_a_common_limit(advance, order):
    start, setpoints, params = manoeuvre()
    exact = flat(run(step, start, setpoints, params, 0.2 / 640, 640))
    scale = exact.abs() + 1.0
    errors = [
        float(((flat(run(advance, start, setpoints, params, 0.2 / n, n)) - exact) / scale).abs().max())
        for n in (20, 40, 80)
    ]
    rates = [math.log2(a / b) for a, b in zip(errors, errors[1:], strict=False)]
    assert rates[-1] == pytest.approx(order, abs=0.15), f"errors {errors} fall at orders {rates}"
    assert errors[0] < (1e-5 if order == 4 else 2e-3)  # at the 10 ms of the tasks


@both_steps
def test_gradients_equal_finite_differences_in_every_input_and_parameter(advance):
    start, setpoints, params = manoeuvre()
    count = 2
    names = [f.name for f in dataclasses.fields(params)]
    # Scaled to about 1, so that one step of the finite differences suits an inertia and a speed alike.
    units = {"external_torque": 1e-4, "external_force": 1e-2, "wind": 1.0}
    base = [getattr(params, n) * 0 + units[n] if n in units else getattr(params, n) for n in names]
    inputs = [*(getattr(start, f.name) for f in dataclasses.fields(start)), setpoints]
    inputs = [x.expand(count, *x.shape[1:]).clone() for x in inputs]
    inputs[4][1] = torch.tensor([2000.0, 1900.0, 1950.0, 2100.0], dtype=DOUBLE)  # these slow down
    inputs[4:] = [x / 1000.0 for x in inputs[4:]]
    inputs += [torch.full((count, *x.shape[1:]), 1.1, dtype=DOUBLE) for x in base]

    def function(p, q, v, w, n, s, *factors):
        values = {name: x * f for name, x, f in zip(names, base, factors, strict=True)}
        end = advance(QuadrotorState(p, q, v, w, 1000 * n), 1000 * s, QuadrotorParameters(**values), 0.01)
        return (
            end.position,
            end.orientation,
            end.linear_velocity,
            end.angular_velocity,
            end.motor_speeds / 1000.0,
        )

    inputs = [x.requires_grad_() for x in inputs]
    assert torch.autograd.gradcheck(function, inputs, eps=1e-6, atol=1e-7, rtol=1e-5)
    total = sum(x.sum() for x in function(*inputs))
    for name, gradient in zip(names, torch.autograd.grad(total, inputs[6:]), strict=True):
        # Nothing but a set-point beyond it makes the highest speed matter.
        assert bool((gradient != 0).any()) != (name == "max_speed"), name


@both_steps
@pytest.mark.parametrize("rotor", range(4))
def test_each_rotor_turns_the_body_as_its_place_and_spin_say(advance, rotor):
    params = parameters(gravity=0.0, drag=[0.0] * 3)
    spin = torch.zeros(1, 4, dtype=DOUBLE)
    spin[0, rotor] = 1000.0
    thrust = float(quadrotor.rotor_thrusts(spin, params)[0, rotor])
    force = np.array([0.0, 0.0, thrust])
    torque = np.cross(P["rotor_positions"][rotor], force)
    torque[2] += P["rotor_yaw_signs"][rotor] * P["yaw_torque_ratio"] * thrust
    # A left rotor lifts the left side: positive roll. A front one lifts the nose: negative pitch.
    front, left = rotor in (0, 3), rotor in (2, 3)
    assert np.sign(torque).tolist() == [1.0 if left else -1.0, -1.0 if front else 1.0, (-1.0, 1.0)[rotor % 2]]
    dt = 1e-4
    end = advance(state(motor_speeds=spin), spin, params, dt)
    np.testing.assert_allclose(end.angular_velocity[0], dt * torque / P["inertia"], rtol=1e-3)
    np.testing.assert_allclose(end.linear_velocity[0], dt * force / P["mass"], atol=1e-9)
    np.testing.assert_allclose(quadrotor.wrench_matrix(params)[0, :, rotor] * thrust, [thrust, *torque], rtol=1e-14)


@pytest.mark.parametrize(("begin", "target", "constant"), [(200.0, 1800.0, "rise_time"), (1800.0, 200.0, "fall_time")])
@pytest.mark.parametrize(("advance", "tolerance"), [(step, 1e-6), (fast_step, 1e-12)], ids=["step", "fast_step"])
def test_rotors_follow_an_exponential_with_their_own_time_up_and_down(advance, tolerance, begin, target, constant):
    end = run(advance, state(motor_speeds=[begin] * 4), speeds(target), parameters(), 0.005, 20)
    expected = target + (begin - target) * math.exp(-0.1 / P[constant])
    np.testing.assert_allclose(end.motor_speeds[0], expected, rtol=tolerance)


@both_steps
def test_set_points_are_clipped_and_the_supply_limits_them(advance):
    params = parameters(supply=0.9)
    wild = speeds(1e6, -500.0, float("inf"), P["max_speed"])
    tame = speeds(P["max_speed"], 0.0, P["max_speed"], P["max_speed"])
    start = state(motor_speeds=[1000.0, 5.0, 0.0, 2000.0])
    np.testing.assert_array_equal(flat(advance(start, wild, params, 0.01)), flat(advance(start, tame, params, 0.01)))
    end = run(advance, start, wild, params, 0.01, 400)
    np.testing.assert_allclose(end.motor_speeds[0], 0.9 * tame[0], atol=1e-3)
    assert (end.motor_speeds >= 0).all()


@both_steps
def test_drag_gives_the_terminal_velocity_and_wind_carries_along(advance):
    still = {"thrust_coefficients": np.zeros((4, 3)), "drag": [0.2, 0.25, 0.3]}
    end = run(advance, state(), speeds(0.0), parameters(**still), 0.02, 250)
    np.testing.assert_allclose(end.linear_velocity[0], [0.0, 0.0, -P["mass"] * 9.81 / 0.3], atol=1e-9)
    wind = [2.0, -1.0, 0.5]
    drift = parameters(**still, gravity=0.0, wind=wind)
    end = run(advance, state(orientation=TILTED), speeds(0.0), drift, 0.02, 250)
    np.testing.assert_allclose(end.linear_velocity[0], wind, atol=1e-9)


def test_drag_acts_along_the_body_axes():
    drag = np.array([0.01, 0.02, 0.04])
    params = parameters(thrust_coefficients=np.zeros((4, 3)), drag=drag, gravity=0.0)
    velocity = np.array([1.0, 2.0, -3.0])
    end = step(state(orientation=TILTED, linear_velocity=velocity), speeds(0.0), params, 1e-6)
    body = rotation.to_matrix(TILTED).T @ velocity
    expected = rotation.to_matrix(TILTED) @ (-drag * body) / P["mass"]
    np.testing.assert_allclose((end.linear_velocity[0].numpy() - velocity) / 1e-6, expected, rtol=1e-4)


@both_steps
def test_external_force_is_in_the_world_and_external_torque_in_the_body(advance):
    force, torque = np.array([0.1, -0.2, 0.3]), np.array([2e-5, 1e-5, -3e-5])
    params = parameters(**FREE, gravity=0.0, external_force=force, external_torque=torque)
    end = run(advance, state(orientation=TILTED), speeds(0.0), params, 1e-4, 10)
    np.testing.assert_allclose(end.linear_velocity[0], 1e-3 * force / P["mass"], rtol=1e-12)
    np.testing.assert_allclose(end.angular_velocity[0], 1e-3 * torque / P["inertia"], rtol=1e-5)


@both_steps
@pytest.mark.parametrize("about", ["vertical", "any"])
def test_turning_the_world_turns_the_flight(advance, about):
    start, setpoints, params = manoeuvre()
    turn = torch.as_tensor(rotation.from_yaw(np.array(2.0)) if about == "vertical" else -TILTED)[None]
    gravity = params.gravity if about == "vertical" else 0.0 * params.gravity  # only it singles an axis out
    params = dataclasses.replace(params, gravity=gravity)

    def turned(vector):
        return rotation.rotate(turn, vector)

    there = dataclasses.replace(params, wind=turned(params.wind), external_force=turned(params.external_force))
    moved = dataclasses.replace(
        start,
        position=turned(start.position),
        orientation=rotation.multiply(turn, start.orientation),
        linear_velocity=turned(start.linear_velocity),
    )
    # Not to rounding: inside a step the quaternion is off unit length, by as much as the step is inexact.
    dt, close = (0.002, 1e-9) if advance is step else (0.0005, 1e-6)
    here = run(advance, start, setpoints, params, dt, 60)
    end = run(advance, moved, setpoints, there, dt, 60)
    np.testing.assert_allclose(end.position, turned(here.position), atol=close)
    np.testing.assert_allclose(end.linear_velocity, turned(here.linear_velocity), atol=close)
    np.testing.assert_allclose(end.orientation, rotation.multiply(turn, here.orientation), atol=close)
    np.testing.assert_allclose(end.angular_velocity, here.angular_velocity, atol=close)


def fleet(count, seed, dtype=torch.float32):
    """Different vehicles in different states."""
    generator = torch.Generator().manual_seed(seed)
    start, setpoints, params = manoeuvre()

    def vary(x):
        return (x * (0.8 + 0.4 * torch.rand(count, *x.shape[1:], generator=generator))).to(dtype)

    moved = QuadrotorState(*(vary(getattr(start, f.name)) for f in dataclasses.fields(start)))
    moved = dataclasses.replace(moved, orientation=rotation.normalize(moved.orientation))
    values = {f.name: vary(getattr(params, f.name)) for f in dataclasses.fields(params)}
    return moved, vary(setpoints), QuadrotorParameters(**values)


@both_steps
def test_in_single_precision_a_batch_equals_its_single_runs_and_a_seed_its_run(advance):
    start, setpoints, params = fleet(37, seed=0)
    batch = flat(run(advance, start, setpoints, params, 0.01, 50))
    again = flat(run(advance, *fleet(37, seed=0), 0.01, 50))
    assert torch.equal(batch, again)
    for i in (0, 7, 16, 36):  # inside and outside of full vector registers
        row = slice(i, i + 1)
        one = QuadrotorState(*(getattr(start, f.name)[row] for f in dataclasses.fields(start)))
        own = QuadrotorParameters(**{f.name: getattr(params, f.name)[row] for f in dataclasses.fields(params)})
        assert torch.equal(flat(run(advance, one, setpoints[row], own, 0.01, 50)), batch[row])


@both_steps
def test_single_precision_follows_double_and_no_batch_axis_or_two_work(advance):
    start, setpoints, params = fleet(6, seed=1, dtype=DOUBLE)
    double = flat(run(advance, start, setpoints, params, 0.01, 50))
    single = QuadrotorState(*(getattr(start, f.name).float() for f in dataclasses.fields(start)))
    low = flat(run(advance, single, setpoints.float(), params.to(torch.float32), 0.01, 50))
    assert low.dtype == torch.float32
    np.testing.assert_allclose(low, double, rtol=2e-4, atol=2e-4)

    def shaped(item, *batch):
        """The first vehicles of the fleet in a batch of that shape; `()` is one without a batch axis."""
        values = {f.name: getattr(item, f.name) for f in dataclasses.fields(item)}
        return type(item)(**{name: v[: math.prod(batch)].reshape((*batch, *v.shape[1:])) for name, v in values.items()})

    table = run(advance, shaped(start, 2, 3), setpoints.reshape(2, 3, 4), shaped(params, 2, 3), 0.01, 50)
    np.testing.assert_allclose(flat(table).reshape(6, -1), double, rtol=1e-12, atol=1e-12)
    alone = run(advance, shaped(start), setpoints[0], shaped(params), 0.01, 50)
    assert alone.position.shape == (3,)
    np.testing.assert_allclose(flat(alone), double[0], rtol=1e-12, atol=1e-12)


@both_steps
def test_inputs_are_not_written_and_missing_rotor_speeds_are_named(advance):
    start, setpoints, params = manoeuvre()
    before = flat(start).clone(), setpoints.clone()
    advance(start, setpoints, params, 0.01)
    assert torch.equal(flat(start), before[0])
    assert torch.equal(setpoints, before[1])
    with pytest.raises(ValueError, match=r"motor_speeds is None; the simulator needs rotor speeds \(\.\.\., 4\)"):
        advance(dataclasses.replace(start, motor_speeds=None), setpoints, params, 0.01)
