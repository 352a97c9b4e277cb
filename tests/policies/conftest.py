"""A small sound bundle, written with the onnx helpers alone, that tests may break."""

import hashlib
import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from policies import Envelope, Manifest, RobotInterface, RobotRequirement, write_bundle
from policies.actions import ActionConfig
from policies.observations import memory_specs, observation_size
from policies.terms import TermConfig

MOTORS = ("front_right", "back_right", "back_left", "front_left")
SIGNALS = ("position", "orientation", "linear_velocity", "angular_velocity")
TERMS = (
    TermConfig(name="position_error", parameters={"limit": 1.0}),
    TermConfig(name="up_direction"),
    TermConfig(name="angular_velocity", parameters={"scale": 0.1}),
    TermConfig(name="position_error_integral", parameters={"limit": 1.0, "clip": 0.5, "scale": 2.0}),
    TermConfig(name="action_history", parameters={"length": 3, "size": 4, "initial": 0.25}),
)
SIZE = observation_size(TERMS)


class BundleMaker:
    """Parts of a bundle, so that a test can change one and write the rest as it is."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.weights = (0.3 * rng.standard_normal((SIZE, 4))).astype(np.float32)
        self.bias = np.array([0.1, -0.2, 0.0, 0.3], np.float32)
        self.inputs = rng.standard_normal((64, SIZE)).astype(np.float32)
        self.manifest = Manifest(
            schema_version=1,
            name="tiny",
            task="quadrotor-hover",
            robot=RobotRequirement(
                name="crazyflie", kind="quadrotor", actuators=MOTORS, signals=SIGNALS, command="motor_speeds"
            ),
            control_rate_hz=100.0,
            observation=TERMS,
            observation_size=SIZE,
            action=ActionConfig(name="motor_speeds", parameters={"low": 0.0, "high": 2000.0}),
            action_size=4,
            memory=memory_specs(TERMS),
            envelope=Envelope(
                geofence=((-3.0, 3.0), (-3.0, 3.0), (-0.2, 3.0)),
                max_tilt=2.1,
                tumble_time=0.5,
                max_speed=5.0,
                state_age=(0.1, 0.5, 2.0),
                command_age_periods=3.0,
            ),
            training={"algorithm": "none", "seed": 0, "versions": {"robot_rl": "0"}},
            evaluation={"crash_rate": 0.0, "episodes": 1},
            files={},
        )

    def network(self, weights=None, bias=None, squash=True, input_name="observation", output_name="action"):
        """ONNX model (N, D) → (N, 1, 4): one dense layer and a tanh."""
        weights = self.weights if weights is None else weights
        bias = self.bias if bias is None else bias
        nodes = [
            helper.make_node("Gemm", [input_name, "weights", "bias"], ["sum"]),
            helper.make_node("Tanh" if squash else "Identity", ["sum"], ["flat"]),
            helper.make_node("Unsqueeze", ["flat", "axis"], [output_name]),
        ]
        graph = helper.make_graph(
            nodes,
            "tiny",
            [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, ["N", len(weights)])],
            [helper.make_tensor_value_info(output_name, TensorProto.FLOAT, ["N", 1, len(bias)])],
            [
                numpy_helper.from_array(weights, "weights"),
                numpy_helper.from_array(bias, "bias"),
                numpy_helper.from_array(np.array([1], np.int64), "axis"),
            ],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        return model.SerializeToString()

    def expected(self, inputs=None):
        """What the network says, in numpy: (K, 1, 4)."""
        inputs = self.inputs if inputs is None else inputs
        return np.tanh(inputs @ self.weights + self.bias)[:, None]

    def write(self, folder, **changes):
        """Write the bundle through the public function, with some of its arguments changed."""
        arguments = {
            "contents": self.manifest,
            "network": self.network(),
            "inputs": self.inputs,
            "expected": self.expected(),
            "card": "# tiny\n",
        }
        return write_bundle(folder, **{**arguments, **changes})


def edit_manifest(folder, edit):
    """Change the manifest's JSON in place."""
    path = folder / "manifest.json"
    data = json.loads(path.read_text())
    edit(data)
    path.write_text(json.dumps(data))


def replace_file(folder, name, content):
    """Replace a file and its checksum: what a person does who edits a bundle by hand, or with intent."""
    (folder / name).write_bytes(content)
    checksum = hashlib.sha256(content).hexdigest()
    edit_manifest(folder, lambda data: data["files"].update({name: checksum}))


@pytest.fixture
def maker():
    return BundleMaker()


@pytest.fixture
def bundle(maker, tmp_path):
    """Folder of a sound bundle."""
    return maker.write(tmp_path / "tiny")


@pytest.fixture
def edit():
    return edit_manifest


@pytest.fixture
def replace():
    return replace_file


@pytest.fixture
def robot():
    return RobotInterface(
        name="crazyflie",
        kind="quadrotor",
        actuators=MOTORS,
        limits={"speed": ((0.0, 2000.0),) * 4},
        state_rate_hz=100.0,
        command_rate_hz=500.0,
        signals=SIGNALS,
        commands=("motor_speeds",),
    )
