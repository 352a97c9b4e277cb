import dataclasses
import math

import numpy as np
import pytest
import torch

import sim
from robot_rl import ppo
from robot_rl.networks import Normalizer
from robot_rl.ppo import Ppo, PpoConfig
from robot_rl.rollouts import Rollout, gae, log_probability
from sim.tasks import find_task

POINT = PpoConfig(
    updates=40,
    num_envs=64,
    horizon=20,
    discount=0.9,
    epochs=4,
    minibatches=2,
    initial_action=0.0,
    initial_std=0.5,
    hidden=(32,),
    critic_hidden=(32,),
    learning_rate=3e-3,
    schedule="adaptive",
)
SMALL = PpoConfig(updates=3, num_envs=8, horizon=60, epochs=2, minibatches=2, hidden=(16,), critic_hidden=(16,))


def rollout_of(rewards, ended, terminated, valid):
    """A rollout of which only the arguments, each a list over time of one environment, matter."""
    count = len(rewards)
    column = torch.zeros(count, 1, 1)

    def flags(values):
        return torch.tensor(values, dtype=torch.bool)[:, None]

    return Rollout(
        obs=column, critic_obs=column, actions=column, means=column, log_probs=column[..., 0],
        rewards=torch.tensor(rewards)[:, None], costs=column[..., 0],
        ended=flags(ended), terminated=flags(terminated), valid=flags(valid), last_critic_obs=column[0],
    )  # fmt: skip


def advantages_of(rollout, values, discount=0.9, gae_lambda=0.95):
    return gae(rollout, rollout.rewards, values, discount, gae_lambda)


# Advantages


def test_with_lambda_one_advantages_are_discounted_returns():
    rewards = [1.0, 2.0, 3.0]
    rollout = rollout_of(rewards, [0, 0, 0], [0, 0, 0], [1, 1, 1])
    values = torch.tensor([[0.5], [0.1], [0.2], [4.0]])
    advantages = advantages_of(rollout, values, gae_lambda=1.0)[:, 0]
    scaled = [0.1 * reward for reward in rewards]
    expected = scaled[0] + 0.9 * scaled[1] + 0.81 * scaled[2] + 0.729 * 4.0 - 0.5
    assert float(advantages[0]) == pytest.approx(expected, rel=1e-5)
    assert float(advantages[2]) == pytest.approx(scaled[2] + 0.9 * 4.0 - 0.2, rel=1e-5)


def test_a_time_out_goes_on_with_the_value_of_the_last_observation_and_a_termination_with_zero():
    values = torch.tensor([[0.5], [0.3], [7.0], [9.0]])  # the last observation of the episode is worth 0.3
    for terminated, expected in ((False, 0.1 + 0.9 * 0.3 - 0.5), (True, 0.1 - 0.5)):
        rollout = rollout_of([1.0, 0.0, 5.0], [1, 0, 0], [terminated, 0, 0], [1, 0, 1])
        advantage = advantages_of(rollout, values)[0, 0]
        assert float(advantage) == pytest.approx(expected, rel=1e-5)


def test_nothing_of_the_next_episode_leaks_into_the_last():
    ended, terminated, valid = [0, 1, 0, 0], [0, 0, 0, 0], [1, 1, 0, 1]
    values = torch.tensor([[0.5], [0.3], [0.2], [0.7], [0.1]])
    one = advantages_of(rollout_of([1.0, 1.0, 0.0, 1.0], ended, terminated, valid), values)
    values[3:] = 100.0
    other = advantages_of(rollout_of([1.0, 1.0, 50.0, 50.0], ended, terminated, valid), values)
    assert torch.equal(one[:2], other[:2])
    assert not torch.equal(one[2:], other[2:])


# Its parts


