"""PPO with a Lagrange multiplier: its controller, its advantages, and a problem whose constrained optimum is known."""

import dataclasses

import gymnasium
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from robot_rl import ppo_lagrangian
from robot_rl.errors import UserError
from robot_rl.ppo import Ppo, PpoConfig
from robot_rl.ppo_lagrangian import Multiplier, PpoLagrangian, PpoLagrangianConfig, combined_advantage
from robot_rl.recipes import recipe
from robot_rl.runs import TrainConfig, make_learner
from sim.factory import build_env
from sim.tasks import find_task

CONFIG = PpoLagrangianConfig(
    updates=150,
    num_envs=32,
    horizon=10,
    discount=0.0,
    epochs=3,
    minibatches=1,
    initial_action=0.0,
    initial_std=0.3,
    entropy_weight=0.0,
    hidden=(8,),
    critic_hidden=(8,),
    learning_rate=1e-2,
    schedule="linear",
    cost_limit=3.0,
    integral_gain=0.6,
    proportional_gain=3.0,
    derivative_gain=0.0,
)
STEPS = 10
BEST = -0.4
"""Where the cost of an episode, 10 steps of (action + 1) / 2, is 3."""
PRICE = 5.6
"""There the reward -(1 - action)² rises by 2 × 1.4 and the cost by 1/2 per unit of action: 2.8 = λ / 2."""


class TradeEnv:
    """Every step pays -(1 - a)² for an action a and costs (a + 1) / 2; after ten steps the time is up.

    Without a limit a = 1 is best. Under a limit on the cost it is the action that just keeps it, since the reward is
    concave and the cost linear, and the multiplier is the ratio of their slopes there.
    """

    num_obs, num_states, num_actions = 1, 0, 1
    max_episode_length, period = STEPS, 0.1
    device = torch.device("cpu")
    metadata = {"autoreset_mode": gymnasium.vector.AutoresetMode.NEXT_STEP}
    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, num_envs):
        self.num_envs = num_envs
        self.reset()

    def reset(self, *, seed=None):
        self.age = torch.arange(self.num_envs) % STEPS
        self.ended = torch.zeros(self.num_envs, dtype=torch.bool)
        return {"obs": torch.ones(self.num_envs, 1)}

    def step(self, actions):
        starting = self.ended
        action = actions[:, 0].clamp(-1.0, 1.0)
        self.age = torch.where(starting, 0, self.age + 1)
        self.ended = self.age >= STEPS
        extras = {"time_outs": self.ended.clone(), "cost": torch.where(starting, 0.0, 0.5 * (action + 1.0))}
        reward = torch.where(starting, 0.0, -((1.0 - action) ** 2))
        return {"obs": torch.ones(self.num_envs, 1)}, reward, self.ended.clone(), extras

    def state_dict(self):
        return {"age": self.age, "ended": self.ended}

    def load_state_dict(self, state):
        self.age, self.ended = state["age"].clone(), state["ended"].clone()


def chosen(learner):
    with torch.no_grad():
        return float(learner.policy()(torch.ones(1, 1)))


# The multiplier


def test_it_grows_while_the_cost_is_above_the_limit_and_falls_to_zero_below():
    multiplier = Multiplier(1.0, PpoLagrangianConfig())
    values = []
    for cost in [3.0] * 20 + [0.0] * 60:
        multiplier.update(cost)
        values.append(multiplier.value)
    assert values[0] > 0.0
    assert all(later > earlier for earlier, later in zip(values[:19], values[1:20], strict=True))
    assert all(later <= earlier for earlier, later in zip(values[20:], values[21:], strict=False))
    assert values[-1] == 0.0
    multiplier.update(3.0)
    assert multiplier.value > 0.0, "the integral must not have wound up below 0"


