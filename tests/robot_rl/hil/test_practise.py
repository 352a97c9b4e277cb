"""The robot resets itself by driving: nothing jumps, failures are tried again, a person is asked for in the end."""

import numpy as np
import pytest
import torch

from policies import observations
from policies.types import ArmSetpoint, ArmState
from robot_rl.errors import UserError
from robot_rl.hil.plant import Moment, Outcome, SimulatedPlant, expert_action
from robot_rl.hil.practise import PractisingPlant
from robot_rl.hil.relative import relative
from robot_rl.hil.resets import Reset, Target, find_reset, pick_lift, single
from sim.tasks import TASKS

LIFT = TASKS["arm-pick-lift"]


class Watched:
    """A plant that measures how far tool and objects move from one moment to the next, and who moved them."""

    def __init__(self, plant):
        self.plant, self.period = plant, plant.period
        self.last, self.farthest, self.resets = None, 0.0, 0

    def seen(self, moment):
        truth = self.plant.env.engine
        now = np.stack([truth.pose(name)[0, :3] for name in (*self.plant.env.loop.objects, "arm/tool")])
        if self.last is not None:
            self.farthest = max(self.farthest, float(np.abs(now - self.last).max()))
        self.last = now
        return moment

    def reset(self):
        self.resets += 1
        self.last = None
        return self.seen(self.plant.reset())

    def go_on(self, goal=None):
        return self.seen(self.plant.go_on(goal))

    def step(self, action):
        outcome = self.plant.step(action)
        self.seen(outcome.moment)
        return outcome

    def hold(self):
        self.plant.hold()

    def close(self):
        self.plant.close()


def practise(task, cycles, seed, act=expert_action):
    """Episodes of `act`; the plant that watched, the report, and how many succeeded."""
    watched = Watched(SimulatedPlant(task, seed=seed))
    asked = []
    plant = PractisingPlant(watched, task, seed=seed, ask=asked.append)
    solved, starts = 0, []
    for _ in range(cycles):
        moment = plant.reset()
        starts.append(single(moment.state))
        for _ in range(200):
            outcome = plant.step(act(task, moment.state, moment.setpoint))
            moment = outcome.moment
            if outcome.terminated or outcome.truncated:
                solved += outcome.success
                break
    plant.close()
    assert len(asked) == plant.report.people
    return watched, plant.report, solved, starts


def test_lifts_are_practised_without_a_jump_and_starts_differ():
    watched, report, solved, starts = practise(LIFT, 3, seed=0)
    assert (report.resets, report.alone, report.people) == (2, 2, 0)
    assert solved == 3
    assert watched.resets == 1  # only the first start was set up
    assert watched.farthest < 0.06  # no more than 0.6 m/s
    cubes = np.array([state.objects["cube"][:2] for state in starts])
    tools = np.array([state.tool_pose[:2] for state in starts])
    assert (np.ptp(cubes, axis=0) > 0.02).all()
    assert ((cubes > [0.33, -0.22]) & (cubes < [0.67, 0.22])).all()
    assert ((tools > [0.38, -0.17]) & (tools < [0.62, 0.17])).all()
    assert 2.0 < report.seconds / report.resets < 8.0


@pytest.mark.slow
def test_twenty_cycles_of_lifting():
    watched, report, solved, _ = practise(LIFT, 21, seed=0)
    assert report.resets == 20
    assert report.alone >= 19
    assert solved >= 19
    assert watched.farthest < 0.06


def test_a_policy_that_only_stirs_is_reset_as_well():
    rng = np.random.default_rng(0)
    _, report, _, _ = practise(LIFT, 2, seed=1, act=lambda *_: rng.uniform(-1.0, 1.0, 5).astype(np.float32))
    assert (report.resets, report.alone) == (1, 1)


def test_relative_frames_make_no_difference():
    _, report, solved, _ = practise(relative(LIFT), 2, seed=2)
    assert (report.alone, solved) == (1, 2)


def test_the_peg_is_pulled_out_and_put_in_again():
    watched, report, solved, starts = practise(TASKS["arm-peg-insert"], 3, seed=0)
    assert (report.resets, report.alone, solved) == (2, 2, 3)
    assert watched.farthest < 0.03
    for state in starts:
        away = state.tool_pose[:3] - state.objects["hole"][:3]
        assert (np.abs(away[:2]) < 0.05).all()
        assert 0.03 < away[2] < 0.12


def test_going_on_moves_nothing_and_begins_clocks_and_memories_anew():
    plant, other = SimulatedPlant(LIFT, seed=5), SimulatedPlant(LIFT, seed=5)
    for one in (plant, other):
        moment = one.reset()
        for _ in range(10):
            moment = one.step(expert_action(LIFT, moment.state, moment.setpoint)).moment
    before = {name: np.copy(plant.env.engine.pose(name)) for name in ("cube", "arm/tool")}
    anew = plant.go_on()
    for name, pose in before.items():
        np.testing.assert_array_equal(plant.env.engine.pose(name), pose)
    fresh = observations.initial_memory(LIFT.terms, torch.zeros(1, 1))
    expected, _ = observations.observe(LIFT.terms, moment.state, moment.setpoint, fresh, plant.period)
    np.testing.assert_allclose(anew.observation, expected[0].numpy(), atol=1e-6)
    assert anew.observation[-5:].tolist() == [0.0] * 5  # no action yet
    action = np.array([0.3, -0.2, 0.1, 0.4, 1.0])
    plant.step(action)
    other.step(action)
    np.testing.assert_array_equal(plant.env.engine.pose("arm/tool"), other.env.engine.pose("arm/tool"))
    assert float(plant.env.view.time) == pytest.approx(0.1)
    assert float(other.env.view.time) == pytest.approx(1.1)
    np.testing.assert_allclose(plant.env.view.start["cube"][0, :3], before["cube"][0, :3], atol=1e-6)
    for k in range(79):
        assert plant.step(np.zeros(5)).truncated == (k == 78)
    assert not plant.go_on().observation[-5:].any()
    assert not plant.step(np.zeros(5)).truncated
    for one in (plant, other):
        one.close()


