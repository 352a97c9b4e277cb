"""Policies that see pictures: stored, replayed and fed like observations, and refused where they do not fit."""

import dataclasses
import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import policies
from policies import BundleError, check_bundle, manifest
from policies.actions import ActionConfig
from policies.observations import memory_specs, observation_size
from policies.pictures import View
from policies.terms import TermConfig
from policies.types import ArmSetpoint, ArmState

TERMS = (TermConfig(name="gripper_width", parameters={"scale": 10.0}),)
ACTION = ActionConfig(
    name="cartesian_twist", parameters={"axes": "x y z rz gripper", "linear": 0.3, "angular": 1.5}
)  # fmt: skip
SHAPES = {"front": (4, 6), "wrist": (3, 3)}
COUNT = 64


def network(cameras=tuple(SHAPES)):
    """action = tanh(observation + Σ mean of each camera's picture / 255), the same for all five elements."""
    nodes, total = [], "observation"
    inputs = [helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["N", observation_size(TERMS)])]
    for camera in cameras:
        shape = ["N", *SHAPES[camera], 3]
        inputs.append(helper.make_tensor_value_info(f"image_{camera}", TensorProto.UINT8, shape))
        nodes += [
            helper.make_node("Cast", [f"image_{camera}"], [f"float_{camera}"], to=TensorProto.FLOAT),
            helper.make_node("Flatten", [f"float_{camera}"], [f"flat_{camera}"]),
            helper.make_node("ReduceMean", [f"flat_{camera}"], [f"mean_{camera}"], axes=[1]),
            helper.make_node("Div", [f"mean_{camera}", "white"], [f"share_{camera}"]),
            helper.make_node("Add", [total, f"share_{camera}"], [f"sum_{camera}"]),
        ]
        total = f"sum_{camera}"
    nodes += [
        helper.make_node("Tanh", [total], ["one"]),
        helper.make_node("Concat", ["one"] * 5, ["five"], axis=1),
        helper.make_node("Unsqueeze", ["five", "axis"], ["action"]),
    ]
    constants = [
        numpy_helper.from_array(np.float32(255.0), "white"),
        numpy_helper.from_array(np.array([1], np.int64), "axis"),
    ]
    output = helper.make_tensor_value_info("action", TensorProto.FLOAT, ["N", 1, 5])
    graph = helper.make_graph(nodes, "seeing", inputs, [output], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def answer(observation, images):
    total = observation + sum(i.reshape(len(i), -1).mean(1, keepdims=True) / 255.0 for i in images.values())
    return np.repeat(np.tanh(total), 5, axis=1)


def draw(count, seed=0):
    rng = np.random.default_rng(seed)
    images = {c: rng.integers(0, 256, (count, *shape, 3), dtype=np.uint8) for c, shape in SHAPES.items()}
    return rng.uniform(-0.5, 0.5, (count, 1)).astype(np.float32), images


def state(width, images):
    batch = np.shape(width)
    zero = np.zeros((*batch, 7), np.float32)
    return ArmState(
        joint_positions=zero, joint_velocities=zero, tool_pose=zero, tool_twist=zero[..., :6],
        gripper_width=width, images=images,
    )  # fmt: skip


@pytest.fixture
def contents(maker):
    robot = dataclasses.replace(
        maker.manifest.robot, name="panda", kind="arm", signals=("gripper_width", "images"), command=ACTION.name
    )
    return dataclasses.replace(
        maker.manifest, name="seeing", task="arm-pick-lift", robot=robot, observation=TERMS, images=SHAPES,
        observation_size=observation_size(TERMS), action=ACTION, action_size=5, memory=memory_specs(TERMS),
    )  # fmt: skip


@pytest.fixture
def write(contents, tmp_path):
    def written(contents=contents, model=None, **changes):
        inputs, images = draw(COUNT)
        expected = answer(inputs, images)[:, None].astype(np.float32)
        stored = {**images, **changes}
        model = network() if model is None else model
        return policies.write_bundle(tmp_path / "seeing", contents, model, inputs, expected, "# seeing\n", stored)

    return written


def test_pictures_reach_the_network(write):
    policy = policies.load(write())
    assert dict(policy.manifest.images) == SHAPES
    inputs, images = draw(3, seed=1)
    for row in range(3):
        policy.reset()
        policy.step(state(inputs[row, 0] / 10.0, {c: i[row] for c, i in images.items()}), ArmSetpoint())
        np.testing.assert_allclose(policy.last_action, answer(inputs, images)[row], atol=1e-6)


def test_a_batch_and_several_arms_with_a_camera_each(write):
    policy = policies.load(write())
    inputs, images = draw(5, seed=2)
    policy.step(state(inputs[:, 0] / 10.0, images), ArmSetpoint())
    np.testing.assert_allclose(policy.last_action, answer(inputs, images), atol=1e-6)
    arms = {name: state(inputs[:, 0], {camera: images[camera]}) for name, camera in zip("lr", SHAPES, strict=True)}
    found = policy._images(arms)
    assert {name: image.shape for name, image in found.items()} == {
        "image_front": (5, 4, 6, 3),
        "image_wrist": (5, 3, 3, 3),
    }


def test_pictures_that_do_not_fit_are_refused_before_anything_changes(write):
    policy = policies.load(write())
    inputs, images = draw(1)
    one = {camera: image[0] for camera, image in images.items()}
    width = inputs[0, 0]
    with pytest.raises(ValueError, match="no picture of camera 'wrist'; it has front"):
        policy.step(state(width, {"front": one["front"]}), ArmSetpoint())
    with pytest.raises(ValueError, match=r"'wrist' is uint8 of shape \(4, 6, 3\); expected uint8 \(3, 3, 3\)"):
        policy.step(state(width, {"front": one["front"], "wrist": one["front"]}), ArmSetpoint())
    with pytest.raises(ValueError, match="'front' is float32"):
        policy.step(state(width, {**one, "front": one["front"].astype(np.float32)}), ArmSetpoint())
    assert policy.last_action is None


def test_a_bundle_whose_pictures_do_not_fit_its_network_is_refused(write, contents):
    with pytest.raises(BundleError, match="image_wrist is uint8 of shape"):
        write(wrist=np.zeros((COUNT, 3, 4, 3), np.uint8))
    with pytest.raises(BundleError, match="differs from its stored actions"):
        write(wrist=np.zeros((COUNT, 3, 3, 3), np.uint8))
    with pytest.raises(
        BundleError,
        match=r"inputs \['image_front', 'observation'\] and outputs \['action'\]; expected 'observation', 'image_wr",
    ):
        write(model=network(cameras=("front",)))
    with pytest.raises(BundleError, match="inputs"):
        write(dataclasses.replace(contents, images={"front": (4, 6)}))
    blind = dataclasses.replace(contents.robot, signals=("gripper_width",))
    with pytest.raises(BundleError, match="robot.signals lacks images, but the network sees front, wrist"):
        write(dataclasses.replace(contents, robot=blind))


def test_a_robot_without_cameras_is_refused(write, contents):
    robot = policies.RobotInterface(
        name="blind", kind="arm", actuators=contents.robot.actuators, limits={}, state_rate_hz=100.0,
        command_rate_hz=500.0, signals=("gripper_width",), commands=(ACTION.name,),
    )  # fmt: skip
    assert check_bundle(write(), robot) == ["robot 'blind' does not measure 'images', which the observation reads"]


def test_the_manifest_survives_the_round_trip_and_names_no_pictures_without_any(write, maker, tmp_path):
    data = json.loads((write() / "manifest.json").read_text())
    assert data["images"] == {"front": [4, 6], "wrist": [3, 3]}
    assert json.loads(manifest.to_json(manifest.from_json(data))) == data
    assert "images" not in json.loads((maker.write(tmp_path / "tiny") / "manifest.json").read_text())
    assert "views" not in data
    wrist = {"rectify": True, "crop": [0.0, 0.25, 1.0, 0.5]}
    data["views"] = {"front": {"pinhole": [5.0, 5.0, 2.5, 1.5]}, "wrist": wrist}
    read = manifest.from_json(data)
    assert read.views["wrist"] == View(rectify=True, crop=(0.0, 0.25, 1.0, 0.5))
    assert manifest.from_json(json.loads(manifest.to_json(read))) == read
    data["views"] = {"back": {}, "front": {"crop": [0.5, 0.0, 0.75, 1.0]}}
    problems = manifest.schema_violations(data)
    assert len(problems) == 2
    assert "views.back: the network sees no picture of that camera" in problems[0]
    assert "views.front: view: crop" in problems[1]
    del data["views"]
    data["images"]["front"] = [4, 0]
    assert manifest.schema_violations(data) == ["manifest.json: images.front.1: 0 is less than the minimum of 1"]
