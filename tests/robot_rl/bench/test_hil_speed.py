"""The learner's speed: what it is measured on is like a run's memory, and every variant is measured."""

import numpy as np

from robot_rl.bench import hil_speed
from robot_rl.hil.algorithms.base import Sizes
from robot_rl.hil.layout import ActionLayout


def test_the_made_up_memory_has_demonstrations_own_steps_and_corrections():
    sizes = Sizes(observation=3, layout=ActionLayout(continuous=(0, 1), grippers=(2,)), images={})
    replay = hil_speed.made_up(sizes, 3, demonstrations=60, online=300)
    given = replay.rows_of(demonstrations=True)
    assert len(given) > 60  # corrections are the person's as well
    assert replay.online == 300
    batch = replay.sample(200, np.random.default_rng(0), demonstrations=False)
    assert set(batch.driver.tolist()) == {hil_speed.POLICY, hil_speed.PERSON}
    assert 0.2 < batch.won.float().mean() < 0.8


def test_every_variant_is_measured():
    found = hil_speed.measure(("arm-pick-lift",), updates=5)
    assert list(found) == ["arm-pick-lift"]
    assert len(found["arm-pick-lift"]) == 2
    assert all(rate > 0.0 for rate in found["arm-pick-lift"].values())
