"""A live person as an operator: the device's motion in the task's action, and take-overs of a simulated arm."""

import math
import os
import pty
import time

import numpy as np
import pytest
import torch

from hardware.teleop.device import Sample
from hardware.teleop.keyboard import Keyboard, KeyboardConfig
from policies import rotation
from policies.actions import ActionConfig, to_command
from policies.types import ArmSetpoint, ArmState
from robot_rl.errors import UserError
from robot_rl.hil.devices import open_device
from robot_rl.hil.person import PersonOperator
from robot_rl.hil.plant import Moment, SimulatedPlant
from robot_rl.hil.rollout import Rollout
from sim.tasks.arm_pick_lift import PERIOD, SPEED, TASK

POLICY = np.array([0.5, -0.5, 0.2, 0.1, 1.0], np.float32)
TURNED = rotation.normalize(np.array([0.2, 0.9, 0.3, -0.1]))
IDENTITY = np.array([1.0, 0, 0, 0])


class FakeDevice:
    """Says what it is told."""

    name = "fake"

    def __init__(self, motion="twist"):
        self.motion = motion
        self.say()

    def say(self, *pressed, engaged=True, connected=True, **fields):
        fields = {"age": 0.0 if connected else math.inf, "dead_man": engaged, **fields}
        self.sample = Sample(pressed=frozenset(pressed), engaged=engaged, connected=connected, **fields)

    def rest(self, *pressed):
        self.say(*pressed, engaged=False)

    def read(self):
        sample = self.sample
        self.sample = Sample(**{**vars(sample), "pressed": frozenset()})
        return sample

    def help(self):
        return "fake: nothing to hold"

    def close(self):
        pass


def moment(orientation=IDENTITY, position=(0.5, 0.0, 0.2), joints=(0.0,) * 7):
    pose = np.concatenate([position, orientation])
    state = ArmState(
        joint_positions=torch.tensor([joints], dtype=torch.float64),
        joint_velocities=torch.zeros(1, 7),
        tool_pose=torch.from_numpy(pose)[None],
        tool_twist=torch.zeros(1, 6),
        gripper_width=torch.tensor([0.08]),
    )
    return Moment(observation=np.zeros(3, np.float32), images={}, state=state, setpoint=ArmSetpoint(), progress=0.0)


def person(device, action=TASK.action, **arguments):
    said = []
    operator = PersonOperator(device, action, PERIOD, say=said.append, **arguments)
    operator.said = said
    operator.begin(0, 0)
    return operator


def twist_action(axes, frame="base", **parameters):
    scales = {"linear": 0.3, "angular": 1.5, **parameters}
    return ActionConfig(name="cartesian_twist", parameters={"axes": axes, "frame": frame, **scales})


@pytest.fixture
def device():
    device = FakeDevice()
    device.rest()
    return device


@pytest.mark.parametrize("frame", ["base", "tool"])
@pytest.mark.parametrize("axes", ["x y z rx ry rz", "rz gripper y rx x z ry"])
def test_the_robot_gets_the_twist_that_the_person_gives(device, frame, axes):
    action = twist_action(axes, frame)
    operator = person(device, action)
    wanted = np.array([0.1, -0.05, 0.02, 0.3, -0.2, 0.5])
    device.say(twist=wanted)
    policy = np.zeros(len(axes.split()), np.float32)
    found = operator.look(moment(TURNED), policy, None).action
    command = to_command(action, found.astype(np.float64))
    twist = np.asarray(command.values)
    if frame == "tool":
        twist = np.concatenate([rotation.rotate(TURNED, twist[:3]), rotation.rotate(TURNED, twist[3:])])
    np.testing.assert_allclose(twist, wanted, atol=1e-6)
    assert found.dtype == np.float32 and found.shape == policy.shape


def test_what_is_too_fast_keeps_its_direction(device):
    operator = person(device)
    device.say(twist=np.array([0.6, 0.3, 0, 0, 0, 0]))
    np.testing.assert_allclose(operator.look(moment(), POLICY, None).action, [1.0, 0.5, 0, 0, 1.0])


def test_directions_that_the_task_lacks_are_dropped_and_named(device):
    operator = person(device)
    device.say(twist=np.array([0, 0, 0.03, 0.7, 0.7, 0.15]))
    np.testing.assert_allclose(operator.look(moment(), POLICY, None).action, [0, 0, 0.1, 0.1, 1.0], atol=1e-6)
    assert "does not use: rx, ry" in operator.help()


