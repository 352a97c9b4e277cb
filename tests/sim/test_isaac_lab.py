import gymnasium
import pytest
import torch

import sim
from sim.isaac_lab import IsaacLabEnv

N = 6
TASKS = pytest.mark.parametrize("task", ["quadrotor-hover", "arm-reach"])


def make(task, **given):
    return IsaacLabEnv(sim.make(task, num_envs=N, seed=2, **given))


def play(env, steps):
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        yield env.step(torch.rand(N, env.num_actions, generator=generator) * 2 - 1)


def rollout(env, steps):
    return list(play(env, steps))


@TASKS
def test_observations_and_spaces_are_those_of_policy_and_critic(task):
    env = make(task)
    observations, info = env.reset(seed=3)
    assert info == {}
    assert set(observations) == {"policy", "critic"}
    for name, value in observations.items():
        assert value.shape == (N, *env.single_observation_space[name].shape)
        assert value.dtype == torch.float32
    assert env.single_action_space.shape == (env.num_actions,)
    assert env.action_space.shape == (N, env.num_actions)
    assert env.state_space.shape == observations["critic"].shape
    assert env.metadata["autoreset_mode"] == gymnasium.vector.AutoresetMode.SAME_STEP
    assert env.unwrapped is env
    assert env.step_dt == env.env.period
    again, _ = env.reset(seed=3)
    assert torch.equal(again["policy"], observations["policy"])


@TASKS
def test_the_step_that_ends_an_episode_begins_the_next(task):
    env = make(task)
    env.max_episode_length = 4
    for number, (observations, _, terminated, truncated, extras) in enumerate(play(env, 12), start=1):
        assert not (terminated & truncated).any()
        due = number % 4 == 0
        assert truncated.tolist() == [due] * N
        assert torch.equal(extras["time_outs"], truncated)
        changed = (observations["policy"] != extras["final_obs"]["policy"]).any(-1)
        assert changed.tolist() == [due] * N
        assert env.episode_length_buf.tolist() == [number % 4] * N


@TASKS
def test_the_first_action_after_a_reset_acts(task):
    """In contrast to the reset in the next step, where it would be ignored."""
    after = []
    for value in (-1.0, 1.0):
        env = make(task)
        env.max_episode_length = 3
        rollout(env, 3)
        for _ in range(2):  # a latency may hold the first action back
            observations, reward, *_ = env.step(torch.full((N, env.num_actions), value))
            assert bool((reward != 0).all())
        after.append(observations["policy"])
    assert bool((after[0] != after[1]).any(-1).all())


def test_a_failure_terminates_and_the_environments_own_time_limit_truncates():
    env = make("quadrotor-hover", randomization="none")
    ends = [env.step(torch.full((N, 4), -1.0))[2:4] for _ in range(150)]
    assert sum(int(terminated.sum()) for terminated, _ in ends) >= N
    assert sum(int(truncated.sum()) for _, truncated in ends) == 0
    env.env.max_episode_length = 10
    env.reset()
    ends = [env.step(torch.full((N, 4), 0.3))[3].all() for _ in range(10)]
    assert ends == [False] * 9 + [True]


@TASKS
def test_random_episode_lengths_spread_the_resets(task):
    env = make(task)
    env.max_episode_length = 5
    env.episode_length_buf = torch.tensor([0, 1, 2, 3, 4, 0])
    ends = torch.stack([truncated for *_, truncated, _ in rollout(env, 5)])
    assert ends.int().argmax(0).tolist() == [4, 3, 2, 1, 0, 4]
    assert ends.sum(0).tolist() == [1] * N
    with pytest.raises(ValueError, match="episode_length_buf has shape"):
        env.episode_length_buf = torch.zeros(N + 1)


@TASKS
def test_what_is_returned_is_the_callers_own(task):
    clean, spoilt = make(task), make(task)
    generator = torch.Generator().manual_seed(0)
    for _ in range(8):
        actions = torch.rand(N, clean.num_actions, generator=generator) * 2 - 1
        kept = clean.get_observations()
        before = {name: value.clone() for name, value in kept.items()}
        observations, reward, *_ = clean.step(actions)
        theirs, given, terminated, truncated, extras = spoilt.step(actions)
        assert all(torch.equal(before[name], value) for name, value in kept.items())
        assert torch.equal(observations["policy"], theirs["policy"])
        assert torch.equal(reward, given)
        for tensor in (*theirs.values(), given, extras["time_outs"], *spoilt.get_observations().values()):
            tensor.fill_(1)
        terminated.fill_(True)
        truncated.fill_(True)


@TASKS
def test_steps_in_inference_mode_do_not_spoil_later_ones(task):
    """rsl_rl collects in inference mode and asks for observations outside of it."""
    env = make(task)
    env.max_episode_length = 3
    with torch.inference_mode():
        rollout(env, 4)
    env.episode_length_buf = torch.randint_like(env.episode_length_buf, high=3)
    observations, reward, *_ = rollout(env, 4)[-1]
    weight = torch.ones(observations["policy"].shape[-1], requires_grad=True)
    (env.get_observations()["policy"] @ weight).sum().backward()
    assert bool(weight.grad.isfinite().all())
    assert bool(reward.isfinite().all())
