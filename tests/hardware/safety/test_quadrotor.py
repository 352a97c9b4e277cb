"""The supervisor flies a simulated vehicle through every row of its fault table."""

import math
from dataclasses import replace

import numpy as np
import pytest

from policies import rotation

HOVER_FALL = 0.25
"""m: a vehicle on its fallback may sink or rise this much in the time of a short gap."""


def speed(flight):
    return float(np.linalg.norm(flight.vehicle.truth().linear_velocity))


def broken(state, **fields):
    return replace(state, **fields)


# Arming


def test_motors_are_off_until_armed_although_the_policy_speaks(on_ground):
    outputs = on_ground.run(1.0)
    assert all(o.mode == "disarmed" and np.all(o.motor_speeds == 0.0) for o in outputs)
    assert on_ground.vehicle.truth().position[2] == 0.0


def seen_as(**fields):
    """A flight whose odometry says something else; each field is a function of the true state."""
    return {"state_filter": lambda s: broken(s, **{name: value(s) for name, value in fields.items()})}


@pytest.mark.parametrize(
    ("circumstances", "words"),
    [
        ({"odometry": False}, "no state yet"),
        ({"policy": False}, "no policy output yet"),
        ({"command_filter": lambda c: c + 1e5}, "leaves [0,"),
        (seen_as(position=lambda s: s.position + [9.0, 0.0, 0.0]), "outside the geofence: x"),
        (seen_as(position=lambda s: s.position * math.nan), "non-finite position"),
        (
            seen_as(orientation=lambda _: rotation.from_rotation_vector(np.array([0.5, 0.0, 0.0]))),
            "tilted by 29°",
        ),
        (seen_as(linear_velocity=lambda _: np.array([1.0, 0.0, 0.0])), "moving at 1.00 m/s"),
    ],
)
def test_arming_is_refused_with_the_reason_in_words(on_ground, circumstances, words):
    for name, value in circumstances.items():
        setattr(on_ground, name, value)
    on_ground.run(0.5)
    accepted, reason = on_ground.supervisor.arm(on_ground.now)
    assert not accepted
    assert words in reason
    assert on_ground.supervisor.counters["arm_refused"] == 1
    assert all(o.mode == "disarmed" for o in on_ground.run(0.2))


def test_arming_names_every_reason_and_stale_ones_too(on_ground):
    on_ground.run(0.5)
    on_ground.odometry = on_ground.policy = False
    on_ground.run(0.3)
    _, reason = on_ground.supervisor.arm(on_ground.now)
    assert "state is 310 ms old (limit 100 ms)" in reason
    assert "policy output is 310 ms old (limit 30 ms)" in reason


def test_arming_twice_is_refused_and_disarming_cuts_the_motors(in_air):
    assert in_air.supervisor.arm(in_air.now) == (False, "already armed, mode is active")
    assert in_air.supervisor.disarm(in_air.now)[0]
    assert np.all(in_air.run(0.1)[0].motor_speeds == 0.0)
    assert in_air.supervisor.mode == "disarmed"


def test_active_passes_the_policy_through_unchanged(in_air):
    output = in_air.run(0.05)[-1]
    np.testing.assert_array_equal(output.motor_speeds, in_air.supervisor.command_input.values)
    assert output.cause == ""
    assert not output.latched


# The policy falls silent


def test_short_silence_of_the_policy_is_held_over(in_air):
    start = in_air.now
    in_air.policy = False
    outputs = in_air.run(0.4)
    assert in_air.modes(outputs) == ["active", "holding"]
    assert in_air.when("holding", start) == pytest.approx(0.03, abs=0.011)
    assert "policy output is" in outputs[-1].cause
    assert not outputs[-1].latched
    in_air.policy = True
    assert in_air.run(0.05)[-1].mode == "active"
    assert np.linalg.norm(in_air.vehicle.truth().position - in_air.target) < 0.1


def test_long_silence_of_the_policy_lands_the_vehicle(in_air):
    start = in_air.now
    in_air.policy = False
    in_air.run(1.0)
    assert in_air.when("descending", start) == pytest.approx(0.5, abs=0.011)
    in_air.policy = True  # too late: it is latched
    outputs = in_air.run(4.0)
    assert in_air.modes(outputs) == ["descending", "fault"]
    assert "landed after: policy output is" in outputs[-1].cause
    assert not in_air.vehicle.crashed
    assert in_air.vehicle.on_ground
    heights = np.array(in_air.heights)
    times = np.array(in_air.times)
    middle = (heights > 0.3) & (heights < 0.7) & (times > start)
    assert np.polyfit(times[middle], heights[middle], 1)[0] == pytest.approx(-0.5, abs=0.12)
    assert np.all(outputs[-1].motor_speeds == 0.0)


