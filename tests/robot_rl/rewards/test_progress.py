"""Progress rewards: monotone along demonstrations that training never saw, and a potential for everybody else."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

sys.path.insert(0, str(Path(__file__).parent))
from scenes import SIDE, record_scenes

from robot_rl.errors import UserError
from robot_rl.rewards.classifier import RewardClassifier
from robot_rl.rewards.dataset import load_labelled
from robot_rl.rewards.files import write_reward
from robot_rl.rewards.networks import evaluate, to_onnx
from robot_rl.rewards.progress import ProgressReward, spearman
from robot_rl.rewards.progress_training import ProgressNetwork, ProgressSettings, contrast, train_progress


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("progress")
    threads = torch.get_num_threads()
    episodes = load_labelled(record_scenes(folder / "run.log", [True] * 10 + [False] * 3, steps=24))
    report = train_progress(episodes, folder / "reward", ProgressSettings(steps=120))
    torch.set_num_threads(threads)
    return report["report"], folder / "reward", load_labelled(record_scenes(folder / "new.log", [True] * 4, seed=5))


def test_it_grows_along_demonstrations_that_were_not_seen(trained):
    report, folder, new = trained
    assert len(report["held_out"]) == 2
    assert not set(report["held_out"]) & set(report["demonstrations"])
    assert report["spearman_worst"] > 0.85
    assert report["final_progress_of_failures"] < report["final_progress_of_successes"]
    reward = ProgressReward.load(folder)
    for episode in new:
        values = reward.values(episode.images)
        assert values.min() >= 0.0
        assert values.max() <= 1.0
        moving = values[:-3]  # in the last frames the square rests
        assert spearman(moving, np.arange(len(moving))) > 0.85
        assert values[-1] - values[0] > 0.6


def test_its_reward_sums_up_to_the_progress_that_was_made(trained):
    _, folder, new = trained
    reward = ProgressReward.load(folder)
    frames = [{camera: images[k] for camera, images in new[0].images.items()} for k in range(8)]
    rewards = [reward.reward(frame) for frame in frames]
    assert rewards[0] == 0.0
    assert sum(rewards) == pytest.approx(reward.progress(frames[-1]) - reward.progress(frames[0]), abs=1e-6)
    assert reward.reward(frames[-1], discount=0.5) == pytest.approx(-0.5 * reward.progress(frames[-1]), abs=1e-6)
    reward.reset()
    assert reward.reward(frames[3]) == 0.0


def test_the_file_answers_as_the_network(tmp_path):
    torch.manual_seed(0)
    network = ProgressNetwork({"front": (SIDE, SIDE)}, 8, 10.0).eval()
    network.memory = torch.nn.functional.normalize(torch.randn(40, 8), dim=-1)
    network.times = torch.linspace(0.0, 1.0, 40)
    images = {"front": np.random.default_rng(0).integers(0, 256, (6, SIDE, SIDE, 3), dtype=np.uint8)}
    model = to_onnx(network, {"front": (SIDE, SIDE)}, "progress")
    folder = write_reward(tmp_path / "reward", "progress", {"shapes": {"front": (SIDE, SIDE)}}, {"reward.onnx": model})
    np.testing.assert_allclose(ProgressReward.load(folder).values(images), evaluate(network, images), atol=1e-5)
    with pytest.raises(UserError, match="of kind 'progress'; expected 'success'"):
        RewardClassifier.load(folder)


def test_the_loss_is_least_where_moments_agree_and_ignores_the_own_demonstration():
    times = torch.tensor([0.0, 0.5, 1.0] * 2)
    owner = torch.tensor([0, 0, 0, 1, 1, 1])
    agree = torch.eye(3).repeat(2, 1)
    swapped = torch.cat([torch.eye(3), torch.eye(3).flip(0)])
    assert contrast(agree, times, owner, 10.0, 0.05) < 0.01
    assert contrast(swapped, times, owner, 10.0, 0.05) > 3.0
    # Within a demonstration everything may be the same: only others are compared with.
    alone = torch.tensor([[1.0, 0.0, 0.0]] * 3 + [[1.0, 0.0, 0.0]] * 3)
    assert contrast(alone, times, owner, 10.0, 0.05) == pytest.approx(np.log(3.0), abs=1e-4)


def test_three_demonstrations_are_too_few(tmp_path):
    episodes = load_labelled(record_scenes(tmp_path / "run.log", [True] * 3 + [False]))
    with pytest.raises(UserError, match="3 successful episodes; progress needs 4"):
        train_progress(episodes, tmp_path / "reward")


def test_rank_correlation():
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.integers(0, 8, 30), rng.normal(size=30)
        assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)
    assert np.isnan(spearman(np.ones(4), np.arange(4)))
