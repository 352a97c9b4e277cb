import dataclasses

import pytest
import torch

import sim
from sim.environment import QuadrotorEnv
from sim.randomization import RandomizationTerm
from sim.tasks import find_task
from sim.tasks.quadrotor import QuadrotorTask, StartRanges, has_failed, reward
from sim.trees import tree_leaves

TASKS = [name for name in sim.list_tasks() if isinstance(find_task(name), QuadrotorTask)]
AT_REST = StartRanges(position=0.0, tilt=0.0, linear_velocity=0.0, angular_velocity=0.0, yaw=0.0, easy=1.0)


def random_actions(steps, num_envs, seed=0):
    return 2.0 * torch.rand(steps, num_envs, 4, generator=torch.Generator().manual_seed(seed)) - 1.0


def play(env, actions):
    """Everything that comes back from a reset and some steps."""
    rows = [env.reset()]
    for action in actions:
        observations, reward, reset, extras = env.step(action)
        rows.append({**observations, "reward": reward, "reset": reset, "late": extras["time_outs"]})
    return rows


def first_difference(a, b):
    for number, (x, y) in enumerate(zip(a, b, strict=True)):
        for name in x:
            if not torch.equal(x[name], y[name]):
                return f"{name} at step {number}"
    return None


# One loop over all tasks of quadrotors; those of arms are in tests/sim/tasks/test_all_tasks.py


@pytest.mark.parametrize("name", TASKS)
def test_a_task_keeps_the_contract(name):
    task = dataclasses.replace(find_task(name), episode_length=0.3)
    assert sim.check_vec_env(QuadrotorEnv(task, num_envs=6), seed=3) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_a_task_keeps_the_contract_over_whole_episodes(name):
    assert sim.check_vec_env(sim.make(name, num_envs=32)) == []


@pytest.mark.parametrize("name", TASKS)
def test_the_same_seed_gives_the_same_episodes(name):
    actions = random_actions(150, 4)
    one, two, other = (play(sim.make(name, num_envs=4, seed=seed), actions) for seed in (5, 5, 6))
    assert any(bool(row["reset"].any()) for row in one[1:]), "no auto-reset was compared"
    assert first_difference(one, two) is None
    assert first_difference(one[:1], other[:1]) is not None


@pytest.mark.parametrize("name", TASKS)
def test_everything_is_finite_and_the_reward_in_range_until_long_after_failures(name):
    env = sim.make(name, num_envs=16)
    failures = 0
    for row in play(env, random_actions(250, 16))[1:]:
        assert all(bool(torch.isfinite(row[key]).all()) for key in ("obs", "states", "reward"))
        assert bool(((row["reward"] >= 0.0) & (row["reward"] <= 1.0)).all())
        failures += int((row["reset"] & ~row["late"]).sum())
    assert failures > 0, "nothing failed, so nothing was tested"


@pytest.mark.parametrize("name", TASKS)
def test_an_episode_ends_where_it_says_and_begins_within_the_start_ranges(name):
    task = find_task(name)
    env = sim.make(name, num_envs=32, seed=1)
    env.reset()
    ended = torch.zeros(32, dtype=torch.bool)
    failures = starts = 0
    for action in random_actions(200, 32):
        _, _, reset, extras = env.step(action)
        distance = (env.state.position - env.setpoint.position).norm(dim=-1)
        assert torch.equal(reset & ~extras["time_outs"], distance > task.failure_distance)
        begun = distance[ended]
        assert bool((begun <= task.start.position * 3**0.5 + 1e-5).all())
        failures += int((reset & ~extras["time_outs"]).sum())
        starts += len(begun)
        ended = reset
    assert failures > 10
    assert starts > 10


@pytest.mark.parametrize("name", TASKS)
def test_the_time_limit_is_a_time_out(name):
    task = dataclasses.replace(find_task(name), episode_length=0.25, start=AT_REST)
    env = QuadrotorEnv(task, num_envs=5)
    rows = play(env, torch.zeros(60, 5, 4))[1:]
    ends = [number for number, row in enumerate(rows, start=1) if bool(row["reset"].any())]
    assert ends == [25, 51]  # 25 steps, one that begins the next episode, 25 steps
    assert all(bool(rows[number - 1]["late"].all()) for number in ends)
    assert bool((rows[25]["reward"] == 0.0).all())


@pytest.mark.parametrize("name", TASKS)
def test_zero_range_randomization_changes_nothing(name):
    task = find_task(name)
    nominal = sim.make(name, randomization="none")._randomizer.nominal
    still = []
    for term in task.randomization:
        value = {"set": float(nominal[term.parameter][0]), "scale": 1.0, "add": 0.0}[term.operation]
        high = 0.0 if term.distribution == "gaussian" else value
        distribution = "uniform" if term.distribution == "loguniform" and value <= 0.0 else term.distribution
        still.append(dataclasses.replace(term, low=value, high=high, distribution=distribution))
    actions = random_actions(120, 4)
    without = play(QuadrotorEnv(task, num_envs=4, randomization=()), actions)
    env = QuadrotorEnv(task, num_envs=4, randomization=still)
    assert first_difference(without, play(env, actions)) is None
    assert all("zero range" in row["effect"] for row in env.randomization_table())


