import pytest

pytest.importorskip("rclpy")

from robot_rl.nodes.publishers import FirstPublisher, source_of
from robot_rl.nodes.schedule import Schedule


def test_deadlines_are_absolute():
    """Coming a little late does not shift the deadlines that follow."""
    schedule = Schedule(0.25, now=10.0)
    assert not schedule.due(10.2)
    assert schedule.due(10.3)
    assert schedule.wait(10.3) == pytest.approx(0.2)
    assert schedule.skipped == 0
    assert schedule.lateness.max == pytest.approx(0.05)


def test_lost_periods_are_counted_and_not_caught_up():
    schedule = Schedule(0.25, now=0.0)
    assert schedule.due(1.1)  # deadlines 0.25 to 1.0 have passed: three of four are lost
    assert schedule.skipped == 3
    assert not schedule.due(1.2)
    assert schedule.due(1.25)


def test_clock_set_back_does_not_silence_the_schedule():
    schedule = Schedule(0.25, now=100.0)
    assert not schedule.due(3.0)
    assert schedule.due(3.3)


def test_first_publisher_is_kept_until_it_falls_silent():
    first = FirstPublisher(release=1.0)
    assert first.refusal("a", 0.0) == ""
    assert "second" in first.refusal("b", 0.5)
    assert first.refusal("a", 0.9) == ""
    assert "second" in first.refusal("b", 1.5)  # b's own messages do not count as silence of a
    assert first.refusal("b", 2.0) == ""
    assert "second" in first.refusal("a", 2.1)


def test_source_of_message_info():
    assert source_of({"publisher_gid": {"data": b"\x01\xff"}}) == "01ff"
    assert source_of({}) == ""
    assert source_of(None) == ""