@pytest.mark.parametrize("values", [np.full(4, math.nan), np.full(4, 1e4), np.full(4, -100.0)])
def test_rubbish_from_the_policy_is_no_output(in_air, values):
    in_air.command_filter = lambda _: values
    assert in_air.modes(in_air.run(0.3)) == ["active", "holding"]
    assert np.linalg.norm(in_air.vehicle.truth().position - in_air.target) < 0.1
    assert in_air.modes(in_air.run(5.0)) == ["holding", "descending", "fault"]
    assert not in_air.vehicle.crashed


def test_fallback_holds_where_it_can_stop(in_air):
    in_air.target = np.array([1.5, 0.0, 1.0])
    in_air.run(0.8)
    before = in_air.vehicle.truth()
    assert before.linear_velocity[0] > 0.5
    in_air.policy = False
    in_air.run(0.45)
    assert in_air.supervisor.mode == "holding"
    assert speed(in_air) < 0.8 * float(before.linear_velocity[0])
    assert abs(in_air.vehicle.truth().position[2] - 1.0) < 0.15


def test_second_publisher_does_not_move_the_motors(in_air):
    now = in_air.now
    refusal = in_air.supervisor.observe_command(np.zeros(4), now, now, "intruder")
    assert "'intruder' is refused while 'policy' is alive" in refusal
    assert np.all(in_air.run(0.1)[-1].motor_speeds > 100.0)
    assert in_air.supervisor.counters["command_second_source"] == 1


# The state falls silent


def test_gap_of_250_ms_levels_and_recovers_by_itself(in_air):
    start = in_air.now
    in_air.odometry = False
    outputs = in_air.run(0.25)
    assert in_air.when("level", start) == pytest.approx(0.1, abs=0.011)
    assert "state is" in outputs[-1].cause
    in_air.odometry = True
    assert in_air.run(0.05)[-1].mode == "active"
    in_air.run(2.0)
    assert in_air.supervisor.mode == "active"
    assert np.linalg.norm(in_air.vehicle.truth().position - in_air.target) < 0.1


def test_gap_just_below_the_limit_recovers_although_no_policy_can_speak_meanwhile(in_air):
    in_air.odometry = False
    in_air.run(0.48)
    in_air.odometry = True
    in_air.policy = False
    assert in_air.run(0.05)[-1].mode == "holding"
    in_air.policy = True
    assert in_air.run(0.05)[-1].mode == "active"


def test_gap_of_600_ms_latches_a_descent_that_goes_on_when_the_state_returns(in_air):
    start = in_air.now
    in_air.odometry = False
    in_air.run(0.6)
    assert in_air.when("descending", start) == pytest.approx(0.5, abs=0.011)
    in_air.odometry = True
    outputs = in_air.run(5.0)
    assert in_air.modes(outputs) == ["descending", "fault"]
    assert "landed after: state is 500 ms old" in outputs[-1].cause
    assert not in_air.vehicle.crashed
    assert np.linalg.norm(in_air.vehicle.truth().position[:2]) < 0.3


@pytest.mark.parametrize("imu", [True, False])
def test_gap_of_2100_ms_cuts_the_motors(make_flight, imu):
    flight = make_flight()
    flight.target = np.array([0.0, 0.0, 2.0])
    flight.take_off()
    start = flight.now
    flight.odometry, flight.imu = False, imu
    outputs = flight.run(2.1)
    assert flight.modes(outputs) == ["active", "level", "descending", "fault"]
    assert flight.when("fault", start) == pytest.approx(2.0, abs=0.011)
    assert np.all(outputs[-1].motor_speeds == 0.0)
    # Between level and cut it sank, but did not fall.
    cut = flight.times.index(next(t for t in flight.times if t - start >= 2.0))
    assert 0.5 < flight.heights[cut] < 1.95


