"""Episodes made by hand, and learners without a simulator."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from robot_rl.episode import Episode
from robot_rl.hil.layout import ActionLayout
from robot_rl.hil.schema import Schema
from robot_rl.imitation.demonstrations import DemonstrationConfig, Demonstrations
from robot_rl.imitation.learner import Imitator

LAYOUT = ActionLayout(continuous=(0, 1), grippers=(2,))
"""Two velocities and a gripper."""


def make_episode(observations, actions, drivers=None, success=True, number=0, task="toy"):
    """An episode of these steps."""
    observations, actions = np.asarray(observations, np.float32), np.asarray(actions, np.float32)
    steps = len(actions)
    last = np.arange(steps) == steps - 1
    return Episode(
        source=Path("toy.log"),
        number=number,
        schema=Schema(
            observation=observations.shape[1], action=actions.shape[1], task=task, robot="toy", control_rate_hz=10.0
        ),
        complete=True,
        observations=observations,
        images={},
        actions=actions,
        policy_actions=np.zeros_like(actions),
        drivers=np.array(["person"] * steps if drivers is None else drivers),
        rewards=np.where(last & success, 1.0, 0.0).astype(np.float32),
        terminated=last,
        truncated=np.zeros(steps, bool),
        success=success,
        observed_at=np.arange(steps) * 0.1,
        acted_at=np.arange(steps) * 0.1 + 0.01,
        wall_time=0.0,
        info={},
    )


def two_ways(episodes=40, steps=6, seed=0):
    """The same start, and half of the people go left while the other half goes right, all with an open gripper."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(episodes):
        side = 0.6 if number % 2 else -0.6
        actions = np.stack([np.full(steps, 0.3), np.full(steps, side), np.ones(steps)], axis=1)
        actions[:, :2] += 0.02 * rng.standard_normal((steps, 2))
        made.append(make_episode(np.zeros((steps + 1, 4)), actions, number=number))
    return made


def fit(network, config, episodes, seed=0):
    """A learner that has fitted `network` to episodes."""
    learner = Imitator(None, network, config, DemonstrationConfig(), seed)
    give(learner, episodes)
    while learner.updates < learner.total:
        learner.update()
    return learner


def give(learner, episodes):
    """Put demonstrations into a learner without reading files."""
    learner.demonstrations = Demonstrations(episodes)
    for one in (learner.network, learner.deployed):
        one.scaler.fit(learner.demonstrations.observations, learner.config.scaler_floor)
