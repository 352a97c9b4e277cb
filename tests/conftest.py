"""What tests of several folders share."""

import os
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

REAL_TIME = (
    "hardware/drivers", "hardware/realtime", "hardware/teleop", "robot_rl/bench", "robot_rl/cockpit",
    "robot_rl/demos", "robot_rl/devices", "robot_rl/hil", "robot_rl/native", "robot_rl/nodes", "robot_rl/planes",
    "robot_rl/recording", "robot_rl/test_bringup.py", "robot_rl/test_demo.py", "robot_rl/test_flight.py",
    "robot_rl/test_person_flight.py", "robot_rl/test_train.py", "robot_rl/test_up.py",
)  # fmt: skip
"""Where processes run, and are killed, in real time: whoever else uses the machine can make one of them too late."""


def pytest_collection_modifyitems(items):
    """A test in real time gets a second try, which the summary reports (`rerun`); one that is wrong fails twice."""
    folder = Path(__file__).parent
    for item in items:
        if os.path.relpath(item.path, folder).startswith(REAL_TIME):
            item.add_marker(pytest.mark.flaky(reruns=1))


class PointEnv:
    """The smallest environment that keeps the contract: points on a line that shall go to 0.

    The action is the speed, at most 0.1 per step; reward 1 - |x|; beyond ±2 an episode fails, after 20
    steps its time is up. The best policy is known: full speed towards 0.
    """

    num_obs, num_states, num_actions = 1, 0, 1
    max_episode_length, period = 20, 0.1
    device = torch.device("cpu")
    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    metadata = {"autoreset_mode": gymnasium.vector.AutoresetMode.NEXT_STEP}

    def __init__(self, num_envs=8, seed=0):
        self.num_envs = num_envs
        self.generator = torch.Generator().manual_seed(seed)
        self.reset()

    def draw(self):
        return 3.8 * torch.rand(self.num_envs, generator=self.generator) - 1.9

    def reset(self, *, seed=None):
        if seed is not None:
            self.generator.manual_seed(seed)
        self.x, self.age = self.draw(), torch.zeros(self.num_envs, dtype=torch.int64)
        self.ended = torch.zeros(self.num_envs, dtype=torch.bool)
        return {"obs": self.x[:, None].clone()}

    def step(self, actions):
        if actions.shape != (self.num_envs, 1):
            raise ValueError(f"actions have shape {tuple(actions.shape)}; expected ({self.num_envs}, 1)")
        starting = self.ended
        self.x = torch.where(starting, self.draw(), self.x + 0.1 * actions[:, 0].clamp(-1.0, 1.0))
        self.age = torch.where(starting, 0, self.age + 1)
        failed = self.x.abs() > 2.0
        late = (self.age >= self.max_episode_length) & ~failed
        self.ended = failed | late
        reward = torch.where(starting, 0.0, 1.0 - self.x.abs())
        return {"obs": self.x[:, None].clone()}, reward, self.ended.clone(), {"time_outs": late}

    def state_dict(self):
        generator = self.generator.get_state()
        return {"x": self.x, "age": self.age, "ended": self.ended, "generator": generator}

    def load_state_dict(self, state):
        self.x, self.age, self.ended = (state[name].clone() for name in ("x", "age", "ended"))
        self.generator.set_state(state["generator"])


@pytest.fixture(autouse=True)
def scheduling_left_alone():
    """A test that ends at another priority would give it to every process of the tests after it."""
    before = os.sched_getscheduler(0), os.sched_getparam(0).sched_priority
    yield
    after = os.sched_getscheduler(0), os.sched_getparam(0).sched_priority
    os.sched_setscheduler(0, before[0], os.sched_param(before[1]))
    assert after == before, "the test changed the (policy, priority) of the process that runs all tests"


@pytest.fixture
def point_env():
    """The class `PointEnv`."""
    return PointEnv
