"""The test as a vehicle that speaks topics: torch, ONNX and the policy process say the same, and what goes wrong."""

import json
import signal
import threading
import time

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")
torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from nav_msgs.msg import Odometry  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from sensor_msgs.msg import Imu, JointState  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from std_srvs.srv import SetBool  # noqa: E402

import policies  # noqa: E402
from hardware import setpoints  # noqa: E402
from hardware.descriptions import load_description  # noqa: E402
from hardware.realtime.seqlock import SlotFolder  # noqa: E402
from policies import rotation  # noqa: E402
from policies.actions import ActionConfig  # noqa: E402
from policies.observations import memory_specs, observation_size  # noqa: E402
from policies.terms import TermConfig  # noqa: E402
from policies.types import QuadrotorState  # noqa: E402
from robot_rl.nodes import messages, qos  # noqa: E402
from robot_rl.nodes.process import is_running  # noqa: E402
from robot_rl.planes.quadrotor_client import QuadrotorClient  # noqa: E402

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


class Vehicle:
    """What a vehicle's own node does: `odom` and `imu` 200 times a second, `motor_commands` in."""

    def __init__(self, probe):
        self.probe, self.state, self.spoil = probe, STATE, lambda message: message
        self.commands = []
        self._odom = qos.publisher(probe.node, Odometry, "odom", qos.SENSOR_PUBLISHER)
        self._imu = qos.publisher(probe.node, Imu, "imu", qos.SENSOR_PUBLISHER)
        probe.node.create_subscription(
            JointState, "motor_commands", lambda m: self.commands.append((time.time(), m)), qos.COMMAND_READER
        )
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def begin(self):
        self._thread.start()

    def _run(self):
        while not self._end.wait(0.005):
            now = time.time()
            self._odom.publish(self.spoil(messages.odometry_from_state(self.state, now)))
            self._imu.publish(messages.imu_message(self.state.orientation, np.zeros(3), None, now))

    def close(self):
        self._end.set()
        if self._thread.is_alive():
            self._thread.join()


class Stack:
    """The nodes, the vehicle, and what the processes wrote into memory."""

    def __init__(self, processes, probe, folder):
        self.processes, self.probe = processes, probe
        self.vehicle, self.told = Vehicle(probe), []
        probe.node.create_subscription(
            String, "vehicle/status", lambda m: self.told.append(json.loads(m.data)), qos.STATUS
        )
        self.actions = {}
        """Of the policy's steps by their number, from 1; a busy machine may have missed some."""
        processes.start("supervisor", "driver:=topics", f"policy:={folder}")
        processes.start("topics")
        processes.start("policy", f"policy:={folder}")
        slots = SlotFolder(f"{probe.namespace}.crazyflie").path
        probe.wait(slots.exists, 30.0, "memory")
        self.client = QuadrotorClient(slots)
        probe.wait(self.client.policy, 30.0, "policy process")

    def watch(self, steps):
        """Collect the policy's first steps while the vehicle speaks."""
        deadline = time.monotonic() + 30.0
        while max(self.actions, default=0) < steps:
            if (found := self.client.action()) is not None:
                self.actions[found[0]] = found[1]
            time.sleep(0.001)
            assert time.monotonic() < deadline, f"{len(self.actions)} actions of {steps}"
        self.resets = self.client.policy()["resets"]

    def close(self):
        self.vehicle.close()
        self.client.close()
        return self.processes.end()


@pytest.fixture(scope="module")
def stack(bundle, processes, probe):
    """Supervisor, topics and policy, and the test as the vehicle behind them, in the air, disarmed."""
    running = Stack(processes, probe, bundle[0])
    probe.target = lambda _: setpoints.hover(GOAL, like=GOAL)
    probe.wait(lambda: running.client.read("setpoint"), 20.0, "set-point")
    running.vehicle.begin()
    running.watch(STEPS)
    yield running
    running.close()


@pytest.fixture
def standing(stack):
    """The vehicle stands on the ground, as good as ever, disarmed."""
    probe, vehicle = stack.probe, stack.vehicle
    vehicle.spoil = lambda message: message
    vehicle.state = QuadrotorState(np.zeros(3), np.array([1.0, 0.0, 0.0, 0.0]), np.zeros(3), np.zeros(3))
    probe.call(SetBool, "arm", data=False)
    begin = time.time()
    probe.wait(lambda: probe.state.position[2] == 0.0 and probe.states[-1][0] > begin, 5.0, "odometry")
    deadline = time.monotonic() + 5.0
    while stack.client.status().mode != "disarmed":
        assert time.monotonic() < deadline, stack.client.status()
        probe.trigger("recover")
        time.sleep(0.1)
    return stack


def test_torch_onnx_and_the_process_give_the_same_actions(bundle, stack):
    """Same state, same memory, same normalized action: 1e-5; the topic tells them too."""
    folder, network = bundle
    policy = policies.load(folder, robot=ROBOT)
    goal = setpoints.hover(GOAL, like=GOAL)
    by_runtime, by_torch = [], []
    for _ in range(STEPS):
        policy.step(STATE, goal)
        by_runtime.append(policy.last_action)
        with torch.no_grad():
            by_torch.append(network(torch.as_tensor(policy.last_observation)[None]).numpy()[0, 0])
    seen = [number - 1 for number in sorted(stack.actions) if number <= STEPS]
    actions = np.array([stack.actions[index + 1] for index in seen])
    assert stack.resets == 1 and len(seen) > STEPS / 2
    np.testing.assert_allclose(actions, np.array(by_runtime)[seen], atol=1e-5)
    np.testing.assert_allclose(actions, np.array(by_torch)[seen], atol=1e-5)
    assert np.ptp(actions, axis=0).max() > 1e-2  # memory moves it: equal actions would prove little
    heard = np.array(stack.probe.actions)
    assert np.abs(np.array(by_runtime)[:, None] - heard[None]).max(axis=-1).min() < 1e-5


