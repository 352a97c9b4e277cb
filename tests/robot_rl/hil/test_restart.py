"""The closed form of the makespan against simulated attempts, and where giving up never helps."""

import itertools
import math

import numpy as np
import pytest
from scipy.integrate import quad

from robot_rl.hil.restart import (
    Alarm,
    RunTimes,
    best_alarm,
    dearest_reset,
    expected_makespan,
    fit_run_times,
    worth_restarting,
)

CASES = [
    # runs, reset, alarm
    (RunTimes(rate=0.4, doomed=0.5, limit=20.0), 3.0, Alarm(time=4.0, true_positives=0.8, false_positives=0.1)),
    (RunTimes(rate=0.4, doomed=0.5, limit=20.0), 3.0, None),
    (
        RunTimes(rate=1.0, doomed=0.2, limit=8.0, least=2.0),
        10.0,
        Alarm(time=1.0, true_positives=0.6, false_positives=0.2),
    ),
    (
        RunTimes(rate=1.0, doomed=0.2, limit=8.0, least=2.0),
        10.0,
        Alarm(time=5.0, true_positives=0.9, false_positives=0.4),
    ),
    (RunTimes(rate=0.05, doomed=0.0, limit=10.0), 0.5, Alarm(time=3.0, true_positives=0.3, false_positives=0.3)),
    (RunTimes(rate=0.3, doomed=0.7, limit=30.0), 0.0, Alarm(time=0.0, true_positives=0.5, false_positives=0.5)),
    (RunTimes(rate=0.5, doomed=0.8, limit=60.0), 2.0, Alarm(time=6.0, true_positives=1.0, false_positives=1.0)),
]


def simulated(runs, reset, alarm, rng, attempts=1_000_000):
    """Mean makespan of attempts that are drawn one after the other."""
    doomed = rng.random(attempts) < runs.doomed
    success_at = np.where(doomed, np.inf, runs.least + rng.exponential(1.0 / runs.rate, attempts))
    won = success_at <= runs.limit
    took = np.where(won, success_at, runs.limit)
    if alarm is not None:
        chance = np.where(won, alarm.false_positives, alarm.true_positives)
        given_up = (took > alarm.time) & (rng.random(attempts) < chance)
        won, took = won & ~given_up, np.where(given_up, alarm.time, took)
    clock = np.cumsum(took + np.where(won, 0.0, reset))
    return float(np.diff(clock[won], prepend=0.0).mean())


@pytest.mark.parametrize(("runs", "reset", "alarm"), CASES)
def test_the_closed_form_is_what_happens(runs, reset, alarm):
    assert expected_makespan(runs, reset, alarm) == pytest.approx(
        simulated(runs, reset, alarm, np.random.default_rng(0)), rel=0.01
    )


@pytest.mark.parametrize(("runs", "reset", "alarm"), [case for case in CASES if case[2] is not None])
def test_worth_it_is_a_shorter_makespan(runs, reset, alarm):
    shorter = expected_makespan(runs, reset, alarm) < expected_makespan(runs, reset)
    assert worth_restarting(runs, reset, alarm) == (shorter and alarm.time < runs.limit)


def test_worth_it_agrees_with_the_makespans_everywhere():
    grid = itertools.product(
        (0.05, 0.5, 2.0),
        (0.0, 0.3, 0.9),
        (0.0, 1.0),
        (0.0, 1.0, 20.0),
        (0.0, 3.0, 9.0),
        (0.0, 0.5, 1.0),
        (0.0, 0.1, 0.5),
    )
    decisions = []
    for rate, doomed, least, reset, time, true, false in grid:
        runs = RunTimes(rate=rate, doomed=doomed, limit=10.0, least=least)
        alarm = Alarm(time=time, true_positives=true, false_positives=false)
        with_rule, without = expected_makespan(runs, reset, alarm), expected_makespan(runs, reset)
        worth = worth_restarting(runs, reset, alarm)
        if not math.isclose(with_rule, without, rel_tol=1e-9):
            assert worth == (with_rule < without)
            assert worth == (reset < dearest_reset(runs, alarm))
        decisions.append(worth)
    assert 0.2 < np.mean(decisions) < 0.8


