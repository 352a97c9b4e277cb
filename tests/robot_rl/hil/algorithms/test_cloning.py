"""Cloning: once, of a growing set, and weighted after how much trust a step deserves."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from toy import GRIPPING, LINE, NO_CLONING, demonstrations, episode, evaluate, expert, random_replay, small, train

from robot_rl.hil.algorithms.bc import Bc, BcConfig
from robot_rl.hil.algorithms.hg_dagger import HgDagger, HgDaggerConfig, rows_of_all
from robot_rl.hil.algorithms.sirius import (
    BEFORE,
    DEMONSTRATION,
    INTERVENTION,
    ROBOT,
    Sirius,
    SiriusConfig,
    class_weights,
    classify,
)
from robot_rl.hil.replay import PERSON, POLICY, Replay, Step


def test_clone_does_what_was_shown():
    algorithm = Bc(LINE, small(BcConfig()), 0)
    algorithm.warm_start(demonstrations(5, speed=0.5))
    x = torch.tensor([[0.8], [-0.8]])
    with torch.no_grad():
        assert algorithm.policy()(x)[:, 0].tolist() == pytest.approx([-0.5, 0.5], abs=0.1)
    won, steps = evaluate(algorithm.policy())
    assert won == 1.0
    assert steps > 5.0  # as slow as the person was


def test_corrections_teach_what_demonstrations_left_out():
    """Demonstrations from one side only; the person helps on the other."""
    replay = Replay(1, 1)
    for start in (0.5, 0.7, 0.8, 0.9, 1.0):
        episode(replay, lambda x, _: expert(x), start, demonstration=True)
    plain = Bc(LINE, small(BcConfig()), 0)
    algorithm = HgDagger(LINE, small(HgDaggerConfig(), learning_rate=1e-3), 0)
    for one in (plain, algorithm):
        one.warm_start(replay)
    assert evaluate(plain.policy())[0] < 0.8
    train(algorithm, replay, 12, correct=True)
    assert evaluate(algorithm.policy())[0] == 1.0


def test_own_steps_are_not_cloned():
    replay = demonstrations(3)
    for _ in range(10):
        episode(replay, lambda x, _: 1.0, 0.6)
    algorithm = HgDagger(LINE, small(HgDaggerConfig(), warm_start=NO_CLONING, learning_rate=1e-3), 0)
    algorithm.warm_start(replay)
    for _ in range(200):
        algorithm.update(replay)
    with torch.no_grad():
        assert algorithm.policy()(torch.tensor([[0.8]])).item() < -0.5


def memory(letters, *, won=True):
    """One episode: d demonstration, h person, p policy."""
    replay = Replay(1, 1)
    add(replay, letters, won=won)
    return replay


def add(replay, letters, *, won=True):
    for k, letter in enumerate(letters):
        last = k == len(letters) - 1
        blank = np.zeros(1, np.float32)
        replay.add(
            Step(
                observation=blank, action=blank, policy_action=blank,
                driver=POLICY if letter == "p" else PERSON,
                reward=float(last and won), terminated=last and won, last=last,
            ),
            demonstration=letter == "d",
        )  # fmt: skip
    replay.finish(np.zeros(1, np.float32))


NAMES = {DEMONSTRATION: "d", INTERVENTION: "h", BEFORE: "-", ROBOT: "p"}


def classes(replay, before_steps=3, trust_lost=False):
    return "".join(NAMES[c] for c in classify(replay, rows_of_all(replay), before_steps, trust_lost))


def test_steps_before_an_intervention_are_those_that_led_into_it():
    assert classes(memory("ppppphhpp")) == "pp---hhpp"
    assert classes(memory("phpphp")) == "-h--hp"


def test_what_led_in_does_not_reach_into_the_episode_before():
    replay = memory("pppp")
    add(replay, "ph")
    assert classes(replay) == "pppp" + "-h"
    replay = memory("ppp")
    add(replay, "hp")
    assert classes(replay) == "ppp" + "hp"


def test_own_steps_of_a_lost_episode_are_not_trusted():
    replay = memory("ppphp", won=False)
    assert classes(replay) == "---h-"
    assert classes(replay, trust_lost=True) == "---hp"


def test_running_episode_is_not_trusted_yet():
    replay = memory("ddd")
    blank = np.zeros(1, np.float32)
    for _ in range(2):
        replay.add(
            Step(observation=blank, action=blank, policy_action=blank, driver=POLICY, reward=0.0, terminated=False,
                 last=False)
        )  # fmt: skip
    assert classes(replay) == "ddd--"


@pytest.mark.parametrize(
    "counts",
    [(100, 10, 15, 80), (0, 5, 5, 90), (100, 1, 15, 0), (50, 300, 20, 30)],
    ids=lambda c: "-".join(map(str, c)),
)
def test_weights_sum_to_the_stated_shares(counts):
    labels = np.repeat(np.arange(4), counts)
    np.random.default_rng(0).shuffle(labels)
    weights = class_weights(labels, 0.5, 0.01)
    mass = np.bincount(labels, weights, minlength=4) / weights.sum()
    assert weights.mean() == pytest.approx(1.0)
    assert mass[INTERVENTION] == pytest.approx(0.5)
    assert mass[BEFORE] == pytest.approx(0.01)
    others = counts[DEMONSTRATION] + counts[ROBOT]
    assert mass[DEMONSTRATION] == pytest.approx(0.49 * counts[DEMONSTRATION] / others)
    assert mass[ROBOT] == pytest.approx(0.49 * counts[ROBOT] / others)


def test_demonstrations_alone_are_cloned_plainly():
    assert class_weights(np.full(7, DEMONSTRATION), 0.5, 0.01) == pytest.approx(np.ones(7))


def test_batches_are_drawn_with_these_shares():
    replay = random_replay(200, given=40)
    algorithm = Sirius(GRIPPING, small(SiriusConfig(), batch=4000), 0)
    rows = algorithm._draw(replay).rows.numpy()
    labels = classify(replay, rows_of_all(replay), 15, False)
    found = labels[np.searchsorted(rows_of_all(replay), rows)]
    shares = np.bincount(found, minlength=4) / len(found)
    assert shares[INTERVENTION] == pytest.approx(0.5, abs=0.03)
    assert shares[BEFORE] == pytest.approx(0.005, abs=0.005)


def test_sirius_learns_from_corrections():
    replay = Replay(1, 1)
    for start in (0.5, 0.7, 0.8, 0.9, 1.0):
        episode(replay, lambda x, _: expert(x), start, demonstration=True)
    algorithm = Sirius(LINE, small(SiriusConfig(), learning_rate=1e-3, before_steps=2), 0)
    algorithm.warm_start(replay)
    train(algorithm, replay, 12, correct=True)
    assert evaluate(algorithm.policy())[0] == 1.0
