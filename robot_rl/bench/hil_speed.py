"""How many updates a second the learner makes on one core with the processor to itself, on made-up steps."""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
import torch

from policies.actions import action_size
from policies.observations import observation_size
from robot_rl.hil.algorithms.base import Sizes
from robot_rl.hil.algorithms.rlpd import Rlpd, RlpdConfig
from robot_rl.hil.layout import action_layout
from robot_rl.hil.replay import PERSON, POLICY, Replay, Step
from sim.tasks import TASKS
from sim.tasks.arm import ArmTask

_EPISODE = 30
"""Steps of a made-up episode."""
_VARIANTS: dict[str, dict[str, Any]] = {
    "as robot-rl hil runs it": {},
    "soft actor-critic, actor and critics in every update": {"value_weight": 0.1, "actor_period": 1},
}


def measure(tasks: tuple[str, ...] = ("arm-pick-lift", "arm-peg-insert"), updates: int = 300) -> dict[str, Any]:
    """Updates per second by task and variant: the median of five times `updates`, batches of 256, critics 2 x 256."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return {name: {kind: _rate(name, changes, updates) for kind, changes in _VARIANTS.items()} for name in tasks}
    finally:
        torch.set_num_threads(threads)


def _rate(task_name: str, changes: dict[str, Any], updates: int) -> float:
    task = TASKS[task_name]
    assert isinstance(task, ArmTask)
    sizes = Sizes(observation=observation_size(task.terms), layout=action_layout(task.action), images={})
    algorithm = Rlpd(sizes, RlpdConfig(critic_warm_up=0, **changes), seed=0)
    replay = made_up(sizes, action_size(task.action))
    rates = []
    for count in (updates // 5, *5 * (updates,)):
        begun = time.perf_counter()
        for _ in range(count):
            algorithm.update(replay)
        rates.append(count / (time.perf_counter() - begun))
    return statistics.median(rates[1:])  # the first ones warm up


def made_up(sizes: Sizes, actions: int, demonstrations: int = 1800, online: int = 6000) -> Replay:
    """A memory as full as in the middle of a run, of random steps: every other episode is won, some are corrected."""
    generator = np.random.default_rng(0)
    replay = Replay(sizes.observation, actions)
    for row in range(demonstrations + online):
        episode, index = divmod(row, _EPISODE)
        last, given = index == _EPISODE - 1, row < demonstrations
        step = Step(
            observation=generator.standard_normal(sizes.observation).astype(np.float32),
            action=generator.uniform(-1.0, 1.0, actions).astype(np.float32),
            policy_action=generator.uniform(-1.0, 1.0, actions).astype(np.float32),
            driver=PERSON if given or (episode % 5 == 0 and index in (12, 13, 14)) else POLICY,
            reward=float(last and episode % 2 == 0),
            terminated=last and episode % 2 == 0,
            last=last,
        )
        replay.add(step, demonstration=given)
        if last:
            replay.finish(generator.standard_normal(sizes.observation).astype(np.float32))
    return replay