@pytest.mark.parametrize("name", TASKS)
def test_every_randomization_term_moves_a_trajectory(name):
    task = find_task(name)
    actions = random_actions(12, 2)
    without = play(QuadrotorEnv(task, num_envs=2, randomization=()), actions)
    for term in task.randomization:
        moved = play(QuadrotorEnv(task, num_envs=2, randomization=(term,)), actions)
        difference = (moved[-1]["obs"] - without[-1]["obs"]).abs().amax(-1)
        assert bool((difference > 1e-7).all()), f"{term.parameter} moves nothing"


# Auto-reset and failures


def test_a_broken_vehicle_fails_alone_and_flies_again_two_steps_later():
    actions = random_actions(10, 4)
    sound = play(sim.make("quadrotor-hover", num_envs=4), actions)
    actions[5, 1] = torch.nan
    broken = play(sim.make("quadrotor-hover", num_envs=4), actions)
    assert bool(broken[6]["reset"][1])
    assert not bool(broken[6]["late"][1])
    assert float(broken[6]["reward"][1]) == 0.0
    assert not bool(broken[7]["reset"][1])
    assert all(bool(torch.isfinite(row[key]).all()) for row in broken for key in ("obs", "states"))
    others = [0, 2, 3]
    for row, good in zip(broken, sound, strict=True):
        assert torch.equal(row["obs"][others], good["obs"][others])


def test_reset_begins_every_episode_anew():
    env = sim.make("quadrotor-hover", num_envs=8)
    before = env.state.position.clone()
    for action in random_actions(40, 8):
        env.step(action)
    mass = env.parameters.mass.clone()
    env.reset()
    assert bool((env.state.position.abs() <= 0.5).all())
    assert not bool((env.state.position == before).any(-1).any())
    assert not bool((env.parameters.mass == mass).any())


def test_a_seeded_reset_gives_the_episodes_of_a_new_environment():
    actions = random_actions(100, 4)
    expected = play(sim.make("quadrotor-hover", num_envs=4, seed=8), actions)
    env = sim.make("quadrotor-hover", num_envs=4, seed=3)
    play(env, actions)
    rows = [env.reset(seed=8)] + [env.step(action)[0] for action in actions]
    for row, good in zip(rows, expected, strict=True):
        assert torch.equal(row["obs"], good["obs"])


def test_each_episode_has_its_own_vehicle_and_keeps_it():
    task = dataclasses.replace(find_task("quadrotor-hover"), episode_length=0.03)
    env = QuadrotorEnv(task, num_envs=300)  # more than are drawn at once
    env.reset()
    seen = [env.parameters.mass.clone()]
    for _ in range(4):
        for _ in range(3):
            env.step(torch.zeros(300, 4))
            assert torch.equal(env.parameters.mass, seen[-1])
        env.step(torch.zeros(300, 4))
        seen.append(env.parameters.mass.clone())
    masses = torch.cat(seen)
    # Chance alone makes a few floats equal; handing samples out twice would make hundreds.
    assert len(masses.unique()) > 0.99 * len(masses)


def test_what_is_drawn_at_start_stays_and_intervals_pass():
    terms = (
        RandomizationTerm(parameter="mass", low=0.025, high=0.045, when="start"),
        RandomizationTerm(parameter="wind", low=-1.0, high=1.0, when="interval", interval=(0.05, 0.1)),
    )
    task = dataclasses.replace(find_task("quadrotor-hover"), episode_length=0.5)
    env = QuadrotorEnv(task, num_envs=4, randomization=terms)
    mass, winds = env.parameters.mass.clone(), []
    for _ in range(104):
        env.step(torch.full((4, 4), 0.3))
        winds.append(env.parameters.wind[0, 0].item())
        assert torch.equal(env.parameters.mass, mass)
    assert 9 <= len(set(winds)) <= 24  # 1.04 s, a change every 0.05 to 0.1 s, and two resets
    assert len(mass.unique()) == 4


def test_an_environment_goes_on_from_its_stored_state():
    actions = random_actions(120, 6)
    env = sim.make("quadrotor-track", num_envs=6, seed=2)
    play(env, actions[:60])
    stored = {name: value.clone() for name, value in env.state_dict().items()}
    other = sim.make("quadrotor-track", num_envs=6, seed=9)
    other.load_state_dict(stored)
    endings = 0
    for action in actions[60:]:
        a, b = env.step(action), other.step(action)
        assert torch.equal(a[0]["obs"], b[0]["obs"])
        assert torch.equal(a[0]["states"], b[0]["states"])
        assert torch.equal(a[1], b[1])
        endings += int(a[2].sum())
    assert endings > 0
    with pytest.raises(ValueError, match=r"has shape .*expected"):
        sim.make("quadrotor-track", num_envs=5).load_state_dict(stored)


def test_an_environment_never_uses_the_global_generator():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    play(sim.make("quadrotor-track", num_envs=3), random_actions(120, 3))
    assert torch.equal(torch.get_rng_state(), before)


