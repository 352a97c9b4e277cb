"""Stamps of a vehicle's clock on ours, through a link that delays at random."""

import numpy as np
import pytest

from hardware.drivers.remote_clock import RemoteClock


def test_round_trips_find_the_offset_within_half_the_quickest():
    rng = np.random.default_rng(3)
    clock, offset = RemoteClock(), 1234.5
    for sent in np.arange(0.0, 10.0, 0.2):
        there, back = rng.exponential(0.005, 2) + 0.0005
        clock.round_trip(sent, sent + there - offset, sent + there + back)
    measured = 9.99
    error = clock.local(measured - offset, measured + 0.05) - measured
    assert abs(error) <= clock.uncertainty
    assert clock.uncertainty < 0.003


def test_it_follows_a_drifting_quartz():
    clock, rate = RemoteClock(), 1.0 + 1e-4
    for sent in np.arange(0.0, 300.0, 0.2):
        clock.round_trip(sent, rate * (sent + 0.001), sent + 0.002)
    assert clock.local(rate * 300.0, 300.1) == pytest.approx(300.0, abs=1.5e-3)


def test_without_answers_the_quickest_arrival_counts():
    rng = np.random.default_rng(4)
    clock = RemoteClock()
    for stamp in np.arange(0.0, 5.0, 0.01):
        local = clock.local(stamp, stamp + 100.0 + 0.002 + rng.exponential(0.01))
    assert not clock.synchronized
    assert local == pytest.approx(4.99 + 100.002, abs=2e-3)


def test_a_stamp_is_never_in_the_future():
    clock = RemoteClock()
    clock.round_trip(0.0, 50.0, 0.1)
    assert clock.local(60.0, 5.0) == 5.0
    assert RemoteClock().local(60.0, 5.0) == 5.0


def test_a_reboot_is_noticed():
    clock = RemoteClock()
    for sent in np.arange(0.0, 6.0, 0.2):
        clock.round_trip(sent, sent + 500.001, sent + 0.002)
    clock.round_trip(7.0, 1.001, 7.002)
    assert clock.local(1.5, 7.6) == pytest.approx(7.5, abs=1e-3)
