"""Set-points: exact derivatives, continuity, limits, and one result for numpy and torch."""

import math

import numpy as np
import pytest
import torch

from hardware import setpoints

CENTER = np.array([0.3, -0.2, 1.0])
RNG = np.random.default_rng(0)
PATH = {
    "amplitudes": RNG.uniform(-0.4, 0.4, (4, 3)),
    "frequencies": RNG.uniform(0.1, 0.5, (4, 3)),
    "phases": RNG.uniform(-math.pi, math.pi, (4, 3)),
}
POINTS = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.5, 1.0], [1.0, 0.5, 0.2]])
DEPARTURES, DURATIONS = setpoints.plan_waypoints(POINTS, max_speed=1.0, max_acceleration=2.0, dwell=0.4, start=0.5)

CURVES = {
    "figure_eight": lambda t, a: setpoints.figure_eight(t, center=a(CENTER), size=0.8, period=4.0, yaw=0.3),
    "smooth_path": lambda t, a: setpoints.smooth_path(t, center=a(CENTER), **{k: a(v) for k, v in PATH.items()}),
    "segment": lambda t, a: setpoints.segment(
        t, start=a(CENTER), goal=a(CENTER + 1.0), duration=3.0, start_yaw=3.0, goal_yaw=-3.0
    ),
    "waypoints": lambda t, a: setpoints.waypoints(
        t,
        points=a(POINTS),
        departures=a(DEPARTURES),
        durations=a(DURATIONS),
        yaws=a(np.array([0.0, 1.0, 2.0, -3.0])),
    ),
}


def parts(setpoint):
    return [np.asarray(x) for x in (setpoint.position, setpoint.velocity, setpoint.acceleration, setpoint.yaw)]


@pytest.mark.parametrize("name", CURVES)
def test_velocity_and_acceleration_are_the_derivatives_of_position(name):
    h = 1e-5
    t = np.linspace(-1.0, 9.0, 1001) + 0.3e-3
    before, here, after = (CURVES[name](t + d, np.asarray) for d in (-h, 0.0, h))
    np.testing.assert_allclose((after.position - before.position) / (2 * h), here.velocity, atol=1e-8)
    np.testing.assert_allclose((after.velocity - before.velocity) / (2 * h), here.acceleration, atol=1e-6)


@pytest.mark.parametrize("name", CURVES)
def test_starts_from_rest_and_stays_continuous(name):
    t = np.arange(-0.5, 9.0, 1e-3)
    setpoint = CURVES[name](t, np.asarray)
    assert np.all(setpoint.velocity[t <= 0.0] == 0.0)
    assert np.all(setpoint.acceleration[t <= 0.0] == 0.0)
    # No step of the acceleration within a millisecond: the jerk stays below 100 m/s³.
    assert np.abs(np.diff(setpoint.acceleration, axis=0)).max() < 0.1


@pytest.mark.parametrize("name", CURVES)
def test_numpy_equals_torch_and_a_batch_equals_single_samples(name):
    t = np.linspace(-0.5, 8.0, 37)
    whole = CURVES[name](t, np.asarray)
    tensors = CURVES[name](torch.as_tensor(t), torch.as_tensor)
    assert tensors.position.dtype == torch.float64
    for ours, theirs in zip(parts(whole), parts(tensors), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)
    for i in (0, 11, 36):
        for ours, single in zip(parts(whole), parts(CURVES[name](np.asarray(t[i]), np.asarray)), strict=True):
            np.testing.assert_allclose(ours[i], single, atol=1e-12)
            assert single.shape == ours.shape[1:]


def test_figure_eight_is_that_of_the_metrics_after_the_ramp():
    t = np.linspace(2.0, 13.0, 500)
    setpoint = setpoints.figure_eight(t, center=CENTER)
    phase = 2.0 * np.pi * (t - 1.0) / 5.5 + 0.5 * np.pi
    expected = CENTER + np.stack([np.cos(phase), 0.5 * np.sin(2.0 * phase), 0.0 * t], axis=-1)
    np.testing.assert_allclose(setpoint.position, expected, atol=1e-12)
    start = setpoints.figure_eight(np.asarray(0.0), center=CENTER)
    np.testing.assert_allclose(start.position, CENTER, atol=1e-12)
    again = setpoints.figure_eight(t + 5.5, center=CENTER)
    np.testing.assert_allclose(again.position, setpoint.position, atol=1e-12)


