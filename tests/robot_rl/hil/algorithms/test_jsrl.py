"""JSRL: who acts when, and by which rule the guide hands over earlier."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from toy import LINE, demonstrations, evaluate, small, train

from robot_rl.hil.algorithms.jsrl import Jsrl, JsrlConfig


@pytest.fixture
def algorithm():
    found = Jsrl(LINE, small(JsrlConfig(), stages=4, window=3, tolerance=0.25), 0)
    found.warm_start(demonstrations(5, speed=0.4))
    return found


def test_horizon_begins_at_the_demonstrations_length(algorithm):
    replay = demonstrations(5, speed=0.4)
    assert int(algorithm.horizon) == -(-replay.rows_of(demonstrations=True).size // 5)
    assert int(algorithm.horizon) > 5


def test_guide_acts_first_then_the_policy(algorithm):
    algorithm.horizon.fill_(3)
    acting = algorithm.behaviour().eval()
    observation = torch.tensor([[0.8]])
    with torch.no_grad():
        guided, own = algorithm.guide(observation), algorithm.actor(observation)
    assert not torch.allclose(guided, own)
    for index in range(3):
        action, value = acting.explore(observation, {}, torch.Generator().manual_seed(0), index)
        assert torch.equal(action, guided)
        assert value is not None
    action, _ = acting.explore(observation, {}, torch.Generator().manual_seed(0), 3)
    assert torch.equal(action, algorithm.actor.explore(observation, torch.Generator().manual_seed(0)))


def test_policy_may_begin_as_the_guide():
    algorithm = Jsrl(LINE, small(JsrlConfig(), begin_as_guide=True), 0)
    algorithm.warm_start(demonstrations(5))
    observation = torch.tensor([[0.8]])
    with torch.no_grad():
        assert torch.equal(algorithm.guide(observation), algorithm.actor(observation))
        assert torch.equal(algorithm.guide(observation), algorithm.policy()(observation))


def test_horizon_shrinks_only_on_the_rule(algorithm):
    longest = algorithm.longest

    def stage(*returns):
        seen.extend(returns)
        algorithm.watch(seen)
        return algorithm.stage

    seen = []
    assert stage(1.0, 1.0) == 0  # the window is not full
    assert stage(1.0) == 1
    assert int(algorithm.horizon) == -(-longest * 3 // 4)
    assert stage(0.0, 1.0) == 1  # episodes with the horizon before do not count
    assert stage(1.0) == 1  # 2/3 is less than 0.75
    assert stage(0.0, 0.0, 1.0) == 1
    assert stage(1.0) == 1
    assert stage(1.0) == 2  # the last three
    assert stage(1.0, 1.0, 1.0) == 3
    assert stage(1.0, 1.0, 1.0) == 4
    assert int(algorithm.horizon) == 0
    assert stage(*[1.0] * 20) == 4


def test_a_better_mean_raises_the_bar(algorithm):
    seen = [0.0, 1.0, 0.0]
    algorithm.watch(seen)
    assert algorithm.stage == 1 and algorithm.best == pytest.approx(1 / 3)
    seen += [1.0, 1.0, 1.0]
    algorithm.watch(seen)
    assert algorithm.stage == 2 and algorithm.best == 1.0
    seen += [0.0, 1.0, 0.0]
    algorithm.watch(seen)
    assert algorithm.stage == 2


def test_watching_one_by_one_or_at_once_is_the_same(algorithm):
    returns = [1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0]
    other = Jsrl(LINE, algorithm.config, 0)
    other.longest = algorithm.longest
    other.watch(returns)
    for k in range(len(returns)):
        algorithm.watch(returns[: k + 1])
    assert (algorithm.stage, algorithm.best) == (other.stage, other.best)
    assert torch.equal(algorithm.horizon, other.horizon)


def test_horizon_is_part_of_what_is_sent(algorithm):
    acting = algorithm.behaviour()
    algorithm.watch([1.0] * 3)
    state = {name: value.clone() for name, value in algorithm.behaviour().state_dict().items()}
    robot = Jsrl(LINE, algorithm.config, 5).behaviour()
    assert int(robot.horizon) == 0
    robot.load_state_dict(state)
    assert int(robot.horizon) == int(algorithm.horizon) == int(acting.horizon) > 0


def test_learns_to_reach_and_hands_over():
    algorithm = Jsrl(LINE, small(JsrlConfig(), stages=3, window=3, learning_rate=1e-3), 0)
    replay = demonstrations(5)
    algorithm.warm_start(replay)
    assert evaluate(algorithm.policy())[0] < 0.6  # the policy has not learned yet, the guide has
    assert evaluate(algorithm.guide)[0] == 1.0
    train(algorithm, replay, 16)
    assert algorithm.stage == 3
    assert evaluate(algorithm.policy())[0] == 1.0
