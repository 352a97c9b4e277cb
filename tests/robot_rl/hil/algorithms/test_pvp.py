"""PVP: proxy values sample by sample, and where values are not carried back."""

import dataclasses
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from toy import GRIPPING, LINE, NO_CLONING, demonstrations, evaluate, random_replay, small, train

from robot_rl.hil.algorithms.pvp import Pvp, PvpConfig, carries
from robot_rl.hil.replay import PERSON, POLICY


@pytest.fixture
def algorithm():
    return Pvp(GRIPPING, small(PvpConfig()), 0)


@pytest.fixture
def batch():
    """Eight steps, all of the policy."""
    found = random_replay(100).gather(torch.arange(30, 38).numpy())
    nobody = torch.full((8,), POLICY)
    return dataclasses.replace(found, driver=nobody, next_driver=nobody, given=torch.zeros(8, dtype=torch.bool))


def proxies(algorithm, batch):
    features = algorithm.actor.scaler(batch.observation)
    return algorithm.proxy_losses(batch, features, algorithm.critics(torch.cat([features, batch.action], -1)))


def with_person(batch, row, *, given=False):
    driver, given_rows = batch.driver.clone(), batch.given.clone()
    driver[row], given_rows[row] = PERSON, given
    return dataclasses.replace(batch, driver=driver, given=given_rows)


def test_one_row_of_the_person_changes_only_its_own_term(algorithm, batch):
    features = algorithm.actor.scaler(batch.observation)
    none, none_of_grippers = proxies(algorithm, batch)
    one, one_of_grippers = proxies(algorithm, with_person(batch, 3))
    assert none.abs().max() == 0.0 and none_of_grippers.abs().max() == 0.0
    assert (one != 0.0).nonzero().flatten().tolist() == [3]
    assert (one_of_grippers != 0.0).nonzero().flatten().tolist() == [3]
    right = algorithm.critics(torch.cat([features, batch.action], -1))[:, 3]
    wrong = algorithm.critics(torch.cat([features, batch.policy_action], -1))[:, 3]
    wanted = ((right - 1) ** 2 + (wrong + 1) ** 2).sum()
    torch.testing.assert_close(one[3], wanted)


def test_gradient_of_a_policys_row_is_without_proxies(algorithm, batch):
    batch = with_person(batch, 3)
    observation = batch.observation.clone().requires_grad_(True)
    losses, _ = proxies(algorithm, dataclasses.replace(batch, observation=observation))
    losses.mean().backward()
    touched = observation.grad.abs().sum(-1) > 0.0
    assert touched.nonzero().flatten().tolist() == [3]


def test_nobody_wanted_anything_else_in_a_demonstration(algorithm, batch):
    features = algorithm.actor.scaler(batch.observation)
    losses, _ = proxies(algorithm, with_person(batch, 3, given=True))
    right = algorithm.critics(torch.cat([features, batch.action], -1))[:, 3]
    torch.testing.assert_close(losses[3], ((right - 1) ** 2).sum())


def test_an_agreed_gripper_command_is_worth_one(algorithm, batch):
    agreed = dataclasses.replace(with_person(batch, 3), policy_action=batch.action)
    _, losses = proxies(algorithm, agreed)
    # Values begin at 0: one term, (0 - 1)², not two.
    assert losses[3] == 1.0


def test_nothing_is_carried_across_a_takeover(batch):
    driver = torch.tensor([POLICY, POLICY, PERSON, PERSON, POLICY, PERSON])
    after = torch.tensor([POLICY, PERSON, PERSON, POLICY, -1, -1])
    part = dataclasses.replace(batch, driver=driver, next_driver=after)
    assert carries(part).tolist() == [1, 0, 1, 1, 1, 1]


def test_rewards_are_not_used(algorithm, batch):
    paid = dataclasses.replace(batch, reward=batch.reward + 100.0)
    losses = []
    for one in (batch, paid):
        algorithm.noise.manual_seed(0)
        losses.append(float(algorithm.critic_loss(one)[0].detach()))
    assert losses[0] == losses[1]


def test_learns_from_corrections_without_a_task_reward():
    config = small(PvpConfig(), warm_start=NO_CLONING, actor_rate=1e-3, critic_rate=1e-3)
    algorithm = Pvp(LINE, config, 0)
    replay = demonstrations(5)
    algorithm.warm_start(replay)
    train(algorithm, replay, 12, correct=True)
    assert evaluate(algorithm.policy())[0] == 1.0
    right, wrong = torch.tensor([[0.8, -1.0]]), torch.tensor([[0.8, 1.0]])
    with torch.no_grad():
        assert float(algorithm.critics(right).mean()) > 0.5 > float(algorithm.critics(wrong).mean())
