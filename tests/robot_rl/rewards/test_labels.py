"""Labels: what the recording says, what a person corrects, and that neither is lost or mixed up."""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from scenes import SCHEMA, SIDE, record_scene, record_scenes

from robot_rl.episodes import load_episodes
from robot_rl.errors import UserError
from robot_rl.hil.log import RecordLog
from robot_rl.rewards.dataset import frames, load_labelled, split
from robot_rl.rewards.label_page import contact_sheet
from robot_rl.rewards.labeling import COLORS, Labeling
from robot_rl.rewards.labels import FAILURE, SUCCESS, UNCLEAR, HandLabels, LabelRule, default_labels, labels_path


def test_the_end_of_a_success_is_positive_with_a_margin_before_it(tmp_path):
    path = record_scenes(tmp_path / "run.log", [True, False], steps=12)
    won, lost = load_labelled(path, rule=LabelRule(positive=2, margin=3))
    assert won.labels.tolist() == [FAILURE] * 8 + [UNCLEAR] * 3 + [SUCCESS] * 2  # 12 steps have 13 frames
    assert lost.labels.tolist() == [FAILURE] * 13
    assert (won.name, won.task, won.success, lost.success) == ("run.log#0", "drawn-dock", True, False)
    assert won.images["front"].shape == (13, SIDE, SIDE, 3)
    data = frames([won, lost])
    assert data.labels.tolist() == [False] * 8 + [True] * 2 + [False] * 13
    np.testing.assert_array_equal(data.images["wrist"][8:10], won.images["wrist"][-2:])


def test_a_simulators_word_counts_more_than_the_rule(tmp_path):
    record_scenes(tmp_path / "run.log", [True], steps=8)
    [episode] = load_episodes(tmp_path / "run.log")
    done = np.array([0, 0, 0, 1, 1, 0, 1, 1], float)  # after each step: held, slipped, held again
    told = dataclasses.replace(episode, info={"truth": done})
    labels = [FAILURE, FAILURE, UNCLEAR, UNCLEAR, SUCCESS, SUCCESS, UNCLEAR, SUCCESS, SUCCESS]
    assert default_labels(told, LabelRule(margin=2)).tolist() == labels
    by_rule = default_labels(told, LabelRule(truth=False)).tolist()
    assert by_rule == default_labels(episode, LabelRule()).tolist() != labels
    partly = dataclasses.replace(episode, info={"truth": np.where(done > 0, np.nan, 0.0)})
    assert default_labels(partly, LabelRule()).tolist() == by_rule


def test_nobody_knows_how_a_cut_off_episode_went_on(tmp_path):
    with RecordLog(tmp_path / "run.log", SCHEMA) as log:
        record_scene(log, True, steps=12, complete=False)
    [cut] = load_labelled(tmp_path / "run.log", rule=LabelRule(positive=2, margin=3))
    assert cut.labels.tolist() == [FAILURE] * 7 + [UNCLEAR] * 5


def test_hands_override_and_survive(tmp_path):
    record_scenes(tmp_path / "a" / "run.log", [True, False], steps=12)
    record_scenes(tmp_path / "run.log", [True], steps=12)
    hand = HandLabels.load(labels_path(tmp_path))
    hand.set("a/run.log", 1, 12, SUCCESS)
    hand.set("a/run.log", 0, 12, UNCLEAR)
    hand.set("run.log", 0, 0, UNCLEAR)
    hand.set("run.log", 0, 1, UNCLEAR)
    hand.set("run.log", 0, 1, None)
    hand.save()
    assert json.loads((tmp_path / "reward_labels.json").read_text())["labels"] == {
        "a/run.log": {"0": {"12": "unclear"}, "1": {"12": "success"}},
        "run.log": {"0": {"0": "unclear"}},
    }
    before = {episode.name: episode.defaults for episode in load_labelled(tmp_path)}
    after = {episode.name: episode for episode in load_labelled(tmp_path)}
    changed = {n: np.flatnonzero(e.labels != before[n]).tolist() for n, e in after.items()}
    assert changed == {"a/run.log#0": [12], "a/run.log#1": [12], "run.log#0": [0]}
    assert after["a/run.log#1"].labels[12] == SUCCESS
    assert {n: np.flatnonzero(e.by_hand).tolist() for n, e in after.items()} == changed
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_a_save_that_fails_leaves_the_labels_that_were_there(tmp_path, monkeypatch):
    hand = HandLabels(tmp_path / "x.json", {("run.log", 0, 3): SUCCESS})
    hand.save()
    before = hand.path.read_bytes()
    hand.set("run.log", 0, 4, SUCCESS)
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        hand.save()
    assert hand.path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [hand.path]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense", "is not JSON"),
        ('{"version": 2, "labels": {}}', "no labels of version 1"),
        ('{"version": 1, "labels": {"run.log": {"x": {}}}}', "expected an object with whole numbers as keys"),
        ('{"version": 1, "labels": {"run.log": {"0": {"1": "maybe"}}}}', "frame 1 is 'maybe'; expected success"),
        ('{"version": 1, "labels": {"run.log": {"0": {"99": "success"}}}}', "labels frame 99 of episode 0 of run.log"),
    ],
)
def test_labels_that_make_no_sense_are_refused(tmp_path, text, message):
    path = record_scenes(tmp_path / "run.log", [True])
    labels_path(path).write_text(text)
    with pytest.raises(UserError, match=message):
        load_labelled(path)


