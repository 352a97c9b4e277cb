"""Recorded episodes come back as they happened, also those that were cut off."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent / "hil"))
from workers import make_record, make_schema

from robot_rl.episodes import load_episodes
from robot_rl.errors import UserError
from robot_rl.hil.log import RecordLog

SCHEMA = make_schema(images={"wrist": (4, 5, 3)})


def record(path, lengths, schema=SCHEMA, **changes):
    """A log with an episode of each length; a negative length is cut off."""
    with RecordLog(path, schema) as log:
        for episode, length in enumerate(lengths):
            for index in range(abs(length)):
                log.append(make_record(schema, episode, index, ended=index == length - 1, **changes))
    return path


def test_an_episode_is_what_happened(tmp_path):
    path = record(tmp_path / "run.log", [5, 3])
    first, second = load_episodes(path)
    steps = [make_record(SCHEMA, 0, index, ended=index == 4) for index in range(5)]
    assert (first.source, first.number, first.schema, len(first)) == (path, 0, SCHEMA, 5)
    assert first.complete
    assert first.has_final
    assert first.success
    assert first.observations.shape == (6, 6)
    np.testing.assert_array_equal(first.observations[:5], [one.observation for one in steps])
    np.testing.assert_array_equal(first.observations[5], steps[4].final_observation)
    np.testing.assert_array_equal(first.images["wrist"][:5], [one.images["wrist"] for one in steps])
    np.testing.assert_array_equal(first.images["wrist"][5], steps[4].final_images["wrist"])
    np.testing.assert_array_equal(first.actions, [one.action for one in steps])
    np.testing.assert_array_equal(first.policy_actions, [one.policy_action for one in steps])
    assert list(first.drivers) == [one.driver for one in steps]
    np.testing.assert_allclose(first.rewards, [one.reward for one in steps], rtol=1e-6)
    assert list(first.terminated) == [False] * 4 + [True]
    assert not first.truncated.any()
    assert list(first.observed_at) == [one.observed_at for one in steps]
    assert list(first.acted_at) == [one.acted_at for one in steps]
    assert list(first.info["force"]) == [one.info["force"] for one in steps]
    assert (second.number, len(second), list(second.truncated)) == (1, 3, [False, False, True])
    assert not second.success
    assert not second.terminated.any()


def test_episodes_that_were_cut_off_are_there_and_say_so(tmp_path):
    episodes = load_episodes(record(tmp_path / "run.log", [3, -2, 4, -1]))
    assert [len(one) for one in episodes] == [3, 2, 4, 1]
    assert [one.complete for one in episodes] == [True, False, True, False]
    assert [len(one.observations) for one in episodes] == [4, 2, 5, 1]
    assert not episodes[1].has_final


def test_a_file_cut_in_the_middle_of_a_record_gives_the_rest(tmp_path):
    path = record(tmp_path / "run.log", [3, 4])
    path.write_bytes(path.read_bytes()[:-10])
    first, second = load_episodes(path)
    assert (len(first), first.complete, len(second), second.complete) == (3, True, 3, False)


def test_an_end_without_its_observation_is_complete(tmp_path):
    [episode] = load_episodes(record(tmp_path / "run.log", [3], final_observation=None, final_images={}))
    assert episode.complete
    assert not episode.has_final
    assert episode.observations.shape == (3, 6)
    assert episode.images["wrist"].shape == (3, 4, 5, 3)


def test_a_folder_gives_every_log_under_it(tmp_path):
    record(tmp_path / "b.log", [2])
    record(tmp_path / "a" / "deep.log", [3, 4])
    (tmp_path / "note.txt").write_text("no episodes")
    assert [len(one) for one in load_episodes(tmp_path)] == [3, 4, 2]
    (tmp_path / "empty").mkdir()
    assert load_episodes(tmp_path / "empty") == []


def test_a_scalar_that_some_steps_lack_is_nan_there(tmp_path):
    with RecordLog(tmp_path / "run.log", SCHEMA) as log:
        log.append(make_record(SCHEMA, 0, 0, info={"value": 2.0}))
        log.append(make_record(SCHEMA, 0, 1, info={"force": 3.0}))
    [episode] = load_episodes(tmp_path / "run.log")
    np.testing.assert_array_equal(episode.info["value"], [2.0, np.nan])
    np.testing.assert_array_equal(episode.info["force"], [np.nan, 3.0])


def test_what_cannot_be_read_is_said(tmp_path):
    with pytest.raises(UserError, match="no episodes at"):
        load_episodes(tmp_path / "missing.log")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UserError, match=r"no known format; known: \*\.log, \*\.mcap"):
        load_episodes(tmp_path / "notes.txt")
    (tmp_path / "bad.log").write_text("x")
    with pytest.raises(UserError, match=r"bad\.log is no log of records"):
        load_episodes(tmp_path)


def test_one_bad_file_does_not_cost_the_others(tmp_path):
    record(tmp_path / "a.log", [3])
    (tmp_path / "bad.mcap").write_text("x")
    problems = []
    assert [len(one) for one in load_episodes(tmp_path, problems=problems)] == [3]
    assert len(problems) == 1 and "bad.mcap is no recording" in problems[0]


def test_pictures_are_read_when_they_are_looked_up(tmp_path):
    path = record(tmp_path / "run.log", [5, -3])
    first, second = load_episodes(path)
    assert list(first.images) == ["wrist"] and len(first.images) == 1 and "front" not in first.images
    wanted = [make_record(SCHEMA, 1, index).images["wrist"] for index in range(3)]
    np.testing.assert_array_equal(second.images["wrist"], wanted)
    assert first.images["wrist"].shape == (6, 4, 5, 3)
    assert first.images["wrist"] is not first.images["wrist"], "kept in memory"
    data = bytearray(path.read_bytes())
    data[-10] ^= 1  # in the last record, of the second episode
    path.write_bytes(data)
    assert first.images["wrist"].shape == (6, 4, 5, 3)
    with pytest.raises(UserError, match=r"the record at byte \d+ is not there any more \(a wrong checksum\)"):
        second.images["wrist"]
    with pytest.raises(KeyError):
        first.images["front"]


def test_a_log_without_cameras_has_no_pictures(tmp_path):
    (episode,) = load_episodes(record(tmp_path / "run.log", [3], make_schema()))
    assert dict(episode.images) == {}
