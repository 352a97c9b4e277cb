"""What is stored of a step: the executed action, who acted, what the policy wanted, how the episode ended."""

from __future__ import annotations

import numpy as np
import pytest

from policies.types import ArmSetpoint
from robot_rl.hil.operators import Help
from robot_rl.hil.plant import Moment, Outcome
from robot_rl.hil.rollout import Rollout

WANTED = np.array([0.5, -0.5], np.float32)
THEIRS = np.array([-1.0, 1.0], np.float32)


class CountingPlant:
    """Observation = steps so far; the time is up after `length` steps, the task solved after `solved`."""

    period = 0.1

    def __init__(self, length: int = 100, solved: int = 1000) -> None:
        self.length, self.solved = length, solved
        self.held = 0
        self.carried_out: list[np.ndarray] = []

    def _moment(self) -> Moment:
        return Moment(
            observation=np.array([self.count, 0.0, 1.0], np.float32), images={}, state=None,
            setpoint=ArmSetpoint(tool_pose=None), progress=float(self.count),
        )  # fmt: skip

    def reset(self) -> Moment:
        self.count = 0
        return self._moment()

    def step(self, action: np.ndarray) -> Outcome:
        self.count += 1
        self.carried_out.append(action)
        won = self.count >= self.solved
        return Outcome(
            moment=self._moment(), reward=float(won), terminated=won, truncated=self.count >= self.length and not won,
            success=won, info={"peak_force_arm": float(self.count)},
        )  # fmt: skip

    def hold(self) -> None:
        self.held += 1

    def close(self) -> None:
        pass


class Helper:
    """Says what it was told to say, by step of the episode."""

    def __init__(self, plan: dict[int, Help]) -> None:
        self.plan = plan

    def begin(self, episode: int, steps: int) -> None:
        self.looks = -1

    def look(self, moment: Moment, policy_action: np.ndarray, value: float | None) -> Help:
        self.looks += 1
        return self.plan.get(self.looks, Help())


def run(plant: CountingPlant, plan: dict[int, Help], steps: int):
    rollout = Rollout(plant, Helper(plan))
    rollout.begin()
    records = []
    for _ in range(steps):
        if not rollout.running:
            break
        record = rollout.step(lambda moment, index: (WANTED, 0.25))
        if record is not None:
            records.append(record)
    return rollout, records


def test_the_executed_action_is_stored_with_the_policys_own_from_the_very_first_corrected_step():
    help_ = {k: Help(action=THEIRS) for k in (3, 4)}
    rollout, records = run(CountingPlant(), help_, 6)
    assert [record.driver for record in records] == ["policy"] * 3 + ["person"] * 2 + ["policy"]
    for record in records:
        np.testing.assert_array_equal(record.policy_action, WANTED)
        np.testing.assert_array_equal(record.action, THEIRS if record.driver == "person" else WANTED)
    plant = rollout.plant
    assert isinstance(plant, CountingPlant)
    np.testing.assert_array_equal(plant.carried_out, [record.action for record in records])
    assert (rollout.statistics.intervened, rollout.statistics.interventions) == (2, 1)


def test_a_time_limit_is_a_truncation_with_a_final_observation():
    rollout, records = run(CountingPlant(length=4), {}, 10)
    assert not rollout.running and len(records) == 4
    assert [record.truncated for record in records] == [False, False, False, True]
    assert not any(record.terminated for record in records)
    assert records[-1].final_observation is not None and records[-1].final_observation[0] == 4.0
    assert all(record.final_observation is None for record in records[:-1])


@pytest.mark.parametrize(
    ("mark", "terminated", "truncated", "success", "reward"),
    [
        ("success", True, False, True, 1.0),
        ("failure", True, False, False, 0.0),
        ("discard", False, True, False, 0.0),
    ],
)
def test_a_persons_judgement_ends_the_episode(mark, terminated, truncated, success, reward):
    rollout, records = run(CountingPlant(), {2: Help(mark=mark)}, 10)
    last = records[-1]
    assert len(records) == 3 and not rollout.running
    assert (last.terminated, last.truncated, last.success, last.reward) == (terminated, truncated, success, reward)
    assert rollout.statistics.discarded == (mark == "discard")


def test_the_person_may_overrule_the_tasks_success():
    _, records = run(CountingPlant(solved=3), {2: Help(mark="failure")}, 10)
    assert records[-1].terminated and not records[-1].success and records[-1].reward == 0.0


def test_a_paused_step_moves_nothing_and_is_not_stored():
    plant = CountingPlant()
    rollout, records = run(plant, {1: Help(pause=True), 2: Help(pause=True, action=THEIRS)}, 5)
    assert len(records) == 3 and plant.held == 2 and plant.count == 3
    assert [record.index for record in records] == [0, 1, 2]
    assert rollout.steps == 3


def test_times_are_true_and_in_order():
    _, records = run(CountingPlant(), {}, 4)
    times = [time for record in records for time in (record.observed_at, record.acted_at)]
    assert times == sorted(times)
    assert len({record.wall_time for record in records}) == 1


def test_actions_outside_of_the_range_are_stored_as_they_were_executed():
    plant = CountingPlant()
    rollout = Rollout(plant, Helper({}))
    rollout.begin()
    record = rollout.step(lambda moment, index: (np.array([3.0, -0.2], np.float32), None))
    assert record is not None
    np.testing.assert_array_equal(record.action, np.array([1.0, -0.2], np.float32))
    np.testing.assert_array_equal(plant.carried_out[0], record.action)
    assert "value" not in record.info


def test_no_step_without_an_episode():
    rollout = Rollout(CountingPlant(), Helper({}))
    with pytest.raises(RuntimeError, match="begin"):
        rollout.step(lambda moment, index: (WANTED, None))