# What is seen and rewarded


def test_only_the_critic_sees_the_truth():
    env = sim.make("quadrotor-hover", num_envs=64)
    still = dataclasses.replace(find_task("quadrotor-hover"), start=AT_REST)
    clean = QuadrotorEnv(still, num_envs=64, randomization=())
    assert torch.equal(clean.reset()["states"][:, :3], torch.zeros(64, 3))
    env = QuadrotorEnv(still, num_envs=64)
    observations = env.reset()
    assert float(observations["states"][:, :3].abs().max()) == 0.0
    assert float(observations["obs"][:, :3].abs().max()) > 1e-4


def test_the_reward_is_one_at_rest_on_the_setpoint_and_falls_with_every_cost():
    task = dataclasses.replace(find_task("quadrotor-hover"), start=AT_REST)
    env = QuadrotorEnv(task, num_envs=1, randomization=())
    simulation, setpoint = env._simulation, env.setpoint
    state = simulation.state
    best, _ = reward(task, simulation, setpoint)
    assert float(best) == pytest.approx(1.0)
    push = torch.tensor([[0.1, 0.0, 0.0]])
    worse = {
        "position": dataclasses.replace(simulation, state=dataclasses.replace(state, position=push)),
        "linear_velocity": dataclasses.replace(simulation, state=dataclasses.replace(state, linear_velocity=push)),
        "angular_velocity": dataclasses.replace(simulation, state=dataclasses.replace(state, angular_velocity=push)),
        "yaw": dataclasses.replace(
            simulation, state=dataclasses.replace(state, orientation=torch.tensor([[0.98, 0.0, 0.0, 0.199]]))
        ),
        "action_change": dataclasses.replace(simulation, actions=torch.tensor([[[0.1] * 4, [0.0] * 4]])),
    }
    for name, changed in worse.items():
        value, terms = reward(task, changed, setpoint)
        assert float(value) < 1.0
        assert [key for key, term in terms.items() if float(term) < -1e-6] == [name]
    lost = dataclasses.replace(simulation, state=dataclasses.replace(state, position=push * torch.nan))
    assert float(reward(task, lost, setpoint)[0]) == 0.0
    assert bool(has_failed(task, lost, setpoint))


def test_the_log_holds_the_mean_of_every_reward_term():
    env = sim.make("quadrotor-hover", num_envs=4)
    env.reset()
    _, _, _, extras = env.step(torch.zeros(4, 4))
    _, terms = reward(env.task, env._simulation, env.setpoint)
    assert {name: float(value) for name, value in extras["log"].items()} == {
        f"reward/{name}": pytest.approx(float(term.mean()), rel=1e-5) for name, term in terms.items()
    }


# Making one


def test_errors_name_what_is_wrong_and_the_nearest_name(tmp_path):
    with pytest.raises(ValueError, match="unknown task 'quadrotor-hoover'; did you mean 'quadrotor-hover'"):
        sim.make("quadrotor-hoover")
    with pytest.raises(ValueError, match="known tasks: arm-.*, quadrotor-hover, quadrotor-track"):
        sim.make("cart")
    with pytest.raises(ValueError, match="'mujoco' moves arms; task 'quadrotor-hover' runs on torch"):
        sim.make("quadrotor-hover", engine="mujoco")
    with pytest.raises(ValueError, match="neither 'default' nor 'none' nor a file"):
        sim.make("quadrotor-hover", randomization="nothing.yaml")
    with pytest.raises(ValueError, match="num_envs is 0"):
        sim.make("quadrotor-hover", num_envs=0)
    path = tmp_path / "terms.yaml"
    path.write_text("- {parameter: mas, low: 0.02, high: 0.03}\n")
    with pytest.raises(ValueError, match="'mas' acts on nothing; did you mean 'mass'"):
        sim.make("quadrotor-hover", randomization=path)
    with pytest.raises(ValueError, match=r"actions have shape \(1, 3\); expected \(1, 4\)"):
        sim.make("quadrotor-hover").step(torch.zeros(1, 3))


def test_randomization_comes_from_a_file(tmp_path):
    path = tmp_path / "terms.yaml"
    path.write_text("- {parameter: mass, low: 0.05, high: 0.06}\n")
    env = sim.make("quadrotor-hover", num_envs=16, randomization=str(path))
    assert bool(((env.parameters.mass >= 0.05) & (env.parameters.mass <= 0.06)).all())
    assert [row["parameter"] for row in env.randomization_table()] == ["mass"]
    assert sim.make("quadrotor-hover", randomization="none").randomization_table() == []


def test_no_stored_tensor_shares_memory_with_what_step_returns():
    env = sim.make("quadrotor-hover", num_envs=3)
    env.reset()
    observations, reward, reset, extras = env.step(torch.zeros(3, 4))
    inside = {leaf.untyped_storage().data_ptr() for _, leaf in tree_leaves(env._tree())}
    for value in (*observations.values(), reward, reset, extras["time_outs"]):
        assert value.untyped_storage().data_ptr() not in inside
