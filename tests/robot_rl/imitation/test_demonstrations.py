"""What imitation learns from: nothing beyond the end of an episode, only what was shown, only of the right task."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from toy_episodes import make_episode

from robot_rl.errors import UserError
from robot_rl.hil.log import RecordLog
from robot_rl.hil.records import Record
from robot_rl.hil.schema import Schema
from robot_rl.imitation.demonstrations import DemonstrationConfig, Demonstrations, choose, load_demonstrations
from sim.tasks import TASKS

LENGTHS = (3, 5, 2)


@pytest.fixture
def shown():
    """Three episodes whose observations and actions tell episode and step: 10 · episode + step."""
    episodes = []
    for number, length in enumerate(LENGTHS):
        steps = 10.0 * number + np.arange(length + 1)
        episodes.append(make_episode(np.tile(steps[:, None], 2), np.tile(steps[:-1, None] / 100, 3), number=number))
    return Demonstrations(episodes)


def test_a_window_ends_with_its_episode(shown):
    window = shown.windows(torch.tensor([1, 4, 9]), length=4)
    assert window.shown.tolist() == [[True, True, False, False], [True] * 4, [True, False, False, False]]
    np.testing.assert_allclose(window.actions[:, :, 0] * 100, [[1, 2, 0, 0], [11, 12, 13, 14], [21, 0, 0, 0]])
    np.testing.assert_allclose(window.observations[:, :, 0], [[1, 2, 0, 0], [11, 12, 13, 14], [21, 0, 0, 0]])


def test_the_past_begins_with_the_episode(shown):
    past = shown.windows(torch.tensor([0, 1, 2, 3, 5]), length=1, past=2).past
    np.testing.assert_array_equal(past[:, :, 0], [[0, 0], [0, 0], [1, 0], [10, 10], [11, 10]])


def test_steps_of_others_are_context_and_not_imitated():
    drivers = ["policy", "person", "person", "policy"]
    steps = np.arange(5.0)
    shown = Demonstrations([make_episode(steps[:, None], np.tile(steps[:-1, None] / 10, 3), drivers=drivers)])
    assert shown.rows.tolist() == [1, 2]
    assert shown.windows(torch.tensor([1]), length=4).shown.tolist() == [[True, True, False, False]]


def test_numbers_that_only_a_critic_sees_are_left_out():
    episode = make_episode(np.arange(12.0).reshape(4, 3), np.zeros((3, 2)))
    episode = dataclasses.replace(episode, schema=dataclasses.replace(episode.schema, privileged=1))
    np.testing.assert_array_equal(Demonstrations([episode]).observations, [[0, 1], [3, 4], [6, 7]])


def test_a_share_is_drawn_by_the_seed_or_the_first_or_the_best():
    rng = np.random.default_rng(0)
    episodes = []
    for number in range(12):
        push = np.zeros(2) if number % 3 == 0 else rng.choice([-0.4, 0.4], 2)  # a third of the people have no habit
        observations = rng.uniform(-1.0, 1.0, (21, 2))
        actions = 0.5 * observations[:-1] + push + 0.02 * rng.standard_normal((20, 2))
        episodes.append(make_episode(observations, actions, number=number))

    def numbers(seed=0, **changes):
        return [episode.number for episode in choose(episodes, DemonstrationConfig(**changes), seed)]

    assert numbers() == list(range(12))
    assert numbers(share=0.25, choice="first") == [0, 1, 2]
    drawn = numbers(share=0.5)
    assert len(drawn) == 6 and drawn == sorted(drawn) == numbers(share=0.5) != numbers(seed=1, share=0.5)
    assert numbers(share=1 / 3, choice="best") == [0, 3, 6, 9]
    assert len(numbers(share=0.01)) == 1


TASK = TASKS["arm-reach"]


def write_log(path, success=(True, False), driver="person", task="arm-reach", observation=None):
    from policies.actions import action_size
    from policies.observations import observation_size

    size = observation_size(TASK.terms) if observation is None else observation
    schema = Schema(
        observation=size, action=action_size(TASK.action), task=task, robot="panda",
        control_rate_hz=TASK.control_rate_hz,
    )  # fmt: skip
    with RecordLog(path, schema) as log:
        for number, good in enumerate(success):
            for k in range(3):
                log.append(
                    Record(
                        episode=number,
                        index=k,
                        observation=np.full(size, number + 0.1 * k, np.float32),
                        action=np.full(schema.action, 0.1 * k, np.float32),
                        policy_action=np.zeros(schema.action, np.float32),
                        driver=driver,
                        reward=0.0,
                        terminated=k == 2,
                        success=good and k == 2,
                        observed_at=float(k),
                        acted_at=float(k),
                        wall_time=0.0,
                        final_observation=np.zeros(size, np.float32) if k == 2 else None,
                    )
                )
    return path


def test_a_recorded_file_is_read_and_the_manifest_can_say_what_of_it(tmp_path):
    path = write_log(tmp_path / "steps.log")
    shown, record = load_demonstrations(DemonstrationConfig(path=tmp_path), TASK, seed=0)
    assert len(shown) == 3 and shown.observations[:, 0].tolist() == pytest.approx([0.0, 0.1, 0.2])
    assert (record["recorded_episodes"], record["episodes"], record["steps"]) == (2, 1, 3)
    both, _ = load_demonstrations(DemonstrationConfig(path=path, failures=True), TASK, seed=0)
    assert len(both) == 6


@pytest.mark.parametrize(
    ("written", "config", "says"),
    [
        ({"success": (False, False)}, {}, "2 episodes, of which none succeeded"),
        ({"driver": "policy"}, {}, "was done by person or base; its drivers are policy"),
        ({"task": "arm-push"}, {}, "have task arm-push; arm-reach needs arm-reach"),
        ({"observation": 2}, {}, "have observation 2; arm-reach needs"),
        ({}, {"share": 0.0}, "--demo-share is 0"),
        ({}, {"path": None}, "give --demos FOLDER"),
    ],
)
def test_what_cannot_be_learned_from_is_said_in_words(tmp_path, written, config, says):
    path = write_log(tmp_path / "steps.log", **written)
    with pytest.raises(UserError, match=says):
        load_demonstrations(DemonstrationConfig(**{"path": path, **config}), TASK, seed=0)


def test_nothing_at_all_is_said_too(tmp_path):
    with pytest.raises(UserError, match="there is no such file"):
        load_demonstrations(DemonstrationConfig(path=tmp_path / "no"), SimpleNamespace(name="arm-reach"), seed=0)