def test_a_memoryless_success_without_knowledge_is_never_given_up():
    """Also by simulation: with free resets it makes no difference, with any cost it is longer."""
    runs = RunTimes(rate=0.1, doomed=0.0, limit=10.0)
    for time, rate in itertools.product((0.0, 1.0, 5.0, 9.0), (0.1, 0.5, 0.9)):
        alarm = Alarm(time=time, true_positives=rate, false_positives=rate)
        assert not worth_restarting(runs, 0.0, alarm)
        assert not worth_restarting(runs, 1.0, alarm)
        if time > 0.0:
            assert expected_makespan(runs, 0.0, alarm) == pytest.approx(expected_makespan(runs, 0.0), rel=1e-9)
            assert expected_makespan(runs, 1.0, alarm) > expected_makespan(runs, 1.0)
    alarm = Alarm(time=5.0, true_positives=0.5, false_positives=0.5)
    rng = np.random.default_rng(1)
    assert simulated(runs, 0.0, alarm, rng) == pytest.approx(simulated(runs, 0.0, None, rng), rel=0.01)
    assert simulated(runs, 3.0, alarm, rng) > 1.02 * simulated(runs, 3.0, None, rng)


def test_where_giving_up_never_helps_and_where_it_always_does():
    runs = RunTimes(rate=0.5, doomed=0.4, limit=10.0)
    assert not worth_restarting(runs, 0.0, Alarm(time=2.0, true_positives=0.0, false_positives=0.1))
    assert not worth_restarting(runs, 0.0, Alarm(time=10.0, true_positives=1.0, false_positives=0.0))
    assert worth_restarting(runs, 1e6, Alarm(time=9.0, true_positives=0.1, false_positives=0.0))
    alarm = Alarm(time=2.0, true_positives=0.8, false_positives=0.2)
    dear = dearest_reset(runs, alarm)
    assert worth_restarting(runs, 0.99 * dear, alarm)
    assert not worth_restarting(runs, 1.01 * dear, alarm)
    assert expected_makespan(runs, dear, alarm) == pytest.approx(expected_makespan(runs, dear))
    # A blind restart helps where attempts are often doomed: the longer one has waited, the worse it looks.
    blind = Alarm(time=6.0, true_positives=1.0, false_positives=1.0)
    assert worth_restarting(RunTimes(rate=0.5, doomed=0.8, limit=60.0), 2.0, blind)
    assert expected_makespan(runs, 1.0, Alarm(time=0.0, true_positives=1.0, false_positives=1.0)) == math.inf


def test_the_best_alarm_is_none_where_none_helps():
    runs = RunTimes(rate=0.5, doomed=0.4, limit=10.0)
    good = [Alarm(time=t, true_positives=0.8, false_positives=0.05) for t in (1.0, 3.0, 8.0)]
    bad = Alarm(time=1.0, true_positives=0.1, false_positives=0.5)
    assert best_alarm(runs, 1.0, [bad]) is None
    chosen = best_alarm(runs, 1.0, [bad, *good])
    assert chosen in good
    assert all(expected_makespan(runs, 1.0, chosen) <= expected_makespan(runs, 1.0, alarm) for alarm in good)


def test_what_comes_later_agrees_with_numerical_integration():
    runs = RunTimes(rate=0.6, doomed=0.3, limit=9.0, least=2.0)
    for time in (0.0, 1.5, 2.0, 5.0):
        low = max(time, runs.least)
        density = lambda s: 0.7 * 0.6 * math.exp(-0.6 * (s - 2.0))  # noqa: E731
        share = quad(density, low, 9.0)[0]
        wait = quad(lambda s, t=time: (s - t) * density(s), low, 9.0)[0] / share  # noqa: B023
        np.testing.assert_allclose(runs.later(time), (share, wait), rtol=1e-9)


def test_run_times_are_recovered_from_attempts():
    rng = np.random.default_rng(2)
    truth = RunTimes(rate=0.3, doomed=0.25, limit=8.0, least=1.5)
    time = np.where(rng.random(40_000) < truth.doomed, np.inf, truth.least + rng.exponential(1 / truth.rate, 40_000))
    found = fit_run_times(np.minimum(time, 8.0), time <= 8.0, 8.0)
    assert found.rate == pytest.approx(truth.rate, rel=0.05)
    assert found.doomed == pytest.approx(truth.doomed, abs=0.02)
    assert found.least == pytest.approx(truth.least, abs=0.01)
    assert found.success == pytest.approx(np.mean(time <= 8.0), abs=0.01)
    always = fit_run_times([2.0, 2.5, 3.0], [True] * 3, 8.0)
    assert always.doomed == 0.0
    with pytest.raises(ValueError, match="none of 2 attempts succeeded"):
        fit_run_times([8.0, 8.0], [False, False], 8.0)


def test_values_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="make no sense"):
        RunTimes(rate=0.5, doomed=1.0, limit=10.0)
    with pytest.raises(ValueError, match="makes no sense"):
        Alarm(time=1.0, true_positives=1.2, false_positives=0.0)
