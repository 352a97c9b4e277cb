"""What holds for every algorithm: it goes on from a checkpoint as if nothing had happened, and is exported as it is."""

import dataclasses
import sys
import typing
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load, save

sys.path.insert(0, str(Path(__file__).parent))
from toy import GRIPPING, LINE, demonstrations, episode, random_replay, small, train

from robot_rl.export import to_onnx
from robot_rl.hil import config as config_module
from robot_rl.hil.algorithms import ALGORITHMS
from robot_rl.hil.config import HilConfig

NAMES = sorted(ALGORITHMS)
LEARNING = [name for name in NAMES if name != "bc"]


def settings(name, **changes):
    return small(getattr(HilConfig(task="arm-pick-lift"), name.replace("-", "_")), **changes)


def make(name, sizes=GRIPPING, seed=0, **changes):
    return ALGORITHMS[name](sizes, settings(name, **changes), seed)


def trained(name, replay, updates=6, **changes):
    algorithm = make(name, **{"critic_warm_up": 2, **changes} if hasattr(settings(name), "critic_warm_up") else {})
    algorithm.warm_start(replay)
    for _ in range(updates):
        algorithm.update(replay)
    return algorithm


def test_command_line_names_every_algorithm():
    assert set(typing.get_args(config_module.AlgorithmName)) == set(ALGORITHMS)


@pytest.mark.parametrize("name", NAMES)
def test_settings_survive_json(name, tmp_path):
    config = HilConfig(task="arm-pick-lift", algorithm=name)
    config_module.save(config, tmp_path / "config.json")
    assert config_module.load(tmp_path / "config.json") == config


@pytest.mark.parametrize("name", NAMES)
def test_goes_on_from_a_checkpoint_identically(name):
    replay = random_replay()
    first = trained(name, replay)
    blob = save({key: value.contiguous() for key, value in first.state_dict().items()})
    second = make(name, seed=99, **({"critic_warm_up": 2} if hasattr(first.config, "critic_warm_up") else {}))
    second.load_state_dict(load(blob))
    assert second.updates == first.updates
    for algorithm in (first, second):
        for _ in range(4):
            algorithm.update(replay)
    theirs = second.state_dict()
    for key, value in first.state_dict().items():
        assert torch.equal(value, theirs[key]), key


@pytest.mark.parametrize("name", NAMES)
def test_what_acts_is_sent_whole(name):
    replay = random_replay()
    learner = trained(name, replay)
    acting = make(name, seed=7).behaviour().eval()
    state = {key: value.clone() for key, value in learner.behaviour().state_dict().items()}
    acting.load_state_dict(load(save(state)))
    observation = torch.randn(5, GRIPPING.observation)
    for index in (0, 50):
        found, value = acting.explore(observation, {}, torch.Generator().manual_seed(1), index)
        wanted, theirs = learner.behaviour().eval().explore(observation, {}, torch.Generator().manual_seed(1), index)
        assert torch.equal(found, wanted)
        assert found.abs().max() <= 1.0
        assert set(found[:, 1].tolist()) <= {-1.0, 1.0}, "grippers are open or closed"
        assert (value is None and theirs is None) or torch.equal(value, theirs)


@pytest.mark.parametrize("name", NAMES)
def test_exported_network_equals_torch(name):
    network = trained(name, random_replay()).policy()
    session = onnxruntime.InferenceSession(to_onnx(network, GRIPPING.observation), providers=["CPUExecutionProvider"])
    observation = np.random.default_rng(0).standard_normal((64, GRIPPING.observation)).astype(np.float32)
    found = session.run(None, {"observation": observation})[0]
    with torch.no_grad():
        wanted = network(torch.from_numpy(observation)).numpy()
    assert found.shape == (64, 1, 3)
    np.testing.assert_allclose(found[:, 0], wanted, atol=1e-5)


@pytest.mark.parametrize("name", LEARNING)
def test_updates_count_and_give_finite_figures(name):
    algorithm = trained(name, random_replay(), updates=5)
    assert algorithm.updates == 5
    figures = algorithm.update(random_replay())
    assert figures and all(bool(torch.isfinite(value).all()) for value in figures.values())


@pytest.mark.parametrize("name", NAMES)
def test_warm_start_can_be_left_out(name):
    replay = random_replay()
    untouched, algorithm = make(name), make(name, warm_start=dataclasses.replace(settings(name).warm_start, steps=0))
    algorithm.warm_start(replay)
    for key, value in untouched.policy().state_dict().items():
        if "scaler" not in key:
            assert torch.equal(value, algorithm.policy().state_dict()[key]), key


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("normalize", [True, False])
def test_normalization_can_be_left_out(name, normalize):
    changes = {"warm_start": dataclasses.replace(settings(name).warm_start, steps=2, normalize=normalize)}
    algorithm = make(name, **changes)
    replay = random_replay()
    algorithm.warm_start(replay)
    rows = replay.rows_of(demonstrations=True)
    wanted = replay.column("observation")[rows].mean(0) if normalize else np.zeros(GRIPPING.observation)
    np.testing.assert_allclose(algorithm.policy().scaler.mean.numpy(), wanted, atol=1e-5)


@pytest.mark.parametrize("name", LEARNING)
def test_waits_for_steps_and_demonstrations(name):
    algorithm = make(name, LINE)
    assert not algorithm.ready(demonstrations(2))
    replay = demonstrations(2)
    train(algorithm, replay, 0)
    for _ in range(2):
        episode(replay, lambda x, k: 0.0, 0.7)
    assert algorithm.ready(replay)


def test_cloning_alone_never_updates():
    algorithm = make("bc")
    assert not algorithm.ready(random_replay())
