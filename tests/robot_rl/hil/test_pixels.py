"""Learning from pixels: what the encoder can tell, who trains it, and that the exported file is the same network."""

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from robot_rl.export import to_onnx
from robot_rl.hil.layout import ActionLayout
from robot_rl.hil.networks import HilPolicy
from robot_rl.hil.pixels import PixelConfig, PixelEncoder, make_encoder

SHAPES = {"wrist": (32, 32), "front": (32, 48)}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def draw(count, shapes=SHAPES, seed=0):
    rng = np.random.default_rng(seed)
    return {c: torch.from_numpy(rng.integers(0, 256, (count, *s, 3), dtype=np.uint8)) for c, s in shapes.items()}


def squares(count, side=32, seed=0):
    """Pictures with a bright square, and its place (count, 2) in [-1, 1]."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 60, (count, side, side, 3), dtype=np.uint8)
    corners = rng.integers(0, side - 5, (count, 2))
    for image, (row, column) in zip(images, corners, strict=True):
        image[row : row + 5, column : column + 5] = (220, 80, 50)
    return torch.from_numpy(images), torch.from_numpy(2.0 * corners / (side - 6) - 1.0).float()


@pytest.mark.parametrize("pooling", ["embeddings", "softmax"])
def test_an_encoder_learns_where_something_is(pooling):
    images, places = squares(1200)
    encoder = PixelEncoder({"front": (32, 32)}, embedding=16, pooling=pooling)
    head = nn.Linear(16, 2)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=2e-3)
    for step in range(250):
        rows = torch.arange(step * 64, step * 64 + 64) % 1000
        loss = (head(encoder.encode({"front": images[rows]})) - places[rows]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        error = (head(encoder.encode({"front": images[1000:]})) - places[1000:]).abs().mean()
    assert error < 0.12, f"mean error {error:.3f} of a half side"


@pytest.mark.parametrize("pooling", ["embeddings", "softmax"])
def test_embeddings_are_bounded_and_do_not_depend_on_the_batch_or_the_order_of_cameras(pooling):
    encoder = PixelEncoder(SHAPES, embedding=10, pooling=pooling).eval()
    images = draw(5)
    whole = encoder.encode(images)
    assert whole.shape == (5, 10)
    assert encoder.size == 10
    assert whole.abs().max() <= 1.0
    alone = torch.cat([encoder.encode({c: i[k : k + 1] for c, i in images.items()}) for k in range(5)])
    torch.testing.assert_close(alone, whole, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(encoder.encode(dict(reversed(images.items()))), whole)


def test_larger_pictures_are_shrunk_inside():
    encoder = PixelEncoder({"front": (128, 128)}, embedding=8)
    small = PixelEncoder({"front": (64, 64)}, embedding=8)
    small.load_state_dict(encoder.state_dict())
    images = draw(3, {"front": (64, 64)})
    doubled = images["front"].repeat_interleave(2, 1).repeat_interleave(2, 2)
    torch.testing.assert_close(encoder.encode({"front": doubled}), small.encode(images), rtol=1e-4, atol=1e-5)


def test_wrong_pictures_are_named():
    encoder = PixelEncoder(SHAPES)
    images = draw(2)
    with pytest.raises(ValueError, match="no picture of camera 'wrist'; given are front"):
        encoder.encode({"front": images["front"]})
    with pytest.raises(ValueError, match=r"'front' have shape \(32, 32, 3\); expected \(32, 48, 3\)"):
        encoder.encode({"front": images["wrist"], "wrist": images["wrist"]})
    with pytest.raises(ValueError, match="at least one camera"):
        PixelEncoder({})


def make_policy():
    layout = ActionLayout(continuous=(0, 1, 2), grippers=(3,))
    encoder = PixelEncoder(SHAPES, embedding=12)
    return HilPolicy(5, layout, (32, 32), encoder=encoder)


def test_there_is_no_encoder_without_cameras():
    assert make_encoder({}, PixelConfig()) is None
    assert make_encoder({"front": (32, 48, 3)}, PixelConfig(embedding=9)).size == 9


def test_features_are_the_scaled_observation_and_then_the_pictures():
    policy, images, observation = make_policy(), draw(4), torch.randn(4, 5)
    policy.scaler.fit(torch.randn(50, 5) * 3.0 + 1.0, floor=0.2)
    features = policy.look(observation, images)
    assert features.shape == (4, policy.features) == (4, 5 + 12)
    torch.testing.assert_close(features[:, :5], policy.scaler(observation))
    torch.testing.assert_close(features[:, 5:], policy.encoder.encode(images))
    blind = HilPolicy(5, policy.layout, (32, 32))
    assert blind.features == 5 and blind.image_shapes == {}
    assert torch.equal(blind.look(observation), blind.scaler(observation))


def test_the_exported_graph_is_the_policy():
    policy = make_policy().eval()
    session = onnxruntime.InferenceSession(to_onnx(policy, 5), providers=["CPUExecutionProvider"])
    assert {i.name: (i.type, i.shape[1:]) for i in session.get_inputs()} == {
        "observation": ("tensor(float)", [5]),
        "image_front": ("tensor(uint8)", [32, 48, 3]),
        "image_wrist": ("tensor(uint8)", [32, 32, 3]),
    }
    for count in (1, 7):
        images, observation = draw(count, seed=count), torch.randn(count, 5)
        feed = {"observation": observation.numpy(), **{f"image_{c}": i.numpy() for c, i in images.items()}}
        with torch.no_grad():
            expected = policy(observation, images)
        np.testing.assert_allclose(session.run(["action"], feed)[0][:, 0], expected.numpy(), atol=1e-5)


def test_a_network_without_pictures_is_exported_as_before():
    session = onnxruntime.InferenceSession(to_onnx(nn.Linear(5, 2), 5), providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["observation"]
    assert session.run(["action"], {"observation": np.zeros((3, 5), np.float32)})[0].shape == (3, 1, 2)


@pytest.mark.slow
def test_a_bundle_that_sees_runs_as_it_is_from_rendered_pictures(tmp_path):
    import dataclasses

    import policies
    from policies.types import ArmSetpoint, ArmState
    from robot_rl.export import export_bundle
    from robot_rl.hil.plant import SimulatedPlant
    from sim.tasks import TASKS

    task = TASKS["arm-pick-lift"]
    cameras = tuple(dataclasses.replace(camera, width=64, height=48) for camera in task.scene.cameras)
    task = dataclasses.replace(task, scene=dataclasses.replace(task.scene, cameras=cameras), episode_length=1.0)
    plant = SimulatedPlant(task, cameras=("front", "wrist"))
    encoder = PixelEncoder({"front": (48, 64), "wrist": (48, 64)})
    layout = ActionLayout(continuous=(0, 1, 2, 3, 4), grippers=())
    network = HilPolicy(plant.observation_size, layout, (32, 32), encoder=encoder)
    folder = export_bundle(tmp_path / "seeing", "seeing", task, network, {"algorithm": "none"}, {})
    policy = policies.load(folder)
    assert dict(policy.manifest.images) == {"front": (48, 64), "wrist": (48, 64)}
    assert "images" in policy.manifest.robot.signals

    def plain(record):
        values = {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}
        return {k: v.numpy() if isinstance(v, torch.Tensor) else v for k, v in values.items()}

    moment = plant.reset()
    for _ in range(3):
        state = plain(moment.state)
        objects = {name: pose.numpy() for name, pose in state["objects"].items()}
        images = {name: image[None] for name, image in moment.images.items()}
        policy.step(ArmState(**{**state, "objects": objects, "images": images}), ArmSetpoint())
        with torch.no_grad():
            expected = network(
                torch.from_numpy(moment.observation)[None], {c: torch.from_numpy(i) for c, i in images.items()}
            )
        np.testing.assert_allclose(policy.last_action, expected.numpy(), atol=2e-5)
        moment = plant.step(policy.last_action[0]).moment
    plant.close()
