"""`robot-rl up arm` whole: it reaches, it never arms a robot by itself, it ends with nothing left behind."""

import json
import signal
import time

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("mujoco")

from arm_probe import PATIENCE  # noqa: E402
from geometry_msgs.msg import PoseStamped  # noqa: E402

from robot_rl.nodes import arm_messages  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def test_it_reaches_and_again_after_a_reset(bring_up):
    """Success is what the simulated task says; then a goal of one's own; SIGINT leaves nothing."""
    running = bring_up("policy:=arm-reach", "task:=arm-reach", "arm:=true").attach()
    probe = running.probe
    first = probe.wait(lambda: next((e for e in probe.episodes if e["over"]), None), PATIENCE, "end of an episode")
    assert first["success"] and first["time"] < 5.0, first
    assert probe.modes()[-1] == "active"
    assert probe.trigger("sim/reset").message == "the arm is active: disarm it first"

    pose = running.client.state().state.tool_pose.astype(float)
    pose[:3] = [0.45, 0.1, 0.35]
    publisher = probe.node.create_publisher(PoseStamped, "setpoint", 1)
    probe.wait(publisher.get_subscription_count, 10.0, "subscription to setpoint")
    publisher.publish(arm_messages.pose_message(pose, time.time()))
    probe.wait(lambda: np.linalg.norm(probe.tools[-1][0][:3] - pose[:3]) < 0.03, 20.0, "tool at the set-point")
    publisher.publish(arm_messages.pose_message(pose, time.time() - 5.0))
    time.sleep(0.2)
    probe.node.destroy_publisher(publisher)

    assert probe.trigger("disarm").success
    probe.wait(lambda: running.client.status().follow == "brake", 5.0, "brakes")
    seen = len(probe.episodes)
    assert probe.trigger("sim/reset").success
    probe.wait(lambda: any(e["start"] == 1 for e in probe.episodes[seen:]), 5.0, "another start")
    probe.arm()
    again = probe.wait(lambda: next((e for e in probe.episodes[seen:] if e["over"]), None), 60.0, "end of an episode")
    assert again["success"] and again["start"] == 1, again

    stamps = np.array([arm_messages.to_seconds(message.header.stamp) for _, message in probe.joints])
    heard = np.array([at for at, _ in probe.joints])
    assert np.median(np.diff(stamps)) == pytest.approx(0.02, abs=0.004)
    assert -0.01 < np.median(heard - stamps) < 0.05
    _, _, values = probe.diagnostics["supervisor"]
    for name in ("wake_error", "work", "period", "state_age", "command_age"):
        chart = json.loads(values[f"timing.control_{name}"])
        assert sum(chart["counts"]) == chart["count"] > 100
    assert probe.diagnostics["setpoint"][2]["refused"] == "1"

    running.client.close()
    running.up.process.send_signal(signal.SIGINT)
    assert running.up.ends() == 0
    assert "Traceback" not in running.up.text


def test_nothing_arms_by_itself(bring_up):
    """And two robots run side by side: each has its own memory and its own safety state."""
    one, two = (bring_up("policy:=arm-reach", "task:=arm-reach").attach() for _ in range(2))
    one.probe.wait(lambda: one.client.policy().get("ready"), PATIENCE, "policy")
    time.sleep(3.0)
    assert one.probe.modes() == two.probe.modes() == ["starting", "idle"]
    two.probe.arm()
    two.probe.wait_mode("active", 10.0)
    assert one.client.status().mode == "idle" and one.client.status().follow == "brake"
    moved = np.abs(one.client.state().state.joint_velocities).max()
    assert moved < 0.01
    one.up.process.send_signal(signal.SIGTERM)
    assert one.up.ends() == 0
    time.sleep(0.5)
    assert two.client.status().mode in ("active", "holding") and time.monotonic() - two.client.status().stamp < 0.2
    two.up.process.kill()
    assert two.up.ends() == -signal.SIGKILL


@pytest.mark.parametrize("times", [1, 3])
def test_ctrl_c_while_it_moves(bring_up, times):
    running = bring_up("policy:=arm-reach", "task:=arm-reach", "arm:=true").attach()
    running.probe.wait_mode("active", PATIENCE)
    assert running.client.status().mode == "active"  # open before the end: what is open stays readable after it
    for _ in range(times):
        running.up.process.send_signal(signal.SIGINT)
        time.sleep(0.02)
    begin = time.monotonic()
    running.probe.wait(lambda: running.client.status().mode == "stopped", 5.0, "stop")
    assert time.monotonic() - begin < 3.0
    running.client.close()
    assert running.up.ends() == 0
    assert "Traceback" not in running.up.text


def test_a_bundle_for_another_robot_ends_all_at_once(bring_up):
    running = bring_up("policy:=arm-reach", "robot:=ur5e", "task:=")
    assert running.up.ends(within=60.0) == 1
    assert "robot 'ur5e' has no actuator 'joint1'" in running.up.text
    assert "Traceback" not in running.up.text


def test_a_second_one_of_the_same_name_is_refused(bring_up):
    first = bring_up("policy:=", "task:=").attach()
    second = bring_up("policy:=", "task:=", namespace=first.up.namespace)
    assert second.up.process.wait(60.0) == 1
    assert "is in use by process" in second.up.text
    assert first.client.status().mode == "idle"