def test_its_parts_are_those_of_a_pid_controller():
    """Its error is the cost above a limit of 2, in units of that limit, cut to ±1."""
    gains = {"proportional_gain": 0.0, "derivative_gain": 0.0, "integral_gain": 0.0}

    def output(costs, limit=2.0, **changes):
        multiplier = Multiplier(limit, PpoLagrangianConfig(**{**gains, **changes}))
        for cost in costs:
            multiplier.update(cost)
        return multiplier.value

    assert output([4.0, 3.0], proportional_gain=0.5) == pytest.approx(0.25)
    assert output([4.0, 3.0], integral_gain=0.5) == pytest.approx(0.75)
    assert output([2.0, 3.0], derivative_gain=0.5) == pytest.approx(0.25)
    assert output([3.0, 2.0], derivative_gain=0.5) == 0.0, "falling costs do not lower the price"
    assert output([3.0], initial_multiplier=2.0) == pytest.approx(2.0)
    assert output([1e6], proportional_gain=0.5) == pytest.approx(0.5)
    assert output([1e6, 0.0], integral_gain=0.5) == pytest.approx(0.0), "it falls as fast as it rose"
    assert output([1e6] * 9, integral_gain=1.0, max_multiplier=7.0) == 7.0
    assert output([0.0, 0.0], limit=0.0, integral_gain=0.5) == 0.0
    assert output([0.1, 0.1], limit=0.0, integral_gain=0.5) == pytest.approx(1.0)


def test_it_stays_where_it_begins_while_updates_are_free():
    learner = PpoLagrangian(TradeEnv(32), dataclasses.replace(CONFIG, free_updates=4, initial_multiplier=0.5), seed=0)
    values = [learner.update()["multiplier"] for _ in range(6)]
    assert values[:4] == [0.5] * 4
    assert values[4] > 0.5


# The advantage


def test_the_combined_advantage_weighs_cost_by_the_multiplier():
    reward, cost = torch.tensor([[2.0, -1.0]]), torch.tensor([[1.0, 3.0]])
    assert torch.equal(combined_advantage(reward, cost, 0.0), reward)
    torch.testing.assert_close(combined_advantage(reward, cost, 3.0), torch.tensor([[-0.25, -2.5]]))
    torch.testing.assert_close(combined_advantage(reward, cost, 1e9), -cost)


def test_without_a_price_it_is_ppo_and_costs_have_a_critic_that_learns():
    """With all gains 0 the policy takes the same first steps as PPO's; only its gradient's length is shared."""
    free = dataclasses.replace(CONFIG, integral_gain=0.0, proportional_gain=0.0, derivative_gain=0.0, updates=40)
    plain = {f.name: getattr(free, f.name) for f in dataclasses.fields(PpoConfig)}
    one = PpoLagrangian(TradeEnv(32), dataclasses.replace(free, max_gradient_norm=1e9), seed=0)
    other = Ppo(TradeEnv(32), PpoConfig(**{**plain, "max_gradient_norm": 1e9}), seed=0)
    while one.updates < 40:
        metrics, expected = one.update(), other.update()
        assert metrics["policy_loss"] == pytest.approx(expected["policy_loss"], abs=1e-5)
    assert chosen(one) == pytest.approx(chosen(other), abs=1e-4)
    assert chosen(one) > 0.8, "unconstrained, the best action is 1"
    # The discounted cost of steps at this action, in units of one step's: that of a step.
    with torch.no_grad():
        value = float(one.critics["costs"](torch.ones(1, 1)))
    assert value == pytest.approx(metrics["episode_cost"] / STEPS, abs=0.05)


def test_a_high_price_turns_the_gradient_around():
    dear = dataclasses.replace(CONFIG, initial_multiplier=100.0, integral_gain=0.0)
    dear = dataclasses.replace(dear, proportional_gain=0.0, derivative_gain=0.0)
    learner = PpoLagrangian(TradeEnv(32), dear, seed=0)
    for _ in range(10):
        learner.update()
    assert chosen(learner) < -0.1


# Learning


def test_it_reaches_the_constrained_optimum_and_its_price():
    learner = PpoLagrangian(TradeEnv(32), CONFIG, seed=0)
    history = [learner.update() for _ in range(CONFIG.updates)]
    assert chosen(learner) == pytest.approx(BEST, abs=0.05)
    late = history[-30:]
    assert np.mean([row["episode_cost"] for row in late]) == pytest.approx(3.0, abs=0.1)
    assert np.mean([row["multiplier"] for row in late]) == pytest.approx(PRICE, rel=0.15)
    assert late[-1]["cost_limit"] == 3.0