def test_the_first_corrected_frame_is_not_lost(device):
    operator = person(device)
    assert operator.look(moment(), POLICY, None).action is None
    device.say(twist=np.array([0.03, 0, 0, 0, 0, 0]))
    first = operator.look(moment(), POLICY, None)
    np.testing.assert_allclose(first.action, [0.1, 0, 0, 0, 1.0], atol=1e-6)
    assert operator.said == ["you drive"]


def test_the_gripper_keeps_what_it_was_last_told_until_it_is_toggled(device):
    operator = person(device)
    closing, opening = POLICY.copy(), POLICY.copy()
    closing[4], opening[4] = -1.0, 1.0
    operator.look(moment(), opening, None)
    operator.look(moment(), closing, None)
    device.say(twist=np.array([0.03, 0, 0, 0, 0, 0]))
    assert operator.look(moment(), opening, None).action[4] == -1.0  # the policy wants to drop what is held
    device.say("gripper")
    assert operator.look(moment(), opening, None).action[4] == 1.0
    assert operator.look(moment(), closing, None).action[4] == 1.0
    device.say("gripper")
    assert operator.look(moment(), opening, None).action[4] == -1.0


def test_a_pause_rests_and_a_mark_in_it_ends_the_episode_at_rest(device):
    operator = person(device)
    device.rest("pause")
    paused = operator.look(moment(), POLICY, None)
    assert paused.pause and paused.action is None
    device.rest("success")
    marked = operator.look(moment(), POLICY, None)
    assert marked.mark == "success" and not marked.pause  # a rollout takes no mark from a paused step
    np.testing.assert_array_equal(marked.action[:4], 0.0)


def test_a_mark_leaves_the_last_step_to_who_drives(device):
    operator = person(device)
    device.rest("failure")
    found = operator.look(moment(), POLICY, None)
    assert (found.action, found.mark, found.pause) == (None, "failure", False)
    device.say("reset", twist=np.array([0.3, 0, 0, 0, 0, 0]))
    found = operator.look(moment(), POLICY, None)
    assert found.mark == "discard" and found.action[0] == pytest.approx(1.0)


def test_a_lost_device_holds_the_robot(device):
    operator = person(device)
    device.say(twist=np.array([0.3, 0, 0, 0, 0, 0]))
    assert operator.look(moment(), POLICY, None).action[0] == pytest.approx(1.0)
    device.say(twist=np.array([0.3, 0, 0, 0, 0, 0]), connected=False)
    for _ in range(3):
        found = operator.look(moment(), POLICY, None)
        assert found.pause and found.action is None
    assert sum("lost" in text for text in operator.said) == 1


def test_a_demonstrator_without_a_policy_stops_time_by_letting_go(device):
    operator = person(device, demonstrates=True)
    idle = np.zeros(5, np.float32)
    assert operator.look(moment(), idle, None).pause
    device.say(twist=np.array([0.3, 0, 0, 0, 0, 0]))
    np.testing.assert_allclose(operator.look(moment(), idle, None).action, [1, 0, 0, 0, 1])
    device.rest("success")
    assert operator.look(moment(), idle, None).mark == "success"


def test_two_arms_are_driven_one_at_a_time(device):
    action = twist_action("x gripper", arms="left right")
    operator = person(device, action)
    policy = np.array([0.7, -1.0, 0.7, 1.0], np.float32)
    operator.look(moment(), policy, None)
    device.say(twist=np.array([0.3, 0, 0, 0, 0, 0]))
    np.testing.assert_allclose(operator.look(moment(), policy, None).action, [1, -1, 0, 1])
    device.say("next_arm", "gripper", twist=np.array([0.3, 0, 0, 0, 0, 0]))
    np.testing.assert_allclose(operator.look(moment(), policy, None).action, [0, -1, 1, -1])
    assert "you drive the arm right" in operator.said


