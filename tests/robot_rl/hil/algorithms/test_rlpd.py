"""RLPD on a line, and the penalty for toggling a gripper."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from toy import GRIPPING, LINE, NO_CLONING, demonstrations, evaluate, random_replay, small, train

from robot_rl.hil.algorithms import rlpd
from robot_rl.hil.algorithms.rlpd import Rlpd, RlpdConfig


@pytest.mark.parametrize("changes", [{}, {"value_weight": 1.0, "clone_weight": 0.0}], ids=["usual", "value"])
def test_learns_to_reach_from_five_demonstrations(changes):
    algorithm = Rlpd(LINE, small(RlpdConfig(), warm_start=NO_CLONING, learning_rate=1e-3, **changes), 0)
    replay = demonstrations(5)
    assert evaluate(algorithm.policy())[0] < 0.5
    algorithm.warm_start(replay)
    train(algorithm, replay, 12)
    assert algorithm.updates <= 700
    won, steps = evaluate(algorithm.policy())
    assert won == 1.0
    assert steps < 8.0  # 3.9 on average is the best there is


def test_value_falls_with_the_distance():
    algorithm = Rlpd(LINE, small(RlpdConfig(), learning_rate=1e-3), 0)
    replay = demonstrations(5)
    algorithm.warm_start(replay)
    train(algorithm, replay, 14)
    x = torch.tensor([[0.25], [0.9]])
    action = torch.full((2, 1), -1.0)
    near, far = algorithm.critics(torch.cat([algorithm.actor.scaler(x), action], -1)).mean(0).tolist()
    assert 1.05 > near > far > 0.5  # discounted by 0.97 per step


@pytest.mark.parametrize("penalty", [0.0, 0.5])
def test_toggling_a_gripper_costs_in_every_update(penalty, monkeypatch):
    """The reference's trap: a penalty that the last update of a round leaves out."""
    replay = random_replay(100)
    config = small(RlpdConfig(), gripper_penalty=penalty, critic_warm_up=2, actor_period=2)
    algorithm = Rlpd(GRIPPING, config, 0)
    algorithm.warm_start(replay)
    original, gaps = rlpd.gripper_errors, []

    def spied(*arguments):
        *others, asked, layout = arguments
        errors = original(*arguments)
        gaps.append(abs(float(errors.detach().mean() - original(*others, 0.0, layout).detach().mean())))
        assert asked == penalty
        return errors

    monkeypatch.setattr(rlpd, "gripper_errors", spied)
    for _ in range(6):
        algorithm.update(replay)
    assert len(gaps) == 6
    assert all(gap > 1e-4 for gap in gaps) if penalty else all(gap == 0.0 for gap in gaps)
