"""Controllers in place of a policy: they fly what a policy flies, behind the same protocol."""

import numpy as np
import pytest
import torch

from hardware import setpoints
from hardware.controllers.geometric import GeometricConfig
from hardware.descriptions import load_description
from hardware.safety.quadrotor_fallback import FallbackConfig, QuadrotorFallback
from policies.types import QuadrotorSetpoint, QuadrotorState
from robot_rl import cli
from robot_rl.control import PolicyRunner
from robot_rl.errors import UserError
from robot_rl.evaluate import evaluate
from robot_rl.flight_policy import CONTROLLERS, load_flight_policy
from sim import quadrotor as physics
from sim.driver import single_parameters

DESCRIPTION = load_description("crazyflie")
ORIGIN = QuadrotorSetpoint(np.zeros(3), np.zeros(3), np.zeros(3), np.zeros(()))
START = QuadrotorState(
    *(torch.zeros(3, dtype=torch.float64), torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)),
    *torch.zeros(2, 3, dtype=torch.float64), torch.full((4,), 1840.0, dtype=torch.float64),
)  # fmt: skip


def fly(control, seconds, period=0.01, state=START):
    """Measured states of the nominal vehicle, one per period."""
    truth = single_parameters(DESCRIPTION)
    for _ in range(round(seconds / period)):
        seen = QuadrotorState(*(x.numpy() for x in list(vars(state).values())[:4]))
        yield seen
        state = physics.step(state, torch.as_tensor(control(seen)), truth, period)


@pytest.mark.parametrize("name", CONTROLLERS)
def test_a_step_of_half_a_metre_settles_without_ringing(name):
    policy = load_flight_policy(name, DESCRIPTION.interface)
    goal = QuadrotorSetpoint(np.array([0.5, 0.0, 0.3]), np.zeros(3), np.zeros(3), np.asarray(0.5))
    seen = list(fly(lambda state: policy.step(state, goal).values, 6.0))
    way = np.array([state.position for state in seen])
    assert way[:, 0].max() < 0.5 * 1.35 and way[:, 2].max() < 0.3 * 1.5
    assert np.abs(way[500:] - goal.position).max() < 0.02
    assert np.linalg.norm([state.angular_velocity for state in seen[500:]], axis=-1).max() < 0.1


@pytest.mark.parametrize("name", CONTROLLERS)
def test_controllers_fly_the_figure_eight_of_the_nominal_vehicle(name):
    policy = load_flight_policy(name)
    errors = []

    def control(state):
        at = 0.01 * len(errors)
        goal = setpoints.figure_eight(np.asarray(at), center=np.zeros(3), size=1.0, period=5.5, ramp=2.0)
        errors.append(np.linalg.norm(state.position - goal.position))
        return policy.step(state, goal).values

    list(fly(control, 7.5))
    assert np.sqrt(np.mean(np.square(errors[200:]))) < 0.09
    assert max(errors) < 0.2


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", CONTROLLERS)
def test_controllers_fly_randomized_vehicles(name):
    randomized = evaluate(name, episodes=64, seed=5)
    assert randomized["bundle"] == name and randomized["task"] == "quadrotor-track"
    assert randomized["tracking_crash_rate"] <= 0.08
    assert randomized["crash_rate"] <= 0.2
    assert randomized["tracking_rmse_m"] < 0.15


@pytest.mark.parametrize("name", CONTROLLERS)
def test_the_runner_takes_a_controller_for_a_policy(name):
    runner = PolicyRunner(load_flight_policy(name, DESCRIPTION.interface))
    assert runner.period == pytest.approx(0.01)
    state = QuadrotorState(*(x.numpy() for x in list(vars(START).values())[:4]))
    runner.activate(0.0)
    assert runner.observe_state(state, 0.0, 0.0) == "" and runner.observe_setpoint(ORIGIN, 0.0, 0.0) == ""
    output = runner.tick(0.001)
    assert output.reason == "" and output.command.values.shape == (4,)
    np.testing.assert_allclose(output.action, 2.0 * output.command.values / 2272.6 - 1.0, atol=1e-6)


@pytest.mark.parametrize("name", CONTROLLERS)
def test_reset_forgets_and_batches_are_independent(name):
    policy = load_flight_policy(name)
    rng = np.random.default_rng(0)
    state = QuadrotorState(rng.normal(size=(3, 3)), np.array([[1.0, 0, 0, 0]] * 3), *rng.normal(size=(2, 3, 3)))
    zero = np.zeros((3, 3))
    goal = QuadrotorSetpoint(zero, zero, zero, np.zeros(3))
    first = policy.step(state, goal).values
    assert not np.array_equal(policy.step(state, goal).values, first)
    policy.reset()
    assert policy.last_action is None
    np.testing.assert_array_equal(policy.step(state, goal).values, first)
    with pytest.raises(ValueError, match="all vehicles at once"):
        policy.reset(np.array([True, False, False]))
    policy.reset()
    single = policy.step(QuadrotorState(*(x[1] for x in list(vars(state).values())[:4])), ORIGIN)
    np.testing.assert_allclose(single.values, first[1])


def test_a_controller_flies_no_arm():
    with pytest.raises(ValueError, match="flies quadrotors"):
        load_flight_policy("pid", load_description("panda").interface)
    with pytest.raises(UserError, match="moves an arm"):
        evaluate("pid", episodes=1, seed=0, task_name="arm-reach")
    assert cli.main(["eval", "geometrik"]) == cli.USAGE


def test_the_fallback_holds_with_the_geometric_controller():
    fallback = QuadrotorFallback(DESCRIPTION.parameters, FallbackConfig(geometric=GeometricConfig()))
    fallback.motor_speeds = START.motor_speeds.numpy()
    fence = np.array([[-3.0, 3.0], [-3.0, 3.0], [-3.0, 3.0]])
    moving = QuadrotorState(START.position, START.orientation, torch.tensor([0.8, -0.3, 0.2], dtype=torch.float64),
                            START.angular_velocity, START.motor_speeds)  # fmt: skip

    def control(state):
        speeds = fallback.hold(state, fence, sinking=False, dt=0.01)
        fallback.sent(speeds, 0.01)
        return speeds

    seen = list(fly(control, 6.0, state=moving))
    np.testing.assert_allclose(seen[-1].position, 0.3 * np.array([0.8, -0.3, 0.2]), atol=0.03)
