"""The state machine of interventions: its transitions, and what holds in every sequence of them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.teleop.device import Sample
from robot_rl.hil.intervention import VERDICTS, Intervention, InterventionConfig, advance, begin

CONFIG = InterventionConfig(release_time=0.25)
STICK = np.array([0.1, 0, 0, 0, 0, 0])


def sample(*pressed, twist=None, engaged=None, **fields):
    """Of a device that is there; with a `twist` also engaged."""
    moving = twist is not None if engaged is None else engaged
    defaults = {"age": 0.0, "connected": True, "engaged": moving, "dead_man": moving}
    return Sample(twist=np.zeros(6) if twist is None else twist, pressed=frozenset(pressed), **{**defaults, **fields})


LOST = sample(connected=False, age=math.inf)
STALE = sample(twist=STICK, age=0.3)


def run(*samples, config=CONFIG, state=None, mismatch=""):
    """Decisions on samples that come ten times a second."""
    state, decisions = state or Intervention(), []
    for i, item in enumerate(samples):
        decisions.append(advance(state, item, 0.1 * i, config, mismatch))
        state = decisions[-1].state
    return decisions


def modes(*samples, **arguments):
    return [decision.state.mode for decision in run(*samples, **arguments)]


def test_the_step_in_which_the_person_engages_is_already_theirs():
    before, first = run(sample(), sample(twist=STICK))
    assert not before.drives and first.drives and first.moves and first.says == "you drive"


def test_holding_the_dead_man_alone_takes_nothing_over():
    assert modes(sample(engaged=True), sample(twist=1e-4 * STICK)) == ["autonomous"] * 2


def test_the_gripper_takes_over_only_with_the_dead_man():
    assert modes(sample("gripper"), sample("gripper", engaged=True)) == ["autonomous", "correcting"]


def test_the_stick_may_rest_while_the_dead_man_is_held():
    held = run(sample(twist=STICK), *[sample(engaged=True)] * 20)
    assert all(decision.drives for decision in held)


def test_it_hands_back_when_the_clutch_was_open_for_long_enough():
    decisions = run(sample(twist=STICK), *[sample()] * 5)
    assert [d.state.mode for d in decisions] == ["correcting"] * 4 + ["autonomous"] * 2
    assert [d.moves for d in decisions] == [True] + [False] * 5
    assert decisions[4].says == "the policy drives"


def test_engaging_again_in_time_goes_on():
    flicker = [sample(twist=STICK), sample(), sample()] * 4
    assert modes(*flicker) == ["correcting"] * 12


def test_the_button_hands_back_at_once_and_the_clutch_must_be_opened_first():
    held = sample(twist=STICK)
    assert modes(held, sample("hand_back", twist=STICK), held, held, sample(), held) == [
        "correcting", "autonomous", "autonomous", "autonomous", "autonomous", "correcting",
    ]  # fmt: skip


def test_after_the_take_over_button_only_a_button_hands_back():
    steps = [sample("take_over"), *[sample()] * 10, sample("hand_back")]
    decisions = run(*steps)
    assert [d.state.mode for d in decisions] == ["correcting"] * 11 + ["autonomous"]
    assert all(d.drives and not d.moves for d in decisions[:11])


def test_the_take_over_button_keeps_what_the_stick_began():
    assert modes(sample(twist=STICK), sample("take_over"), *[sample()] * 10)[-1] == "correcting"


def test_pause_and_go_on():
    steps = [sample("pause"), sample(), sample(twist=STICK), sample("pause"), sample()]
    assert modes(*steps) == ["paused"] * 3 + ["autonomous"] * 2
    assert [d.holds for d in run(*steps)] == [True] * 3 + [False] * 2


def test_a_person_who_holds_the_stick_while_going_on_drives_at_once():
    assert run(sample("pause"), sample("pause", twist=STICK))[-1].moves


def test_take_over_leads_out_of_a_pause():
    assert modes(sample("pause"), sample("take_over")) == ["paused", "correcting"]


def test_pause_comes_before_everything_else():
    assert modes(sample("pause", "take_over", twist=STICK)) == ["paused"]


@pytest.mark.parametrize("stick", [STICK, None])
def test_a_device_that_is_lost_while_the_person_drives_pauses_until_somebody_goes_on(stick):
    lost = run(sample("take_over", twist=stick), LOST, LOST, sample(twist=STICK), sample(), sample("pause"))
    assert [d.state.mode for d in lost] == ["correcting"] + ["paused"] * 4 + ["autonomous"]
    assert all(d.holds and not d.drives for d in lost[1:5])


def test_a_lost_device_cannot_go_on_by_itself():
    assert modes(sample("pause"), sample("pause", connected=False, age=math.inf)) == ["paused"] * 2


def test_whether_a_lost_device_stops_the_policy_is_configured():
    assert modes(LOST) == ["autonomous"]
    assert modes(LOST, config=InterventionConfig(pause_when_lost="always")) == ["paused"]


def test_stale_input_rests_outside_the_episode_and_goes_on_when_it_is_fresh():
    decisions = run(sample(twist=STICK), STALE, sample(twist=STICK))
    assert [d.state.mode for d in decisions] == ["correcting"] * 3
    assert [d.holds for d in decisions] == [False, True, False]
    assert not decisions[1].moves and decisions[2].moves


def test_stale_input_takes_nothing_over_but_may_pause():
    assert modes(STALE, sample("take_over", age=0.3), sample("success", age=0.3)) == ["autonomous"] * 3
    assert modes(sample("pause", age=0.3)) == ["paused"]


def test_input_that_is_not_finite_is_not_believed():
    for broken in (math.nan, math.inf):
        decisions = run(sample(twist=STICK), sample(twist=broken * np.ones(6)))
        assert decisions[1].holds and not decisions[1].moves
        assert modes(sample(twist=broken * np.ones(6))) == ["autonomous"]


@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("before", [(), ("pause",), ("take_over",)])
def test_an_episode_can_be_ended_in_every_mode(verdict, before):
    assert run(*(sample(name) for name in before), sample(verdict))[-1].verdict == verdict


def test_of_several_verdicts_the_one_that_claims_least_counts():
    assert run(sample("success", "failure"))[-1].verdict == "failure"
    assert run(sample("success", "failure", "discard"))[-1].verdict == "discard"


def test_a_leader_arm_that_does_not_match_is_refused_in_words():
    leader = sample(engaged=True, joints=np.zeros(7))
    (refused,) = run(leader, mismatch="joint 2 is off")
    assert not refused.drives and refused.says == "not taken over: joint 2 is off"
    (refused,) = run(sample("take_over", joints=np.zeros(7)), mismatch="joint 2 is off")
    assert refused.state.mode == "autonomous"
    assert run(leader)[0].drives


def test_a_new_episode_begins_with_the_policy_and_an_open_clutch():
    driving = run(sample(twist=STICK))[-1].state
    fresh = begin(driving, sample(twist=STICK))
    assert modes(sample(twist=STICK), sample(), sample(twist=STICK), state=fresh) == [
        "autonomous", "autonomous", "correcting",
    ]  # fmt: skip


def test_a_pause_lasts_and_may_be_pressed_between_episodes():
    assert begin(Intervention(mode="paused"), sample()).mode == "paused"
    assert begin(Intervention(), sample("pause")).mode == "paused"
    assert begin(Intervention(mode="paused"), sample("pause")).mode == "autonomous"
    assert begin(Intervention(mode="paused"), sample("pause", connected=False)).mode == "paused"


BUTTONS = ("take_over", "hand_back", "pause", "gripper", *VERDICTS)
inputs = st.builds(
    lambda pressed, moving, engaged, dead_man, age, connected: Sample(
        twist=STICK if moving else np.zeros(6),
        pressed=frozenset(pressed),
        buttons=frozenset(pressed),
        engaged=engaged,
        dead_man=dead_man,
        age=age if connected else math.inf,
        connected=connected,
    ),
    st.sets(st.sampled_from(BUTTONS), max_size=2),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0.0, 0.1, 0.2, 0.4, 1.0]),
    st.sampled_from([True, True, True, False]),
)


@settings(max_examples=300, deadline=None)
@given(
    steps=st.lists(st.one_of(inputs, st.just("episode")), max_size=40), lost=st.sampled_from(["correcting", "always"])
)
def test_in_every_sequence(steps, lost):
    config, state, now = InterventionConfig(pause_when_lost=lost), Intervention(), 0.0
    for step in steps:
        if step == "episode":
            state = begin(state, sample())
            assert state.mode != "correcting"
            continue
        decision, before = advance(state, step, now, config), state
        state, now = decision.state, now + 0.1
        fresh = step.connected and step.age <= config.stale_after
        # Motion needs everything: the mode, a dead-man that is held, a closed clutch, fresh input.
        assert decision.moves <= (state.mode == "correcting" and step.dead_man and step.engaged and fresh)
        assert decision.drives <= (state.mode == "correcting" and fresh)
        assert not (decision.drives and decision.holds)
        if state.mode == "paused":
            assert decision.holds and not decision.drives
        if "pause" in step.pressed and before.mode != "paused":
            assert state.mode == "paused"
        if not fresh and before.mode == "correcting":
            assert decision.holds  # neither the last velocity nor the policy
        if not step.connected:
            assert state.mode != "correcting" and not decision.verdict
            assert before.mode != "paused" or state.mode == "paused"
        if before.mode == "paused" and state.mode != "paused":
            assert fresh and step.pressed & {"pause", "take_over"}
        if before.mode == "autonomous" and state.mode == "correcting":
            assert decision.drives and (decision.moves or "take_over" in step.pressed)
        if state.mode == "autonomous":
            assert not decision.holds and not state.latched and state.released_at is None
        assert decision.verdict in ("", *(step.pressed & set(VERDICTS)))
