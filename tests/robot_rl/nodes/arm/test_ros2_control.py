"""The driver of arms under ros2_control: a stand-in of its controllers on one side, the driver on the other."""

import importlib.util
import os
import subprocess
import sys
import threading
import time
from contextlib import closing

import numpy as np
import pytest

pytest.importorskip("rclpy")

from arm_probe import ArmProbe  # noqa: E402
from bridging import bridged, start_bridge  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402
from std_msgs.msg import Float64MultiArray  # noqa: E402
from trajectory_msgs.msg import JointTrajectory  # noqa: E402

from hardware.descriptions import load_arm  # noqa: E402
from hardware.drivers.driver import DriverError  # noqa: E402
from hardware.drivers.registry import DRIVERS  # noqa: E402
from hardware.realtime.seqlock import SlotFolder  # noqa: E402
from policies.types import CartesianTwist, JointPositions, JointTorques  # noqa: E402
from robot_rl.nodes.messages import to_stamp  # noqa: E402
from robot_rl.planes.client import PlanesClient  # noqa: E402
from robot_rl.planes.settings import ControlConfig  # noqa: E402
from robot_rl.rebuild import to_json  # noqa: E402
from robot_rl.ros2_control import open_driver  # noqa: E402

ARM = load_arm("ur5e")
NAMES = ARM.interface.actuators
SHUFFLED = [NAMES[k] for k in (3, 0, 5, 1, 4, 2)]


class Controllers:
    """What a robot with a joint_state_broadcaster and a position controller says and does, 100 times a second."""

    def __init__(self, probe):
        self.probe = probe
        self.positions = dict(zip(NAMES, ARM.home.tolist(), strict=True))
        self.names, self.silent = [*SHUFFLED, "robotiq_joint"], False
        self.commands, self.trajectories = [], []
        self.out = probe.node.create_publisher(JointState, "joint_states", 10)
        probe.node.create_subscription(Float64MultiArray, "commands", self.follow, 10)
        probe.node.create_subscription(JointTrajectory, "trajectory", self.follow_trajectory, 10)
        self.timer = probe.node.create_timer(0.01, self.tell)
        self.lock = threading.Lock()

    def tell(self):
        if self.silent:
            return
        message = JointState(name=self.names, position=[self.positions.get(name, 0.0) for name in self.names])
        message.velocity = [0.0] * len(self.names)
        message.header.stamp = to_stamp(time.time())
        self.out.publish(message)

    def follow(self, message):
        self.commands.append((time.monotonic(), list(message.data)))
        self.positions = dict(zip(SHUFFLED, message.data, strict=True))

    def follow_trajectory(self, message):
        self.trajectories.append(message)
        self.positions = dict(zip(message.joint_names, message.points[0].positions, strict=True))


@pytest.fixture(scope="module")
def robot(domain):
    probe = ArmProbe(domain, f"bridge{os.getpid()}")
    yield Controllers(probe)
    probe.close()


@pytest.fixture
def driver(robot, processes):
    """The driver, connected through a node whose forward controller has the joints in an order of its own."""
    yield from connect(robot, processes, "controller:=forward", "command_topic:=commands",
                       f"command_joints:=[{', '.join(SHUFFLED)}]")  # fmt: skip


@pytest.fixture
def trajectory_driver(robot, processes):
    """The same with a trajectory controller."""
    yield from connect(robot, processes, "controller:=trajectory", "command_topic:=trajectory")


def connect(robot, processes, *parameters):
    robot.silent, robot.names = False, [*SHUFFLED, "robotiq_joint"]
    robot.positions = dict(zip(NAMES, ARM.home.tolist(), strict=True))
    with bridged(processes, robot.probe.namespace, ARM, *parameters) as driver:
        yield driver


def test_positions_go_by_name_and_come_back(robot, driver):
    sample = driver.read()
    np.testing.assert_allclose(sample.joint_positions, ARM.home, atol=1e-12)
    wanted = ARM.home + np.linspace(0.01, 0.06, 6)
    end = time.monotonic() + 10.0
    while np.abs(driver.read().joint_positions - wanted).max() > 1e-6:
        assert time.monotonic() < end, driver.read()
        driver.write(JointPositions(values=wanted, gripper=np.asarray(0.0)))
        time.sleep(0.01)
    assert [robot.positions[name] for name in NAMES] == pytest.approx(wanted.tolist())
    assert driver.capabilities.rate_hz == 100.0 and not driver.capabilities.simulated
    with pytest.raises(DriverError, match="takes JointPositions, not JointTorques"):
        driver.write(JointTorques(values=np.zeros(6), gripper=np.asarray(0.0)))
    with pytest.raises(DriverError):
        driver.write(JointPositions(values=np.full(6, np.nan), gripper=np.asarray(0.0)))


def test_its_rate_is_what_it_says(robot, driver):
    """Within a factor of two on a machine that does other work; the figures are printed."""
    ages, begin, count = [], time.monotonic(), len(robot.commands)
    while time.monotonic() - begin < 3.0:
        driver.write(JointPositions(values=ARM.home, gripper=np.asarray(0.0)))
        ages.append(time.monotonic() - driver.read().stamp)
        time.sleep(0.01)
    rate = (len(robot.commands) - count) / (time.monotonic() - begin)
    print(f"commands {rate:.0f} Hz; state age p50 {1e3 * np.median(ages):.1f} ms, "
          f"p99 {1e3 * np.percentile(ages, 99):.1f} ms")  # fmt: skip
    assert rate > 40.0
    assert np.median(ages) < 0.05


