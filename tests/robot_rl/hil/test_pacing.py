"""Absolute deadlines: late steps do not add up, and the statistics say what happened."""

from __future__ import annotations

import time

import pytest

from robot_rl.hil import pacing


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pacing, "time", clock)
    return clock


def test_work_within_the_period_does_not_stretch_it(clock):
    pacer = pacing.Pacer(0.1)
    for _ in range(50):
        clock.now += 0.03
        pacer.wait()
    assert clock.now == pytest.approx(5.0)
    assert pacer.report()["p99_error"] < 1e-9 and pacer.late == 0


def test_one_late_step_is_made_up_for_and_a_long_stall_is_not(clock):
    pacer = pacing.Pacer(0.1)
    clock.now += 0.15
    pacer.wait()
    pacer.wait()
    assert clock.now == pytest.approx(0.2) and pacer.late == 1
    clock.now += 1.0
    pacer.wait()
    after = clock.now
    pacer.wait()
    assert clock.now - after == pytest.approx(0.1)  # no burst of steps to catch up


def test_the_report_has_the_worst_period(clock):
    pacer = pacing.Pacer(0.1)
    assert pacer.report()["count"] == 0
    for work in (0.01, 0.25, 0.01):
        clock.now += work
        pacer.wait()
    assert pacer.report()["worst"] == pytest.approx(0.25) and pacer.report()["count"] == 3


def test_it_really_waits():
    pacer = pacing.Pacer(0.01)
    start = time.perf_counter()
    for _ in range(5):
        pacer.wait()
    assert time.perf_counter() - start >= 0.049
