"""Algorithms that learn from pictures: where to go is drawn, not told."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load, save

sys.path.insert(0, str(Path(__file__).parent))
from toy import small

from robot_rl.errors import UserError
from robot_rl.export import to_onnx
from robot_rl.hil.algorithms import ALGORITHMS
from robot_rl.hil.algorithms.base import Sizes
from robot_rl.hil.algorithms.values import half_and_half
from robot_rl.hil.config import ActorConfig, HilConfig
from robot_rl.hil.layout import ActionLayout
from robot_rl.hil.pixels import PixelConfig
from robot_rl.hil.replay import PERSON, POLICY, Replay, Step
from robot_rl.hil.setup import find_arm_task, make_algorithm

SIDE = 16
SIZES = Sizes(observation=2, layout=ActionLayout((0,), (1,)), images={"front": (SIDE, SIDE, 3)})
SEEING = ("bc", "hg-dagger", "jsrl", "rlif", "rlpd", "sirius")


def picture(x):
    """A bright column at x in [-1, 1]."""
    image = np.full((SIDE, SIDE, 3), 40, np.uint8)
    place = round((x + 1.0) * 0.5 * (SIDE - 3))
    image[:, place : place + 3] = (220, 80, 50)
    return {"front": image}


def replay_of(episodes=30, length=4, seed=0):
    """Somebody who steers towards the column and opens the gripper on the right; half of it online."""
    replay, generator = Replay(2, 2, SIZES.images), np.random.default_rng(seed)
    for k in range(episodes):
        for index in range(length):
            x = generator.uniform(-1.0, 1.0)
            action = np.array([0.8 * x, np.sign(x)], np.float32)
            step = Step(
                observation=generator.normal(size=2).astype(np.float32), action=action, policy_action=action,
                driver=PERSON if k % 2 else POLICY, reward=float(index == length - 1),
                terminated=index == length - 1, last=index == length - 1, images=picture(x),
            )  # fmt: skip
            replay.add(step, demonstration=bool(k % 2))
        replay.finish(np.zeros(2, np.float32), picture(0.0))
    return replay


def make(name, seed=0, steps=10, **pixels):
    changes = {} if name == "bc" else {"batch": 32}
    settings = small(getattr(HilConfig(task="arm-pick-lift"), name.replace("-", "_")), **changes)
    warm = dataclasses.replace(settings.warm_start, steps=steps, batch=32, feature_noise=0.02)
    config = PixelConfig(widths=(8, 8), embedding=8, **{"shift": 0, **pixels})
    changes = {"warm_start": warm, "pixels": config}
    if hasattr(settings, "critic_warm_up"):
        changes["critic_warm_up"] = 2
    return ALGORITHMS[name](SIZES, dataclasses.replace(settings, **changes), seed)


def look_at(policy, places):
    images = {"front": torch.from_numpy(np.stack([picture(x)["front"] for x in places]))}
    with torch.no_grad():
        return policy(torch.zeros(len(places), 2), images)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_clone_goes_where_the_picture_says():
    algorithm = make("bc", steps=200)
    algorithm.warm_start(replay_of())
    action = look_at(algorithm.policy(), [-0.9, -0.4, 0.4, 0.9])
    np.testing.assert_allclose(action[:, 0].numpy(), [-0.72, -0.32, 0.32, 0.72], atol=0.15)
    assert action[:, 1].tolist() == [-1.0, -1.0, 1.0, 1.0]


@pytest.mark.parametrize("name", [name for name in SEEING if name != "bc"])
def test_updates_act_on_pictures_and_go_on_from_a_checkpoint_identically(name):
    replay = replay_of()
    first = make(name, shift=2)
    first.warm_start(replay)
    for _ in range(5):
        figures = first.update(replay)
        assert all(np.isfinite(float(value)) for value in figures.values())
    second = make(name, seed=5, shift=2)
    second.load_state_dict(load(save({key: value.contiguous() for key, value in first.state_dict().items()})))
    for algorithm in (first, second):
        algorithm.update(replay)
    ours, theirs = first.state_dict(), second.state_dict()
    assert set(ours) == set(theirs)
    assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []
    generator = torch.Generator().manual_seed(0)
    images = {"front": torch.from_numpy(picture(0.5)["front"])[None]}
    action, value = first.behaviour().eval().explore(torch.zeros(1, 2), images, generator, 99)
    assert action.shape == (1, 2)
    assert value is None or value.shape == (1,)


@pytest.mark.parametrize(("teacher", "warm_up"), [("imitation", 2), ("values", 2), ("imitation", 1000)])
def test_one_loss_teaches_the_encoder(teacher, warm_up):
    replay, algorithm = replay_of(), make("rlpd", teacher=teacher)
    algorithm.warm_start(replay)
    algorithm.config = dataclasses.replace(algorithm.config, critic_warm_up=warm_up)

    def eyes():
        return {k: v.clone() for k, v in algorithm.actor.encoder.state_dict().items()}

    def changed(before):
        return any(not torch.equal(before[k], v) for k, v in eyes().items())

    batch = half_and_half(replay, 32, algorithm.generator, n_step=1, discount=0.97)
    before = eyes()
    algorithm._update_critics(batch)
    assert changed(before) == (teacher == "values")
    before = eyes()
    algorithm._update_actor(batch)
    assert changed(before) == (teacher == "imitation")


def test_the_exported_file_is_the_policy_that_was_learned():
    algorithm = make("rlpd", shift=2)
    replay = replay_of()
    algorithm.warm_start(replay)
    for _ in range(4):
        algorithm.update(replay)
    policy = algorithm.policy()
    session = onnxruntime.InferenceSession(to_onnx(policy, 2), providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["observation", "image_front"]
    batch = replay.gather(np.arange(40))
    feed = {"observation": batch.observation.numpy(), "image_front": batch.images["front"].numpy()}
    with torch.no_grad():
        expected = policy(batch.observation, batch.images)
    np.testing.assert_allclose(session.run(["action"], feed)[0][:, 0], expected.numpy(), atol=1e-5)


def test_what_cannot_see_says_so():
    config = HilConfig(task="arm-pick-lift", actor=ActorConfig(cameras=("front",)))
    with pytest.raises(UserError, match=r"pvp learns from states only; from pictures learn bc, hg-dagger, .*rlpd"):
        make_algorithm(dataclasses.replace(config, algorithm="pvp"), find_arm_task(config))
