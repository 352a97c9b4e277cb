"""The driver of arms under ros2_control through the action FollowJointTrajectory: a stand-in serves it."""

import os
import time

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("control_msgs", reason="control_msgs is not installed: apt install ros-$ROS_DISTRO-control-msgs")

from arm_probe import ArmProbe  # noqa: E402
from bridging import bridged  # noqa: E402
from control_msgs.action import FollowJointTrajectory  # noqa: E402
from rclpy.action import ActionServer, CancelResponse, GoalResponse  # noqa: E402
from rclpy.task import Future  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402

from hardware.descriptions import load_arm  # noqa: E402
from policies.types import JointPositions  # noqa: E402
from robot_rl.nodes.messages import to_stamp  # noqa: E402

ARM = load_arm("ur5e")
NAMES = ARM.interface.actuators


class Controller:
    """A joint trajectory controller: a goal replaces the one before, and is reached at once, or given up."""

    def __init__(self, probe):
        self.probe, self.refuse, self.replaced_is_aborted = probe, False, False
        self.positions = dict(zip(NAMES, ARM.home.tolist(), strict=True))
        self.goals, self.cancelled, self.active = [], 0, None
        self.out = probe.node.create_publisher(JointState, "joint_states", 10)
        self.timer = probe.node.create_timer(0.01, self.tell)
        self.server = ActionServer(
            probe.node,
            FollowJointTrajectory,
            "follow",
            self.execute,
            goal_callback=lambda goal: GoalResponse.REJECT if self.refuse else GoalResponse.ACCEPT,
            cancel_callback=self.on_cancel,
        )

    def tell(self):
        message = JointState(name=list(NAMES), position=[self.positions[name] for name in NAMES])
        message.velocity = [0.0] * len(NAMES)
        message.header.stamp = to_stamp(time.time())
        self.out.publish(message)

    async def execute(self, handle):
        before, end = self.active, Future()
        self.active = end
        if before is not None and not before.done():
            before.set_result("replaced")
        trajectory = handle.request.trajectory
        self.goals.append((time.monotonic(), trajectory))
        self.positions = dict(zip(trajectory.joint_names, trajectory.points[0].positions, strict=True))
        outcome, result = await end, FollowJointTrajectory.Result()
        if outcome == "given up":
            result.error_code, result.error_string = result.PATH_TOLERANCE_VIOLATED, "elbow_joint lags by 0.3 rad"
            handle.abort()
        elif outcome == "replaced" and self.replaced_is_aborted:
            result.error_code, result.error_string = result.INVALID_GOAL, "a new goal has come"
            handle.abort()
        elif outcome == "cancelled":
            handle.canceled()
        else:
            handle.succeed()
        return result

    def on_cancel(self, handle):
        self.cancelled += 1
        self.active.set_result("cancelled")
        return CancelResponse.ACCEPT


@pytest.fixture(scope="module")
def controller(domain):
    probe = ArmProbe(domain, f"goals{os.getpid()}")
    yield Controller(probe)
    probe.close()


@pytest.fixture
def driver(controller, processes):
    controller.refuse = controller.replaced_is_aborted = False
    with bridged(processes, controller.probe.namespace, ARM, "controller:=action", "command_topic:=follow") as driver:
        yield driver


def drive(driver, wanted, until, timeout=15.0):
    """Write every 10 ms until a sample is as it shall be."""
    end = time.monotonic() + timeout
    while not until(sample := driver.read()):
        assert time.monotonic() < end, sample
        driver.write(JointPositions(values=wanted, gripper=np.asarray(0.0)))
        time.sleep(0.01)
    return sample


@pytest.mark.parametrize("replaced_is_aborted", [False, True])
def test_goals_replace_each_other_and_name_their_joints(controller, driver, replaced_is_aborted):
    controller.replaced_is_aborted = replaced_is_aborted
    wanted = ARM.home + np.linspace(0.01, 0.06, 6)
    drive(driver, wanted, lambda sample: np.abs(sample.joint_positions - wanted).max() < 1e-6)
    begin, count = time.monotonic(), len(controller.goals)
    while time.monotonic() < begin + 2.0:
        driver.write(JointPositions(values=wanted, gripper=np.asarray(0.0)))
        assert driver.read().fault == ""
        time.sleep(0.01)
    _, trajectory = controller.goals[-1]
    assert list(trajectory.joint_names) == list(NAMES) and len(trajectory.points) == 1
    ahead = trajectory.points[0].time_from_start
    assert ahead.sec == 0 and ahead.nanosec == 80_000_000
    assert 10 < len(controller.goals) - count < 55  # 25 Hz on a quiet machine


def test_stop_cancels_the_motion(controller, driver):
    wanted = ARM.home + 0.05
    drive(driver, wanted, lambda sample: np.abs(sample.joint_positions - wanted).max() < 1e-6)
    before = controller.cancelled
    driver.stop()
    controller.probe.wait(lambda: controller.cancelled > before, 5.0, "cancellation")
    count = len(controller.goals)
    time.sleep(0.3)
    assert len(controller.goals) == count


def test_a_motion_that_is_given_up_is_a_fault_until_the_arm_was_stopped(controller, driver):
    wanted = ARM.home - 0.05
    drive(driver, wanted, lambda sample: np.abs(sample.joint_positions - wanted).max() < 1e-6)
    controller.active.set_result("given up")
    sample = drive(driver, wanted, lambda sample: sample.fault)
    assert "gave the motion up (error -4): elbow_joint lags by 0.3 rad" in sample.fault
    count = len(controller.goals)
    time.sleep(0.3)
    assert len(controller.goals) == count  # none until a person has looked
    driver.stop()
    end = time.monotonic() + 5.0
    while driver.read().fault:
        assert time.monotonic() < end
        time.sleep(0.01)
    drive(driver, wanted + 0.01, lambda sample: np.abs(sample.joint_positions - wanted - 0.01).max() < 1e-6)


def test_a_refused_goal_is_a_fault(controller, driver):
    controller.refuse = True
    sample = drive(driver, ARM.home, lambda sample: sample.fault)
    assert "refuses the goal" in sample.fault