def test_a_hand_held_device_begins_where_the_tool_is():
    device, now = FakeDevice("pose"), [0.0]
    device.rest()
    operator = person(device, clock=lambda: now[0])
    operator.look(moment(), POLICY, None)
    device.say(pose=np.array([3.0, 2.0, 1.0, 1, 0, 0, 0]))
    np.testing.assert_allclose(operator.look(moment(TURNED), POLICY, None).action, [0, 0, 0, 0, 1], atol=1e-6)
    device.say(pose=np.array([3.5, 2.0, 1.0, 1, 0, 0, 0]))  # half a metre at once
    shares = []
    for now[0] in (0.1, 0.5, 1.0):
        shares.append(operator.look(moment(TURNED), POLICY, None).action[0])
    np.testing.assert_allclose(shares, [0.28, 0.6, 1.0], atol=1e-6)
    device.rest()
    operator.look(moment(TURNED), POLICY, None)
    device.say(pose=np.array([9.0, 2.0, 1.0, 1, 0, 0, 0]))  # engaged anew somewhere else
    np.testing.assert_allclose(operator.look(moment(TURNED), POLICY, None).action[:4], 0.0, atol=1e-6)


LEADER = ActionConfig(name="joint_position_targets", parameters={"low": "-2 -2 -2", "high": "2 2 4"})


def test_a_leader_arm_takes_over_where_the_follower_is():
    device, now, joints = FakeDevice("joints"), [0.0], np.array([0.5, -0.5, 1.0])
    operator = person(device, LEADER, clock=lambda: now[0])
    policy, measured = np.zeros(4, np.float32), moment(joints=tuple(joints))

    def commanded():
        action = operator.look(measured, policy, None).action
        return None if action is None else np.asarray(to_command(LEADER, action.astype(np.float64)).values)

    device.rest()
    assert commanded() is None
    device.say(joints=joints + [0.0, 0.5, 0.0])
    assert commanded() is None and "joint 2" in operator.said[-1]
    device.say(joints=joints + 0.05)
    assert np.abs(commanded() - joints).max() <= 0.2 * 1.0 * PERIOD + 1e-6
    now[0] = 2.0
    np.testing.assert_allclose(commanded(), joints + 0.05, atol=1e-6)
    device.say("take_over", engaged=False, joints=joints)  # hold
    held, measured = commanded(), moment(joints=tuple(joints - 0.02))  # the arm sinks a little
    np.testing.assert_allclose(held, joints, atol=1e-6)
    np.testing.assert_allclose(commanded(), held)


def test_a_leader_arm_follows_the_robot_until_the_person_drives():
    class Motors(FakeDevice):
        led = ()

        def follow(self, joints):
            self.led = joints

    device, joints = Motors("joints"), np.array([0.5, -0.5, 1.0])
    operator = person(device, LEADER)
    measured, policy = moment(joints=tuple(joints)), np.zeros(4, np.float32)
    device.rest()
    operator.look(measured, policy, None)
    np.testing.assert_allclose(device.led, joints)  # the policy drives
    device.say(joints=joints + 0.5)
    operator.look(measured, policy, None)
    np.testing.assert_allclose(device.led, joints)  # not there yet: its motors bring it
    device.say(joints=joints, gripper=-0.4)
    action = operator.look(measured, policy, None).action
    assert device.led is None and action[3] == np.float32(-0.4)  # the trigger is the gripper
    device.say(joints=joints, engaged=False, gripper=1.0)
    action = operator.look(measured, policy, None).action
    np.testing.assert_allclose(device.led, joints)
    assert action[3] == np.float32(-0.4)  # let go: what was gripped stays so


def test_devices_and_actions_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="joints"):
        PersonOperator(FakeDevice("joints"), TASK.action, PERIOD)
    with pytest.raises(UserError, match="motor_speeds"):
        PersonOperator(FakeDevice(), ActionConfig(name="motor_speeds"), PERIOD)
    with pytest.raises(UserError, match="did you mean 'gamepad'"):
        open_device("gamepd")
    with pytest.raises(UserError, match="joydev"):
        open_device("gamepad:/nowhere/js0")


def test_a_key_in_a_terminal_becomes_the_robots_action():
    master, slave = pty.openpty()
    keyboard = Keyboard(KeyboardConfig(linear=0.15, first_hold=1.0, stale_after=1.0), os.ttyname(slave))
    try:
        operator = person(keyboard)
        os.write(master, b"w")
        end = time.monotonic() + 5.0
        while (found := operator.look(moment(), POLICY, None)).action is None and time.monotonic() < end:
            time.sleep(0.01)
        np.testing.assert_allclose(found.action, [0.5, 0, 0, 0, 1.0], atol=1e-6)
    finally:
        keyboard.close()
        os.close(master)
        os.close(slave)


