"""Trim, merge and split: what is kept is kept to the bit, and the old set stays as it was."""

import hashlib
import json

import numpy as np
import pytest

from robot_rl import cli
from robot_rl.demos.dataset import open_set
from robot_rl.hil.log import RecordLog
from robot_rl.recording import load_recording


def digest(folder):
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.rglob("*.mcap"))}


def demos(*arguments):
    return cli.main(["demos", *map(str, arguments)])


def test_trim_cuts_both_ends_of_everything(record_set, tmp_path, tools, capsys):
    point_records, write_episode, _ = tools
    folder = tmp_path / "set"
    for seed in range(2):
        records = point_records(seed=seed, cameras=("front",))
        write_episode(folder, records, ("front",), tool_pose=True)
    before = digest(folder)
    assert demos("trim", folder, "--start", 0.5, "--end", 0.8, "--out", tmp_path / "cut") == 0
    assert "26 of 80 steps cut off" in capsys.readouterr().out
    assert digest(folder) == before
    for old, new in zip(open_set(folder), open_set(tmp_path / "cut"), strict=True):
        assert len(new.episode) == len(old.episode) - 13
        np.testing.assert_array_equal(new.episode.observations, old.episode.observations[5:33])
        np.testing.assert_array_equal(new.episode.actions, old.episode.actions[5:32])
        np.testing.assert_array_equal(new.episode.images["front"], old.episode.images["front"][5:33])
        np.testing.assert_allclose(new.episode.observed_at, old.episode.observed_at[5:32])
        assert new.episode.wall_time == pytest.approx(old.episode.wall_time + 0.5)
        assert new.episode.truncated[-1] and not new.episode.terminated[-1]
        assert new.state == "finished" and new.episode.success
        assert new.info == {**old.info, "steps_of_original": [5, 32]}
        poses = new.recording.streams["tool_pose"]
        np.testing.assert_array_equal(poses.values("pose"), old.recording.streams["tool_pose"].values("pose")[5:32])
        np.testing.assert_allclose(poses.received, old.recording.streams["tool_pose"].received[5:32], atol=1e-6)


def test_trim_cuts_rest_off(record_set, tmp_path):
    folder = record_set(3, rest=15)
    assert demos("trim", folder, "--idle", 0.2, "--out", tmp_path / "cut") == 0
    lengths = [len(one.episode) for one in open_set(tmp_path / "cut")]
    assert all(25 <= length <= 29 for length in lengths), lengths


def test_a_trim_that_cuts_nothing_copies_the_steps_as_they_are(record_set, tmp_path):
    folder = record_set(2)
    assert demos("trim", folder, "--idle", 100.0, "--out", tmp_path / "same") == 0
    for old, new in zip(open_set(folder), open_set(tmp_path / "same"), strict=True):
        assert new.episode.terminated[-1] and new.info == old.info
        np.testing.assert_array_equal(new.episode.observations, old.episode.observations)


def test_what_was_cut_off_stays_so(record_set, tmp_path, tools):
    point_records, write_episode, _ = tools
    write_episode(tmp_path / "set", point_records()[:30], end=False)
    assert demos("trim", tmp_path / "set", "--start", 0.5, "--out", tmp_path / "cut") == 0
    (one,) = open_set(tmp_path / "cut")
    assert one.state == "cut off" and len(one.episode) == 25


def test_merge_and_split_move_whole_files(record_set, tmp_path):
    folders = [record_set(3, name="one"), record_set(2, name="two", noise=0.1)]
    assert demos("merge", *folders, "--out", tmp_path / "both") == 0
    merged = digest(tmp_path / "both")
    assert list(merged) == [f"episode-00000{number}.mcap" for number in range(5)]
    assert list(merged.values()) == [*digest(folders[0]).values(), *digest(folders[1]).values()]
    assert demos("split", tmp_path / "both", "--valid", 0.4, "--seed", 3, "--out", tmp_path / "parts") == 0
    parts = {name: digest(tmp_path / "parts" / name) for name in ("train", "valid")}
    assert [len(part) for part in parts.values()] == [3, 2]
    assert sorted([*parts["train"].values(), *parts["valid"].values()]) == sorted(merged.values())
    assert demos("split", tmp_path / "both", "--valid", 0.4, "--seed", 3, "--out", tmp_path / "again") == 0
    assert digest(tmp_path / "again" / "valid") == parts["valid"]


