"""Bundles of random networks whose observations have every term."""

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import policies
from hardware.descriptions import load_description
from policies.actions import ActionConfig, action_size
from policies.manifest import SCHEMA_VERSION, Envelope, Manifest, RobotRequirement
from policies.observations import memory_specs, needed_signals, observation_size
from policies.terms import TermConfig

QUADROTOR = (
    TermConfig(name="up_direction"),
    TermConfig(name="position_error", parameters={"limit": 1.0}),
    TermConfig(name="yaw_error", parameters={"limit": 2.0}),
    TermConfig(name="linear_velocity_error", parameters={"limit": 4.0, "scale": 0.5}),
    TermConfig(name="angular_velocity", parameters={"scale": 0.1}),
    TermConfig(name="angular_velocity_history", parameters={"length": 3, "scale": 0.1}),
    TermConfig(name="setpoint_acceleration", parameters={"scale": 0.1}),
    TermConfig(name="position_error_integral", parameters={"limit": 1.0, "clip": 0.5, "scale": 2.0}),
    TermConfig(name="action_history", parameters={"length": 3, "size": 4, "initial": 0.25}),
)
DIFFERENCE = {"of": "red cube", "origin": "tool", "scale": 3.0, "limit": 2.0}
ARM = (
    TermConfig(name="joint_positions", parameters={"joints": 7, "scale": 0.5}),
    TermConfig(name="joint_velocities", parameters={"joints": 7, "scale": 0.5}),
    TermConfig(name="position", parameters={"of": "tool", "x": 0.5, "y": 0.1, "z": 0.2, "scale": 2.0}),
    TermConfig(name="relative_pose", parameters={"scale": 5.0, "limit": 2.0}),
    TermConfig(name="orientation", parameters={"of": "red cube"}),
    TermConfig(name="position_difference", parameters=DIFFERENCE),
    TermConfig(name="position_difference", parameters={**DIFFERENCE, "of": "goal", "frame": "tool"}),
    TermConfig(name="rotation_difference", parameters=DIFFERENCE),
    TermConfig(name="rotation_difference", parameters={**DIFFERENCE, "frame": "tool"}),
    TermConfig(name="behind_difference", parameters={"of": "red cube", "offset": 0.05, "scale": 8.0, "limit": 4.0}),
    TermConfig(name="tool_twist", parameters={"linear": 2.0, "angular": 0.5, "frame": "tool"}),
    TermConfig(name="gripper_width", parameters={"scale": 12.5}),
    TermConfig(name="wrench", parameters={"force": 0.05, "torque": 0.5, "limit": 1.0}),
    TermConfig(name="action_history", parameters={"length": 1, "size": 5, "initial": 0.0}),
)
MOTORS = ActionConfig(name="motor_speeds", parameters={"low": 100.0, "high": 2200.0})
TWIST = ActionConfig(
    name="cartesian_twist", parameters={"axes": "x y z rz gripper", "linear": 0.3, "angular": 1.5, "frame": "tool"}
)
ENVELOPE = Envelope(
    geofence=((-3.0, 3.0), (-3.0, 3.0), (-0.2, 3.0)), max_tilt=2.0, tumble_time=0.5, max_speed=5.0,
    state_age=(0.1, 0.5, 2.0), command_age_periods=3.0,
)  # fmt: skip


def dense(nodes, constants, rng, given, name, inputs, outputs):
    """Append a layer to a graph; returns the name of its result."""
    constants[f"{name}_w"] = (rng.standard_normal((outputs, inputs)) / np.sqrt(inputs)).astype(np.float32)
    constants[f"{name}_b"] = (0.1 * rng.standard_normal(outputs)).astype(np.float32)
    nodes.append(helper.make_node("Gemm", [given, f"{name}_w", f"{name}_b"], [name], transB=1))
    return name


def random_network(size, actions, middle=(), extra=None):
    """ONNX bytes: dense, the `middle` nodes from h to m (both (N, 24)), dense, tanh, unsqueeze."""
    rng = np.random.default_rng(0)
    nodes, constants = [], {"one": np.array([1]), **(extra or {})}
    dense(nodes, constants, rng, "observation", "h", size, 24)
    nodes += list(middle) or [helper.make_node("Tanh", ["h"], ["m"])]
    dense(nodes, constants, rng, "m", "o", 24, actions)
    nodes += [helper.make_node("Tanh", ["o"], ["flat"]), helper.make_node("Unsqueeze", ["flat", "one"], ["action"])]
    graph = helper.make_graph(
        nodes,
        "random",
        [helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["N", size])],
        [helper.make_tensor_value_info("action", TensorProto.FLOAT, ["N", 1, actions])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=8).SerializeToString()


def make_bundle(folder, terms, action, middle=(), extra=None, rate=50.0):
    """Write a bundle of a random network into `folder` and return it."""
    size, actions = observation_size(terms), action_size(action)
    model = random_network(size, actions, middle, extra)
    inputs = np.random.default_rng(1).standard_normal((64, size)).astype(np.float32)
    expected = onnxruntime.InferenceSession(model).run(["action"], {"observation": inputs})[0]
    robot = load_description("crazyflie" if action is MOTORS else "panda").interface
    manifest = Manifest(
        schema_version=SCHEMA_VERSION, name="random", task="test",
        robot=RobotRequirement(name=robot.name, kind=robot.kind, actuators=robot.actuators,
                               signals=needed_signals(terms), command=action.name),
        control_rate_hz=rate, observation=terms, observation_size=size, action=action, action_size=actions,
        memory=memory_specs(terms), envelope=ENVELOPE, training={}, evaluation={}, files={},
    )  # fmt: skip
    return policies.write_bundle(folder, manifest, model, inputs, expected, "")
