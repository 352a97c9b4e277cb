"""The smallest robot: a point on a line that shall reach 0, and a person who knows how. The best action is known.

The action moves x by 0.2 at most; within 0.1 of 0 the episode is won, after 15 steps its time is up.
"""

import dataclasses

import numpy as np
import torch

from robot_rl.hil.algorithms.base import Sizes, WarmStartConfig
from robot_rl.hil.layout import ActionLayout
from robot_rl.hil.replay import PERSON, POLICY, Replay, Step

LINE = Sizes(observation=1, layout=ActionLayout((0,), ()), images={})
GRIPPING = Sizes(observation=4, layout=ActionLayout((0, 2), (1,)), images={})
"""Sizes for which `random_replay` makes steps."""
LIMIT = 15
SMALL = {"hidden": (32, 32), "batch": 64}
NO_CLONING = WarmStartConfig(steps=0)


def small(config, **changes):
    """A config with small networks."""
    names = {one.name for one in dataclasses.fields(config)}
    fast = {"start_after": 10, "critic_warm_up": 50, "track_rate": 0.02, "average_rate": 0.02}
    quick = dataclasses.replace(config.warm_start, steps=min(config.warm_start.steps, 150), batch=64)
    wanted = {**SMALL, **fast, "warm_start": quick}
    return dataclasses.replace(config, **{**{k: v for k, v in wanted.items() if k in names}, **changes})


def expert(x, speed=1.0):
    """Straight to 0, as fast as it goes times `speed`."""
    return float(np.clip(-x / 0.2, -1.0, 1.0)) * speed


def episode(replay, act, start, *, demonstration=False, correct=False):
    """One episode; with `correct` the person takes over for two steps where the policy moves away from 0.

    Returns whether it was won, and after how many steps.
    """
    x, left = start, 0
    for k in range(LIMIT):
        wanted = act(x, k)
        if left == 0 and correct and wanted * x > 0.02:
            left = 2
        helped = left > 0
        left = max(0, left - 1)
        action = expert(x) if helped else wanted
        after = float(np.clip(x + 0.2 * action, -1.5, 1.5))
        won = abs(after) < 0.1
        over = won or k == LIMIT - 1
        if replay is not None:
            step = Step(
                observation=np.array([x], np.float32),
                action=np.array([action], np.float32),
                policy_action=np.array([0.0 if demonstration else wanted], np.float32),
                driver=PERSON if helped or demonstration else POLICY,
                reward=float(won),
                terminated=won,
                last=over,
            )
            replay.add(step, demonstration=demonstration)
            if over:
                replay.finish(np.array([after], np.float32))
        x = after
        if over:
            return won, k + 1
    raise AssertionError


def demonstrations(count=5, speed=1.0, seed=0):
    """A memory with demonstrations alone."""
    replay = Replay(1, 1)
    generator = np.random.default_rng(seed)
    for k in range(count):
        start = generator.uniform(0.5, 1.0) * (-1) ** k
        episode(replay, lambda x, _: expert(x, speed), start, demonstration=True)
    return replay


def train(algorithm, replay, episodes, ratio=4, *, correct=False, seed=0):
    """Let `algorithm` act and learn."""
    generator, noise = np.random.default_rng((seed, 1)), torch.Generator().manual_seed(seed)
    acting = algorithm.behaviour().eval()

    def act(x, k):
        action, _ = acting.explore(torch.tensor([[x]], dtype=torch.float32), {}, noise, k)
        if algorithm.ready(replay):
            for _ in range(ratio):
                algorithm.update(replay)
        return float(action[0, 0])

    for _ in range(episodes):
        start = generator.uniform(0.5, 1.0) * generator.choice([-1, 1])
        episode(replay, act, start, correct=correct)


def evaluate(policy):
    """Share of starts that are won, and the mean number of steps."""
    starts = [sign * x for sign in (-1, 1) for x in np.linspace(0.5, 1.0, 10)]
    with torch.no_grad():
        found = [
            episode(None, lambda x, _: float(policy(torch.tensor([[x]], dtype=torch.float32))[0, 0]), start)
            for start in starts
        ]
    return np.mean([won for won, _ in found]), np.mean([steps for _, steps in found])


def random_replay(steps=60, given=20, seed=0, sizes=GRIPPING):
    """Random steps in episodes of 7, the first `given` of them demonstrations, later ones with take-overs."""
    generator = np.random.default_rng(seed)
    replay = Replay(sizes.observation, sizes.layout.size)
    for k in range(steps):
        last = k % 7 == 6
        action = generator.uniform(-1, 1, (2, sizes.layout.size)).astype(np.float32)
        action[:, list(sizes.layout.grippers)] = np.sign(action[:, list(sizes.layout.grippers)])
        person = k < given or k % 7 in (3, 4)
        replay.add(
            Step(
                observation=generator.standard_normal(sizes.observation).astype(np.float32),
                action=action[0],
                policy_action=action[1 if person else 0],
                driver=PERSON if person else POLICY,
                reward=float(last and k % 2),
                terminated=bool(last and k % 2),
                last=last,
            ),
            demonstration=k < given,
        )
        if last:
            replay.finish(generator.standard_normal(sizes.observation).astype(np.float32))
    return replay
