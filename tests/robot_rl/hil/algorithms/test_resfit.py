"""ResFiT: nothing changes before something is learned, corrections stay small, and they help."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from toy import GRIPPING, LINE, demonstrations, evaluate, random_replay, small, train

from robot_rl.errors import UserError
from robot_rl.export import to_onnx
from robot_rl.hil.algorithms import frozen
from robot_rl.hil.algorithms.bc import Bc, BcConfig
from robot_rl.hil.algorithms.frozen import policy_of_bundle
from robot_rl.hil.algorithms.resfit import Resfit, ResfitConfig
from robot_rl.hil.algorithms.rlpd import Rlpd, RlpdConfig


def test_before_training_it_is_the_base_bit_for_bit():
    algorithm = Resfit(GRIPPING, small(ResfitConfig()), 0)
    algorithm.warm_start(random_replay())
    observation = torch.randn(200, GRIPPING.observation)
    with torch.no_grad():
        assert torch.equal(algorithm.policy()(observation), algorithm.actor.base(observation))


def test_corrections_are_bounded_and_the_base_does_not_move():
    replay = random_replay(100)
    algorithm = Resfit(GRIPPING, small(ResfitConfig(), scale=0.1, actor_rate=0.05, critic_warm_up=0), 0)
    algorithm.warm_start(replay)
    before = {name: value.clone() for name, value in algorithm.actor.base.state_dict().items()}
    for _ in range(30):
        algorithm.update(replay)
    assert all(torch.equal(value, before[name]) for name, value in algorithm.actor.base.state_dict().items())
    observation = torch.randn(500, GRIPPING.observation)
    with torch.no_grad():
        changes = (algorithm.actor(observation) - algorithm.actor.base(observation))[:, [0, 2]].abs()
    assert changes.max() <= 0.1 + 1e-6
    assert changes.max() > 0.05  # it has moved


def test_grippers_are_left_alone_where_told_so():
    replay = random_replay(100)
    algorithm = Resfit(GRIPPING, small(ResfitConfig(), correct_grippers=False, critic_warm_up=0, critic_rate=0.01), 0)
    algorithm.warm_start(replay)
    for _ in range(30):
        algorithm.update(replay)
    observation = torch.randn(500, GRIPPING.observation)
    with torch.no_grad():
        assert torch.equal(algorithm.actor(observation)[:, 1], algorithm.actor.base(observation)[:, 1])


def test_habits_outweigh_small_differences_of_value():
    """Values that few episodes have taught are off by so much, and grippers would chatter."""
    features = torch.randn(64, GRIPPING.observation, generator=torch.Generator().manual_seed(0))
    chosen = []
    for trust in (0.05, 0.2, 1e6):
        policy = Resfit(GRIPPING, small(ResfitConfig(), gripper_trust=trust), 0).policy()
        with torch.no_grad():
            policy.grippers.habit[-1].weight.zero_()
            policy.grippers.habit[-1].bias.copy_(torch.tensor([0.0, 1.0]))  # the habit is to open
            policy.grippers.value[-1].weight.zero_()
            policy.grippers.value[-1].bias.copy_(torch.tensor([0.1, 0.0]))  # to close is worth a little more
            chosen.append(float(policy.grippers.commands(features).mean()))
    assert chosen == [-1.0, 1.0, 1.0]


def test_critics_warm_up_with_more_noise():
    replay = random_replay(100)
    algorithm = Resfit(GRIPPING, small(ResfitConfig(), critic_warm_up=4), 0)
    algorithm.warm_start(replay)
    for k in range(8):
        assert float(algorithm.behaviour().deviation) == pytest.approx(0.2 if k <= 4 else 0.05)
        head = float(algorithm.actor.head.weight.detach().abs().max())
        assert (head == 0.0) == (k <= 5)  # the actor's period is 2
        algorithm.update(replay)


def test_speeds_up_a_slow_base():
    """The base moves at half of the speed that is allowed; corrections of up to 0.4 make it faster."""
    replay = demonstrations(5, speed=0.5)
    config = small(
        ResfitConfig(),
        scale=0.4,
        actor_rate=1e-3,
        critic_rate=1e-3,
        deviation=0.2,
        warm_up_deviation=0.4,
        discount=0.8,  # makes the time matter
    )
    algorithm = Resfit(LINE, config, 0)
    algorithm.warm_start(replay)
    won, slow = evaluate(algorithm.policy())
    train(algorithm, replay, 16)
    better, fast = evaluate(algorithm.policy())
    assert won == better == 1.0
    assert fast < slow - 1.0


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """What of a bundle the base is read from; bundles as a whole have their own tests."""

    def write(network, size):
        (tmp_path / "policy.onnx").write_bytes(to_onnx(network, size))
        (tmp_path / "manifest.json").write_text("{}")
        observation = np.random.default_rng(0).standard_normal((32, size)).astype(np.float32)
        with torch.no_grad():
            action = network(torch.from_numpy(observation)).numpy()[:, None]
        np.savez(tmp_path / "vectors.npz", observation=observation, action=action)
        return tmp_path

    monkeypatch.setattr(frozen, "check_bundle", lambda path: [])
    return write


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_base_from_a_bundle(bundle, dropout):
    clone = Bc(GRIPPING, small(BcConfig(), hidden=(24, 16), dropout=dropout), 3)
    clone.warm_start(random_replay())
    folder = bundle(clone.policy(), GRIPPING.observation)
    algorithm = Resfit(GRIPPING, small(ResfitConfig(), base=folder), 0)
    algorithm.warm_start(random_replay(seed=5))
    observation = torch.randn(100, GRIPPING.observation)
    with torch.no_grad():
        torch.testing.assert_close(algorithm.policy()(observation), clone.policy().eval()(observation))


def test_base_with_values_of_grippers_from_a_bundle(bundle):
    first = Rlpd(GRIPPING, small(RlpdConfig()), 3)
    first.warm_start(random_replay())
    folder = bundle(first.policy(), GRIPPING.observation)
    base = policy_of_bundle(folder, GRIPPING)
    observation = torch.randn(100, GRIPPING.observation)
    with torch.no_grad():
        torch.testing.assert_close(base(observation), first.policy()(observation))


def test_bundles_that_do_not_fit_are_refused(bundle, tmp_path):
    other = dataclasses.replace(GRIPPING, observation=5)
    folder = bundle(Bc(other, small(BcConfig()), 0).policy(), 5)
    with pytest.raises(UserError, match=r"scaler|trunk|grippers"):
        policy_of_bundle(folder, GRIPPING)
    bundle(torch.nn.Linear(4, 3), 4)
    with pytest.raises(UserError, match="none of"):
        policy_of_bundle(folder, GRIPPING)
    bundle(Bc(GRIPPING, small(BcConfig()), 0).policy(), 4)
    vectors = dict(np.load(tmp_path / "vectors.npz"))
    np.savez(tmp_path / "vectors.npz", observation=vectors["observation"], action=vectors["action"] + 0.1)
    with pytest.raises(UserError, match="errors up to 0.1"):
        policy_of_bundle(folder, GRIPPING)


def test_no_bundle_is_refused(tmp_path):
    with pytest.raises(UserError, match="cannot be a base policy"):
        policy_of_bundle(tmp_path / "nothing", GRIPPING)


def test_one_graph_holds_base_and_corrections():
    algorithm = Resfit(GRIPPING, small(ResfitConfig()), 0)
    algorithm.warm_start(random_replay())
    graph = onnx.load_from_string(to_onnx(algorithm.policy(), GRIPPING.observation)).graph
    names = {one.name for one in graph.initializer}
    assert any("base.trunk" in name for name in names)
    assert any(name.startswith("network.trunk") for name in names)
    assert [one.name for one in graph.output] == ["action"]