@pytest.mark.parametrize("overrides", [{}, {"mass": 0.04}, {"mass": 0.025}])
def test_level_uses_the_thrust_that_was_learned_to_hover(make_flight, overrides):
    flight = make_flight(**overrides).take_off()
    assert flight.supervisor.fallback.hover_thrust == pytest.approx(overrides.get("mass", 0.0319) * 9.81, rel=0.05)
    flight.odometry = False
    before = flight.heights[-1]
    flight.run(0.45)
    assert flight.supervisor.mode == "level"
    assert abs(flight.heights[-1] - before) < HOVER_FALL
    assert rotation.tilt_of(flight.vehicle.truth().orientation) < 0.05


def test_without_any_attitude_all_rotors_turn_equally(in_air):
    in_air.odometry = in_air.imu = False
    output = in_air.run(0.3)[-1]
    assert output.mode == "level"
    assert np.ptp(output.motor_speeds) == 0.0
    assert output.motor_speeds[0] == pytest.approx(1838.0, rel=0.03)


def test_level_uses_the_inertial_sensor_while_tilted(in_air):
    in_air.target = np.array([1.5, 1.5, 1.0])
    in_air.run(0.35)
    assert rotation.tilt_of(in_air.vehicle.truth().orientation) > 0.15
    in_air.odometry = False
    in_air.run(0.49)
    assert rotation.tilt_of(in_air.vehicle.truth().orientation) < 0.06


@pytest.mark.parametrize("part", ["position", "orientation", "linear_velocity", "angular_velocity"])
def test_non_finite_state_is_a_state_that_did_not_come(in_air, part):
    in_air.state_filter = lambda s: broken(s, **{part: getattr(s, part) * math.nan})
    outputs = in_air.run(0.3)
    assert in_air.modes(outputs) == ["active", "level"]
    assert "non-finite" in outputs[-1].cause
    in_air.state_filter = lambda s: s
    assert in_air.run(0.05)[-1].mode == "active"


# The pose is wrong


def test_single_outliers_are_ignored(in_air):
    for _ in range(5):
        in_air.state_filter = lambda s: broken(s, position=s.position + [1.0, 0.0, 0.0])
        in_air.run(0.02)
        in_air.state_filter = lambda s: s
        assert in_air.run(0.05)[-1].mode == "active"
    assert in_air.supervisor.counters["state_outlier"] == 10


def test_three_outliers_in_a_row_descend_on_attitude_alone(in_air):
    in_air.state_filter = lambda s: broken(s, position=s.position + [1.0, 0.0, 0.0])
    outputs = in_air.run(0.03)
    assert outputs[-1].mode == "descending"
    assert "3 outliers in a row" in outputs[-1].cause
    in_air.state_filter = lambda s: s
    assert in_air.run(0.5)[-1].mode == "descending"
    assert in_air.supervisor.counters["state_outlier"] > 40  # nothing from there is believed any more
    assert in_air.run(2.0)[-1].mode == "fault"


def test_breach_of_the_geofence_lands_inside(in_air):
    in_air.target = np.array([2.6, 0.0, 1.0])
    outputs = in_air.run(10.0)
    assert in_air.modes(outputs) == ["active", "descending", "fault"]
    assert "landed after: outside the geofence: x = 2.0" in outputs[-1].cause
    assert in_air.vehicle.truth().position[0] < 2.05
    assert not in_air.vehicle.crashed


def test_tumble_cuts_the_motors_after_its_time(in_air):
    start = in_air.now
    upside_down = rotation.from_rotation_vector(np.array([2.0, 0.0, 0.0]))
    in_air.state_filter = lambda s: broken(s, orientation=upside_down)
    in_air.imu = False
    outputs = in_air.run(0.4)
    assert in_air.when("fault", start) == pytest.approx(0.3, abs=0.011)
    assert "tumble: tilted beyond 69°" in outputs[-1].cause


def test_tilt_for_less_than_the_tumble_time_is_flying(in_air):
    upside_down = rotation.from_rotation_vector(np.array([1.3, 0.0, 0.0]))
    in_air.imu = False
    in_air.state_filter = lambda s: broken(s, orientation=upside_down)
    in_air.run(0.25)
    in_air.state_filter = lambda s: s
    assert in_air.run(0.5)[-1].mode == "active"


# Ways back