def test_a_log_of_the_human_in_the_loop_becomes_recordings(tmp_path, tools):
    point_records, _, point_schema = tools
    import dataclasses

    with RecordLog(tmp_path / "steps.log", point_schema(("front",))) as log:
        for number in range(2):
            for record in point_records(seed=number, cameras=("front",)):
                log.append(dataclasses.replace(record, episode=number))
    assert demos("split", tmp_path / "steps.log", "--valid", 0.5, "--out", tmp_path / "parts") == 0
    (old, _), (new,) = open_set(tmp_path / "steps.log"), open_set(tmp_path / "parts" / "train")
    if new.episode.observations[0, 0] != old.episode.observations[0, 0]:
        old = open_set(tmp_path / "steps.log").demonstrations[1]
    for name in ("observations", "actions", "drivers", "rewards", "terminated"):
        np.testing.assert_array_equal(getattr(new.episode, name), getattr(old.episode, name))
    np.testing.assert_array_equal(new.episode.images["front"], old.episode.images["front"])
    assert load_recording(new.episode.source).finished and new.episode.success


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trim", "{set}", "--out", "{out}"], "nothing to cut off"),
        (["trim", "{set}", "--start", "9", "--out", "{out}"], "nothing of it would be left"),
        (["trim", "{set}", "--start", "-1", "--out", "{out}"], "expected seconds, 0 or more"),
        (["trim", "{set}", "--start", "1", "--out", "{set}"], "exists already"),
        (["split", "{set}", "--out", "{set}/parts"], "would hold its episodes twice"),
        (["merge", "{set}", "--out", "{out}"], "give two or more"),
        (["merge", "{set}", "{other}", "--out", "{out}"], "images {'front': (16, 24, 3)} instead of {}"),
        (["split", "{set}", "--valid", "1.5", "--out", "{out}"], "expected a share between 0 and 1"),
        (["merge", "{set}", "{missing}", "--out", "{out}"], "there is no such file or folder"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence_and_leaves_nothing(arguments, words, record_set, tmp_path, capsys):
    names = {"set": record_set(2), "other": record_set(2, name="other", cameras=("front",))}
    names |= {"out": tmp_path / "out", "missing": tmp_path / "missing"}
    assert demos(*(argument.format(**names) for argument in arguments)) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "set"]


def test_list_writes_an_array_with_an_object_per_episode(record_set, capsys):
    folder = record_set(3, cameras=("front",))
    assert demos("list", folder, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == [f"episode-00000{number}.mcap" for number in range(3)]
    assert rows[0]["steps"] == 40 and rows[0]["success"] is True and rows[0]["state"] == "finished"
    assert rows[0]["seconds"] == pytest.approx(4.0) and rows[0]["cameras"] == ["front"]
    assert rows[0]["info"] == {"quality": "expert"} and rows[0]["topics"]["step"] == 40
    assert demos("list", folder) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and lines[1].startswith("episode-000000.mcap  arm-push  40")


def test_show_draws_every_episode(record_set, tmp_path, capsys):
    folder = record_set(2, cameras=("front",))
    assert demos("show", folder, "--plots", tmp_path / "plots") == 0
    assert "2, 2 successful, 0 cut off" in capsys.readouterr().out
    for number in range(2):
        data = (tmp_path / "plots" / f"episode-00000{number}.png").read_bytes()
        assert data.startswith(b"\x89PNG") and len(data) > 20_000
