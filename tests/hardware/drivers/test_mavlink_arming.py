"""The order of arming, each refusal in words; in no time, as the sequence reads no clock."""

import pytest

from hardware.drivers.mavlink_arming import ARM, SET_MODE, Arming

DT = 0.02


class Script:
    """Ticks `Arming` with set-points every tick and an autopilot that does what the test says."""

    def __init__(self):
        self.arming = Arming()
        self.now = 100.0
        self.asked = []

    def run(self, seconds, in_mode=False, armed=False, writing=True):
        for _ in range(round(seconds / DT)):
            self.now += DT
            if writing:
                self.arming.observe_setpoint(self.now)
            if request := self.arming.tick(self.now, in_mode, armed):
                self.asked.append((request, round(self.now - 100.0, 2)))
        return self.arming.phase


def test_the_whole_way():
    script = Script()
    assert script.run(3.0) == "idle"
    assert script.asked == []
    script.arming.request(script.now)
    assert script.run(1.1) == "streaming"
    assert script.asked == [], "PX4 wants more than 1 s of set-points first"
    assert script.run(0.2) == "mode"
    assert script.run(0.1, in_mode=True) == "arming"
    assert script.run(0.1, in_mode=True, armed=True) == "done"
    assert [request for request, _ in script.asked] == ["mode", "arm"]


def test_a_gap_in_the_stream_begins_it_anew():
    script = Script()
    script.arming.request(script.now)
    script.run(1.0)
    script.run(0.5, writing=False)
    script.run(1.0)
    assert script.asked == []
    assert script.run(0.4) == "mode"


def test_an_unanswered_request_is_repeated_and_then_given_up():
    script = Script()
    script.arming.request(script.now)
    assert script.run(6.0) == "failed"
    assert [request for request, _ in script.asked] == ["mode", "mode", "mode"]
    assert "change of mode: no effect within 3 s" in script.arming.reason


@pytest.mark.parametrize(("result", "word"), [(1, "temporarily rejected"), (2, "denied"), (4, "failed")])
def test_a_refusal_carries_the_autopilots_words_also_those_that_come_after(result, word):
    script = Script()
    script.arming.request(script.now)
    script.run(1.3)
    script.run(0.1, in_mode=True)
    script.arming.observe_text("PreArm: throttle not neutral", script.now)
    script.arming.observe_ack(ARM, result, script.now)
    script.arming.observe_text("PreArm: compass", script.now + 0.2)
    script.arming.observe_text("something else, much later", script.now + 5.0)
    assert script.arming.phase == "failed"
    assert script.arming.reason == f"arming: {word}; the autopilot says: PreArm: throttle not neutral; PreArm: compass"


def test_answers_to_other_commands_mean_nothing():
    script = Script()
    script.arming.observe_ack(ARM, 2, script.now)
    script.arming.request(script.now)
    script.run(1.3)
    script.arming.observe_ack(ARM, 2, script.now)
    script.arming.observe_ack(SET_MODE, 5, script.now)
    assert script.arming.phase == "mode"


def test_after_cancelling_nothing_is_asked():
    script = Script()
    script.arming.request(script.now)
    script.run(1.3)
    script.arming.cancel()
    before = list(script.asked)
    assert script.run(3.0, in_mode=True) == "idle"
    assert script.asked == before


def test_leaving_the_mode_while_arming_is_a_failure():
    script = Script()
    script.arming.request(script.now)
    script.run(1.3)
    script.run(0.1, in_mode=True)
    assert script.run(0.1, in_mode=False, armed=True) == "failed"
    assert "left the mode" in script.arming.reason
