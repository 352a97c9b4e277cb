import math

import numpy as np
import pytest

from robot_rl.mission import KINDS, MissionConfig, at, plan

START = np.array([0.3, -0.2, 0.1])


@pytest.mark.parametrize("kind", KINDS)
def test_mission_starts_where_the_vehicle_stands(kind):
    phase, setpoint, over = at(plan(MissionConfig(kind=kind), START, yaw=0.7), 0.0)
    assert (phase, over) == ("takeoff", False)
    np.testing.assert_allclose(setpoint.position, START, atol=1e-12)
    np.testing.assert_allclose(setpoint.velocity, 0.0, atol=1e-12)
    assert float(setpoint.yaw) == pytest.approx(0.7)


@pytest.mark.parametrize("kind", KINDS)
def test_velocity_and_acceleration_are_the_derivatives_of_position(kind):
    """Across every phase change too: no jump that the policy would have to chase."""
    phases = plan(MissionConfig(kind=kind, periods=1.0), START, yaw=0.0)
    h = 1e-4
    times = np.arange(0.013, 40.0, 0.0711)
    for time in times:
        before, now, after = (at(phases, time + k * h)[1] for k in (-1, 0, 1))
        velocity = (after.position - before.position) / (2 * h)
        acceleration = (after.velocity - before.velocity) / (2 * h)
        np.testing.assert_allclose(now.velocity, velocity, atol=2e-3, err_msg=f"{kind} at {time}")
        # Take-off, way-points and landing are minimum-jerk: their acceleration has corners, no jumps.
        np.testing.assert_allclose(now.acceleration, acceleration, atol=2e-2, err_msg=f"{kind} at {time}")


def test_demo_has_its_phases_in_order_and_ends_on_the_ground():
    phases = plan(MissionConfig(kind="demo"), START, yaw=0.0)
    names = list(dict.fromkeys(phase.name for phase in phases))
    assert names == ["takeoff", "hover", "figure_eight", "return", "landing"]
    assert all(math.isfinite(phase.duration) for phase in phases)
    _, last, over = at(phases, sum(phase.duration for phase in phases) + 1.0)
    assert over
    np.testing.assert_allclose(last.position[:2], START[:2], atol=1e-9)
    assert START[2] - 0.1 < last.position[2] <= START[2]


def test_demo_flies_whole_periods_at_full_speed():
    """After the ramp, the set-point of one period later is the same point at the same speed."""
    config = MissionConfig(kind="demo", periods=2.0)
    phases = plan(config, START, yaw=0.0)
    eight = next(phase for phase in phases if phase.name == "figure_eight")
    for time in np.linspace(config.ramp, config.ramp + config.figure_period, 7):
        once, again = eight.sample(time), eight.sample(time + config.figure_period)
        np.testing.assert_allclose(once.position, again.position, atol=1e-9)
        np.testing.assert_allclose(once.velocity, again.velocity, atol=1e-9)
    top_speed = 2.0 * math.pi * math.sqrt(2.0) / config.figure_period  # at the crossing, both axes at their peak
    speeds = [np.linalg.norm(eight.sample(time).velocity) for time in np.linspace(2.0, 13.0, 500)]
    assert max(speeds) == pytest.approx(top_speed, rel=1e-3)


def test_limits_are_kept():
    config = MissionConfig(kind="waypoints", max_speed=0.5, max_acceleration=0.8)
    phases = plan(config, START, yaw=0.0)
    points = [at(phases, time)[1] for time in np.arange(0.0, 60.0, 0.02)]
    assert max(np.linalg.norm(p.velocity) for p in points) <= 0.5 + 1e-9
    assert max(np.linalg.norm(p.acceleration) for p in points) <= 0.8 + 1e-9


def test_bad_missions_are_refused():
    with pytest.raises(ValueError, match="unknown mission 'loop'"):
        plan(MissionConfig(kind="loop"), START, 0.0)
    with pytest.raises(ValueError, match="way-points have 4 values"):
        plan(MissionConfig(kind="waypoints", points=[1.0, 2.0, 3.0, 4.0]), START, 0.0)