@pytest.fixture(scope="module")
def plant():
    plant = SimulatedPlant(TASK, randomization=())
    yield plant
    plant.close()


UP = np.array([0.0, 0.0, 1.0, 0.0, 1.0], np.float32)
REST = np.array([0.0, 0.0, 0.0, 0.0, 1.0], np.float32)
ONE_PERIOD = SPEED * PERIOD
"""m, what a command may move the target from where the tool is measured."""


def drive(plant, operator, now, policy, steps):
    """Of every step: how far, m, the commanded target is from the measured tool, and its speed, m/s, a period later."""
    rows = []
    for _ in range(steps):
        position = plant.last.state.tool_pose[0, :3].numpy()
        help_ = operator.look(plant.last, policy, None)
        plant.last = plant.step(policy if help_.action is None else help_.action).moment
        target = np.asarray(plant.env.loop.controllers["arm"].target_pose)[0, :3]
        rows.append((np.linalg.norm(target - position), float(plant.last.state.tool_twist[0, :3].norm())))
        now[0] += PERIOD
    return np.array(rows).T


def test_taking_over_and_handing_back_a_simulated_arm_is_without_a_jump(plant):
    device, now = FakeDevice(), [0.0]
    device.rest()
    operator = person(device, clock=lambda: now[0])
    plant.last = plant.reset()
    away, speed = drive(plant, operator, now, UP, 3)
    assert speed[-1] > 0.8 * SPEED and away.max() < 1.05 * ONE_PERIOD

    device.rest("take_over")  # at full speed, with the stick at rest: the arm brakes
    away, speed = drive(plant, operator, now, UP, 6)
    assert away[0] < 0.005  # the target is the measured pose, not where the policy was heading
    assert speed[0] < SPEED / 3 and speed.max() < SPEED / 3 and speed[-1] < 0.01

    device.say(twist=np.array([0.0, 0.0, -0.2, 0.0, 0.0, 0.0]))
    away, speed = drive(plant, operator, now, UP, 4)
    assert away.max() < 0.7 * ONE_PERIOD and 0.15 < speed[-1] < 0.25

    device.rest("hand_back")  # while the person is driving down
    away, speed = drive(plant, operator, now, REST, 6)
    assert away[0] < 0.005 and speed.max() < SPEED / 3 and speed[-1] < 0.01


def test_a_policy_at_full_speed_takes_back_within_one_period_of_motion(plant):
    device, now = FakeDevice(), [0.0]
    operator = person(device, clock=lambda: now[0])
    plant.last = plant.reset()
    device.say("take_over", engaged=False)
    drive(plant, operator, now, UP, 3)
    device.rest("hand_back")
    away, _ = drive(plant, operator, now, UP, 3)
    assert away.max() < 1.05 * ONE_PERIOD


def test_a_rollout_stores_what_was_executed_and_nothing_while_the_device_is_lost(plant):
    device = FakeDevice()
    operator = PersonOperator(device, TASK.action, PERIOD, say=lambda text: None)
    device.rest()
    rollout = Rollout(plant, operator)
    rollout.begin()
    policy = lambda moment, index: (UP, None)  # noqa: E731
    assert rollout.step(policy).driver == "policy"
    device.say(twist=np.array([0.0, 0.15, 0.0, 0.0, 0.0, 0.0]))
    record = rollout.step(policy)
    assert record.driver == "person"
    np.testing.assert_allclose(record.action, [0, 0.5, 0, 0, 1], atol=1e-6)
    np.testing.assert_array_equal(record.policy_action, UP)

    before = plant.env.measured.tool_pose.clone()
    device.say(twist=np.array([0.0, 0.15, 0.0, 0.0, 0.0, 0.0]), connected=False)
    assert [rollout.step(policy) for _ in range(5)] == [None] * 5
    assert torch.equal(plant.env.measured.tool_pose, before)
    device.rest("failure")
    last = rollout.step(policy)
    assert last.terminated and not last.success and not rollout.running
    np.testing.assert_array_equal(last.action[:4], 0.0)
