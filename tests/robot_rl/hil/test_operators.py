"""Scripted operators: when they take over, for how long, how well they drive, and when they grow tired."""

import dataclasses

import numpy as np
import pytest

from robot_rl.hil.layout import ActionLayout
from robot_rl.hil.operators import OperatorConfig, ScriptedOperator
from robot_rl.hil.plant import Moment

LAYOUT = ActionLayout((0, 1, 2), (3,))
RIGHT = np.array([0.5, -0.2, 0.0, 1.0], np.float32)
WANTED = np.zeros(4, np.float32)
SURE = {"noise": 0.0, "tremor": 0.0}


def operator(seed=0, right=RIGHT, **settings):
    return ScriptedOperator(OperatorConfig(**settings), LAYOUT, lambda moment: right, np.random.default_rng(seed))


def moment(progress):
    return Moment(observation=np.zeros(1, np.float32), images={}, state=None, setpoint=None, progress=progress)


def watch(person, steps, progress=lambda k: 0.0, value=lambda k: None):
    """Whether the person drives, by step."""
    return [person.look(moment(progress(k)), WANTED, value(k)).action is not None for k in range(steps)]


def runs(driven):
    """Lengths of the stretches in which the person drives."""
    text = "".join("h" if one else "p" for one in driven)
    return [len(part) for part in text.split("p") if part]


@pytest.mark.parametrize(("patience", "delay"), [(12, 2), (5, 0), (3, 4)])
def test_takes_over_late_after_patience_ran_out(patience, delay):
    driven = watch(operator(rule="stall", patience=patience, delay=delay, length=6), 60)
    # Progress of the first step; `patience` steps without; `delay` steps to react.
    assert driven.index(True) == patience + delay
    assert runs(driven)[0] == 6


def test_leaves_a_policy_alone_that_makes_progress():
    assert not any(watch(operator(rule="stall"), 200, progress=lambda k: 0.02 * k))
    assert any(watch(operator(rule="stall"), 200, progress=lambda k: 0.005 * (k % 2)))


def test_hands_back_and_is_patient_again():
    driven = watch(operator(rule="stall", patience=10, delay=2, length=5), 200)
    assert set(runs(driven)[:-1]) == {5}
    starts = [k for k in range(1, 200) if driven[k] and not driven[k - 1]]
    assert min(np.diff(starts)) >= 5 + 2


def test_always_and_never():
    assert all(watch(operator(rule="always"), 30))
    assert not any(watch(operator(rule="never"), 300))


def test_chance_is_that_per_step():
    driven = watch(operator(rule="random", chance=0.05, length=1, delay=0), 8000)
    assert np.mean(driven) == pytest.approx(0.05, abs=0.01)


def test_takes_over_when_the_value_falls():
    person = operator(rule="value", value_drop=0.2, delay=1, length=4)
    driven = watch(person, 60, value=lambda k: 1.0 if k < 30 else 0.5)
    assert not any(driven[:31])
    assert any(driven[31:38])
    assert not any(watch(operator(rule="value"), 60, value=lambda k: 1.0 - 0.001 * k))
    assert not any(watch(operator(rule="value"), 60)), "a policy without values is left alone"


def test_begins_every_episode_afresh():
    person = operator(rule="stall", patience=10, delay=2)
    assert not any(watch(person, 9))
    person.begin(1, 9)
    assert not any(watch(person, 12))


def test_budget_bounds_the_share_of_steps():
    person = operator(rule="stall", patience=3, delay=0, length=5, budget=0.1)
    driven = watch(person, 3000)
    assert np.mean(driven) == pytest.approx(0.1, abs=0.01)


def test_fades_with_the_episodes():
    person = operator(rule="stall", patience=2, delay=0, length=3, fade_after=10, fade_over=20)
    shares = []
    for episode in range(50):
        person.begin(episode, 0)
        shares.append(np.mean(watch(person, 100)))
    assert min(shares[:11]) > 0.4, "not yet"
    assert 0.0 < np.mean(shares[20:25]) < np.mean(shares[:10])
    assert max(shares[30:]) == 0.0


def test_hands_err_in_proportion_and_buttons_do_not():
    person = operator(rule="always", noise=0.2, tremor=0.0)
    actions = np.stack([person.look(moment(0.0), WANTED, None).action for _ in range(4000)])
    assert actions.std(0).tolist() == pytest.approx([0.1, 0.04, 0.0, 0.0], abs=0.005)
    assert actions.mean(0).tolist() == pytest.approx(RIGHT.tolist(), abs=0.01)
    still = operator(rule="always", noise=0.0, tremor=0.02)
    actions = np.stack([still.look(moment(0.0), WANTED, None).action for _ in range(4000)])
    assert actions.std(0).tolist() == pytest.approx([0.02, 0.02, 0.02, 0.0], abs=0.002)


def test_actions_keep_within_their_limits():
    person = operator(rule="always", noise=3.0, right=np.ones(4, np.float32))
    actions = np.stack([person.look(moment(0.0), WANTED, None).action for _ in range(500)])
    assert np.abs(actions).max() == 1.0 and actions.dtype == np.float32
    assert (actions[:, 3] == 1.0).all()


def test_wrong_interventions_are_wrong_throughout_and_as_often_as_said():
    person = operator(rule="stall", patience=2, delay=0, length=4, wrong=0.3, **SURE)
    interventions, current = [], []
    for _ in range(6000):
        action = person.look(moment(0.0), WANTED, None).action
        if action is not None:
            current.append(action)
        elif current:
            interventions.append(np.stack(current))
            current = []
    assert all(np.ptp(one, axis=0).max() == 0.0 for one in interventions), "one direction for a whole intervention"
    wrong = np.mean([not np.allclose(one[0], RIGHT) for one in interventions])
    assert len(interventions) > 500
    assert wrong == pytest.approx(0.3, abs=0.06)


def test_the_same_seed_is_the_same_person():
    settings = {"rule": "random", "chance": 0.1, "wrong": 0.5}
    first, second = ([p.look(moment(0.0), WANTED, None).action for _ in range(300)] for p in
                     (operator(3, **settings), operator(3, **settings)))  # fmt: skip
    assert any(action is not None for action in first)
    assert all((a is None and b is None) or np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    other = operator(4, **settings)
    assert any((a is None) != (other.look(moment(0.0), WANTED, None).action is None) for a in first)


def test_settings_are_kept():
    config = OperatorConfig(rule="never")
    assert ScriptedOperator(config, LAYOUT, lambda m: RIGHT, np.random.default_rng(0)).config is config
    assert dataclasses.replace(config, length=3).length == 3
