import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import sim
from sim.environment import QuadrotorEnv
from sim.gymnasium_env import VectorEnv, environment_id, register

IDS = [environment_id(task) for task in sim.list_tasks()]
UNBOUNDED = "A Box observation space m.*imum value is -?infinity"
"""An observation of velocities has no bound."""


def test_the_names_are_those_of_the_tasks():
    assert {"robot_rl/QuadrotorHover-v0", "robot_rl/QuadrotorTrack-v0"} <= set(IDS)
    register()
    assert all(name in gymnasium.registry for name in IDS)


@pytest.mark.parametrize("name", IDS)
def test_gymnasiums_own_checker_is_content(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=f".*{UNBOUNDED}")
        check_env(gymnasium.make(name).unwrapped, skip_render_check=True)  # pictures need GL, states do not


@pytest.mark.parametrize("name", IDS)
def test_stable_baselines3s_own_checker_is_content(name):
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checker.check_env(gymnasium.make(name).unwrapped)


def play_single(env, seed, steps=10):
    observation, info = env.reset(seed=seed)
    env.action_space.seed(seed)
    rows = [(observation, info["states"])]
    for _ in range(steps):
        observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
        rows.append((observation, info["states"], reward, terminated, truncated))
    return rows


@pytest.mark.parametrize("name", IDS)
def test_a_seed_gives_the_same_episode_bit_by_bit(name):
    env = gymnasium.make(name, randomization="default")
    first, other, again = play_single(env, 3), play_single(env, 4), play_single(env, 3)
    fresh = play_single(gymnasium.make(name), 3)
    for a, b, c in zip(first, again, fresh, strict=True):
        for x, y, z in zip(a, b, c, strict=True):
            assert np.array_equal(x, y)
            assert np.array_equal(x, z)
    assert not np.array_equal(first[0][0], other[0][0])


def test_an_arm_tells_whether_it_was_successful():
    env = gymnasium.make("robot_rl/ArmReach-v0", engine="mujoco")
    env.reset(seed=0)
    info = env.step(env.action_space.sample())[4]
    assert info["is_success"] is False
    envs = gymnasium.make_vec("robot_rl/ArmReach-v0", num_envs=2, vectorization_mode="vector_entry_point")
    envs.reset(seed=0)
    infos = envs.step(envs.action_space.sample())[4]
    assert infos["is_success"].tolist() == [False, False]
    env.close()
    envs.close()


def test_two_unseeded_environments_differ():
    observations = [gymnasium.make(IDS[0]).reset()[0] for _ in range(2)]
    assert not np.array_equal(*observations)


def test_a_fall_terminates_and_the_time_limit_truncates():
    env = gymnasium.make("robot_rl/QuadrotorHover-v0", randomization="none")
    env.reset(seed=0)
    for _ in range(300):
        _, _, terminated, truncated, _ = env.step(-np.ones(4, dtype=np.float32))
        if terminated or truncated:
            break
    assert terminated
    assert not truncated
    env.unwrapped.env.max_episode_length = 20
    env.reset(seed=0)
    flags = [env.step(np.full(4, 0.5, dtype=np.float32))[2:4] for _ in range(20)]
    assert flags[:-1] == [(False, False)] * 19
    assert flags[-1] == (False, True)


def test_the_vector_environment_is_a_batch_with_next_step_reset():
    mode = "vector_entry_point"
    envs = gymnasium.make_vec("robot_rl/QuadrotorHover-v0", num_envs=3, vectorization_mode=mode, randomization="none")
    assert envs.metadata["autoreset_mode"] == gymnasium.vector.AutoresetMode.NEXT_STEP
    runs = []
    for _ in range(2):
        observations, infos = envs.reset(seed=5)
        envs.action_space.seed(5)
        run = [observations]
        assert infos["states"].shape == (3, envs.unwrapped.env.num_states)
        ended = np.zeros(3, dtype=bool)
        endings = 0
        for _ in range(150):
            observations, rewards, terminated, truncated, _ = envs.step(-np.ones((3, 4), dtype=np.float32))
            assert observations in envs.observation_space
            assert not np.any(ended & (terminated | truncated))
            assert np.all(rewards[ended] == 0.0)
            ended = terminated | truncated
            endings += ended.sum()
            run.append(observations)
        assert endings >= 3
        runs.append(np.stack(run))
    assert np.array_equal(*runs)
    with pytest.raises(ValueError, match="seed is a list"):
        envs.reset(seed=[1, 2, 3])


def test_gymnasiums_vector_of_single_environments_works_too():
    envs = gymnasium.make_vec(IDS[0], num_envs=2, vectorization_mode="sync")
    observations, _ = envs.reset(seed=0)
    assert observations.shape == (2, envs.single_observation_space.shape[0])
    assert len(envs.step(envs.action_space.sample())) == 5


def test_rendering_is_refused_in_words_where_there_is_no_camera():
    name = "robot_rl/QuadrotorHover-v0"
    with pytest.raises(ValueError, match="does not render, leave it out"):
        gymnasium.make(name, render_mode="rgb_array", disable_env_checker=True)
    env = gymnasium.make(name)
    assert env.unwrapped.metadata["render_modes"] == []
    assert env.unwrapped.metadata["render_fps"] == 100


def test_what_has_a_camera_returns_its_pictures(monkeypatch):
    """Whose pictures these are and that they need no conversion; the camera itself is not asked."""
    picture = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    monkeypatch.setattr(QuadrotorEnv, "render", lambda self, index: picture + index, raising=False)
    env = gymnasium.make("robot_rl/QuadrotorHover-v0", render_mode="rgb_array")
    env.reset(seed=0)
    assert np.array_equal(env.render(), picture)
    envs = VectorEnv("quadrotor-hover", 2, render_mode="rgb_array")
    assert np.array_equal(np.stack(envs.render()), np.stack([picture, picture + 1]))
    with pytest.raises(ValueError, match="known: rgb_array"):
        VectorEnv("quadrotor-hover", 2, render_mode="human")
