"""Recordings of a point that moves as it is told to: cheap, and every fault can be put into them."""

import dataclasses

import numpy as np
import pytest

from robot_rl.hil.records import Record
from robot_rl.hil.schema import Schema
from robot_rl.recording import EpisodeWriter, messages

PERIOD = 0.1


def point_schema(cameras=()):
    return Schema(
        observation=10,
        action=4,
        images={name: (16, 24, 3) for name in cameras},
        task="arm-push",
        robot="panda",
        control_rate_hz=1.0 / PERIOD,
    )


def point_records(steps=40, seed=0, noise=0.05, cameras=(), success=True, driver="person", began=100.0, rest=0):
    """A point is driven to the origin; a noisy velocity is its action, the last number a switch.

    The observation is position (3), velocity (3) and the last action (4); the last `rest` steps it rests.
    """
    generator = np.random.default_rng(seed)
    position, velocity, last = generator.uniform(-1, 1, 3), np.zeros(3), np.zeros(4)
    records = []

    def observe():
        sensed = np.concatenate([position, velocity]) + 0.001 * generator.standard_normal(6)
        return np.concatenate([sensed, last]).astype(np.float32)

    def look(index):
        return {name: np.full((16, 24, 3), (7 * seed + 3 * index) % 256, np.uint8) for name in cameras}

    for index in range(steps):
        resting = index >= steps - rest
        wanted = np.clip(-2.0 * position + noise * generator.standard_normal(3), -1, 1) * (not resting)
        action = np.append(wanted, 1.0 if index < steps // 2 else -1.0).astype(np.float32)
        over = index == steps - 1
        record = Record(
            episode=0,
            index=index,
            observation=observe(),
            images=look(index),
            action=action,
            policy_action=np.zeros(4, np.float32),
            driver=driver,
            reward=float(over and success),
            terminated=over and success,
            truncated=over and not success,
            success=over and success,
            observed_at=began + index * PERIOD,
            acted_at=began + index * PERIOD + 0.01,
            wall_time=1.7e9,
            info={"progress": 0.1 * index},
        )
        velocity, last = action[:3].astype(float), action.astype(float)
        position = position + PERIOD * velocity
        if over:
            record = dataclasses.replace(record, final_observation=observe(), final_images=look(steps))
        records.append(record)
    return records


def write_episode(folder, records, cameras=(), info=None, end=True, tool_pose=False):
    """Records as a recording in a folder; without `end`, as one that was cut off."""
    with EpisodeWriter(folder, point_schema(cameras)) as writer:
        path = writer.begin({"quality": "expert"} if info is None else info)
        for record in records:
            writer.step(record)
            if tool_pose:
                position = record.observation[:3].astype(float)
                writer.write("tool_pose", messages.pose(position, [0.0, 1.0, 0.0, 0.0]), record.observed_at)
        if end:
            writer.end(records[-1].success, "test")
    return path


@pytest.fixture
def record_set(tmp_path):
    """Makes a data set of a few episodes; `faults` changes the records of one by its number."""

    def make(count=4, name="set", cameras=(), faults=None, **options):
        folder = tmp_path / name
        for number in range(count):
            records = point_records(seed=number, cameras=cameras, began=100.0 + 50.0 * number, **options)
            records = (faults or {}).get(number, lambda same: same)(records)
            write_episode(folder, records, cameras)
        return folder

    return make


@pytest.fixture
def tools():
    """The functions above: tests cannot import a conftest."""
    return point_records, write_episode, point_schema


@pytest.fixture(scope="session")
def simulated_set(tmp_path_factory):
    """A small set of scripted demonstrations of `arm-reach`."""
    pytest.importorskip("mujoco")
    from robot_rl.demos.collect import run
    from robot_rl.demos.configs import CollectConfig

    out = tmp_path_factory.mktemp("demos") / "reach"
    assert run(CollectConfig(task="arm-reach", out=out, episodes=4, quality="mixed")) == 0
    return out