def test_figure_eight_takes_a_size_and_period_per_vehicle():
    t = torch.tensor([3.0, 4.0])
    both = setpoints.figure_eight(
        t, center=torch.zeros(2, 3), size=torch.tensor([0.5, 2.0]), period=torch.tensor([3.5, 15.0])
    )
    one = setpoints.figure_eight(t[1], center=torch.zeros(3), size=2.0, period=15.0)
    torch.testing.assert_close(both.position[1], one.position)
    assert both.yaw.shape == (2,)


def test_segment_holds_both_ends_and_turns_the_shorter_way():
    move = CURVES["segment"](np.array([-5.0, 1.5, 50.0]), np.asarray)
    np.testing.assert_allclose(move.position, [CENTER, CENTER + 0.5, CENTER + 1.0])
    # From 3.0 to -3.0 rad over pi: 0.283 rad, not 6.
    np.testing.assert_allclose(move.yaw, [3.0, math.pi, 2.0 * math.pi - 3.0])


@pytest.mark.parametrize("distance", [0.01, 0.3, 1.0, 20.0])
def test_segment_duration_just_keeps_both_limits(distance):
    duration = setpoints.segment_duration(np.asarray(distance), max_speed=1.2, max_acceleration=0.8)
    t = np.linspace(0.0, duration, 2001)
    move = setpoints.segment(t, start=np.zeros(3), goal=np.array([0.0, 0.0, distance]), duration=duration)
    speed, acceleration = np.abs(move.velocity).max() / 1.2, np.abs(move.acceleration).max() / 0.8
    assert max(speed, acceleration) == pytest.approx(1.0, abs=1e-5)
    with pytest.raises(ValueError, match="above 0"):
        setpoints.segment_duration(np.asarray(distance), max_speed=0.0, max_acceleration=1.0)


def test_waypoints_stop_at_every_point_for_the_dwell():
    assert DEPARTURES[0] == 0.5
    arrivals = DEPARTURES + DURATIONS
    np.testing.assert_allclose(arrivals[:-1] + 0.4, DEPARTURES[1:])
    for time, point in zip(arrivals + 0.2, POINTS[1:], strict=True):
        here = setpoints.waypoints(np.asarray(time), points=POINTS, departures=DEPARTURES, durations=DURATIONS)
        np.testing.assert_allclose(here.position, point, atol=1e-12)
        np.testing.assert_allclose(here.velocity, 0.0, atol=1e-12)


def test_equal_waypoints_give_no_division_by_zero():
    points = np.zeros((3, 3))
    departures, durations = setpoints.plan_waypoints(points, max_speed=1.0, max_acceleration=1.0)
    here = setpoints.waypoints(np.linspace(0, 1, 11), points=points, departures=departures, durations=durations)
    assert np.all(durations > 0.0)
    assert np.all(here.position == 0.0)


def test_steps_jump_at_their_times_and_command_no_motion():
    t = torch.tensor([-1.0, 0.9, 1.0, 2.5, 9.0], dtype=torch.float64)
    setpoint = setpoints.step(t, points=torch.as_tensor(POINTS[:3]), times=torch.tensor([1.0, 2.0]), yaw=0.5)
    torch.testing.assert_close(setpoint.position, torch.as_tensor(POINTS[[0, 0, 1, 2, 2]]))
    assert torch.all(setpoint.velocity == 0.0)
    assert torch.all(setpoint.acceleration == 0.0)
    assert torch.all(setpoint.yaw == 0.5)


def test_hover_takes_the_kind_of_array_it_is_asked_for():
    setpoint = setpoints.hover([1.0, 2.0, 3.0], 0.5, like=torch.zeros(1))
    assert setpoint.position.dtype == torch.float32
    assert setpoint.yaw.shape == ()
    assert isinstance(setpoints.hover(np.ones((5, 3)), like=np.zeros(1)).yaw, np.ndarray)


def test_ramp_of_zero_starts_at_full_speed():
    setpoint = setpoints.smooth_path(np.asarray(0.0), center=CENTER, ramp=0.0, **PATH)
    expected = np.sum(2 * np.pi * PATH["frequencies"] * PATH["amplitudes"] * np.cos(PATH["phases"]), axis=0)
    np.testing.assert_allclose(setpoint.velocity, expected)
