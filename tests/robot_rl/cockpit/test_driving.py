"""The page as a device: clocks, the seat, and that nothing old, disordered or let go moves a robot."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hardware.teleop.device import DeviceConfig
from robot_rl.cockpit.clock import ClockOffset
from robot_rl.cockpit.device import PageDevice
from robot_rl.cockpit.messages import Command
from robot_rl.cockpit.seat import SILENT, Seat

AHEAD = 1000.0
"""s by which the page's clock is ahead of ours."""


class Time:
    def __init__(self):
        self.now = 50.0

    def __call__(self):
        return self.now


def offset(way: float = 0.01) -> ClockOffset:
    found = ClockOffset()
    found.answer(10.0, 10.0 + way / 2 + AHEAD, 10.0 + way)
    return found


def command(sequence=1, at=50.0, motion=(1.0, 0, 0, 0, 0, 0), **changes) -> Command:
    fields = {"dead_man": True, "clutch": True, "held": frozenset(), "pressed": frozenset(), **changes}
    return Command(sequence=sequence, at=at + AHEAD, motion=tuple(map(float, motion)), **fields)


@pytest.fixture
def driven():
    clock = Time()
    device = PageDevice(DeviceConfig(linear=0.2, angular=1.0), clock)
    device.occupy(True)
    return device, clock


def test_the_clocks_offset_is_known_to_half_the_way():
    clock = ClockOffset()
    assert not clock.known and clock.ours(5.0, 7.0) == -math.inf
    clock.answer(1.0, 101.0 + 0.35, 1.4)  # a slow answer, later on its way there than back
    clock.answer(2.0, 102.0 + 0.01, 2.02)  # a quick one
    assert clock.round_trip == pytest.approx(0.02)
    assert clock.ours(103.0, 99.0) == pytest.approx(3.0, abs=0.011)


def test_nothing_can_be_newer_than_its_receipt():
    assert offset().ours(1.0e6, 60.0) == 60.0


def test_a_held_dead_man_moves(driven):
    device, clock = driven
    assert device.feed(command(), 50.004, offset()) == ""
    clock.now = 50.05
    sample = device.read()
    assert sample.connected and sample.dead_man and sample.engaged
    np.testing.assert_allclose(sample.twist, [0.2, 0, 0, 0, 0, 0])
    assert sample.age == pytest.approx(0.05, abs=0.006)
    assert device.latency == pytest.approx(0.004, abs=0.006)


@pytest.mark.parametrize("change", [{"dead_man": False}, {"clutch": False}])
def test_an_open_dead_man_or_clutch_does_not(driven, change):
    device, clock = driven
    device.feed(command(**change), 50.0, offset())
    sample = device.read()
    assert not sample.twist.any() and not sample.engaged


def test_after_150_ms_of_silence_nothing_moves(driven):
    device, clock = driven
    device.feed(command(), 50.0, offset())
    clock.now = 50.149
    assert device.read().twist.any()
    clock.now = 50.156
    sample = device.read()
    assert not sample.twist.any() and not sample.dead_man


def test_a_command_that_waited_in_the_network_is_refused(driven):
    device, clock = driven
    clock.now = 51.0
    why = device.feed(command(at=50.0, pressed=frozenset({"gripper", "pause"})), 51.0, offset())
    assert "1.00 s old" in why and device.counts.stale == 1
    sample = device.read()
    assert not sample.twist.any()
    assert sample.pressed == {"pause"}, "whoever wants the robot to rest gets it, however late"


def test_before_the_clocks_are_known_nothing_moves(driven):
    device, _ = driven
    assert device.feed(command(), 50.0, ClockOffset()) and not device.read().twist.any()


def test_an_overtaken_command_is_refused(driven):
    device, _ = driven
    device.feed(command(sequence=5, motion=(0, 1, 0, 0, 0, 0)), 50.0, offset())
    assert "came after 5" in device.feed(command(sequence=5), 50.0, offset())
    assert device.feed(command(sequence=4), 50.0, offset()) and device.counts.disordered == 2
    np.testing.assert_allclose(device.read().twist, [0, 0.2, 0, 0, 0, 0])


def test_buttons_are_heard_once(driven):
    device, _ = driven
    device.feed(command(pressed=frozenset({"gripper"})), 50.0, offset())
    device.feed(command(sequence=2), 50.0, offset())
    assert device.read().pressed == {"gripper"}
    assert device.read().pressed == frozenset()


def test_whoever_leaves_the_seat_leaves_nothing_behind(driven):
    device, _ = driven
    device.feed(command(pressed=frozenset({"gripper"})), 50.0, offset())
    device.occupy(False)
    sample = device.read()
    assert not sample.connected and not sample.twist.any() and not sample.pressed and sample.age == math.inf
    assert device.feed(command(sequence=2), 50.0, offset()) == "nobody has the seat"
    device.occupy(True)
    assert device.feed(command(sequence=1), 50.0, offset()) == "", "a new driver counts from the beginning"


def test_stop_pauses_and_never_the_other_way_round(driven):
    device, _ = driven
    device.stop()
    assert "pause" in device.read().pressed
    device.paused = lambda: True
    device.stop()
    assert "pause" not in device.read().pressed


def test_one_drives_at_a_time():
    clock = Time()
    seat = Seat(clock)
    assert seat.take("page 1") == ""
    assert "page 1 drives" in seat.take("page 2")
    assert not seat.leave("page 2") and not seat.hear("page 2")
    assert seat.leave("page 1") and seat.driver == ""
    assert seat.take("page 2") == ""


def test_a_silent_driver_loses_the_seat():
    clock = Time()
    seat = Seat(clock)
    seat.take("page 1")
    clock.now += SILENT - 0.1
    assert seat.hear("page 1") and not seat.expire()
    clock.now += SILENT + 0.1
    assert seat.expire() and seat.take("page 2") == ""
