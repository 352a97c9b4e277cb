"""The loop keeps absolute deadlines, counts what it loses and never hurries to catch up."""

import signal
import time
import tracemalloc

import pytest

from hardware.realtime.loop import DeadlineLoop


def test_deadlines_do_not_drift_with_the_work():
    loop = DeadlineLoop(100.0)
    begin = loop.wait()
    for _ in range(50):
        time.sleep(0.004)
        end = loop.wait()
    assert end - begin >= 0.5 - 1e-6
    elapsed_periods = 50 + loop.lost_periods
    assert (end - begin) * 100.0 == pytest.approx(elapsed_periods, abs=0.9)
    assert loop.ticks == 51 and loop.work.count == 50 and loop.wake_error.count == 50
    assert loop.work.percentile(50.0) >= 0.0039


def test_lost_periods_are_counted_and_not_caught_up():
    loop = DeadlineLoop(100.0)
    begin = loop.wait()
    time.sleep(0.055)  # the deadlines at 10, 20, 30, 40, 50 ms pass
    after = loop.wait()
    lost = loop.lost_periods
    assert lost >= 5
    assert after - begin >= 0.06 - 1e-6
    nxt = loop.wait()
    assert nxt - after >= 0.004  # a whole period later, or a late wake-up: no burst
    assert ((nxt - begin) * 100.0) % 1.0 < 0.9


def test_a_signal_does_not_move_a_deadline():
    heard = []
    before = signal.signal(signal.SIGALRM, lambda *_: heard.append(time.monotonic()))
    try:
        loop = DeadlineLoop(5.0)
        begin = loop.wait()
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        end = loop.wait()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert len(heard) == 1 and heard[0] - begin < 0.19
    assert end - begin >= 0.2 - 1e-6


def test_its_memory_does_not_grow():
    loop = DeadlineLoop(5000.0)
    for _ in range(100):
        loop.wait()
    tracemalloc.start()
    try:
        before = tracemalloc.take_snapshot()
        for _ in range(2000):
            loop.wait()
        after = tracemalloc.take_snapshot()
    finally:
        tracemalloc.stop()
    growth = sum(entry.size_diff for entry in after.compare_to(before, "filename") if "loop.py" in str(entry.traceback))
    assert growth < 2000


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan")])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(ValueError, match="rate"):
        DeadlineLoop(rate)
