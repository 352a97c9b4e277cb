"""The policy's side of the loop: what it flies on, what it refuses, and what it counts."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from policies.types import MotorSpeeds, QuadrotorSetpoint, QuadrotorState
from robot_rl.control import PolicyRunner, RunnerConfig

PERIOD = 0.01


class FakePolicy:
    """Answers with the state's height; counts its steps since the last reset, like a policy with memory."""

    manifest = SimpleNamespace(control_rate_hz=100.0, envelope=SimpleNamespace(state_age=(0.1, 0.5, 2.0)))

    def __init__(self):
        self.resets = 0
        self.steps_since_reset = 0
        self.last_action = None
        self.setpoint = None
        self.values = None
        self.on_step = lambda: None

    def reset(self, mask=None):
        self.resets += 1
        self.steps_since_reset = 0

    def step(self, state, setpoint):
        self.on_step()
        self.steps_since_reset += 1
        self.setpoint = setpoint
        self.last_action = np.full(4, 0.25)
        height = float(state.position[2])
        return MotorSpeeds(np.full(4, height) if self.values is None else self.values)


def state(height=1.0, **fields):
    parts = {
        "position": np.array([0.0, 0.0, height]),
        "orientation": np.array([1.0, 0.0, 0.0, 0.0]),
        "linear_velocity": np.zeros(3),
        "angular_velocity": np.zeros(3),
    }
    return QuadrotorState(**{**parts, **fields})


def setpoint(speed=0.0, **fields):
    parts = {
        "position": np.array([1.0, 0.0, 1.0]),
        "velocity": np.array([speed, 0.0, 0.0]),
        "acceleration": np.array([speed, 0.0, 0.0]),
        "yaw": np.array(0.1),
    }
    return QuadrotorSetpoint(**{**parts, **fields})


class Clock:
    def __init__(self):
        self.time = 0.0

    def __call__(self):
        return self.time


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def policy():
    return FakePolicy()


@pytest.fixture
def runner(policy, clock):
    runner = PolicyRunner(policy, clock=clock)
    assert runner.observe_setpoint(setpoint(), 0.0, 0.0) == ""
    runner.activate(0.0)
    return runner


def run(runner, begin, count, period=PERIOD):
    """Ticks with a fresh state each; returns the outputs."""
    outputs = []
    for k in range(count):
        now = begin + k * period
        runner.observe_state(state(), now, now)
        outputs.append(runner.tick(now))
    return outputs


def test_a_good_state_gives_the_policys_command_with_its_stamps(runner):
    runner.observe_state(state(height=3.0), 1.0, 1.01)
    output = runner.tick(1.02)
    np.testing.assert_array_equal(output.command.values, np.full(4, 3.0))
    np.testing.assert_array_equal(output.action, np.full(4, 0.25))
    assert (output.stamp, output.state_stamp, output.reason) == (1.02, 1.0, "")


def test_the_newest_state_counts(runner):
    runner.observe_state(state(height=3.0), 1.00, 1.00)
    runner.observe_state(state(height=4.0), 1.01, 1.01)
    assert "not newer" in runner.observe_state(state(height=5.0), 1.005, 1.01)
    assert "not newer" in runner.observe_state(state(height=6.0), 1.01, 1.01)
    assert runner.tick(1.01).command.values[0] == 4.0
    assert runner.counters["state_not_newer"] == 2


def test_settings_come_from_the_manifest(policy):
    config = PolicyRunner(policy).config
    assert (config.control_rate_hz, config.max_state_age) == (100.0, 0.1)
    with pytest.raises(ValueError, match="control_rate_hz is 0"):
        PolicyRunner(policy, RunnerConfig(control_rate_hz=0.0))


def test_without_activation_state_or_setpoint_there_is_no_command(policy):
    runner = PolicyRunner(policy)
    assert runner.tick(0.0).reason == "the policy is not active"
    runner.activate(0.0)
    assert runner.tick(0.0).reason == "no state yet"
    runner.observe_state(state(), 0.0, 0.0)
    assert runner.tick(0.0).reason == "no set-point yet"
    runner.observe_setpoint(setpoint(), 0.0, 0.0)
    assert runner.tick(0.0).command is not None
    runner.deactivate()
    assert runner.tick(0.01).command is None
    assert [runner.counters[k] for k in ("inactive", "no_state", "no_setpoint", "commands", "ticks")] == [
        2,
        1,
        1,
        1,
        5,
    ]


def test_stale_state_is_not_flown_on(runner, policy):
    runner.observe_state(state(), 1.0, 1.0)
    assert runner.tick(1.09).command is not None
    output = runner.tick(1.1)
    assert output.command is None
    assert output.reason == "state is 100 ms old (limit 100 ms)"
    assert math.isnan(output.state_stamp)
    assert runner.counters["state_stale"] == 1
    assert policy.steps_since_reset == 1


