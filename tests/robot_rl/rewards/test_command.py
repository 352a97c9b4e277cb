"""`robot-rl reward`: from a recording to a reward, as typed."""

import json
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from scenes import record_scenes

from robot_rl import cli
from robot_rl.errors import UserError
from robot_rl.rewards.classifier import RewardClassifier
from robot_rl.rewards.command import LabelConfig, find_guard, open_labeling
from robot_rl.rewards.guard import GUARDS
from robot_rl.rewards.labels import HandLabels


@pytest.fixture
def recorded(tmp_path):
    record_scenes(tmp_path / "episodes" / "run.log", [True, False] * 12)
    return tmp_path / "episodes"


def test_train_and_eval(recorded, tmp_path, capsys):
    arguments = ["--success.steps", "40", "--success.batch", "32", "--success.false-positive-rate", "0.05"]
    assert cli.main(["reward", "train", str(recorded), "--out", str(tmp_path / "reward"), *arguments]) == 0
    printed = capsys.readouterr().out
    assert "accuracy" in printed
    assert "cpu_seconds" in printed
    assert RewardClassifier.load(tmp_path / "reward").decision.guard is None  # the drawn task has none
    figures = tmp_path / "figures.json"
    assert cli.main(["reward", "eval", str(tmp_path / "reward"), str(recorded), "--json", str(figures)]) == 0
    found = json.loads(figures.read_text())
    assert found["accuracy"] > 0.9
    assert found["successful_episodes"] == found["failed_episodes"] == 12


def test_progress(recorded, tmp_path, capsys):
    out = str(tmp_path / "reward")
    arguments = ["--kind", "progress", "--progress.steps", "30", "--size", "32"]
    assert cli.main(["reward", "train", str(recorded), "--out", out, *arguments]) == 0
    assert cli.main(["reward", "eval", out, str(recorded)]) == 0
    assert "spearman_mean" in capsys.readouterr().out


def test_what_is_wrong_is_said_in_a_sentence(tmp_path, capsys):
    assert cli.main(["reward", "train", str(tmp_path / "none"), "--out", str(tmp_path / "reward")]) == cli.USAGE
    assert "no episodes at" in capsys.readouterr().err
    assert not (tmp_path / "reward").exists()


def test_guards_by_name(tmp_path):
    assert find_guard("task", "arm-pick-lift") == GUARDS["arm-pick-lift"]
    assert find_guard("task", "arm-reach") is None
    assert find_guard("none", "arm-pick-lift") is None
    path = tmp_path / "guard.json"
    path.write_text(json.dumps(GUARDS["arm-pick-lift"].to_data()))
    assert find_guard(str(path), "arm-reach") == GUARDS["arm-pick-lift"]
    with pytest.raises(UserError, match="cannot be read"):
        find_guard("taks", "arm-reach")


def test_a_contact_sheet(recorded, tmp_path):
    cv2 = pytest.importorskip("cv2")
    sheet = tmp_path / "sheet.png"
    assert cli.main(["reward", "label", str(recorded), "--contact-sheet", str(sheet)]) == 0
    assert cv2.imread(str(sheet)).shape[0] > 24 * 72
    assert cli.main(["reward", "label", str(recorded), "--contact-sheet", str(tmp_path / "a" / "b.png")]) == cli.USAGE


def test_the_page_shows_and_takes_labels(recorded):
    pytest.importorskip("viser")
    from robot_rl.rewards.label_page import LabelPage

    labeling = open_labeling(LabelConfig(path=recorded))
    page = LabelPage(labeling, host="127.0.0.1", port=8290)
    try:
        assert page.url.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(page.url, timeout=20) as answer:
            assert answer.status == 200
        actions = {label: action for label, _, _, action in page._actions()}
        assert len({key for _, key, _, _ in page._actions()}) == len(actions)
        before = np.array(page._picture.image)
        actions["Previous frame"]()
        actions["Not yet"]()
        page.show()
        assert not np.array_equal(before, page._picture.image)
        assert "**failure** (by hand)" in page._text.content
        assert HandLabels.load(recorded / "reward_labels.json").frames == {("run.log", 0, 19): 0}
        actions["As the recording says"]()
        assert HandLabels.load(recorded / "reward_labels.json").frames == {}
    finally:
        page.close()