def test_the_running_normalization_is_that_of_all_samples():
    samples = torch.randn(300, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 5.0, 0.1]) + 2.0
    normalizer = Normalizer(3)
    for part in samples.split([1, 99, 200]):
        normalizer.update(part)
    np.testing.assert_allclose(normalizer.mean, samples.numpy().mean(0), rtol=1e-4)
    np.testing.assert_allclose(normalizer.variance, samples.numpy().var(0), rtol=1e-3)
    # Features that hardly vary are not blown up: 0.1 becomes 0.1 / √(0.1² + 0.01).
    assert normalizer(samples).std(0).tolist() == pytest.approx([1.0, 1.0, 0.707], rel=5e-2)
    assert float(normalizer(torch.full((3,), 1e9)).max()) == 10.0


def test_log_probability_and_divergence_are_those_of_torch():
    generator = torch.Generator().manual_seed(0)
    action, mean, old_mean = (torch.randn(5, 4, generator=generator) for _ in range(3))
    log_std, old_log_std = torch.full((4,), -0.5), torch.full((4,), -0.7)
    new = torch.distributions.Normal(mean, log_std.exp())
    old = torch.distributions.Normal(old_mean, old_log_std.exp())
    torch.testing.assert_close(log_probability(action, mean, log_std), new.log_prob(action).sum(-1))
    expected = torch.distributions.kl_divergence(old, new).sum(-1).mean()
    torch.testing.assert_close(ppo.kl_divergence(old_mean, old_log_std, mean, log_std), expected)


def test_only_valid_transitions_are_learnt_from(point_env):
    """The action of the step that begins an episode is ignored, so what it says must not matter."""

    class Lying(point_env):
        """Pays a fortune for the step that only begins an episode."""

        def step(self, actions):
            starting = self.ended
            observations, reward, reset, extras = super().step(actions)
            return observations, torch.where(starting, 1e6, reward), reset, extras

    learners = [Ppo(kind(64), POINT, seed=0) for kind in (point_env, Lying)]
    metrics = [[learner.update() for _ in range(2)] for learner in learners]
    assert metrics[0] == metrics[1]


# Learning


def test_it_solves_a_problem_whose_solution_is_known(point_env):
    learner = Ppo(point_env(64), POINT, seed=0)
    first = learner.update()
    while learner.updates < POINT.updates:
        last = learner.update()
    assert last["episode_return"] > first["episode_return"] + 3.0
    assert first["failure_rate"] > 0.02
    assert last["failure_rate"] == 0.0
    x = torch.linspace(-1.9, 1.9, 39)
    start, best, gained = x.clone(), torch.zeros(39), torch.zeros(39)
    with torch.no_grad():
        for step in range(1, 21):
            x = x + 0.1 * learner.policy()(x[:, None])[:, 0]
            gained += 1.0 - x.abs()
            best += 1.0 - (start.abs() - 0.1 * step).clamp(min=0.0)
    assert float(gained.mean()) > 0.95 * float(best.mean())


def test_a_success_that_ends_an_episode_is_no_failure(point_env):
    """The metrics are the shares of the last 64 episodes, as the environment itself counted them."""

    class Winning(point_env):
        def step(self, actions):
            observations, reward, reset, extras = super().step(actions)
            success = (self.x.abs() < 0.2) & (self.age > 0)
            late = extras["time_outs"] & ~success
            self.ended = reset | success
            for won, lost in zip(success[self.ended], ~(success | late)[self.ended], strict=True):
                outcomes.append((bool(won), bool(lost)))
            return observations, reward, self.ended.clone(), {"time_outs": late, "success": success}

    outcomes: list[tuple[bool, bool]] = []
    metrics = Ppo(Winning(64), POINT, seed=0).update()
    won, lost = np.mean(outcomes[-64:], axis=0)
    assert len(outcomes) > 64
    assert 0.0 < won < 1.0
    assert 0.0 < lost < 1.0
    assert metrics["success_rate"] == pytest.approx(won)
    assert metrics["failure_rate"] == pytest.approx(lost)
    assert "success_rate" not in Ppo(point_env(64), POINT, seed=0).update()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_return_rises_and_crashes_fall_on_quadrotor_hover():
    config = PpoConfig(updates=160, schedule="adaptive", learning_rate=1e-3)
    learner = ppo.init(find_task("quadrotor-hover"), config, seed=0)
    history = [learner.update() for _ in range(config.updates)]
    early = [row for row in history if "episode_return" in row]
    assert history[-1]["episode_return"] > 3.0 * early[0]["episode_return"]
    assert early[0]["failure_rate"] > 0.95
    assert history[-1]["failure_rate"] < 0.5


