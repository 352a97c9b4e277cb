"""Replay on the real processes of an arm, and over its ROS 2 topics."""

import os
import threading
import time

import numpy as np
import pytest

from robot_rl.demos.configs import ReplayConfig
from robot_rl.demos.dataset import open_set
from robot_rl.demos.links import PlaneLink
from robot_rl.demos.replay_robot import replay_on
from robot_rl.errors import UserError
from robot_rl.recording import EpisodeWriter, messages

TWIST = {"name": "cartesian_twist", "parameters": {"axes": "x y z gripper", "linear": 0.1}}
PERIOD = 0.1


@pytest.fixture
def wave(tmp_path, tools):
    """Makes a recording of a tool that goes up and down from a pose, 3 s long."""

    def make(pose):
        point_records, _, point_schema = tools
        position = np.array(pose[:3])
        with EpisodeWriter(tmp_path / "wave", point_schema()) as writer:
            writer.begin({"action": TWIST})
            for record in point_records(30):
                action = np.array([0.0, 0.0, np.sin(2 * np.pi * record.index / 30), 1.0], np.float32)
                writer.write("tool_pose", messages.pose(position, pose[3:]), record.observed_at)
                writer.step(record.__class__(**{**record.__dict__, "action": action}))
                position = position + PERIOD * 0.1 * action[:3]
            writer.end(True, "test")
        return open_set(tmp_path / "wave").demonstrations[0]

    return make


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_processes_of_an_arm_carry_it_out(wave):
    pytest.importorskip("mujoco")
    from robot_rl.planes.processes import Planes, PlanesConfig
    from robot_rl.planes.settings import SceneConfig, SimulationConfig

    config = PlanesConfig(name=f"test-replay-{os.getpid()}", simulation=SimulationConfig(scene=SceneConfig()))
    with Planes(config) as planes:

        class Link(PlaneLink):
            def pose(self):
                planes.beat()
                return super().pose()

        planes.beat()
        link = Link(planes.folder, 7)
        home = link.pose()
        one = wave(home + [0.0, 0.0, 0.03, 0, 0, 0, 0])
        with pytest.raises(UserError, match="does not move: it is idle"):
            replay_on(link, one, ReplayConfig(path=one.episode.source))
        assert planes.ask("arm")[0]
        heights = []
        keep = link.send

        def send(*arguments):
            heights.append(link.pose()[2])
            keep(*arguments)

        link.send = send
        done = replay_on(link, one, ReplayConfig(path=one.episode.source, speed=1.0))
        print(done)
        assert done.steps == 30 and done.largest_deviation < 0.05
        assert max(heights) - home[2] > 0.07  # 3 cm of approach, and most of the wave's 9 cm
        link.close()


@pytest.mark.timeout(60)
def test_over_topics(wave, monkeypatch):
    rclpy = pytest.importorskip("rclpy")
    from geometry_msgs.msg import PoseStamped, TwistStamped
    from std_msgs.msg import Float64

    monkeypatch.setenv("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    from rclpy.context import Context
    from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

    from robot_rl.nodes import arm_messages, qos
    from robot_rl.nodes.arm_link import RosLink

    home = np.array([0.4, 0.0, 0.3, 0.0, 1.0, 0.0, 0.0])
    one = wave(home + [0.0, 0.01, 0.0, 0, 0, 0, 0])
    with pytest.raises(UserError, match="nothing came on /left/tool_pose"):
        link = RosLink("/left", patience=0.3)
        try:
            link.pose()
        finally:
            link.close()

    context = Context()
    rclpy.init(context=context)
    node = rclpy.create_node("arm", namespace="/left", context=context)
    tool, twists, grippers = home.copy(), [], []
    poses = node.create_publisher(PoseStamped, "tool_pose", qos.SENSOR_PUBLISHER)
    state = {"twist": np.zeros(6), "at": 0.0}

    def on_twist(message):
        state["twist"], frame, _ = arm_messages.twist_from_message(message)
        state["at"] = time.monotonic()
        assert frame == "base"
        twists.append(state["twist"])

    def move():
        if time.monotonic() - state["at"] < 0.15:
            tool[:3] += 0.01 * state["twist"][:3]
        poses.publish(arm_messages.pose_message(tool, 0.0))

    node.create_subscription(TwistStamped, "command/twist", on_twist, qos.COMMAND_READER)
    node.create_subscription(Float64, "command/gripper", lambda m: grippers.append(m.data), qos.COMMAND_READER)
    node.create_timer(0.01, move)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)

    def spin():
        try:
            executor.spin()
        except ExternalShutdownException:
            return

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    link = RosLink("/left")
    try:
        link.pose()
        done = replay_on(link, one, ReplayConfig(path=one.episode.source, speed=1.0))
        end = time.monotonic() + 5.0
        while not (twists and (twists[-1] == 0.0).all()) and time.monotonic() < end:
            time.sleep(0.01)
    finally:
        link.close()
        executor.shutdown()
        thread.join(2.0)
        rclpy.shutdown(context=context)
    assert done.steps == 30 and done.largest_deviation < 0.05
    assert len(twists) > 60 and (twists[-1] == 0.0).all()
    assert grippers == [1.0]
