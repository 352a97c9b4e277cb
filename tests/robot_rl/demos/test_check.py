"""Every fault is found and named; a sound set has none."""

import dataclasses
import json

import numpy as np
import pytest

from robot_rl import cli
from robot_rl.demos.check import check, run
from robot_rl.demos.configs import CheckConfig
from robot_rl.demos.dataset import open_set
from robot_rl.recording import EpisodeWriter, messages


def kinds(folder, severity="error"):
    return {(f.kind, f.episode) for f in check(open_set(folder)) if f.severity == severity}


def each(records, change):
    return [dataclasses.replace(record, **change(record)) for record in records]


def shifted(records, by):
    """Actions that are recorded `by` steps late (or early, below 0)."""
    actions = [record.action for record in records]
    moved = actions[:by] + actions[:-by] if by > 0 else actions[-by:] + actions[by:]
    return [dataclasses.replace(record, action=action) for record, action in zip(records, moved, strict=True)]


def later(records, step, seconds):
    def change(record):
        wait = seconds * (record.index >= step)
        return {"observed_at": record.observed_at + wait, "acted_at": record.acted_at + wait}

    return each(records, change)


def frozen(records):
    still = records[8].observation
    return each(records, lambda r: {"observation": still} if 8 <= r.index < 18 else {})


def jumping(records):
    away = records[20].observation + np.eye(10, dtype=np.float32)[1] * 5.0
    return each(records, lambda r: {"observation": away} if r.index == 20 else {})


def jittering(records):
    def change(record):
        wait = 0.06 * (record.index % 3 == 1)
        return {"observed_at": record.observed_at + wait, "acted_at": record.acted_at + wait}

    return each(records, change)


FAULTS = {
    "missing frames": lambda records: later(records, 20, 0.3),
    "time": lambda records: later(records, 20, -0.3),
    "stale": frozen,
    "jump": jumping,
    "jitter": jittering,
    "late actions": lambda records: each(records, lambda r: {"acted_at": r.acted_at + 0.5}),
    "action offset": lambda records: shifted(records, 1),
}


def test_a_sound_set_has_no_findings(record_set, capsys):
    folder = record_set(noise=0.2)
    assert check(open_set(folder)) == []
    assert run(CheckConfig(path=folder)) == 0
    assert "4 episodes, 0 errors, 0 notes: sound" in capsys.readouterr().out


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_is_found_in_the_episode_that_has_it(kind, record_set, capsys):
    folder = record_set(noise=0.2, faults={2: FAULTS[kind]})
    assert kinds(folder) == {(kind, "episode-000002.mcap")}
    assert cli.main(["demos", "check", str(folder), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["errors"] == 1 and found["findings"][0]["kind"] == kind


@pytest.mark.parametrize(("by", "words"), [(1, "1 steps (100 ms) before"), (-4, "4 steps (400 ms) after")])
def test_an_offset_of_all_episodes_is_measured(by, words, record_set):
    folder = record_set(noise=0.2, faults={number: lambda records: shifted(records, by) for number in range(4)})
    texts = [f.text for f in check(open_set(folder)) if f.kind == "action offset" and not f.episode]
    assert len(texts) == 1 and words in texts[0]


def test_copies_are_found_whatever_they_are_called(record_set, tools):
    point_records, write_episode, _ = tools
    folder = record_set(3)
    write_episode(folder, point_records(seed=1, began=900.0))
    assert kinds(folder) == {("duplicate", "episode-000003.mcap")}


def test_what_was_cut_off_is_soundly_recovered(record_set, tools):
    point_records, write_episode, _ = tools
    folder = record_set(2)
    write_episode(folder, point_records(seed=7, success=False)[:30], end=False)
    assert kinds(folder) == set()
    assert {kind for kind, _ in kinds(folder, "note")} == {"recovered", "unfinished"}
    assert run(CheckConfig(path=folder)) == 0


def test_a_pause_is_no_gap(record_set):
    """Nobody decides for 2 s: the robot stands, and the step that was begun goes on."""

    def paused(records):
        return each(later(records, 21, 2.0), lambda r: {"acted_at": r.acted_at + 2.0 * (r.index == 20)})

    folder = record_set(4, noise=0.2, faults={1: paused})
    assert kinds(folder) == set()
    assert kinds(folder, "note") == {("paused", "episode-000001.mcap")}


def test_rest_and_failure_are_notes(record_set):
    folder = record_set(2, rest=20, success=False)
    assert kinds(folder) == set()
    assert {kind for kind, _ in kinds(folder, "note")} == {"idle", "failure"}


@pytest.mark.parametrize(
    ("times", "delay", "kind"),
    [
        (np.concatenate([np.arange(50), np.arange(150, 200)]) * 0.02, 0.0, "stale"),
        (np.arange(100) * 0.02, 0.5, "late messages"),
        (np.arange(100) * 0.02, -0.5, "clock"),
    ],
)
def test_streams_beside_the_steps_are_looked_at(times, delay, kind, tmp_path, tools):
    point_records, _, point_schema = tools
    with EpisodeWriter(tmp_path, point_schema()) as writer:
        writer.begin({})
        for record in point_records(noise=0.2):
            writer.step(record)
        for time in times:
            writer.write("wrench", messages.wrench(np.zeros(6)), 100.0 + time, 100.0 + time + delay)
        writer.end(True, "test")
    assert {found for found, _ in kinds(tmp_path)} == {kind}


def test_an_unreadable_file_is_an_error_and_the_rest_is_checked(record_set):
    folder = record_set(2, noise=0.2)
    (folder / "episode-000001.mcap").write_bytes(b"no MCAP at all")
    assert kinds(folder) == {("unreadable", "episode-000001.mcap")}


def test_an_empty_folder_is_not_sound(tmp_path, capsys):
    assert cli.main(["demos", "check", str(tmp_path)]) == 1
    assert "there are no episodes" in capsys.readouterr().out
    assert cli.main(["demos", "check", str(tmp_path / "nowhere")]) == 2
