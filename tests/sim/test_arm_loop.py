"""The control loop of arms: commands and observations arrive when they should, in each environment by itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from policies.actions import to_command
from sim.arm_loop import ArmLoop
from sim.arm_randomization import nominal_variables
from sim.engines import make_engine
from sim.engines.base import Placement
from sim.tasks import TASKS
from sim.tasks.arm import ArmTask

COUNT = 3
NOBODY = np.zeros(COUNT, dtype=bool)


class Watched:
    """A loop of `arm-reach` whose truth is kept at every time step."""

    def __init__(self, **variables: list[float]) -> None:
        task = TASKS["arm-reach"]
        assert isinstance(task, ArmTask)
        self.task, self.engine = task, make_engine("mujoco", task.scene, COUNT)
        self.loop = ArmLoop(task, self.engine)
        nominal = nominal_variables(task.scene, 1, 3)
        self.values = {name: value.repeat(COUNT, 1) for name, value in nominal.items()}
        for name, column in variables.items():
            self.values[name] = torch.tensor(column)[:, None]
        self.loop.vary(set(variables))
        home = np.tile(self.loop.controllers["arm"].description.home, (COUNT, 1))
        self.engine.place(np.arange(COUNT), Placement(joints={"arm": home}))
        self.loop.begin(~NOBODY)
        self.history: list[dict[str, np.ndarray]] = []
        self.loop.on_substep = lambda _: self.history.append(self.loop.truth())

    def run(self, action: list[float], periods: int = 1) -> None:
        command = to_command(self.task.action, np.tile(np.array(action), (COUNT, 1)))
        for _ in range(periods):
            self.loop.run(command, self.values)

    def speeds(self) -> np.ndarray:
        """Fastest joint (time steps, environments), rad/s."""
        return np.stack([np.abs(truth["arm.qd"]).max(axis=1) for truth in self.history])


def test_a_period_has_as_many_time_steps_as_it_says() -> None:
    watched = Watched()
    watched.run([0.0, 0.0, 0.0])
    assert len(watched.history) == watched.loop.substeps == 50


def test_a_command_acts_after_its_latency_and_never_sooner() -> None:
    """Latencies of 0, 20 and 38 ms: on the grid of 10 ms they are 0, 20 and 40."""
    watched = Watched(action_latency=[0.0, 0.02, 0.038])
    watched.run([0.0, 0.0, 0.0], periods=2)  # the controller has taken over, everything rests
    watched.history.clear()
    watched.run([1.0, 0.0, 0.0])
    moving = watched.speeds() > 5.0 * watched.speeds()[:2].max(axis=0).clip(1e-4)
    moving[:, 0] = watched.speeds()[:, 0] > 1e-3
    first = moving.argmax(axis=0) * 0.002
    assert moving.any(axis=0).all()
    assert first[0] < 0.01
    np.testing.assert_allclose(first - first[0], [0.0, 0.02, 0.04], atol=0.005)


@pytest.mark.parametrize("moment", [0, 2])
def test_what_is_seen_is_the_truth_of_that_long_ago(moment: int) -> None:
    """Latencies of 0, 30 and 44 ms: the last one is seen as of 40 ms ago, the nearest of the grid."""
    watched = Watched(observation_latency=[0.0, 0.03, 0.044])
    for action in ([1.0, 0.0, 0.0], [0.0, -1.0, 0.5], [-1.0, 1.0, 0.0])[: moment + 1]:
        watched.history.clear()
        watched.run(action)
    now = watched.loop.truth()
    seen = watched.loop.seen(now, watched.values, NOBODY)
    for env, ago in enumerate((0, 15, 20)):
        then = now if ago == 0 else watched.history[-1 - ago]
        for name in ("arm.q", "arm.qd"):
            np.testing.assert_array_equal(seen[name][env], then[name][env], err_msg=f"{name} of environment {env}")
    assert not np.array_equal(seen["arm.q"][1], now["arm.q"][1])


def test_who_begins_an_episode_sees_it_at_once() -> None:
    watched = Watched(observation_latency=[0.03, 0.03, 0.03])
    watched.run([1.0, 0.0, 0.0])
    now = watched.loop.truth()
    begins = np.array([False, True, False])
    seen = watched.loop.seen(now, watched.values, begins)
    assert np.array_equal(seen["arm.q"][1], now["arm.q"][1])
    assert not np.array_equal(seen["arm.q"][0], now["arm.q"][0])
    watched.loop.clear()
    assert np.array_equal(watched.loop.seen(now, watched.values, NOBODY)["arm.q"], now["arm.q"])


def test_weak_motors_move_less_and_nominal_ones_as_without_the_variable() -> None:
    plain, varied = Watched(), Watched(motor_strength=[1.0, 0.3, 1.0], gain_stiffness=[1.0, 1.0, 0.2])
    for watched in (plain, varied):
        watched.run([1.0, 0.0, 0.0], periods=2)
    moved, other = plain.loop.truth()["arm.q"], varied.loop.truth()["arm.q"]
    np.testing.assert_allclose(other[0], moved[0], atol=1e-12)
    start = plain.loop.controllers["arm"].description.home
    for env in (1, 2):
        assert np.linalg.norm(other[env] - start) < 0.9 * np.linalg.norm(moved[env] - start)


def test_it_goes_on_from_its_state() -> None:
    watched, other = (Watched(observation_latency=[0.0, 0.03, 0.05]) for _ in range(2))
    watched.run([1.0, 0.5, 0.0], periods=2)
    other.engine.load_state(watched.engine.state())
    other.loop.load_state({name: value.copy() for name, value in watched.loop.state().items()})
    for each in (watched, other):
        each.run([-1.0, 0.5, 0.3])
    one, two = (each.loop.seen(each.loop.truth(), each.values, NOBODY) for each in (watched, other))
    assert all(np.array_equal(one[name], two[name]) for name in one)
