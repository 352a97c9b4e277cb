"""RLIF: which steps are punished, and that it learns from nothing else."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from toy import LINE, NO_CLONING, demonstrations, evaluate, small, train

from robot_rl.hil.algorithms.rlif import Rlif, RlifConfig, intervention_rewards
from robot_rl.hil.replay import PERSON, POLICY, Replay, Step


def memory(drivers, *, terminated=False, reward=0.0):
    """Episodes of one row per letter: p policy, h person; the last step of each as said."""
    replay = Replay(1, 1)
    for letters in drivers:
        for k, letter in enumerate(letters):
            last = k == len(letters) - 1
            replay.add(
                Step(
                    observation=np.zeros(1, np.float32),
                    action=np.zeros(1, np.float32),
                    policy_action=np.zeros(1, np.float32),
                    driver=PERSON if letter == "h" else POLICY,
                    reward=reward if last else 7.0,  # of the task: must not be seen
                    terminated=terminated and last,
                    last=last,
                )
            )
        replay.finish(np.zeros(1, np.float32))
    return replay


def relabelled(replay, n_step):
    replay.relabel = lambda rows: intervention_rewards(replay, rows)
    rows = (~replay.column("ghost")).nonzero()[0]
    return replay.gather(rows, n_step, 0.5)


def test_only_the_step_before_a_takeover_is_punished():
    found = relabelled(memory(["ppphhppph", "hpp", "pp"]), 1)
    wanted = [0, 0, -1, 0, 0, 0, 0, -1, 0] + [0, 0, 0] + [0, 0]
    assert found.reward.tolist() == wanted


def test_several_steps_are_summed_one_by_one():
    found = relabelled(memory(["ppphp"]), 3)
    assert found.reward.tolist() == [-0.25, -0.5, -1.0, 0.0, 0.0]
    assert found.discount.tolist() == [0.125, 0.125, 0.125, 0.25, 0.5]


def test_a_time_limit_is_no_end_and_no_punishment():
    found = relabelled(memory(["ppp"]), 1)
    assert found.reward.tolist() == [0, 0, 0]
    assert found.discount.tolist() == [0.5, 0.5, 0.5]


@pytest.mark.parametrize(("reward", "wanted"), [(1.0, 0.0), (0.0, -1.0), (-1.0, -1.0)])
def test_losing_is_no_way_out(reward, wanted):
    found = relabelled(memory(["pp"], terminated=True, reward=reward), 1)
    assert found.reward.tolist() == [0.0, wanted]
    assert found.discount.tolist() == [0.5, 0.0]


def test_losing_counts_only_where_it_is_asked_for():
    replay = memory(["pp"], terminated=True)
    found = intervention_rewards(replay, np.arange(2), lost_is_intervention=False)
    assert found.tolist() == [0.0, 0.0]


def test_a_demonstration_from_the_first_step_on_punishes_nothing():
    replay = memory(["pp", "hh"])
    assert relabelled(replay, 1).reward.tolist() == [0, 0, 0, 0]


def test_learns_from_corrections_without_a_task_reward():
    replay = demonstrations(5)
    original = replay.add
    # Whatever the task says, RLIF does not hear it: here it praises every step, and the end most of all.
    replay.add = lambda step, **options: original(dataclasses.replace(step, reward=0.5 + step.terminated), **options)
    algorithm = Rlif(LINE, small(RlifConfig(), warm_start=NO_CLONING, learning_rate=1e-3), 0)
    algorithm.warm_start(replay)
    train(algorithm, replay, 14, correct=True)
    won, _ = evaluate(algorithm.policy())
    assert won == 1.0
    assert algorithm.targets(algorithm.actor.scaler.mean.new_tensor([[0.5, -1.0]])).max() < 0.3  # nothing to gain
