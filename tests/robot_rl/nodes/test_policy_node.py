"""The policy node alone, with the test as the robot."""

import time

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")

from nav_msgs.msg import Odometry  # noqa: E402

import policies  # noqa: E402
from hardware import setpoints  # noqa: E402
from hardware.descriptions import load_description  # noqa: E402
from policies import rotation  # noqa: E402
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


@pytest.fixture(params=["quadrotor-hover", "quadrotor-track"])
def actions(request, environment, processes, probe):
    """(bundle, first actions of the node) for an unchanging state, from fresh memory."""
    probe.actions.clear()
    process = processes.start("policy", f"policy:={request.param}")
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
    return request.param, np.array(probe.actions[:STEPS])


def test_node_gives_the_actions_of_the_bundle(actions):
    """Same state, same memory, same normalized action as the runtime: 1e-5."""
    name, found = actions
    policy = policies.load(name, robot=load_description("crazyflie").interface)
    policy.reset()
    goal = setpoints.hover(GOAL, like=GOAL)
    expected = []
    for _ in range(STEPS):
        policy.step(STATE, goal)
        expected.append(np.asarray(policy.last_action))
    np.testing.assert_allclose(found, np.array(expected), atol=1e-5)
    assert np.ptp(found, axis=0).max() > 1e-3  # memory moves it: equal actions would prove little
