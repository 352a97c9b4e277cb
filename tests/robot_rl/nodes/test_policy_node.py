"""The policy node alone, with the test as the robot: torch, ONNX and the node say the same."""

import time

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")
torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from nav_msgs.msg import Odometry  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

import policies  # noqa: E402
from hardware import setpoints  # noqa: E402
from hardware.descriptions import load_description  # noqa: E402
from policies import rotation  # noqa: E402
from policies.actions import ActionConfig  # noqa: E402
from policies.observations import memory_specs, observation_size  # noqa: E402
from policies.terms import TermConfig  # noqa: E402
from policies.types import QuadrotorState  # noqa: E402
from robot_rl.nodes import messages, qos  # noqa: E402

STEPS = 40
STATE = QuadrotorState(
    position=np.array([0.1, -0.2, 0.9]),
    orientation=rotation.from_rotation_vector(np.array([0.2, -0.1, 0.4])),
    linear_velocity=np.array([0.3, 0.2, -0.1]),
    angular_velocity=np.array([0.1, -0.2, 0.3]),
)
GOAL = np.array([0.0, 0.0, 1.0])
ROBOT = load_description("crazyflie").interface
TERMS = (
    TermConfig(name="position_error", parameters={"limit": 1.0}),
    TermConfig(name="up_direction"),
    TermConfig(name="angular_velocity", parameters={"scale": 0.1}),
    TermConfig(name="position_error_integral", parameters={"limit": 1.0, "clip": 0.5, "scale": 2.0}),
    TermConfig(name="action_history", parameters={"length": 3, "size": 4, "initial": 0.25}),
)


def random_network(size):
    """A torch network, and the same as an ONNX model by the helpers alone."""
    generator = torch.Generator().manual_seed(0)
    first, second = torch.nn.Linear(size, 32), torch.nn.Linear(32, 4)
    with torch.no_grad():
        for parameter in (*first.parameters(), *second.parameters()):
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    network = torch.nn.Sequential(first, torch.nn.Tanh(), second, torch.nn.Tanh(), torch.nn.Unflatten(1, (1, 4)))
    constants = {
        "w1": first.weight.detach().numpy(),
        "b1": first.bias.detach().numpy(),
        "w2": second.weight.detach().numpy(),
        "b2": second.bias.detach().numpy(),
        "shape": np.array([-1, 1, 4]),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["observation", "w1", "b1"], ["h"], transB=1),
            helper.make_node("Tanh", ["h"], ["hidden"]),
            helper.make_node("Gemm", ["hidden", "w2", "b2"], ["o"], transB=1),
            helper.make_node("Tanh", ["o"], ["flat"]),
            helper.make_node("Reshape", ["flat", "shape"], ["action"]),
        ],
        "random",
        [helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["N", size])],
        [helper.make_tensor_value_info("action", TensorProto.FLOAT, ["N", 1, 4])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return network, model.SerializeToString()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """(folder, torch network) of a random policy with memory."""
    size = observation_size(TERMS)
    network, model = random_network(size)
    inputs = np.random.default_rng(0).standard_normal((64, size)).astype(np.float32)
    manifest = policies.Manifest(
        schema_version=1,
        name="random",
        task="quadrotor-hover",
        robot=policies.RobotRequirement(
            name="crazyflie",
            kind="quadrotor",
            actuators=ROBOT.actuators,
            signals=("position", "orientation", "linear_velocity", "angular_velocity"),
            command="motor_speeds",
        ),
        control_rate_hz=100.0,
        observation=TERMS,
        observation_size=size,
        action=ActionConfig(name="motor_speeds", parameters={"low": 0.0, "high": 2000.0}),
        action_size=4,
        memory=memory_specs(TERMS),
        envelope=policies.Envelope(
            geofence=((-3.0, 3.0), (-3.0, 3.0), (-0.2, 3.0)),
            max_tilt=2.1,
            tumble_time=0.5,
            max_speed=5.0,
            state_age=(0.1, 0.5, 2.0),
            command_age_periods=3.0,
        ),
        training={},
        evaluation={},
        files={},
    )
    with torch.no_grad():
        expected = network(torch.as_tensor(inputs)).numpy()
    folder = tmp_path_factory.mktemp("bundles") / "random"
    return policies.write_bundle(folder, manifest, model, inputs, expected, "# Random weights\n"), network


@pytest.fixture
def actions(bundle, processes, probe):
    """First normalized actions of the node for an unchanging state, from fresh memory."""
    probe.actions.clear()
    process = processes.start("policy", f"policy:={bundle[0]}")
    publisher = qos.publisher(probe.node, Odometry, "odom", qos.SENSOR_PUBLISHER)
    probe.target = lambda _: setpoints.hover(GOAL, like=GOAL)
    probe.wait(lambda: publisher.get_subscription_count() > 1, 30.0, "policy node")  # the probe listens too
    probe.wait(lambda: probe.setpoint.get_subscription_count(), 10.0, "policy node")
    time.sleep(0.3)  # the set-point is there
    deadline = time.monotonic() + 20.0
    while len(probe.actions) < STEPS:
        publisher.publish(messages.odometry_from_state(STATE, time.time()))
        time.sleep(0.004)
        assert time.monotonic() < deadline, f"{len(probe.actions)} actions of {STEPS}"
    probe.target = None
    probe.node.destroy_publisher(publisher)
    process.terminate()
    assert process.wait(8.0) == 0
    processes.running.pop("policy")
    return np.array(probe.actions[:STEPS])


def test_torch_onnx_and_the_node_give_the_same_actions(bundle, actions):
    """Same state, same memory, same normalized action: 1e-5."""
    folder, network = bundle
    policy = policies.load(folder, robot=ROBOT)
    goal = setpoints.hover(GOAL, like=GOAL)
    by_runtime, by_torch = [], []
    for _ in range(STEPS):
        policy.step(STATE, goal)
        by_runtime.append(policy.last_action)
        with torch.no_grad():
            by_torch.append(network(torch.as_tensor(policy.last_observation)[None]).numpy()[0, 0])
    np.testing.assert_allclose(actions, by_runtime, atol=1e-5)
    np.testing.assert_allclose(actions, by_torch, atol=1e-5)
    assert np.ptp(actions, axis=0).max() > 1e-2  # memory moves it: equal actions would prove little
