"""Success that a learned reward tells."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from robot_rl.errors import UserError
from robot_rl.hil.judged import JudgedPlant, check_judge, endless
from robot_rl.hil.plant import Moment, Outcome, SimulatedPlant, expert_action
from sim.tasks import TASKS


class Judge:
    """Says success at given calls since `reset`."""

    shapes = {"front": (64, 64)}

    def __init__(self, at):
        self.at, self.calls, self.seen, self.last_probability = at, 0, [], 0.25

    def reset(self):
        self.calls = 0

    def success(self, images, state):
        self.calls += 1
        self.seen.append((images, state))
        return self.calls in self.at


class Robot:
    """A plant whose steps end as told."""

    period = 0.1

    def __init__(self, **ends):
        self.ends = {"terminated": False, "truncated": False, **ends}

    def reset(self):
        self.moment = Moment(
            observation=np.zeros(1, np.float32), images={"front": np.zeros((64, 64, 3), np.uint8)}, state="state",
            setpoint=None, progress=0.0,
        )  # fmt: skip
        return self.moment

    def step(self, action):
        return Outcome(moment=self.moment, reward=0.0, success=False, info={"force": 1.0}, **self.ends)


def test_what_the_judge_says_ends_the_episode_and_is_the_reward():
    judge = Judge(at={2})
    plant = JudgedPlant(Robot(), judge, truth=lambda: False)
    for _ in range(2):  # every episode begins with a fresh count
        plant.reset()
        first, second = plant.step(np.zeros(1)), plant.step(np.zeros(1))
        assert (first.reward, first.success, first.terminated, first.truncated) == (0.0, False, False, False)
        assert (second.reward, second.success, second.terminated, second.truncated) == (1.0, True, True, False)
        assert second.info == {"force": 1.0, "judged": 0.25, "truth": 0.0}
    assert judge.seen[0][1] == "state" and judge.seen[0][0]["front"].shape == (64, 64, 3)


def test_a_lost_episode_is_no_success_and_a_late_one_may_be():
    lost, late, out = Robot(terminated=True), Robot(truncated=True), Robot(truncated=True)
    found = []
    for robot, at in ((lost, {1}), (late, {1}), (out, set())):
        plant = JudgedPlant(robot, Judge(at=at))
        plant.reset()
        found.append(plant.step(np.zeros(1)))
    assert [(o.success, o.terminated, o.truncated) for o in found] == [
        (False, True, False), (True, True, False), (False, False, True),
    ]  # fmt: skip


def test_a_reward_that_needs_other_pictures_is_refused():
    judge = SimpleNamespace(shapes={"front": (64, 64), "wrist": (64, 64)})
    check_judge(judge, ("front", "wrist"), 64)
    with pytest.raises(UserError, match="through camera 'wrist'; give it with --actor.cameras front wrist"):
        check_judge(judge, ("front",), 64)
    with pytest.raises(UserError, match="looks at 64 pixels, the cameras give 48"):
        check_judge(judge, ("front", "wrist"), 48)


def test_an_endless_task_is_not_over_when_it_is_solved():
    task = dataclasses.replace(TASKS["arm-pick-lift"], episode_length=5.0)
    plant = SimulatedPlant(endless(task), seed=1, randomization=())
    moment, held = plant.reset(), 0
    for step in range(50):
        outcome = plant.step(expert_action(task, moment.state, moment.setpoint))
        moment = outcome.moment
        held += bool(task.success(plant.env.view))
        assert not outcome.success and outcome.reward == 0.0 and not outcome.terminated
        assert outcome.truncated == (step == 49)
    assert held > 10, "the expert solves it all the same"
    assert not endless(task).build(task.settings).success(plant.env.view).any()
    assert isinstance(task.success(plant.env.view), torch.Tensor)
    plant.close()