def test_another_goal_is_taken_over():
    task = TASKS["arm-reach"]
    plant = SimulatedPlant(task, seed=0)
    plant.reset()
    goal = np.array([[0.5, 0.1, 0.3, 0.0, 1.0, 0.0, 0.0]])
    moment = plant.go_on(goal)
    np.testing.assert_allclose(moment.setpoint.tool_pose, goal, atol=1e-6)
    after = plant.step(np.zeros(plant.action_size)).moment
    np.testing.assert_allclose(after.setpoint.tool_pose, goal, atol=1e-6)
    way = goal[0, :3] - after.state.tool_pose[0, :3].numpy()
    np.testing.assert_allclose(after.observation[:3], 4.0 * way, atol=0.05)
    plant.close()


class Counter:
    """A plant whose state is how many steps it has taken."""

    period = 0.1

    def __init__(self):
        self.steps = self.resets = self.went_on = 0

    def moment(self):
        pose = np.array([[self.steps, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0]])
        state = ArmState(np.zeros((1, 7)), np.zeros((1, 7)), pose, np.zeros((1, 6)), np.zeros(1))
        return Moment(observation=np.zeros(1), images={}, state=state, setpoint=ArmSetpoint(), progress=0.0)

    def reset(self):
        self.resets += 1
        return self.moment()

    def go_on(self, goal=None):
        self.went_on += 1
        return self.moment()

    def step(self, action):
        self.steps += 1
        return Outcome(moment=self.moment(), reward=0.0, terminated=False, truncated=self.steps % 7 == 0, success=False)

    def hold(self):
        pass

    def close(self):
        pass


def counting(done, **settings):
    asked, paces, targets = [], [], []

    def aim(state, target):
        targets.append(target)
        return target

    reset = Reset(act=lambda state, target: np.zeros(5), done=lambda state, target: done(state.tool_pose[0]), aim=aim)
    plant = PractisingPlant(
        Counter(), LIFT, reset, ask=asked.append, pace=lambda: paces.append(1), seconds=2.0, **settings
    )
    return plant, asked, paces, targets


def test_failed_resets_are_tried_again_elsewhere_and_then_a_person_is_asked():
    plant, asked, paces, targets = counting(lambda steps: False, tries=3)
    plant.reset()
    assert (plant.plant.resets, len(targets)) == (1, 0)
    plant.reset()
    assert plant.plant.resets == 2  # by the person
    assert len(paces) == plant.plant.steps == 60
    assert len({target.tool[0] for target in targets}) == 3
    assert len(asked) == 1 and "3 resets failed" in asked[0]
    assert (plant.report.resets, plant.report.alone, plant.report.people) == (1, 0, 1)
    assert plant.report.seconds == pytest.approx(6.0)


def test_a_reset_must_look_done_for_a_while():
    plant, asked, _, _ = counting(lambda steps: steps in (5, 9, 10) or steps >= 25, rest=3)
    plant.reset()
    plant.reset()
    assert plant.plant.steps == 27  # 20 steps of a first try that did not rest, then 25, 26, 27
    assert (plant.report.alone, plant.report.at_once, asked) == (1, 0, [])


def test_a_reset_is_broken_off_when_told_to_stop():
    plant, asked, _, _ = counting(lambda steps: False, stopping=lambda: True)
    plant.reset()
    plant.reset()
    assert (plant.plant.steps, asked) == (0, [])


def test_tasks_without_a_reset_and_robots_with_two_arms_are_named():
    with pytest.raises(UserError, match="arm-push"):
        find_reset(TASKS["arm-push"])
    with pytest.raises(UserError, match="one arm"):
        single({"left": None, "right": None})


def lying(cube_yaw, width=0.08, z=0.02, tool=(0.5, 0.0, 0.2), tool_yaw=0.0):
    def down(yaw):
        return [0.0, np.cos(yaw / 2), np.sin(yaw / 2), 0.0]

    return ArmState(
        np.zeros(7),
        np.zeros(7),
        np.array([*tool, *down(tool_yaw)]),
        np.zeros(6),
        np.float64(width),
        objects={"cube": np.array([0.5, 0.0, z, *down(cube_yaw)])},
    )


def test_done_is_what_is_measured():
    reset = pick_lift(LIFT)
    start = lying(0.3)
    target = Target(tool=start.tool_pose, objects=start.objects)
    assert reset.done(start, target)
    assert not reset.done(lying(0.3, width=0.04), target)
    assert not reset.done(lying(0.3, z=0.15), target)
    assert not reset.done(lying(0.3, tool=(0.5, 0.05, 0.2)), target)
    tipped = lying(0.3)
    tipped.objects["cube"][3:] = [0.0, 0.0, 0.0, 1.0]
    assert not reset.done(tipped, target)