def test_stop_stands_and_silence_sends_nothing(robot, driver):
    for step in range(30):
        driver.write(JointPositions(values=ARM.home + 0.001 * step, gripper=np.asarray(0.0)))
        time.sleep(0.01)
    driver.stop()
    time.sleep(0.3)
    count, last = len(robot.commands), robot.commands[-1][1]
    np.testing.assert_allclose(sorted(last), sorted(robot.positions.values()))
    time.sleep(0.3)
    assert len(robot.commands) == count
    robot.silent = True
    time.sleep(0.3)
    assert time.monotonic() - driver.read().stamp > 0.2  # the control process sees its age and stops


def test_a_missing_joint_is_no_state(robot, driver):
    robot.names = SHUFFLED[1:]
    time.sleep(0.3)
    assert time.monotonic() - driver.read().stamp > 0.15
    _, summary, values = robot.probe.wait(
        lambda: (found := robot.probe.diagnostics.get("ros2_control")) and found[2]["last refused"] and found,
        5.0,
        "refusal",
    )
    assert values["last refused"].startswith(f"joint_states has no joint {SHUFFLED[0]}")


def test_a_trajectory_names_its_joints(robot, trajectory_driver):
    wanted = ARM.home + 0.02
    end = time.monotonic() + 10.0
    while np.abs(trajectory_driver.read().joint_positions - wanted).max() > 1e-6:
        assert time.monotonic() < end
        trajectory_driver.write(JointPositions(values=wanted, gripper=np.asarray(0.0)))
        time.sleep(0.01)
    message = robot.trajectories[-1]
    assert list(message.joint_names) == list(NAMES)
    ahead = message.points[0].time_from_start
    assert ahead.sec == 0 and ahead.nanosec == 20_000_000


def test_joints_in_no_order_are_refused(processes):
    process = processes.start("ros2_control", "robot:=ur5e", "command_joints:=[elbow_joint]")
    assert process.wait(60.0) == 1
    assert "command_joints is elbow_joint; expected each of shoulder_pan_joint" in processes.log("ros2_control")


@pytest.mark.skipif(importlib.util.find_spec("control_msgs") is not None, reason="control_msgs is installed")
def test_the_action_without_its_type_is_one_sentence(processes):
    process = processes.start("ros2_control", "robot:=ur5e", "controller:=action")
    assert process.wait(60.0) == 1
    log = processes.log("ros2_control")
    assert "control_msgs is not installed" in log and "controller:=trajectory" in log and "Traceback" not in log


def test_no_node_is_one_sentence(tmp_path):
    with SlotFolder(f"nobody{os.getpid()}") as slots:
        driver = open_driver(ARM, {"folder": str(slots.path), "timeout": "0.1"})
        with pytest.raises(DriverError, match="no joint states within 0.1 s; does the node ros2_control run"):
            driver.connect()


@pytest.mark.skipif("ros2_control" not in DRIVERS, reason="the registry does not know the driver")
@pytest.mark.slow
def test_a_person_moves_the_arm_through_the_control_process(robot, processes, environment):
    """Twists move the tool; it holds without them; without joint states it stops, and says why."""
    robot.silent, robot.names = False, list(SHUFFLED)
    robot.positions = dict(zip(NAMES, ARM.home.tolist(), strict=True))
    namespace = robot.probe.namespace
    with SlotFolder(f"{namespace}.ur5e") as slots, closing(PlanesClient(slots.path, 6)) as client:
        order = f"command_joints:=[{', '.join(SHUFFLED)}]"
        start_bridge(processes, namespace, "command_topic:=commands", order)
        config = ControlConfig(
            folder=str(slots.path), robot="ur5e", driver="ros2_control",
            driver_settings={"folder": str(slots.path), "timeout": "60"},
        )  # fmt: skip
        command = [sys.executable, "-m", "robot_rl.planes", "control", to_json(config)]
        with subprocess.Popen(command, env=environment) as control:
            try:
                lead(client)
            finally:
                robot.silent = True
                control.terminate()
        assert control.returncode == 0
        assert processes.end() == {"ros2_control": 0}


def lead(client):
    def pass_time(seconds, until=lambda: False, twist=None):
        end = time.monotonic() + seconds
        while time.monotonic() < end and not until():
            client.beat()
            if twist is not None:
                client.send_twist(CartesianTwist(values=twist, frame="base", gripper=np.asarray(0.0)), 0.05)
            time.sleep(0.05)

    pass_time(60.0, lambda: client.status() is not None)
    granted, why = client.ask("arm")
    assert granted, why
    before = client.state().state.tool_pose[:3].copy()
    pass_time(2.0, twist=np.array([0.0, 0.0, 0.05, 0.0, 0.0, 0.0]))
    moved = client.state().state.tool_pose[:3] - before
    assert client.status().mode == "active"
    assert 0.005 < moved[2] < 0.11 and np.abs(moved[:2]).max() < 0.005, moved
    pass_time(0.4)
    assert client.status().mode == "holding" and "teleoperation is" in client.status().cause
