"""What algorithms with critics share: whose steps they learn what from."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from toy import GRIPPING, random_replay, small

from robot_rl.hil.algorithms.rlpd import Rlpd, RlpdConfig
from robot_rl.hil.algorithms.values import habits, half_and_half
from robot_rl.hil.replay import PERSON


def test_half_of_a_batch_is_the_persons():
    replay = random_replay(100)
    batch = half_and_half(replay, 40, np.random.default_rng(0), 3, 0.9)
    assert torch.all(batch.driver[20:] == PERSON)
    online = set(replay.rows_of(demonstrations=False).tolist())
    assert set(batch.rows[:20].tolist()) <= online
    again = replay.gather(batch.rows.numpy(), 3, 0.9)
    torch.testing.assert_close(batch.reward, again.reward)


def test_only_a_persons_grippers_are_a_habit():
    """What the policy did with them leaves the loss alone; what the person did does not."""
    replay = random_replay(100)
    batch = half_and_half(replay, 64, np.random.default_rng(0), 1, 0.9)
    grippers = Rlpd(GRIPPING, small(RlpdConfig()), 0).actor.grippers
    features = batch.observation
    gripper = GRIPPING.layout.grippers[0]

    def loss(changed):
        action = batch.action.clone()
        action[changed, gripper] *= -1.0
        turned = type(batch)(**{**vars(batch), "action": action})
        return habits(grippers, turned, features, 0.0, torch.Generator(), GRIPPING.layout).item()

    nobody, person = torch.zeros(64, dtype=torch.bool), batch.driver == PERSON
    assert 0 < int(person.sum()) < 64
    assert loss(~person) == pytest.approx(loss(nobody))
    assert loss(person) != pytest.approx(loss(nobody), rel=1e-3)


def test_what_is_expected_of_own_steps_does_not_depend_on_the_others():
    algorithm = Rlpd(GRIPPING, small(RlpdConfig()), 0)
    features = torch.randn(12, GRIPPING.observation, generator=torch.Generator().manual_seed(0))
    own = torch.arange(12) % 3 == 0
    _, some, _ = algorithm._expected(features, own)
    _, every, _ = algorithm._expected(features, torch.ones(12, dtype=torch.bool))
    torch.testing.assert_close(some, torch.where(own, every, 0.0))
    _, none, _ = algorithm._expected(features, ~torch.ones(12, dtype=torch.bool))
    assert not none.any()