@pytest.mark.parametrize("name", sim.list_tasks())
def test_it_runs_on_every_task(name):
    task = find_task(name)
    task = dataclasses.replace(task, episode_length=10.0 / task.control_rate_hz)
    learner = ppo.init(task, dataclasses.replace(SMALL, num_envs=4, horizon=12), seed=0)
    metrics = learner.update()
    assert all(math.isfinite(value) for value in metrics.values())
    assert {"loss", "reward"} <= metrics.keys()
    assert any(name.startswith("reward/") for name in metrics)
    while "failure_rate" not in metrics:
        metrics = learner.update()
    assert 0.0 <= metrics["failure_rate"] <= 1.0


def test_the_same_seed_gives_the_same_run_and_touches_no_global_generator():
    before = torch.get_rng_state()
    runs = [[ppo.init(find_task("quadrotor-hover"), SMALL, seed)] for seed in (0, 0, 1)]
    results = [learner.update()["loss"] for (learner,) in runs]
    assert results[0] == results[1] != results[2]
    assert torch.equal(torch.get_rng_state(), before)


def test_a_run_goes_on_bit_by_bit_after_a_kill(tmp_path):
    from safetensors.torch import load_file, save_file

    task = find_task("quadrotor-hover")
    learner = ppo.init(task, SMALL, seed=0)
    learner.update()
    learner.update()
    save_file(learner.state_dict(), tmp_path / "checkpoint.safetensors")
    expected = learner.update()
    assert "episode_return" in expected, "no episode ended, so no reset was compared"
    resumed = ppo.init(task, SMALL, seed=7)
    resumed.load_state_dict(load_file(tmp_path / "checkpoint.safetensors"))
    assert resumed.updates == 2
    assert resumed.update() == expected
    one, other = learner.state_dict(), resumed.state_dict()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_the_policy_takes_raw_observations_and_gives_actions_within_range():
    learner = ppo.init(find_task("quadrotor-hover"), SMALL, seed=0)
    learner.update()
    policy = learner.policy()
    assert int(policy.normalizer.count) > 0
    observations = 100.0 * torch.randn(50, learner.env.num_obs, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        actions = policy(observations)
        assert torch.equal(actions, policy(observations))
    assert actions.shape == (50, 4)
    assert float(actions.abs().max()) <= 1.0


# Faults


@pytest.mark.parametrize("part", ["observations", "rewards"])
def test_what_is_not_finite_is_named(point_env, part):
    class Broken(point_env):
        def step(self, actions):
            observations, reward, reset, extras = super().step(actions)
            if part == "observations":
                observations["obs"][3] = torch.nan
            else:
                reward[3] = torch.inf
            return observations, reward, reset, extras

    with pytest.raises(FloatingPointError, match=f"update 0: {part} are not finite"):
        Ppo(Broken(64), POINT, seed=0).update()


def test_weights_that_are_not_finite_are_named(point_env):
    learner = Ppo(point_env(64), POINT, seed=0)
    with torch.no_grad():
        learner.actor.network.head.bias.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="actions are not finite"):
        learner.update()


def test_a_discount_of_one_is_refused():
    with pytest.raises(ValueError, match="discount is 1.0"):
        dataclasses.replace(POINT, discount=1.0)
