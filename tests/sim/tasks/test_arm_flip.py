"""`arm-flip`: the scripted expert tosses and catches, and only toast that lies turned over in the pan counts."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

import sim
from hardware.descriptions import load_arm
from policies import rotation
from sim.arm_environment import ArmEnv
from sim.engines import make_engine
from sim.tasks.arm import ArmStart
from sim.tasks.arm_flip import TASK, THICKNESS, in_pan, pan_of, rests, side_up

TURNED = np.array([0.0, 0.0, 1.0, 0.0])
STILL = torch.zeros(1, 3)


@pytest.fixture(scope="module")
def flight() -> dict[str, torch.Tensor]:
    """32 episodes of the expert, each up to its end."""
    env = sim.make("arm-flip", num_envs=32, seed=4)
    assert isinstance(env, ArmEnv)
    env.reset()
    limits = torch.tensor([high for _, high in load_arm("panda").interface.limits["velocity"]])
    done, won = torch.zeros(32, dtype=torch.bool), torch.zeros(32, dtype=torch.bool)
    rows: dict[str, list[torch.Tensor]] = {name: [] for name in ("height", "action", "speed")}
    while not done.all():
        action = TASK.expert(env.measured, env.setpoint)
        _, _, reset, extras = env.step(action)
        arm = env.view.arm
        height = in_pan(pan_of(arm), arm.objects["toast"])[:, 2]
        share = (arm.joint_velocities.abs() / limits).amax(-1)
        for name, value in (("height", height), ("action", action.abs().amax(-1)), ("speed", share)):
            rows[name].append(value.where(~done, torch.zeros(())))
        won |= extras["success"] & ~done
        done |= reset
    return {"won": won, **{name: torch.stack(values) for name, values in rows.items()}}


def test_expert_flips_the_toast(flight: dict[str, torch.Tensor]) -> None:
    """300 episodes gave 300 successes; with 97 % a run of 32 has fewer than 26 about once in 100,000."""
    assert int(flight["won"].sum()) >= 26


def test_toast_flies(flight: dict[str, torch.Tensor]) -> None:
    """It is tossed with the action at its limits: for a moment it is well over the pan."""
    assert (flight["height"].amax(0) > 0.15).float().mean() > 0.9
    assert flight["action"].amax(0).min() > 0.95


def test_joints_keep_their_speed_limits(flight: dict[str, torch.Tensor]) -> None:
    """The simulated joints would go faster; the robot's would not."""
    assert flight["speed"].amax(0).quantile(0.9) < 1.0


def _env(place: tuple[float, float, float], turn: np.ndarray | None = None) -> ArmEnv:
    """One undisturbed environment whose toast begins at a place (m) in the pan, turned by a quaternion."""

    def start(count: int, generator: torch.Generator, values: object) -> ArmStart:
        usual = TASK.start(count, generator, {})
        toast = usual.poses["toast"]
        middle = toast[:, :3] + np.array([*place[:2], place[2] - 0.5 * THICKNESS])
        turned = toast[:, 3:] if turn is None else rotation.multiply(toast[:, 3:], np.broadcast_to(turn, (count, 4)))
        return ArmStart(joints=usual.joints, poses={"toast": np.concatenate([middle, turned], axis=1)})

    changed = dataclasses.replace(TASK, start=start)
    return ArmEnv(changed, make_engine("mujoco", changed.scene, 1), randomization=())


def _count(env: ArmEnv, steps: int, action: torch.Tensor = STILL) -> int:
    env.reset(seed=1)
    counted = 0
    for _ in range(steps):
        env.step(action)
        counted += bool(TASK.success(env.view)[0])
    return counted


def test_toast_as_it_was_never_counts() -> None:
    """It rests in the pan, but on its old side."""
    env = _env((0.0, 0.0, 0.5 * THICKNESS))
    assert _count(env, 12) == 0
    assert rests(pan_of(env.view.arm), env.view.arm.objects["toast"])[0]


def test_turned_toast_in_the_pan_counts() -> None:
    """Turned over by hand, so to speak."""
    assert _count(_env((0.0, 0.0, 0.5 * THICKNESS), TURNED), 12) >= 8


def test_turned_toast_in_the_air_or_outside_never_counts() -> None:
    """Falling into the pan it counts only once it lies; beside the pan it never does, and the episode is lost."""
    env = _env((0.0, 0.0, 0.25), TURNED)
    assert _count(env, 5) == 0
    assert side_up(env.view.arm.objects["toast"])[0] < -0.9
    beside = _env((0.0, 0.25, 0.05), TURNED)
    assert _count(beside, 5) == 0
    assert TASK.failed(beside.view)[0]


def test_reward_prefers_the_turned_side() -> None:
    """Terms are at most 0, their sum at least about -1, and toast turned over in the pan is better."""
    sums = []
    for turn in (None, TURNED):
        env = _env((0.0, 0.0, 0.5 * THICKNESS), turn)
        env.reset(seed=2)
        env.step(STILL)
        terms = torch.stack(list(TASK.reward(env.view).values()))
        assert (terms <= 0.0).all() and terms.sum() > -1.1
        sums.append(terms.sum())
    assert sums[1] > sums[0] + 0.4


def test_angle_is_a_setting() -> None:
    """Of the angle by which the toast must be turned over."""
    env = sim.make("arm-flip", num_envs=1, settings={"angle": 0.0}, randomization="none")
    assert isinstance(env, ArmEnv) and math.isclose(env.task.settings.angle, 0.0)
    env.reset()
    for _ in range(8):
        env.step(STILL)
    assert env.task.success(env.view)[0], "with an angle of 0 the toast that rests as it was is enough"


def test_seed_repeats_the_starts() -> None:
    """Bit by bit; other seeds begin elsewhere."""
    env = ArmEnv(TASK, make_engine("mujoco", TASK.scene, 8))
    first = env.reset(seed=7)["obs"].clone()
    assert not torch.equal(env.reset(seed=8)["obs"], first)
    assert torch.equal(env.reset(seed=7)["obs"], first)


def test_contract() -> None:
    """Short episodes, so that the checks reach several of them."""
    task = dataclasses.replace(TASK, episode_length=0.4)
    assert sim.check_vec_env(ArmEnv(task, make_engine("mujoco", task.scene, 2))) == []
