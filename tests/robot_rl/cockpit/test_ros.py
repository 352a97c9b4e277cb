"""The page on a robot's topics, over real DDS: a page drives, watches and stops what listens in ROS 2."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

aiohttp = pytest.importorskip("aiohttp")
rclpy = pytest.importorskip("rclpy")

from geometry_msgs.msg import PoseStamped, TwistStamped  # noqa: E402
from rclpy.context import Context  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from sensor_msgs.msg import CompressedImage, JointState  # noqa: E402
from std_msgs.msg import Bool, Float64  # noqa: E402

from hardware.descriptions import load_arm  # noqa: E402
from robot_rl.nodes import qos  # noqa: E402
from robot_rl.nodes.process import PARENT_VARIABLE  # noqa: E402

DOMAIN = 63
JPEG = b"\xff\xd8 a picture \xff\xd9"


class Robot:
    """What a robot says and hears; spun by hand."""

    def __init__(self):
        self.context = Context()
        rclpy.init(context=self.context, domain_id=DOMAIN)
        self.node = rclpy.create_node("robot", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.twists, self.grippers, self.estops = [], [], []
        self.joints = self.node.create_publisher(JointState, "joint_states", qos.SENSOR_PUBLISHER)
        self.tools = self.node.create_publisher(PoseStamped, "tool_pose", qos.SENSOR_PUBLISHER)
        self.camera = self.node.create_publisher(CompressedImage, "camera/wrist/compressed", qos.SENSOR_PUBLISHER)
        hear = self.node.create_subscription
        hear(TwistStamped, "command/twist", lambda m: self.twists.append((time.monotonic(), m)), qos.COMMAND_READER)
        hear(Float64, "command/gripper", self.grippers.append, qos.COMMAND_READER)
        hear(Bool, "estop", self.estops.append, qos.STATUS_READER)
        self.description = load_arm("panda")

    def speak(self):
        stamp = self.node.get_clock().now().to_msg()
        joints = JointState(name=list(self.description.interface.actuators), position=self.description.home.tolist())
        joints.header.stamp = stamp
        tool = PoseStamped()
        tool.header.stamp, tool.header.frame_id = stamp, "base"
        tool.pose.position.x, tool.pose.orientation.w = 0.5, 1.0
        picture = CompressedImage(format="jpeg", data=JPEG)
        picture.header.stamp = stamp
        self.joints.publish(joints)
        self.tools.publish(tool)
        self.camera.publish(picture)
        end = time.monotonic() + 0.02
        while time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.005)

    def close(self):
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def robot(monkeypatch):
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    opened = Robot()
    yield opened
    opened.close()


@pytest.fixture
def link(robot):
    """The page of a cockpit that runs as a process of its own."""
    environment = {**os.environ, "ROS_DOMAIN_ID": str(DOMAIN), PARENT_VARIABLE: str(os.getpid())}
    command = [sys.executable, "-m", "robot_rl.cli", "cockpit", "--ros", "--port", "0"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    lines, found = [], None
    while found is None and (line := process.stderr.readline()):
        lines.append(line)
        found = re.search(r"open (http\S+)", line)
    assert found, "".join(lines)
    yield found[1]
    process.send_signal(signal.SIGINT)
    assert process.wait(15.0) == 0
    process.stderr.close()


class Page:
    """A page without a browser."""

    def __init__(self, robot):
        self.robot, self.seen, self.pictures, self.sequence = robot, {}, [], 0

    async def open(self, browser, link):
        async with browser.get(link):
            pass
        base = link.partition("/?")[0]
        self.socket = await browser.ws_connect(f"{base}/socket", origin=base)

    async def live(self, until, *, command=None, timeout=40.0):
        """Answer, send commands and let the robot speak until something is so."""
        end = time.monotonic() + timeout
        while not until():
            assert time.monotonic() < end, f"it did not happen; the page heard {sorted(self.seen)}"
            self.robot.speak()
            if command is not None:
                self.sequence += 1
                fields = {"motion": [0.0] * 6, "dead_man": True, "clutch": True, **command}
                fields = {"type": "command", "sequence": self.sequence, "at": time.monotonic(), **fields}
                await self.socket.send_json(fields)
            while True:
                try:
                    message = await self.socket.receive(timeout=0.003)
                except asyncio.TimeoutError:
                    break
                if message.type == aiohttp.WSMsgType.BINARY and message.data[0] == 1:
                    self.pictures.append(bytes(message.data[16:]))
                elif message.type == aiohttp.WSMsgType.TEXT:
                    data = json.loads(message.data)
                    self.seen[data["type"]] = data
                    if data["type"] == "ping":
                        pong = {"type": "pong", "asked": data["asked"], "at": time.monotonic()}
                        await self.socket.send_json(pong)


def test_the_page_drives_watches_and_stops_a_robot(robot, link):
    async def script():
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
            page = Page(robot)
            await page.open(browser, link)
            await page.live(lambda: page.seen.get("state", {}).get("arms"))
            np.testing.assert_allclose(
                page.seen["state"]["arms"]["arm"]["positions"], robot.description.home, atol=1e-3
            )
            await page.live(lambda: page.pictures and page.seen["setup"]["cameras"] == ["wrist"])
            assert page.pictures[0] == JPEG, "the camera's own bytes"

            await page.socket.send_json({"type": "take"})
            await page.live(lambda: len(robot.twists) > 5, command={"motion": [0, 1, 0, 0, 0, 0]})
            twist = robot.twists[-1][1]
            assert twist.header.frame_id == "base" and twist.twist.linear.y == pytest.approx(0.15)
            await page.live(lambda: robot.grippers, command={"pressed": ["gripper"]})
            assert robot.grippers[0].data == -1.0

            # The commands end: one last twist of zeros, then none.
            before = len(robot.twists)
            await page.live(lambda: len(robot.twists) > before and robot.twists[-1][1].twist.linear.y == 0.0)
            last = robot.twists[-1][0]
            silent = time.monotonic()
            await page.live(lambda: time.monotonic() - silent > 0.5)
            assert robot.twists[-1][0] <= last + 0.2, "nothing more is sent while nobody holds the dead-man"

            await page.socket.send_json({"type": "do", "action": "stop"})
            await page.live(lambda: robot.estops)
            assert robot.estops[0].data

    asyncio.run(script())


def test_a_task_and_a_robot_are_not_both(capsys):
    from robot_rl.cli import main

    assert main(["cockpit", "arm-reach", "--ros"]) == 2
    assert "name the robot" in capsys.readouterr().err
