"""The success classifier on drawn scenes: learns, keeps its false-positive rate, runs as trained, trusts no file."""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent))
from scenes import DOCK, SIDE, draw, record_scenes

from policies.types import ArmState
from robot_rl.errors import UserError
from robot_rl.rewards import training
from robot_rl.rewards.calibration import choose_threshold, confusion, fires, fit_temperature, sigmoid
from robot_rl.rewards.classifier import RewardClassifier
from robot_rl.rewards.dataset import frames, load_labelled
from robot_rl.rewards.files import write_reward
from robot_rl.rewards.guard import Bound, Guard
from robot_rl.rewards.networks import evaluate, to_onnx
from robot_rl.rewards.training import ClassifierSettings, train_classifier

RATE = 0.02
SETTINGS = ClassifierSettings(steps=80, batch=48, false_positive_rate=RATE)
GUARD = Guard((Bound(signal="gripper_width", low=0.025, high=0.06), Bound(signal="tool_z", low=0.1)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(report, folder, episodes that training never saw)."""
    folder = tmp_path_factory.mktemp("classifier")
    threads = torch.get_num_threads()
    episodes = load_labelled(record_scenes(folder / "run.log", [True, False] * 24))
    report = train_classifier(episodes, folder / "reward", SETTINGS, guard=GUARD)
    torch.set_num_threads(threads)
    return report, folder / "reward", load_labelled(record_scenes(folder / "new.log", [True, False] * 15, seed=9))


def test_it_learns_what_success_looks_like(trained):
    report, _, _ = trained
    found = report["report"]["validation"]
    assert found["accuracy"] > 0.95
    assert found["recall"] > 0.9
    assert found["frames"] == sum(
        found[name] for name in ("true_positives", "false_positives", "true_negatives", "false_negatives")
    )
    assert (found["successful_episodes"], found["failed_episodes"]) == (5, 5)
    assert found["found"] == 5
    assert found["found_too_early"] == 0
    assert report["report"]["cpu_seconds"] < 30.0


def test_the_rate_of_false_positives_holds_on_new_episodes(trained):
    _, folder, new = trained
    reward = RewardClassifier.load(folder)
    data = frames(new)
    negatives = reward.probabilities(data.images)[~data.labels]
    # A binomial's upper side: chance alone exceeds it in fewer than one of a thousand runs.
    count = len(negatives)
    allowed = RATE * count + 3.1 * np.sqrt(RATE * (1.0 - RATE) * count)
    assert (negatives >= reward.decision.threshold).sum() <= allowed


def test_the_parts_share_no_episode(trained):
    report, _, _ = trained
    parts = report["report"]["episodes"]
    assert set(parts) == {"train", "validation", "calibration"}
    names = [name for part in parts.values() for name in part]
    assert len(names) == len(set(names)) == 48


def test_the_file_answers_as_the_network(tmp_path):
    network = training.SuccessNetwork({"front": (SIDE, SIDE), "wrist": (16, 24)}, 0.5).eval()
    rng = np.random.default_rng(0)
    shapes = network.encoder.shapes
    images = {camera: rng.integers(0, 256, (9, *shape, 3), dtype=np.uint8) for camera, shape in shapes.items()}
    model = to_onnx(network, shapes, "logit")
    contents = {"shapes": shapes, "temperature": 2.0, "threshold": 0.5, "consecutive": 1, "guard": None}
    reward = RewardClassifier.load(write_reward(tmp_path / "reward", "success", contents, {"reward.onnx": model}))
    expected = evaluate(network, images)
    np.testing.assert_allclose(reward.logits(images), expected, atol=1e-4)
    np.testing.assert_allclose(reward.probabilities(images), sigmoid(expected / 2.0), atol=1e-4)
    one = {camera: pictures[4] for camera, pictures in images.items()}
    assert reward.probability(one) == pytest.approx(sigmoid(expected[4] / 2.0), abs=1e-4)
    larger = {camera: pictures.repeat(2, 0).repeat(2, 1) for camera, pictures in one.items()}
    assert reward.probability(larger) == pytest.approx(reward.probability(one), abs=1e-6)
    with pytest.raises(ValueError, match="no picture of camera 'wrist'; given are front"):
        reward.probability({"front": one["front"]})


def state(width, height):
    pose = np.array([[0.5, 0.0, height, 1.0, 0.0, 0.0, 0.0]])
    joints = np.zeros((1, 7))
    return ArmState(joints, joints, pose, np.zeros((1, 6)), np.array([width]))


def test_success_needs_frames_in_a_row_and_the_guard(trained):
    _, folder, _ = trained
    reward = RewardClassifier.load(folder)
    assert reward.decision.guard == GUARD
    rng = np.random.default_rng(5)
    done, away = draw(np.array(DOCK), 120.0, rng), draw(np.array([4.0, 4.0]), 120.0, rng)
    holding, empty = state(0.04, 0.15), state(0.0, 0.15)
    assert [reward.success(images, holding) for images in (away, done, away, done, done, done)] == [
        *(False, False, False, False, True, True)
    ]
    assert reward.last_probability > reward.decision.threshold
    reward.reset()
    assert not reward.success(done, holding)
    assert reward.success(done, holding)
    # The picture says success, the gripper says that there is nothing in it.
    assert not reward.success(done, empty)
    assert not reward.success(done, holding)
    assert not reward.success(done, state(0.04, 0.05))
    with pytest.raises(ValueError, match="has a physical guard; give success"):
        reward.success(done)
    free = RewardClassifier(reward._session, reward.shapes, dataclasses.replace(reward.decision, guard=None))
    assert [free.success(done), free.success(done)] == [False, True]


@pytest.mark.parametrize("name", ["reward.onnx", "encoder.safetensors", "reward.json"])
def test_a_changed_file_is_refused(trained, tmp_path, name):
    _, folder, _ = trained
    copy = tmp_path / "reward"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    assert RewardClassifier.load(copy).decision.consecutive == 2
    if name == "reward.json":
        data = json.loads((copy / name).read_text())
        (copy / name).write_text(json.dumps({**data, "threshold": 0.01}))
    else:
        content = (copy / name).read_bytes()
        (copy / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match="checksum"):
        RewardClassifier.load(copy)


def test_a_folder_of_something_else_is_neither_read_nor_overwritten(trained, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="has no reward.json"):
        RewardClassifier.load(tmp_path)
    with pytest.raises(UserError, match="is not overwritten"):
        write_reward(tmp_path, "success", {}, {})
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_an_encoder_can_begin_another_training(trained, tmp_path):
    _, folder, new = trained
    few = dataclasses.replace(SETTINGS, steps=1, learning_rate=1e-9)
    data, shapes = frames(new), {camera: (SIDE, SIDE) for camera in ("front", "wrist")}
    weights = folder / "encoder.safetensors"
    network = training.fit(data, shapes, few, weights)
    other = training.fit(data, shapes, few)
    stored = load_file(weights)["bottleneck.weight"]
    assert torch.allclose(network.encoder.bottleneck.weight, stored, atol=1e-6)
    assert not torch.allclose(other.encoder.bottleneck.weight, stored, atol=1e-3)
    with pytest.raises(UserError, match="does not hold weights of this encoder"):
        training.fit(data, {"front": (SIDE, SIDE)}, few, weights)
    (tmp_path / "junk").write_bytes(b"junk")
    with pytest.raises(UserError, match="is no safetensors file"):
        training.fit(data, shapes, few, tmp_path / "junk")


def test_a_threshold_holds_its_rate_whatever_the_scores():
    rng = np.random.default_rng(0)
    passed = []
    for _ in range(300):
        scores = rng.beta(8, 2, 400)
        passed.append((rng.beta(8, 2, 400) >= choose_threshold(scores, 0.05)).mean())
    assert 0.04 < np.mean(passed) < 0.0525


def test_a_threshold_is_never_low_and_never_promised_from_too_few():
    assert choose_threshold(np.full(200, 0.01), 0.01) == 0.7
    with pytest.raises(UserError, match="50 frames without success to calibrate with; .* 0.001 needs 999"):
        choose_threshold(np.zeros(50), 0.001)
    assert choose_threshold(np.zeros(999), 0.001) == 0.7


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_the_temperature_makes_confidence_true(true):
    rng = np.random.default_rng(1)
    logits = rng.normal(0.0, 4.0, 20000)
    labels = rng.random(20000) < sigmoid(logits / true)
    assert fit_temperature(logits, labels) == pytest.approx(true, rel=0.1)


def test_counts():
    found = confusion(np.array([0.9, 0.2, 0.8, 0.1, 0.5]), np.array([True, True, False, False, False]), 0.5)
    assert [found[k] for k in ("true_positives", "false_positives", "false_negatives", "true_negatives")] == [
        1,
        2,
        1,
        1,
    ]
    assert found["accuracy"] == 0.4
    assert found["recall"] == 0.5
    assert fires(np.array([0.9, 0.1, 0.9, 0.9]), 0.5, 2) == 3
    assert fires(np.array([0.9, 0.1, 0.9, 0.1]), 0.5, 2) is None