def test_a_limit_that_does_not_bind_changes_nothing():
    learner = PpoLagrangian(TradeEnv(32), dataclasses.replace(CONFIG, cost_limit=11.0, updates=60), seed=0)
    while learner.updates < 60:
        metrics = learner.update()
    assert metrics["multiplier"] == 0.0
    assert chosen(learner) > 0.9


def test_a_run_goes_on_bit_by_bit_after_a_kill(tmp_path):
    """The controller's memory is part of the checkpoint: with it lost, the next multiplier would be another."""
    learner = PpoLagrangian(TradeEnv(32), CONFIG, seed=0)
    for _ in range(3):
        learner.update()
    save_file(learner.state_dict(), tmp_path / "checkpoint.safetensors")
    expected = [learner.update() for _ in range(2)]
    assert expected[0]["multiplier"] > 0.0
    resumed = PpoLagrangian(TradeEnv(32), CONFIG, seed=7)
    resumed.load_state_dict(load_file(tmp_path / "checkpoint.safetensors"))
    assert [resumed.update() for _ in range(2)] == expected
    one, other = learner.state_dict(), resumed.state_dict()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_the_controller_goes_on_before_its_first_cost():
    multiplier = Multiplier(1.0, CONFIG)
    again = Multiplier(1.0, CONFIG)
    again.load_state_dict(multiplier.state_dict())
    multiplier.update(4.0)
    again.update(4.0)
    assert again.value == multiplier.value


def flown(learner, episodes):
    """Shares of success and mean cost of the deterministic policy over first episodes of another seed."""
    env = build_env(learner.task, episodes, seed=77)
    over, success, cost = torch.zeros(episodes, dtype=torch.bool), torch.zeros(episodes), torch.zeros(episodes)
    observations = env.reset()
    for _ in range(env.max_episode_length):
        with torch.no_grad():
            action = learner.policy()(observations["obs"])
        observations, _, reset, extras = env.step(action)
        cost += torch.where(over, 0.0, extras["cost"])
        success += (extras["success"] & ~over).float()
        over |= reset
    env.close()
    return float(success.mean()), float(cost.mean())


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_on_arm_reach_region_the_cost_is_under_its_limit_at_the_unconstrained_success():
    task = find_task("arm-reach-region")
    settings = recipe(task.name)
    results = {}
    for algorithm in ("ppo", "ppo-lagrangian"):
        learner, total = make_learner(dataclasses.replace(settings, algorithm=algorithm), task)
        while learner.updates < total:
            learner.update()
        results[algorithm] = flown(learner, 256)
    (free, free_cost), (safe, safe_cost) = results["ppo"], results["ppo-lagrangian"]
    assert free > 0.9
    assert free_cost > 4.0 * task.cost_limit
    assert safe_cost <= task.cost_limit
    assert safe >= 0.95 * free


def test_the_recipe_leaves_a_margin_under_the_limit_of_the_task():
    limit = recipe("arm-reach-region").ppo_lagrangian.cost_limit
    assert 0.0 < limit < find_task("arm-reach-region").cost_limit


# Faults


def test_a_task_without_costs_is_refused():
    for name in ("quadrotor-hover", "arm-reach"):
        with pytest.raises(ValueError, match=f"{name}.* no costs"):
            ppo_lagrangian.init(find_task(name), CONFIG, seed=0)
        with pytest.raises(UserError, match="train it with ppo"):
            make_learner(TrainConfig(task=name, algorithm="ppo-lagrangian"), find_task(name))


def test_an_environment_that_tells_no_cost_is_refused(point_env):
    with pytest.raises(ValueError, match="tells no extras"):
        PpoLagrangian(point_env(64), CONFIG, seed=0).update()


@pytest.mark.parametrize("name", ["cost_limit", "integral_gain", "max_multiplier", "free_updates"])
def test_negative_settings_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} is -1"):
        dataclasses.replace(CONFIG, **{name: -1.0})