def test_what_cannot_be_learned_from_is_said(tmp_path):
    path = record_scenes(tmp_path / "run.log", [True, True, False])
    with pytest.raises(UserError, match="has no camera 'top'; it has front, wrist"):
        load_labelled(path, cameras=("top",))
    with pytest.raises(UserError, match="2 episodes have frames labelled as success; 3 is the least"):
        split(load_labelled(path), seed=0)
    with pytest.raises(UserError, match="expected at least 1"):
        LabelRule(positive=0)


def test_pictures_are_shrunk_to_what_is_asked_for_and_never_enlarged(tmp_path):
    path = record_scenes(tmp_path / "run.log", [True])
    assert load_labelled(path, size=(16, 8), cameras=("wrist",))[0].images["wrist"].shape[1:] == (16, 8, 3)
    assert load_labelled(path, size=(64, 64))[0].images["front"].shape[1:] == (SIDE, SIDE, 3)


def test_no_episode_is_in_two_parts_and_each_part_has_both_kinds(tmp_path):
    episodes = load_labelled(record_scenes(tmp_path / "run.log", [True, False, False] * 6, steps=12))
    parts = split(episodes, seed=3)
    names = [episode.name for part in parts.values() for episode in part]
    assert sorted(names) == sorted(episode.name for episode in episodes)
    assert {name: len(part) for name, part in parts.items()} == {"train": 12, "validation": 3, "calibration": 3}
    for part in parts.values():
        assert {episode.success for episode in part} == {True, False}
    again, other = split(episodes, seed=3), split(episodes, seed=4)
    assert [e.name for e in again["train"]] == [e.name for e in parts["train"]]
    assert {e.name for e in other["train"]} != {e.name for e in parts["train"]}


@pytest.fixture
def labeling(tmp_path):
    path = record_scenes(tmp_path / "run.log", [True, False], steps=12)
    return Labeling(load_labelled(path, size=None), HandLabels.load(labels_path(path)))


def test_going_through_frames(labeling):
    assert (labeling.index, labeling.frame, labeling.label) == (0, 12, SUCCESS)
    labeling.step(1)
    assert labeling.frame == 12
    labeling.step(-20)
    assert (labeling.frame, labeling.label) == (0, FAILURE)
    labeling.turn(5)
    assert (labeling.index, labeling.frame) == (1, 12)
    labeling.turn(-5)
    assert labeling.index == 0
    assert "frame 12 of 12: **success** (from the recording)" in labeling.text()


def test_marks_are_on_disk_at_once(labeling):
    labeling.step(-2)
    labeling.mark(UNCLEAR)
    assert HandLabels.load(labeling.hand.path).frames == {("run.log", 0, 10): UNCLEAR}
    assert "frame 10 of 12: **unclear** (by hand)" in labeling.text()
    labeling.mark(SUCCESS, onward=True)
    assert HandLabels.load(labeling.hand.path).frames == {("run.log", 0, k): SUCCESS for k in (10, 11, 12)}
    labeling.mark(None)
    assert HandLabels.load(labeling.hand.path).frames == {("run.log", 0, k): SUCCESS for k in (11, 12)}
    assert labeling.label == labeling.episode.defaults[10]


def test_the_sheet_shows_each_episode_framed_by_its_labels(labeling):
    labeling.step(-12)
    labeling.mark(UNCLEAR)
    sheet = contact_sheet(labeling)
    top, bottom = sheet[1], sheet[sheet.shape[0] // 2 + 1]  # through the upper borders of both rows
    assert (top == COLORS[SUCCESS]).all(-1).any()
    assert (top == COLORS[UNCLEAR]).all(-1).any()
    assert not (bottom == COLORS[SUCCESS]).all(-1).any()
    assert (bottom == COLORS[FAILURE]).all(-1).any()