def test_estop_is_latched_until_recover_and_arm(in_air):
    in_air.supervisor.estop(in_air.now)
    output = in_air.run(0.5)[0]
    assert (output.mode, output.cause, output.latched) == ("fault", "emergency stop", True)
    assert np.all(output.motor_speeds == 0.0)
    assert in_air.supervisor.arm(in_air.now) == (False, "fault not recovered: emergency stop")
    in_air.vehicle.reset()
    in_air.supervisor.state_input.forget()
    in_air.run(0.5)
    assert in_air.supervisor.recover(in_air.now)[0]
    assert in_air.supervisor.mode == "disarmed"
    in_air.take_off()


def test_recover_needs_a_fault_a_state_and_an_upright_vehicle(in_air):
    assert in_air.supervisor.recover(in_air.now) == (False, "nothing to recover, mode is active")
    in_air.policy = False
    in_air.run(0.7)
    assert "still descending" in in_air.supervisor.recover(in_air.now)[1]
    in_air.odometry = False
    in_air.run(3.0)
    accepted, reason = in_air.supervisor.recover(in_air.now)
    assert not accepted
    assert "ms old" in reason
    in_air.odometry = True
    in_air.run(0.1)
    lying = rotation.from_rotation_vector(np.array([3.0, 0.0, 0.0]))
    in_air.state_filter = lambda s: broken(s, orientation=lying)
    in_air.run(0.1)
    assert "tilted by" in in_air.supervisor.recover(in_air.now)[1]


def test_disarming_a_latched_descent_does_not_unlatch_it(in_air):
    in_air.policy = False
    in_air.run(0.7)
    accepted, text = in_air.supervisor.disarm(in_air.now)
    assert accepted
    assert "recover before arming" in text
    assert in_air.run(0.1)[-1].mode == "fault"


def test_carried_by_hand_while_disarmed_is_no_fault(on_ground):
    on_ground.run(0.5)
    on_ground.state_filter = lambda s: broken(s, position=s.position + [1.5, 1.5, 0.0])
    on_ground.run(0.2)
    assert on_ground.supervisor.state_input.state.position[0] == pytest.approx(1.5)
    assert on_ground.supervisor.arm(on_ground.now)[0]


def test_on_the_ground_the_fallback_does_not_take_off(on_ground):
    on_ground.target = np.zeros(3) - [0.0, 0.0, 1.0]
    on_ground.run(0.5)
    assert on_ground.supervisor.arm(on_ground.now)[0]
    on_ground.run(0.3)
    on_ground.odometry = False
    outputs = on_ground.run(0.4)
    assert outputs[-1].mode == "level"
    assert np.all(outputs[-1].motor_speeds == 0.0)
    assert max(on_ground.heights) < 0.01
    on_ground.odometry = True
    assert on_ground.run(0.1)[-1].mode == "active"


# Clocks and counters


def test_a_clock_that_goes_back_is_a_fault(in_air):
    output = in_air.supervisor.tick(in_air.now - 1.0)
    assert output.mode == "fault"
    assert "the clock went back by" in output.cause
    assert output.state_age == math.inf
    assert in_air.supervisor.counters["clock_backwards"] == 1


def test_frozen_stamps_age(in_air):
    stamp = in_air.now
    state = in_air.vehicle.read()
    in_air.odometry = False
    for _ in range(20):
        in_air.run(0.01)
        in_air.supervisor.observe_state(state, stamp, in_air.now)
    assert in_air.supervisor.mode == "level"
    assert in_air.supervisor.counters["state_stamp_not_newer"] == 19


def test_counters_keep_their_keys_and_count_each_intervention_once(in_air):
    before = dict(in_air.supervisor.counters)
    for _ in range(3):
        in_air.policy = False
        in_air.run(0.2)
        in_air.policy = True
        in_air.run(0.2)
    after = in_air.supervisor.counters
    assert after.keys() == before.keys()
    assert after["holding"] - before["holding"] == 3
    assert after["descending"] == 0


def test_outputs_are_always_finite_and_within_limits(make_flight):
    rng = np.random.default_rng(3)
    flight = make_flight().take_off()
    limit = float(flight.parameters["max_speed"])
    for _ in range(60):
        flight.odometry, flight.imu, flight.policy = (rng.random(3) < 0.8).tolist()
        noise = rng.choice([0.0, 0.0, 0.05, 3.0, math.nan])
        flight.state_filter = lambda s, n=noise: broken(s, position=s.position + n)
        for output in flight.run(0.1):
            assert np.all(np.isfinite(output.motor_speeds))
            assert np.all((output.motor_speeds >= 0.0) & (output.motor_speeds <= limit))
            assert (output.cause == "") == (output.mode == "active")