@pytest.mark.parametrize("part", ["position", "orientation", "linear_velocity", "angular_velocity"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_non_finite_state_is_refused_and_named_once_it_matters(runner, part, value):
    runner.observe_state(state(), 1.0, 1.0)
    bad = np.zeros(4 if part == "orientation" else 3)
    bad[-1] = value
    assert part in runner.observe_state(state(**{part: bad}), 1.05, 1.05)
    assert runner.tick(1.05).command is not None  # the last good one is still young
    assert f"last one refused: state has non-finite {part}" in runner.tick(1.2).reason
    assert runner.counters["state_not_finite"] == 1


def test_stamps_from_the_future_are_refused(runner):
    assert runner.observe_state(state(), 1.015, 1.0) == ""
    assert "30 ms in the future" in runner.observe_state(state(), 1.03, 1.0)
    assert runner.counters["state_in_future"] == 1
    assert "non-finite stamp" in runner.observe_state(state(), math.nan, 1.0)
    assert runner.counters["state_not_finite"] == 1


def test_a_simulation_that_starts_again_is_followed_with_fresh_memory(runner, policy):
    run(runner, 100.0, 5)
    resets = policy.resets
    assert runner.observe_state(state(), 0.5, 0.5) == ""
    assert runner.tick(0.5).command is not None
    assert policy.resets == resets + 1


@pytest.mark.parametrize("part", ["position", "velocity", "acceleration", "yaw"])
def test_bad_setpoints_are_refused_and_the_last_one_stays(runner, policy, part):
    bad = np.array(math.nan) if part == "yaw" else np.array([0.0, math.nan, 0.0])
    assert part in runner.observe_setpoint(setpoint(**{part: bad}), 1.0, 1.0)
    assert "future" in runner.observe_setpoint(setpoint(), 2.0, 1.0)
    assert "older" in runner.observe_setpoint(setpoint(), -1.0, 1.0)
    run(runner, 1.0, 1)
    np.testing.assert_array_equal(policy.setpoint.position, [1.0, 0.0, 1.0])
    assert [runner.counters[f"setpoint_{k}"] for k in ("not_finite", "in_future", "older")] == [1, 1, 1]


def test_a_setpoint_that_nobody_moves_any_more_is_a_place_to_stand(runner, policy):
    runner.observe_setpoint(setpoint(speed=2.0), 1.0, 1.0)
    run(runner, 1.5, 1)
    assert policy.setpoint.velocity[0] > 2.0
    reached = policy.setpoint.position
    run(runner, 1.51, 1)
    np.testing.assert_array_equal(policy.setpoint.velocity, np.zeros(3))
    np.testing.assert_array_equal(policy.setpoint.acceleration, np.zeros(3))
    np.testing.assert_array_equal(policy.setpoint.position, reached)
    assert runner.counters["setpoint_stale"] == 1


@pytest.mark.parametrize(("late", "carried"), [(0.0, 0.0), (0.03, 0.03), (0.1, 0.1), (0.4, 0.1)])
def test_a_setpoint_that_comes_late_is_carried_on_to_the_tick(runner, policy, late, carried):
    runner.observe_setpoint(setpoint(speed=2.0), 1.0, 1.0)
    run(runner, 1.0 + late, 1)
    np.testing.assert_allclose(policy.setpoint.position, [1.0 + 2.0 * carried + carried**2, 0.0, 1.0], atol=1e-12)
    np.testing.assert_allclose(policy.setpoint.velocity, [2.0 + 2.0 * carried, 0.0, 0.0], atol=1e-12)


def test_memory_is_fresh_at_the_start_and_kept_while_it_runs(runner, policy):
    run(runner, 1.0, 50)
    assert (policy.resets, policy.steps_since_reset) == (1, 50)
    runner.activate(1.5)
    run(runner, 1.5, 3)
    assert (policy.resets, policy.steps_since_reset) == (2, 3)


@pytest.mark.parametrize(("gap", "resets"), [(0.02, 1), (0.03, 1), (0.031, 2), (0.2, 2)])
def test_memory_is_reset_after_a_gap_of_more_than_three_periods(runner, policy, gap, resets):
    run(runner, 1.0, 5)
    run(runner, 1.04 + gap, 5)
    assert policy.resets == resets
    assert runner.counters["resets"] == resets


def test_a_command_that_is_not_finite_is_withheld_and_the_memory_forgotten(runner, policy):
    run(runner, 1.0, 2)
    policy.values = np.array([1.0, math.nan, 1.0, 1.0])
    output = run(runner, 1.02, 1)[0]
    assert output.command is None
    assert output.reason == "the policy's command is not finite"
    policy.values = None
    assert run(runner, 1.03, 1)[0].command is not None
    assert (policy.resets, runner.counters["command_not_finite"]) == (2, 1)


def test_timing_is_measured(runner, policy, clock):
    def work():
        clock.time += 0.002

    policy.on_step = work
    run(runner, 1.0, 50)
    run(runner, 1.52, 50, period=0.012)
    data = runner.diagnostics()
    assert data["inference"]["max"] == pytest.approx(0.002)
    assert data["period"]["count"] == 99
    assert data["period"]["max"] == pytest.approx(0.03)
    assert data["jitter"]["max"] == pytest.approx(0.02)
    assert data["jitter"]["mean"] == pytest.approx((49 * 0.002 + 0.02) / 99)
    assert data["counters"]["late_ticks"] == 1
    assert data["counters"]["overruns"] == 0


def test_inference_longer_than_a_period_is_an_overrun(runner, policy, clock):
    def work():
        clock.time += 0.011

    policy.on_step = work
    run(runner, 1.0, 4)
    assert runner.counters["overruns"] == 4


def test_state_age_is_recorded(runner):
    for k in range(20):
        now = 1.0 + k * PERIOD
        runner.observe_state(state(), now - 0.005, now)
        runner.tick(now)
    assert runner.diagnostics()["state_age"]["p50"] == pytest.approx(0.005, rel=0.04)


def test_diagnostics_are_plain_data_of_constant_size(runner):
    first = json.dumps(runner.diagnostics())
    run(runner, 1.0, 500)
    later = runner.diagnostics()
    assert json.loads(first).keys() == later.keys()
    assert later["counters"].keys() == json.loads(first)["counters"].keys()
    assert json.dumps(later, allow_nan=False)
