"""From records to what algorithms sample: nothing of a crash is learned from, demonstrations are no own experience."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from robot_rl.errors import UserError
from robot_rl.hil.config import HilConfig, LearnerConfig
from robot_rl.hil.log import RecordLog
from robot_rl.hil.memory import Memory
from robot_rl.hil.records import Record
from robot_rl.hil.schema import Schema
from robot_rl.hil.setup import memory_rows

SCHEMA = Schema(observation=3, action=2, task="arm-reach", robot="panda", control_rate_hz=10.0)


def episode(number: int, length: int, *, given: bool = False, person=(), cut: bool = False, source: str = "a"):
    records = []
    for k in range(length):
        last = k == length - 1 and not cut
        records.append(
            Record(
                episode=number,
                index=k,
                observation=np.full(3, 100 * number + k, np.float32),
                action=np.full(2, 0.1, np.float32),
                policy_action=np.zeros(2, np.float32),
                driver="person" if given or k in person else "policy",
                reward=float(last),
                terminated=last,
                success=last,
                observed_at=float(k),
                acted_at=k + 0.01,
                wall_time=1.0,
                final_observation=np.full(3, 100 * number + length, np.float32) if last else None,
                info={"demonstration": float(given)},
                source=source,
            )
        )
    return records


def test_demonstrations_are_counted_and_are_no_online_experience():
    memory = Memory(SCHEMA)
    memory.take(episode(0, 4, given=True))
    memory.take(episode(1, 5, person=(2, 3)))
    assert memory.demonstrations == 1 and memory.steps == 9
    assert memory.replay.online == 5
    assert memory.replay.demonstrations == 4 + 2  # corrections are both


def test_an_episode_that_a_crash_cut_off_ends_where_it_was_cut():
    memory = Memory(SCHEMA)
    memory.take(episode(0, 4, cut=True))
    assert not memory.between_episodes
    memory.take(episode(1, 3))
    assert memory.between_episodes
    rows = memory.replay.rows_of(demonstrations=False)
    batch = memory.replay.gather(rows, n_step=3, discount=0.9)
    for seen, after in zip(batch.observation[:, 0].tolist(), batch.next_observation[:, 0].tolist(), strict=True):
        assert seen // 100 == after // 100, "a transition leads from one episode into another"
    assert 3.0 not in batch.observation[:, 0].tolist()  # what followed it is lost


def test_records_of_two_actors_do_not_mix():
    memory = Memory(SCHEMA)
    memory.take(episode(0, 3, cut=True, source="a"))
    memory.take(episode(0, 3, source="b"))
    assert memory.replay.online == 2 + 3


def test_recorded_demonstrations_can_be_given(tmp_path: Path):
    with RecordLog(tmp_path / "steps.log", SCHEMA) as log:
        for record in [*episode(0, 4), *episode(1, 6)]:
            log.append(record)
    memory = Memory(SCHEMA)
    assert memory.take_demonstrations(tmp_path) == 2
    assert (memory.demonstrations, memory.replay.demonstrations, memory.replay.online) == (2, 10, 0)


def test_a_folder_of_recordings_is_as_good_as_a_log(tmp_path: Path):
    recording = pytest.importorskip("robot_rl.recording", reason="MCAP needs the extra demos")
    episodes = [episode(0, 4, given=True), episode(1, 6, given=True)]
    with RecordLog(tmp_path / "log" / "steps.log", SCHEMA) as log:
        for record in [record for one in episodes for record in one]:
            log.append(record)
    with recording.EpisodeWriter(tmp_path / "mcap", SCHEMA) as writer:
        for one in episodes:
            writer.begin({})
            for record in one:
                writer.step(record)
            writer.end(success=True, cause="done")
    logged, recorded = Memory(SCHEMA), Memory(SCHEMA)
    assert logged.take_demonstrations(tmp_path / "log") == recorded.take_demonstrations(tmp_path / "mcap") == 2
    assert recorded.demonstrations == 2
    ours, theirs = (memory.replay.gather(np.arange(10)) for memory in (logged, recorded))
    for name in ("observation", "action", "reward", "next_observation"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))


def test_demonstrations_of_another_task_are_refused_by_name(tmp_path: Path):
    other = Schema(observation=3, action=2, task="arm-push", robot="panda", control_rate_hz=10.0)
    with RecordLog(tmp_path / "steps.log", other) as log:
        for record in episode(0, 4):
            log.append(record)
    with pytest.raises(UserError, match="task arm-push"):
        Memory(SCHEMA).take_demonstrations(tmp_path)


def test_recorded_pictures_are_remembered_as_they_were(tmp_path: Path):
    shape = (6, 8, 3)
    schema = dataclasses.replace(SCHEMA, images={"front": shape})
    generator = np.random.default_rng(0)
    pictures = generator.integers(0, 256, (5, *shape), dtype=np.uint8)
    with RecordLog(tmp_path / "run.log", schema) as log:
        for k, one in enumerate(episode(0, 4, given=True)):
            final = {"front": pictures[4]} if one.ended else {}
            log.append(dataclasses.replace(one, images={"front": pictures[k]}, final_images=final))
    memory = Memory(schema, memory_rows(HilConfig(task="arm-reach"), schema))
    assert memory.take_demonstrations(tmp_path) == 1
    batch = memory.replay.gather(np.arange(4))
    assert batch.images["front"].dtype == torch.uint8
    np.testing.assert_array_equal(batch.images["front"].numpy(), pictures[:4])
    np.testing.assert_array_equal(batch.next_images["front"].numpy(), pictures[1:])
    blind = Memory(SCHEMA)  # a run that looks through no camera can learn from them, too
    assert blind.take_demonstrations(tmp_path) == 1
    assert not blind.replay.gather(np.arange(4)).images
    other = Memory(dataclasses.replace(SCHEMA, images={"front": (8, 8, 3)}))
    with pytest.raises(UserError, match=r"images front \(6, 8, 3\); this run has \(8, 8, 3\)"):
        other.take_demonstrations(tmp_path)


def test_pictures_fill_no_more_memory_than_allowed():
    config = HilConfig(task="arm-reach", learner=LearnerConfig(picture_memory=1.0))
    cameras = {"front": (64, 64, 3), "wrist": (128, 128, 3)}
    rows = memory_rows(config, dataclasses.replace(SCHEMA, images=cameras))
    assert 0.99e9 < rows * 3 * (64**2 + 128**2) <= 1e9
    assert memory_rows(config, SCHEMA) == 200_000
