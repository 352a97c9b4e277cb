"""Known solutions: two ways stay two, a chunk's end is never invented, memory trains as it acts, grippers decide."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from toy_episodes import LAYOUT, fit, give, make_episode, two_ways

from policies.execution import Executor
from robot_rl.export import run_network
from robot_rl.imitation.act import ActConfig, ActPolicy
from robot_rl.imitation.bc import BcConfig, BcPolicy
from robot_rl.imitation.bc_rnn import BcRnnConfig, BcRnnPolicy
from robot_rl.imitation.consistency import ConsistencyConfig, ConsistencyPolicy
from robot_rl.imitation.diffusion import DiffusionConfig, DiffusionPolicy, noise_levels
from robot_rl.imitation.learner import Imitator
from robot_rl.imitation.mixture import MixtureHead

SIZE = 4
BC = BcConfig(steps=300, batch=64, hidden=(32,), components=3)
RNN = BcRnnConfig(steps=300, batch=16, hidden=16, memory=16, components=3)
ACT = ActConfig(steps=200, batch=32, horizon=4, width=16, heads=2, layers=1, latent=2)
DIFFUSION = DiffusionConfig(steps=600, batch=64, learning_rate=5e-3, horizon=4, executed=2, hidden=64, blocks=2)
CONSISTENCY = ConsistencyConfig(steps=500, batch=128, learning_rate=2e-3, teacher=DIFFUSION)
NETWORKS = [(BcPolicy, BC), (BcRnnPolicy, RNN), (ActPolicy, ACT), (DiffusionPolicy, DIFFUSION)]


def build(kind, config, seed=0):
    torch.manual_seed(seed)
    return kind(SIZE, LAYOUT, config)


def ways(chunks):
    """Share of chunks (N, H, A) that go right, and that go left, in all of their steps."""
    return (chunks[:, :, 1] > 0.3).all(axis=1).mean(), (chunks[:, :, 1] < -0.3).all(axis=1).mean()


def test_a_mixture_keeps_both_ways_where_the_mean_is_one_that_nobody_went():
    learner = fit(build(BcPolicy, BC), BC, two_ways())
    policy, nothing = learner.policy().requires_grad_(False), torch.zeros(1, SIZE)
    mean, deviation, _, weight = policy.head(policy.trunk(policy.scaler(nothing)))
    share = weight.exp()[0]
    right, left = (share[(mean[0, :, 1] - side).abs() < 0.1].sum() for side in (0.6, -0.6))
    assert 0.4 < right < 0.6 and 0.4 < left < 0.6 and right + left > 0.95
    assert abs(float((share * mean[0, :, 1]).sum())) < 0.1, "the mean is no way"
    assert float(deviation[0, share > 0.1].max()) < 0.15
    action = policy(nothing)[0, 0].numpy()
    assert abs(abs(action[1]) - 0.6) < 0.1 and abs(action[0] - 0.3) < 0.1 and action[2] == 1.0


@pytest.fixture(scope="module")
def teacher():
    return fit(build(DiffusionPolicy, DIFFUSION), DIFFUSION, two_ways())


def samples(policy, count=200):
    noise = torch.randn(count, 4 * LAYOUT.size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return policy(torch.zeros(count, SIZE), torch.zeros(count, SIZE), noise).numpy()


def test_diffusion_takes_either_way_and_stays_on_it_for_the_whole_chunk(teacher):
    chunks = samples(teacher.policy())
    right, left = ways(chunks)
    assert right > 0.35 and left > 0.35 and right + left > 0.8
    assert abs(np.median(np.abs(chunks[:, :, 1])) - 0.6) < 0.05
    assert set(np.unique(chunks[:, :, 2])) == {1.0}
    np.testing.assert_array_equal(samples(teacher.policy()), chunks)


def test_one_step_of_its_student_goes_the_way_of_its_teacher(teacher):
    torch.manual_seed(0)
    network = ConsistencyPolicy(SIZE, LAYOUT, CONSISTENCY, DIFFUSION)
    learner = Imitator(None, network, CONSISTENCY, None, 0)
    learner.demonstrations = teacher.demonstrations
    for one in (learner.network, learner.deployed):
        one.teach(teacher.policy().state_dict())
    taught = {name: value.clone() for name, value in network.teacher.state_dict().items()}
    while learner.updates < learner.total:
        learner.update()
    ours, theirs = samples(learner.policy()), samples(teacher.policy())
    right, left = ways(ours)
    assert right > 0.35 and left > 0.35 and right + left > 0.8
    assert np.mean(np.sign(ours[:, 0, 1]) == np.sign(theirs[:, 0, 1])) > 0.9
    for name, value in network.teacher.state_dict().items():
        assert torch.equal(value, taught[name]), f"the teacher's {name} changed"
    # A way's end is its own end.
    chunk, least = torch.randn(5, 4 * LAYOUT.size), torch.full((5, 1), DIFFUSION.noise_range[0])
    features = torch.zeros(5, 2 * SIZE)
    torch.testing.assert_close(learner.policy().jump(chunk, least, features), chunk)


def test_noise_levels_fall_from_the_largest_to_the_smallest_and_end_with_none():
    levels = noise_levels((0.02, 20.0), 5).tolist()
    assert levels[0] == pytest.approx(20.0, rel=1e-4) and levels[4] == pytest.approx(0.02, rel=1e-4) and levels[5] == 0
    assert levels == sorted(levels, reverse=True)
    assert noise_levels((0.02, 20.0), 1).tolist() == pytest.approx([20.0, 0.0], rel=1e-4)


def test_a_mixtures_density_is_that_of_its_formula():
    torch.manual_seed(0)
    head = MixtureHead(5, LAYOUT, components=3, least_std=0.05)
    features, action = torch.randn(7, 5), torch.rand(7, 3) * 2 - 1
    mean, deviation, grippers, weight = head(features)
    normal = torch.distributions.Normal(mean, deviation).log_prob(action[:, None, :2]).sum(-1)
    opens = torch.distributions.Bernoulli(logits=grippers[..., 0]).log_prob((action[:, 2:] > 0).float().expand(7, 3))
    wanted = -torch.logsumexp(weight + normal + opens, dim=-1)
    torch.testing.assert_close(head.loss(features, action), wanted)
    best = weight.argmax(-1)
    torch.testing.assert_close(head.act(features)[:, :2], mean[torch.arange(7), best])
    assert torch.equal(head.act(features)[:, 2] > 0, grippers[torch.arange(7), best, 0] > 0)


@pytest.mark.parametrize(("kind", "config"), NETWORKS)
def test_nothing_beyond_an_episode_or_done_by_others_has_a_share_in_the_loss(kind, config):
    """What comes after the end, or the policy did itself, may be anything: the loss and its gradient are the same."""
    rng = np.random.default_rng(0)
    steps = rng.uniform(-1.0, 1.0, (2, 9, SIZE))
    acts = rng.uniform(-1.0, 1.0, (2, 8, 3))
    other = acts.copy()
    other[1] = rng.uniform(-1.0, 1.0, (8, 3))  # the next episode's actions
    drivers = ["person"] * 5 + ["policy"] * 3
    other[0, 5:] = 0.9  # steps of the policy
    network = build(kind, config)
    found = []
    for actions in (acts, other):
        learner = Imitator(None, network, config, None, 0)
        give(learner, [make_episode(steps[0], actions[0], drivers), make_episode(steps[1], actions[1])])
        length = network.window or 8
        first = torch.zeros(6, dtype=torch.int64) if not network.window else torch.arange(6) % 5
        window = learner.demonstrations.windows(first, length, network.execution.history)
        assert length == 1 or not window.shown.all()
        network.zero_grad()
        loss = network.loss(window, torch.Generator().manual_seed(0))
        loss.backward()
        found.append((loss.detach(), [p.grad.clone() for p in network.parameters() if p.grad is not None]))
    torch.testing.assert_close(found[0], found[1], rtol=0.0, atol=0.0)


@pytest.mark.parametrize(("kind", "config"), NETWORKS)
def test_a_step_that_is_not_shown_gives_no_gradient_even_with_an_action_in_it(kind, config):
    network = build(kind, config)
    learner = Imitator(None, network, config, None, 0)
    rng = np.random.default_rng(1)
    give(learner, [make_episode(rng.normal(size=(9, SIZE)), rng.uniform(-1.0, 1.0, (8, 3)))])
    window = learner.demonstrations.windows(torch.zeros(3, dtype=torch.int64), network.window or 8,
                                            network.execution.history)  # fmt: skip
    hidden = dataclasses.replace(window, shown=torch.zeros_like(window.shown))
    loss = network.loss(hidden, torch.Generator().manual_seed(0))
    gradients = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)
    assert all(g is None or not g.any() for g in gradients)


def test_a_recurrent_network_acts_step_by_step_as_it_was_trained_on_sequences():
    network = build(BcRnnPolicy, dataclasses.replace(RNN, layers=2)).eval()
    observations = torch.randn(3, 12, SIZE)
    with torch.no_grad():
        whole, _ = network.recurrent(network.trunk(network.scaler(observations)))
        wanted = network.head.act(whole).numpy()
        executor = Executor(network.execution)
        found = [
            executor.step(o.numpy(), lambda inputs, rows: run_network(network, inputs)) for o in observations.unbind(1)
        ]
    np.testing.assert_allclose(np.stack(found, axis=1), wanted, atol=1e-6)


def test_memory_is_of_use_where_the_observation_does_not_say_enough():
    """The first observation says left or right, the later ones nothing: only memory knows which."""
    rng = np.random.default_rng(0)
    episodes = []
    for number in range(40):
        side = 1.0 if number % 2 else -1.0
        observations = np.zeros((6, SIZE))
        observations[0, 0] = side
        actions = np.stack([np.zeros(5), 0.5 * side * np.ones(5), -np.ones(5)], axis=1)
        episodes.append(make_episode(observations, actions + 0.02 * rng.standard_normal(actions.shape) * [1, 1, 0]))
    policy = fit(build(BcRnnPolicy, RNN), RNN, episodes).policy()
    executor = Executor(policy.execution)
    with torch.no_grad():
        for step in range(5):
            seen = np.zeros((2, SIZE), np.float32)
            seen[:, 0] = [1.0, -1.0] if step == 0 else 0.0
            action = executor.step(seen, lambda inputs, rows: run_network(policy, inputs))
            np.testing.assert_allclose(action[:, 1], [0.5, -0.5], atol=0.15)
            np.testing.assert_array_equal(action[:, 2], -1.0)


def test_an_action_chunking_transformer_follows_the_observation_with_its_whole_chunk():
    rng = np.random.default_rng(0)
    observations = rng.uniform(-1.0, 1.0, (30, 9, SIZE))
    observations[:, 1:] = observations[:, :1]  # what is seen at the start holds for the episode
    steps = np.arange(8)
    actions = np.stack([0.5 * observations[:, :8, 0], 0.1 * (observations[:, :8, 1] > 0) * steps,
                        np.where(observations[:, :8, 2] > 0, 1.0, -1.0)], axis=2)  # fmt: skip
    config = dataclasses.replace(ACT, steps=400, feature_noise=0.02)
    episodes = [make_episode(o, a) for o, a in zip(observations, actions, strict=True)]
    policy = fit(build(ActPolicy, config), config, episodes).policy()
    seen = torch.from_numpy(observations[:, 0].astype(np.float32))
    with torch.no_grad():
        chunk = policy(seen).numpy()
    assert chunk.shape == (30, 4, 3)
    assert np.abs(chunk[:, :, 0] - 0.5 * observations[:, :1, 0]).mean() < 0.1
    clear = np.abs(observations[:, 0, 2]) > 0.2
    assert (np.sign(chunk[clear, :, 2]) == np.sign(observations[clear, :1, 2])).mean() > 0.9
    assert set(np.unique(chunk[:, :, 2])) <= {-1.0, 1.0}


@pytest.mark.parametrize(("kind", "config"), NETWORKS)
def test_a_seed_repeats_a_training_and_another_does_not(kind, config):
    config = dataclasses.replace(config, steps=20)
    runs = [fit(build(kind, config, seed), config, two_ways(8), seed).state_dict() for seed in (0, 0, 1)]
    assert all(torch.equal(value, runs[1][name]) for name, value in runs[0].items())
    assert any(not torch.equal(value, runs[2][name]) for name, value in runs[0].items())


@pytest.mark.parametrize(("kind", "config"), NETWORKS)
def test_a_training_that_was_interrupted_ends_like_one_that_was_not(kind, config):
    config = dataclasses.replace(config, steps=60)
    whole = fit(build(kind, config), config, two_ways(8))
    begun = Imitator(None, build(kind, config), config, None, 0)
    give(begun, two_ways(8))
    begun.update()
    resumed = Imitator(None, build(kind, config, seed=5), config, None, 5)
    resumed.load_state_dict(begun.state_dict())
    resumed.demonstrations = begun.demonstrations
    resumed.update()
    assert resumed.updates == resumed.total == 2
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in whole.state_dict().items())
