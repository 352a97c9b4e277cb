import importlib.util

import gymnasium
import numpy as np
import pytest
import torch

import sim
from sim.isaac_gym import VecTask, make

N = 6


def hover(**env):
    return make(3, "quadrotor-hover", N, "cpu", "cpu", headless=True, cfg={"env": env})


def reach(**env):
    return make(3, "arm-reach", N, "cpu", "cpu", headless=True, cfg={"env": env})


BUILDERS = pytest.mark.parametrize("build", [hover, reach])


def noise(task, generator):
    return torch.rand(N, task.num_actions, generator=generator) * 2 - 1


@BUILDERS
def test_buffers_have_their_shapes_types_and_first_values(build):
    task = build()
    own = task.env
    shapes = {
        "obs_buf": ((N, own.num_obs), torch.float32, 0),
        "states_buf": ((N, own.num_states), torch.float32, 0),
        "rew_buf": ((N,), torch.float32, 0),
        "reset_buf": ((N,), torch.int64, 1),
        "timeout_buf": ((N,), torch.int64, 0),
        "progress_buf": ((N,), torch.int64, 0),
        "randomize_buf": ((N,), torch.int64, 0),
    }
    for name, (shape, dtype, value) in shapes.items():
        buffer = getattr(task, name)
        assert (tuple(buffer.shape), buffer.dtype) == (shape, dtype), name
        assert bool((buffer == value).all()), name
    task.step(task.zero_actions())
    assert task.timeout_buf.dtype == torch.bool


def test_it_has_every_name_of_the_interface():
    task = hover()
    names = """
    cfg device device_type device_id rl_device headless graphics_device_id num_environments num_envs num_agents
    num_observations num_obs num_states num_actions num_acts obs_space observation_space state_space act_space
    action_space clip_obs clip_actions control_freq_inv dt max_episode_length control_steps total_train_env_frames
    render_fps metadata extras obs_dict first_randomization original_props dr_randomizations actor_params_generator
    extern_actor_params last_step last_rand_step randomize_buf sim_initialized viewer envs allocate_buffers
    create_sim pre_physics_step post_physics_step step reset reset_idx reset_done zero_actions get_state render
    set_train_info get_env_state set_env_state apply_randomizations get_actor_params_info set_viewer
    """
    assert [name for name in names.split() if not hasattr(task, name)] == []
    assert (task.device, task.device_type, task.device_id, task.num_agents) == ("cpu", "cpu", 0, 1)
    assert task.metadata["autoreset_mode"] == gymnasium.vector.AutoresetMode.NEXT_STEP
    assert task.observation_space.shape == (task.num_obs,)
    assert task.action_space.low.tolist() == [-1.0] * 4


@BUILDERS
def test_reset_resets_nothing_and_the_first_step_begins_whatever_its_action(build):
    first = []
    for value in (-1.0, 1.0):
        task = build()
        assert not task.reset()["obs"].any()
        assert not task.reset()["states"].any()
        observations, reward, reset, _ = task.step(torch.full((N, task.num_actions), value))
        assert not reward.any()
        assert not reset.any()
        assert not task.progress_buf.any()
        first.append(observations["obs"])
    assert torch.equal(*first)
    assert bool(first[0].any())


@BUILDERS
def test_it_gives_what_the_environment_itself_gives(build):
    task = build()
    name = task.cfg["name"]
    env = sim.make(name, num_envs=N, seed=3)
    env.begin(torch.ones(N, dtype=torch.bool))  # a `VecTask` throws the first episodes away
    twin = build()
    task.env.load_state_dict(env.state_dict())
    task.reset_buf[:] = 0
    generator = torch.Generator().manual_seed(0)
    for _ in range(30):
        actions = noise(twin, generator)
        theirs, reward, ended, _ = env.step(actions)
        ours, given, reset, _ = task.step(actions)
        assert torch.equal(theirs["obs"], ours["obs"])
        assert torch.equal(theirs["states"], ours["states"])
        assert torch.equal(reward, given)
        assert torch.equal(ended.long(), reset)


@BUILDERS
def test_an_episode_is_counted_as_isaac_gym_counts(build):
    task = build(episodeLength=5)
    assert task.max_episode_length == 5
    task.step(task.zero_actions())
    for step in range(1, 5):
        *_, reset, extras = task.step(task.zero_actions())
        assert task.progress_buf.tolist() == [step] * N
        assert reset.tolist() == [int(step == 4)] * N
        assert extras["time_outs"].tolist() == [step == 4] * N
    last = task.obs_buf.clone()
    observations, reward, reset, extras = task.step(task.zero_actions())
    assert not reset.any()
    assert not extras["time_outs"].any()
    assert not reward.any()
    assert not task.progress_buf.any()
    assert bool((observations["obs"] != last).any(-1).all())


