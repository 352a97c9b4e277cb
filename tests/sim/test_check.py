"""`check_vec_env` finds every kind of violation, and none in a sound environment."""

import pytest
import torch

import sim


def broken(point_env, **methods):
    """`PointEnv` with some of its parts replaced."""
    return type("Broken", (point_env,), methods)()


def with_step(point_env, change):
    """`PointEnv` whose `step` returns what `change(env, result)` makes of it."""
    return broken(point_env, step=lambda self, actions: change(self, point_env.step(self, actions)))


def changed_obs(change):
    return lambda env, result: ({"obs": change(result[0]["obs"])}, *result[1:])


def test_a_sound_environment_passes(point_env):
    assert sim.check_vec_env(point_env()) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (changed_obs(lambda obs: obs.double()), "step: obs is torch.float64; expected torch.float32"),
        (changed_obs(lambda obs: obs[:, 0]), "step: obs has shape (8,); expected (8, 1)"),
        (changed_obs(lambda obs: obs / 0.0), "step: obs is not finite"),
        (changed_obs(lambda obs: obs.numpy()), "step: obs is a ndarray; expected a torch.Tensor"),
        (changed_obs(lambda obs: obs.requires_grad_()), "step: obs requires gradients"),
        (lambda env, r: (r[0]["obs"], *r[1:]), "step returns no dict with 'obs'"),
        (lambda env, r: ({**r[0], "states": r[0]["obs"]}, *r[1:]), "num_states is 0, but the keys are"),
        (lambda env, r: (r[0], r[1][:, None], *r[2:]), "reward has shape (8, 1); expected (8,)"),
        (lambda env, r: (r[0], r[1], r[2].long(), r[3]), "reset is torch.int64; expected torch.bool"),
        (lambda env, r: (*r[:3], {}), "extras has no 'time_outs'"),
        (lambda env, r: r[:3], "step returns something else than (obs, reward, reset, extras)"),
        (lambda env, r: (*r[:3], {"time_outs": ~r[2]}), "time_outs is true where reset is false"),
        (
            lambda env, r: (r[0], r[1] + 1.0, *r[2:]),
            "reward is not 0 in the step that only begins an episode",
        ),
        (
            lambda env, r: (*r[:2], r[2] & False, {"time_outs": r[2] & False}),
            "goes on after max_episode_length 20",
        ),
    ],
)
def test_wrong_results_of_step_are_reported(point_env, change, expected):
    problems = sim.check_vec_env(with_step(point_env, change))
    assert any(expected in problem for problem in problems), problems


def test_reused_tensors_are_reported(point_env):
    def step(self, actions):
        observations, *rest = point_env.step(self, actions)
        self.buffer.copy_(observations["obs"])
        return {"obs": self.buffer}, *rest

    env = broken(point_env, step=step, buffer=torch.zeros(8, 1))
    assert "obs['obs'] of the last step has changed: return fresh tensors" in sim.check_vec_env(env)


def test_an_environment_that_reads_what_it_returned_is_reported(point_env):
    def step(self, actions):
        result = point_env.step(self, actions)
        self.x = result[0]["obs"][:, 0]
        return result

    problems = sim.check_vec_env(broken(point_env, step=step))
    assert any("writing into what step returned changes the environment" in problem for problem in problems)


def test_changed_actions_are_reported(point_env):
    def step(self, actions):
        return point_env.step(self, actions.clamp_(-1.0, 1.0))

    assert "step writes into the actions that it is given" in sim.check_vec_env(broken(point_env, step=step))


def test_actions_that_are_not_clipped_are_reported(point_env):
    def step(self, actions):
        starting = self.ended
        result = point_env.step(self, actions)
        self.x = torch.where(starting, self.x, self.x + 0.01 * (actions - actions.clamp(-1.0, 1.0))[:, 0])
        return ({"obs": self.x[:, None].clone()}, *result[1:])

    problems = sim.check_vec_env(broken(point_env, step=step))
    assert any("actions outside [-1, 1] are not clipped" in problem for problem in problems)


def test_same_step_auto_reset_is_reported(point_env):
    def step(self, actions):
        result = point_env.step(self, actions)
        self.x = torch.where(self.ended, self.draw(), self.x)
        self.age = torch.where(self.ended, 0, self.age)
        self.ended = torch.zeros_like(self.ended)
        return ({"obs": self.x[:, None].clone()}, *result[1:])

    problems = sim.check_vec_env(broken(point_env, step=step))
    assert any("reward is not 0 in the step that only begins an episode" in problem for problem in problems)


def test_an_action_that_acts_on_the_next_episode_is_reported(point_env):
    def step(self, actions):
        starting = self.ended
        result = point_env.step(self, actions)
        self.x = torch.where(starting, self.x + 0.1 * actions[:, 0].clamp(-1.0, 1.0), self.x)
        return ({"obs": self.x[:, None].clone()}, *result[1:])

    problems = sim.check_vec_env(broken(point_env, step=step))
    assert any("the action of the step that begins an episode is not ignored" in problem for problem in problems)


def test_a_lazy_first_reset_is_reported(point_env):
    def reset(self, *, seed=None):
        observations = point_env.reset(self, seed=seed)
        self.ended = torch.ones(self.num_envs, dtype=torch.bool)
        return observations

    problems = sim.check_vec_env(broken(point_env, reset=reset))
    assert problems, "an environment whose reset only takes effect at the first step has passed"


def test_a_reset_that_keeps_the_age_is_reported(point_env):
    def reset(self, *, seed=None):
        age = getattr(self, "age", None)
        observations = point_env.reset(self, seed=seed)
        if seed is None and age is not None:
            self.age = age
        return observations

    problems = sim.check_vec_env(broken(point_env, reset=reset))
    assert "reset does not begin episodes: one timed out too early after it" in problems


def test_an_ignored_seed_is_reported(point_env):
    def reset(self, *, seed=None):
        return point_env.reset(self)

    problems = sim.check_vec_env(broken(point_env, reset=reset))
    assert any("two runs with seed 0 differ: " in problem for problem in problems)

    def always_the_same(self, *, seed=None):
        return point_env.reset(self, seed=0)

    problems = sim.check_vec_env(broken(point_env, reset=always_the_same))
    assert "seeds 0 and 1 give the same first step" in problems


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"metadata": {}}, "metadata['autoreset_mode'] is None; expected NEXT_STEP"),
        ({"num_obs": 2}, "observation_space has shape (1,); expected (2,), that of one environment"),
        ({"num_actions": 0}, "num_actions is 0; expected an int of at least 1"),
        ({"period": 0.0}, "period is 0.0; expected a positive number of seconds"),
    ],
)
def test_wrong_attributes_are_reported(point_env, attributes, expected):
    assert expected in sim.check_vec_env(broken(point_env, **attributes))


def test_missing_parts_are_all_reported():
    problems = sim.check_vec_env(object())
    assert "it has no 'step'" in problems
    assert "it has no 'num_envs'" in problems


def test_accepted_actions_of_a_wrong_shape_are_reported(point_env):
    def step(self, actions):
        return point_env.step(self, actions[:, :1])

    assert "step takes actions of the wrong shape (8, 2)" in sim.check_vec_env(broken(point_env, step=step))


def test_a_call_that_raises_is_reported(point_env):
    def step(self, actions):
        raise RuntimeError("the simulator is on fire")

    problems = sim.check_vec_env(broken(point_env, step=step))
    assert problems == ["a call fails: RuntimeError: the simulator is on fire"]