def test_nothing_is_said_to_motors_that_were_never_seen_at_rest(stack):
    """The vehicle began in the air."""
    assert stack.vehicle.commands == []


def test_commands_go_by_rotor_name(standing):
    """Armed, the vehicle hears what the policy wants, rotor by rotor, with the time of the decision."""
    probe, vehicle, client = standing.probe, standing.vehicle, standing.client
    probe.arm()
    probe.wait(lambda: client.status().mode == "active", 5.0, "active")
    wanted = client.read("command").record["values"]
    probe.wait(lambda: vehicle.commands and any(vehicle.commands[-1][1].velocity), 5.0, "commands")
    came, message = vehicle.commands[-1]
    assert list(message.name) == list(ROBOT.actuators)
    assert 0.0 <= came - messages.to_seconds(message.header.stamp) < 0.2
    assert len(set(np.round(wanted))) == 4, "a policy that treats rotors alike would prove little"
    probe.wait(lambda: np.allclose(vehicle.commands[-1][1].velocity, client.motors().values), 5.0, "the same in memory")
    assert client.motors().mode == "active"
    told = {"driver": "topics", "arming": "done", "armed": True, "following": True, "requests": 0, "problem": ""}
    assert standing.told[-1] == told


def test_a_second_vehicle_is_refused(standing):
    """The first publisher of odometry is kept, and diagnostics name the second."""
    probe = standing.probe
    # Not destroyed afterwards: that would race with the thread that spins the node.
    second = qos.publisher(probe.node, Odometry, "odom", qos.SENSOR_PUBLISHER)
    other = QuadrotorState(np.full(3, 7.0), np.array([1.0, 0.0, 0.0, 0.0]), np.zeros(3), np.zeros(3))
    seen = set()
    for _ in range(100):
        second.publish(messages.odometry_from_state(other, time.time()))
        time.sleep(0.005)
        seen.add(float(standing.client.sample().state.position[0]))
    assert seen == {0.0}
    probe.wait(lambda: "odom: publisher" in probe.diagnostics["topics"][1]["last refused"], 3.0, "refusal")
    assert "is a second one" in probe.diagnostics["topics"][1]["last refused"]
    assert standing.client.vehicle()["problem"] == ""


def test_odometry_in_another_frame_is_refused_in_words(standing):
    """Whoever asks to arm learns them, although the inertial sensor goes on."""
    probe, vehicle = standing.probe, standing.vehicle

    def elsewhere(message):
        message.header.frame_id = "map"
        return message

    vehicle.spoil = elsewhere
    words = "odometry has frames 'map' and 'base_link', expected 'odom'"
    probe.wait(lambda: words in standing.client.vehicle()["problem"], 3.0, words)
    probe.wait(lambda: words in standing.told[-1]["problem"], 3.0, "vehicle/status")
    found = {standing.client.vehicle()["problem"] for _ in range(100) if not time.sleep(0.005)}
    assert len(found) == 1, "the words come and go"
    refused = probe.call(SetBool, "arm", data=True)
    assert not refused.success and "state is" in refused.message
    vehicle.spoil = lambda message: message
    probe.wait(lambda: standing.client.vehicle()["problem"] == "", 3.0, "good odometry")


def test_odometry_that_is_no_number_reaches_neither_policy_nor_motors(standing):
    """No step is computed on it; the supervisor levels, then has the motors off."""
    probe, vehicle, client = standing.probe, standing.vehicle, standing.client

    def spoiled(message):
        message.pose.pose.position.y = float("nan")
        return message

    probe.arm()
    begin = time.time()
    vehicle.spoil = spoiled
    words = "last one refused: state has non-finite position"  # the good one before is flown on while it is young
    probe.wait(lambda: words in client.policy()["reason"], 3.0, words)
    number = client.action()[0]
    time.sleep(0.3)
    assert client.action()[0] == number
    probe.wait_mode("level", 3.0, since=begin)
    probe.wait_mode("fault", 5.0, since=begin)
    assert np.all(np.isfinite([list(message.velocity) for _, message in vehicle.commands]))
    assert np.all(np.isfinite(probe.actions))


def test_a_frozen_topics_node_is_an_old_state(standing):
    """The supervisor sees its age; nothing is repeated to the vehicle meanwhile."""
    probe, vehicle = standing.probe, standing.vehicle
    probe.arm()
    begin = time.time()
    standing.processes.signal("topics", signal.SIGSTOP)
    probe.wait_mode("level", 3.0, since=begin)
    count = len(vehicle.commands)
    time.sleep(0.2)
    assert len(vehicle.commands) == count
    standing.processes.signal("topics", signal.SIGCONT)


def test_commands_stop_with_the_supervisor(standing):
    """Killed in flight: the vehicle hears nothing more, and a new supervisor finds it as it is."""
    probe, vehicle, processes = standing.probe, standing.vehicle, standing.processes
    probe.arm()
    probe.wait(lambda: standing.client.status().mode == "active", 5.0, "active")
    control = processes.plane("supervisor")
    processes.kill("supervisor")
    end = time.time()
    while is_running(control):
        assert time.time() < end + 3.0
        time.sleep(0.01)
    time.sleep(0.5)
    assert max(came for came, _ in vehicle.commands) < end + 0.2
    assert set(standing.close().values()) == {0}
    for name in ("topics", "policy", "supervisor"):
        assert "Traceback" not in processes.log(name)
    assert not standing.client.folder.exists()