def test_a_failure_is_no_time_out():
    task = hover()
    failures = 0
    for _ in range(200):
        *_, reset, extras = task.step(torch.full((N, 4), -1.0))
        assert not extras["time_outs"].any()
        failures += int(reset.sum())
    assert failures >= N


@BUILDERS
def test_observations_are_fresh_and_rewards_are_the_buffers(build):
    task = build()
    observations, reward, reset, _ = task.step(task.zero_actions())
    kept, before = observations["obs"], observations["obs"].clone()
    again, *_ = task.step(task.zero_actions())
    assert torch.equal(kept, before)
    assert again is observations is task.obs_dict
    assert reward is task.rew_buf
    assert reset is task.reset_buf


def test_observations_and_actions_are_clipped():
    task = hover(clipObservations=0.1, clipActions=0.5)
    seen = []
    task.pre_physics_step = lambda actions: (seen.append(actions), VecTask.pre_physics_step(task, actions))
    observations, *_ = task.step(torch.full((N, 4), 3.0))
    assert seen[0].max() == 0.5
    assert observations["obs"].abs().max() <= 0.1 < task.obs_buf.abs().max()
    assert observations["states"].abs().max() <= 0.1


@BUILDERS
def test_an_action_is_held_for_control_frequency_inv_steps(build):
    """Three held steps are three steps of the environment, their rewards added."""
    task = build(controlFrequencyInv=3)
    task.step(task.zero_actions())
    twin = sim.make(task.cfg["name"], num_envs=N)
    twin.load_state_dict(task.env.state_dict())
    actions = noise(task, torch.Generator().manual_seed(1))
    observations, reward, *_ = task.step(actions)
    rewards = []
    for _ in range(3):
        theirs, single, ended, _ = twin.step(actions)
        rewards.append(single)
        assert not ended.any()
    assert torch.equal(observations["obs"], theirs["obs"])
    torch.testing.assert_close(reward, sum(rewards))


def test_held_steps_stop_counting_where_an_episode_ends():
    held, plain = hover(controlFrequencyInv=4), hover()
    falls = []
    for task in (held, plain):
        task.step(task.zero_actions())
        total = torch.zeros(N)
        over = torch.zeros(N, dtype=torch.bool)
        while not over.all():
            _, reward, reset, _ = task.step(torch.full((N, 4), -1.0))
            total += reward * ~over
            over |= reset.bool()
        falls.append(total)
        assert bool((total > 0).all())
    observations, reward, *_ = held.step(held.zero_actions())
    assert not reward[held.progress_buf == 0].any()
    # The same distribution of falls: a held episode neither gains nor loses rewards of its neighbours.
    assert 0.5 < float(falls[0].mean() / falls[1].mean()) < 2.0


@BUILDERS
def test_reset_idx_begins_at_once_and_leaves_the_others_alone(build):
    task = build()
    generator = torch.Generator().manual_seed(2)
    for _ in range(4):
        task.step(noise(task, generator))
    before = task.obs_buf.clone()
    task.reset_buf[1] = 1
    observations, ids = task.reset_done()
    assert ids.tolist() == [1]
    assert task.progress_buf.tolist() == [3, 0, 3, 3, 3, 3]
    changed = (observations["obs"] != before).any(-1)
    assert changed.tolist() == [False, True, False, False, False, False]
    task.step(task.zero_actions())
    assert task.progress_buf.tolist() == [4, 1, 4, 4, 4, 4]


@BUILDERS
def test_begin_changes_nothing_in_the_other_environments(build):
    """Their next observations are those of a twin in which nothing began, but for the sensors' noise."""
    runs = []
    for begin in (False, True):
        env = sim.make(build().cfg["name"], num_envs=N, seed=5, randomization="none")
        generator = torch.Generator().manual_seed(7)
        actions = [torch.rand(N, env.num_actions, generator=generator) * 2 - 1 for _ in range(6)]
        for action in actions[:3]:
            env.step(action)
        if begin:
            env.begin(torch.arange(N) == 2)
        runs.append([env.step(action) for action in actions[3:]])
    others = torch.arange(N) != 2
    for (plain, reward, ended, _), (begun, given, stopped, _) in zip(*runs, strict=True):
        for name in ("obs", "states"):
            torch.testing.assert_close(plain[name][others], begun[name][others], rtol=1e-5, atol=1e-5)
            assert bool((plain[name][2] != begun[name][2]).any())
        torch.testing.assert_close(reward[others], given[others], rtol=1e-5, atol=1e-5)
        assert torch.equal(ended[others], stopped[others])


