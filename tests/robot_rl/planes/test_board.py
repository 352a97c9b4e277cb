"""Where a control process says what it does: what is written, and when."""

import pytest

from hardware.realtime.loop import DeadlineLoop
from hardware.realtime.seqlock import SlotError
from robot_rl.planes import records
from robot_rl.planes.board import Board
from robot_rl.planes.slots_client import SlotsClient

LAYOUTS = {
    "status": records.STATUS, "timing": records.TIMING, "report": records.REPORT, "policy": records.POLICY,
}  # fmt: skip


class Desk:
    """A board of a loop at 500 Hz, and its reader."""

    def __init__(self, folder):
        self.loop, self.asked = DeadlineLoop(500.0), 0
        self.board = Board(folder, self.loop, self.report)
        self.client = SlotsClient(folder, LAYOUTS)

    def report(self):
        self.asked += 1
        return {"refused": self.asked}

    def say(self, ticks=1, mode="active", cause="", latched=False):
        for _ in range(ticks):
            self.loop.ticks += 1
            self.board.say(mode, cause, latched, 0.002 * self.loop.ticks)

    @property
    def written(self):
        return self.client.read("status").sequence

    @property
    def modes(self):
        return [change.mode for change in self.client.status().changes]


@pytest.fixture
def desk(tmp_path):
    made = Desk(tmp_path)
    yield made
    made.board.close()
    made.client.close()


def test_the_status_is_written_at_once_and_every_20_ms(desk):
    desk.say()
    assert desk.written == 1 and desk.client.status().mode == "active"
    desk.say(100)
    assert desk.written == 11 and desk.client.status().stamp == pytest.approx(0.2)
    desk.say(mode="holding", cause="policy output is 31 ms old")
    assert desk.written == 12
    status = desk.client.status()
    assert (status.mode, status.cause, status.latched) == ("holding", "policy output is 31 ms old", False)
    assert status.since == pytest.approx(0.002 * desk.loop.ticks)


def test_an_age_that_grows_is_one_change(desk):
    desk.say()
    for age in range(31, 500):
        desk.say(mode="holding", cause=f"policy output is {age}.5 ms old")
    assert desk.modes == ["active", "holding"]
    assert desk.client.status().changes[1].cause == "policy output is 31.5 ms old"
    desk.say(mode="holding", cause="no policy output yet")
    assert desk.modes == ["active", "holding", "holding"]


def test_the_newest_changes_stay_in_their_order(desk):
    modes = [f"mode {number}" for number in range(records.CHANGES + 5)]
    for mode in modes:
        desk.say(mode=mode, latched=mode == modes[-1])
    assert desk.modes == modes[-records.CHANGES :]
    changes = desk.client.status().changes
    assert [change.latched for change in changes] == [False] * (records.CHANGES - 1) + [True]
    assert [change.stamp for change in changes] == sorted(change.stamp for change in changes)


def test_an_answer_is_written_at_once(desk):
    desk.board.answer(7, False, "tilted by 40°", 3.0)
    status = desk.client.status()
    assert (status.request_id, status.request_ok, status.request_text) == (7, False, "tilted by 40°")
    assert status.stamp == 3.0


def test_counters_and_timing_are_written_every_half_second_in_different_ticks(desk):
    desk.say(249)
    assert desk.client.timing()["ticks"] == 125 and desk.asked == 0 and desk.client.report() == {}
    desk.say(1)
    assert desk.client.report() == {"refused": 1}
    desk.board.state_age.record(0.004)
    desk.say(500)
    assert desk.asked == 3 and desk.client.histograms()["state_age"].count == 1


def test_the_last_word_is_that_the_robot_is_stopped(desk):
    desk.say()
    desk.board.stopped("told to end by SIGTERM")
    status = desk.client.status()
    assert (status.mode, status.cause, status.follow) == ("stopped", "told to end by SIGTERM", "brake")
    assert status.changes[-1].latched


def test_a_second_control_process_is_refused(desk, tmp_path):
    with pytest.raises(SlotError, match="slot 'status' in .* is written by process"):
        Board(tmp_path, desk.loop, dict)