class Shaped(VecTask):
    """A task of a user's own: weaker actions, another reward, an end of its own."""

    extra_keys = ("env.actionScale",)

    def pre_physics_step(self, actions):
        super().pre_physics_step(actions * self.cfg["env"]["actionScale"])

    def post_physics_step(self):
        super().post_physics_step()
        self.rew_buf[:] = -self.actions.abs().sum(-1)
        self.reset_buf[0] = 1

    def reset_idx(self, env_ids):
        super().reset_idx(env_ids)
        self.last_ids = env_ids.tolist()


def test_a_subclass_overrides_as_in_isaac_gym():
    cfg = {"name": "quadrotor-hover", "env": {"numEnvs": N, "actionScale": 0.25}, "sim": {}}
    task = Shaped(cfg, rl_device="cpu", sim_device="cpu", graphics_device_id=-1, headless=True)
    task.step(torch.ones(N, 4))
    assert task.last_ids == list(range(N))
    assert task.rew_buf.tolist() == [-1.0] * N
    task.step(torch.ones(N, 4))
    assert task.last_ids == [0]
    assert task.progress_buf.tolist() == [0] + [1] * (N - 1)
    with pytest.raises(ValueError, match="did you mean 'env.actionScale'"):
        Shaped({**cfg, "env": {"numEnvs": 1, "actionScal": 1}}, "cpu", "cpu", -1, True)


def test_the_seed_is_torchs_where_the_configuration_has_none():
    first = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        task = VecTask({"name": "quadrotor-hover", "env": {"numEnvs": N}}, "cpu", "cpu", -1, True)
        first.append(task.step(task.zero_actions())[0]["obs"])
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first[0], first[2])


@BUILDERS
def test_a_checkpoint_goes_on_bit_by_bit(build, tmp_path):
    task, other = build(episodeLength=6), build(episodeLength=6)
    generator = torch.Generator().manual_seed(4)
    actions = [noise(task, generator) for _ in range(12)]
    for action in actions[:5]:
        task.step(action)
    task.set_train_info(640)
    torch.save(task.get_env_state(), tmp_path / "state.pt")
    other.set_env_state(torch.load(tmp_path / "state.pt"))
    assert (other.total_train_env_frames, other.control_steps) == (640, 5)
    for action in actions[5:]:
        (ours, reward, reset, _), (theirs, given, ended, _) = task.step(action), other.step(action)
        assert torch.equal(ours["obs"], theirs["obs"])
        assert torch.equal(reward, given)
        assert torch.equal(reset, ended)
    larger = make(0, task.cfg["name"], 9, "cpu", "cpu")
    larger.set_env_state(task.get_env_state())
    assert larger.control_steps == task.control_steps
    assert len(larger.obs_buf) == 9


def test_spaces_are_those_of_either_package():
    task = hover()
    assert isinstance(task.act_space, gymnasium.spaces.Box)
    if importlib.util.find_spec("gym") is None:
        with pytest.raises(ImportError, match="pip install gym"):
            task.use_spaces_of("gym")
    else:
        import gym

        task.use_spaces_of("gym")
        assert isinstance(task.observation_space, gym.spaces.Box)
        assert task.state_space.shape == (task.num_states,)


def test_what_has_no_camera_is_not_rendered():
    task = hover()
    assert task.render("human") is None
    with pytest.raises(NotImplementedError, match="no camera"):
        task.render()


def test_many_gpus_share_by_rank(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "2")
    built = {}

    def record(self, config, **given):
        built.update(given, seed=config["seed"])

    monkeypatch.setattr(VecTask, "__init__", record)
    make(10, "quadrotor-hover", 4, "cuda:0", "cuda:0", multi_gpu=True)
    assert (built["sim_device"], built["rl_device"], built["seed"]) == ("cuda:2", "cuda:2", 12)


def test_the_result_is_numpy_friendly():
    task = hover()
    observations, *_ = task.step(task.zero_actions())
    assert np.isfinite(observations["obs"].numpy()).all()
