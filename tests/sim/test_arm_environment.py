"""The batched environment of arms: the contract, episodes, latencies, faults, and going on from a stored state."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import sim
from sim.adr import AutomaticConfig, AutomaticParameter
from sim.arm_environment import ArmEnv
from sim.check import check_vec_env
from sim.factory import build_env
from sim.randomization import RandomizationTerm
from sim.tasks import TASKS
from sim.tasks.arm import ArmTask, ArmView, distance

REACH, PUSH = TASKS["arm-reach"], TASKS["arm-push"]
assert isinstance(REACH, ArmTask) and isinstance(PUSH, ArmTask)


def fixed(**values: float) -> tuple[RandomizationTerm, ...]:
    return tuple(RandomizationTerm(parameter=name, low=value, high=value) for name, value in values.items())


def random_actions(steps: int, env: ArmEnv, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2.0 * torch.rand(steps, env.num_envs, env.num_actions, generator=generator) - 1.0


def always(value: bool) -> Any:
    return lambda view: torch.full((len(view.time),), value)


def changed(task: ArmTask, **fields: Any) -> ArmTask:
    return dataclasses.replace(task, **fields)


# Episodes


def test_two_arms_and_sparse_rewards_keep_the_contract() -> None:
    task = dataclasses.replace(TASKS["arm-handover"], episode_length=0.3)
    env = build_env(task, 2, reward="sparse")
    assert set(env.measured) == {"left", "right"}
    assert check_vec_env(env, steps=6) == []
    env.close()


def test_success_is_a_goal_that_is_held_without_a_break() -> None:
    """The goal is reached, left for one period, and reached again: only then does the hold of 3 periods count."""
    pattern = [True, True, False, True, True, True, True]

    def reached(view: ArmView) -> Tensor:
        period = (view.time / REACH.period).round().long().clamp(min=1)
        return torch.tensor(pattern)[period - 1]

    env = build_env(changed(REACH, success=reached, hold=0.3), 2, randomization=())
    env.reset()
    ended = []
    for _ in pattern:
        _, reward, reset, extras = env.step(torch.zeros(2, 3))
        ended.append((bool(reset.all()), bool(extras["success"].all()), bool(extras["time_outs"].any())))
        assert bool((extras["success"] <= reset).all())
    assert ended[:6] == [(False, False, False)] * 5 + [(True, True, False)]
    assert not ended[6][0], "the step that begins an episode ends none"


def test_failure_ends_without_a_time_out_and_beats_success() -> None:
    task = changed(REACH, success=always(True), failed=always(True), hold=0.1)
    env = build_env(task, 2, randomization=())
    env.reset()
    _, reward, reset, extras = env.step(torch.zeros(2, 3))
    assert bool(reset.all())
    assert not bool(extras["success"].any()) and not bool(extras["time_outs"].any())
    assert float(reward.max()) < -0.9 * task.failure_penalty
    _, reward, reset, _ = env.step(torch.zeros(2, 3))
    assert not bool(reset.any()) and bool((reward == 0.0).all())


def test_the_time_limit_is_a_time_out_unless_the_goal_is_reached_in_that_very_step() -> None:
    for success in (False, True):
        task = changed(REACH, episode_length=0.3, hold=0.3, success=always(success))
        env = build_env(task, 2, randomization=())
        env.reset()
        rows = [env.step(torch.zeros(2, 3)) for _ in range(3)]
        assert [bool(row[2].all()) for row in rows] == [False, False, True]
        assert bool(rows[-1][3]["time_outs"].all()) is not success
        assert bool(rows[-1][3]["success"].all()) is success


def test_dense_rewards_shape_every_step_and_sparse_ones_pay_the_goal_only() -> None:
    task = changed(REACH, success=always(True), hold=0.2)
    paid = {}
    for kind in ("dense", "sparse"):
        env = build_env(task, 2, randomization=(), reward=kind)
        env.reset()
        paid[kind] = [env.step(torch.full((2, 3), 0.5))[1] for _ in range(3)]
    assert [row.tolist() for row in paid["sparse"]] == [[0.0, 0.0], [1.0, 1.0], [0.0, 0.0]]
    assert bool((paid["dense"][0] < 0.0).all()) and bool((paid["dense"][0] > -1.1).all())
    np.testing.assert_allclose(paid["dense"][1], task.success_bonus, atol=1.1)
    assert bool((paid["dense"][2] == 0.0).all())


def test_costs_are_in_the_extras_and_0_in_the_step_that_begins_an_episode() -> None:
    def costs(view: ArmView) -> dict[str, Tensor]:
        return {"always": torch.ones_like(view.time), "fast": view.action.abs().sum(-1)}

    task = changed(REACH, costs=costs, episode_length=0.2)
    env = build_env(task, 2, randomization=())
    env.reset()
    found = [env.step(torch.full((2, 3), 0.5))[3] for _ in range(3)]
    assert [extras["cost"].tolist() for extras in found] == [[2.5, 2.5], [2.5, 2.5], [0.0, 0.0]]
    assert float(found[0]["log"]["cost/fast"]) == pytest.approx(1.5)
    assert "cost" not in build_env(REACH, 1).step(torch.zeros(1, 3))[3]


def test_begin_starts_episodes_at_once_in_the_named_environments_only() -> None:
    env = build_env(PUSH, 3, seed=2)
    env.reset()
    for action in random_actions(3, env):
        env.step(action)
    before, box = env.view.arm.joint_positions.clone(), env.view.arm.objects["box"].clone()
    mask = torch.tensor([False, True, False])
    env.begin(mask)
    assert torch.equal(env.view.arm.joint_positions[~mask], before[~mask])
    assert not torch.allclose(env.view.arm.objects["box"][mask], box[mask], atol=1e-3)
    assert env.view.time.tolist() == pytest.approx([0.3, 0.0, 0.3])


# What is observed


def test_the_view_is_the_truth_and_sensors_are_not() -> None:
    env = build_env(PUSH, 2, randomization=fixed(joint_position_bias=0.01, object_position_bias=0.05))
    env.reset()
    env.step(torch.full((2, 2), 0.7))
    q, qd = env.engine.joints("arm")
    np.testing.assert_allclose(env.view.arm.joint_positions, q, atol=1e-6)
    np.testing.assert_allclose(env.view.arm.joint_velocities, qd, atol=1e-6)
    np.testing.assert_allclose(env.view.arm.objects["box"], env.engine.pose("box"), atol=1e-6)
    np.testing.assert_allclose(env.view.twists["box"], env.engine.twist("box"), atol=1e-6)
    np.testing.assert_allclose(env.view.arm.tool_pose[:, :3], env.engine.pose("arm/tool")[:, :3], atol=1e-6)
    measured = env.measured
    np.testing.assert_allclose(measured.joint_positions - env.view.arm.joint_positions, 0.01, atol=1e-6)
    shift = measured.objects["box"][:, :3] - env.view.arm.objects["box"][:, :3]
    np.testing.assert_allclose(shift, 0.05, atol=1e-6)


def test_an_observation_is_as_late_as_its_latency() -> None:
    """The tool moves straight on at a constant speed: 40 ms late is 40 ms of way behind."""
    env = build_env(REACH, 2, seed=1, randomization=fixed(observation_latency=0.04))
    env.reset()
    forward = torch.tensor([[0.0, 0.0, 0.5]]).repeat(2, 1)
    for _ in range(6):
        env.step(forward)
    lag = env.view.arm.tool_pose[:, 2] - env.measured.tool_pose[:, 2]
    speed = env.view.arm.tool_twist[:, 2]
    assert float(speed.min()) > 0.15
    np.testing.assert_allclose(lag / speed, 0.04, atol=0.003)


def test_an_action_is_as_late_as_its_latency() -> None:
    """At 0.2 m/s after a standstill, a later start is so much less of way."""
    heights = []
    for latency in (0.0, 0.04):
        env = build_env(REACH, 2, seed=1, randomization=fixed(action_latency=latency))
        env.reset()
        before = env.view.arm.tool_pose[:, 2].clone()
        for _ in range(2):
            env.step(torch.tensor([[0.0, 0.0, 0.5]]).repeat(2, 1))
        heights.append(env.view.arm.tool_pose[:, 2] - before)
    np.testing.assert_allclose((heights[0] - heights[1]) / 0.2, 0.04, atol=0.004)


def test_only_the_critic_sees_what_varies() -> None:
    term = RandomizationTerm(parameter="link_mass", low=0.8, high=1.2, operation="scale")
    plain, varied = (build_env(REACH, 4, randomization=terms) for terms in ((), (term,)))
    assert varied.num_obs == plain.num_obs
    assert varied.num_states == plain.num_states + 7
    growing = AutomaticConfig(
        parameters=(AutomaticParameter(parameter="payload", limits=(0.0, 1.0), delta=0.1),),
    )
    automatic = build_env(REACH, 4, randomization=fixed(payload=0.0), automatic=growing)
    assert automatic.num_states == plain.num_states + 1, "what will vary is seen from the beginning"
    states = varied.reset()["states"]
    assert len(states.unique(dim=0)) == 4


# Faults


def test_a_broken_environment_fails_alone_and_is_sound_again_in_its_next_episode() -> None:
    sound = build_env(PUSH, 3, seed=0, randomization=())
    actions = random_actions(6, sound)
    expected = [sound.reset(), *(sound.step(action)[0] for action in actions)]
    env = build_env(PUSH, 3, seed=0, randomization=())
    controller = env.loop.controllers["arm"]
    torques = controller.torques
    broken = False

    def breaking(*arguments: Any) -> np.ndarray:
        wanted: np.ndarray = torques(*arguments)
        if broken:
            wanted = wanted.copy()
            wanted[1] = np.nan
        return wanted

    controller.torques = breaking  # type: ignore[method-assign]
    rows = [env.reset()]
    flags = []
    for number, action in enumerate(actions):
        broken = number == 2
        observations, reward, reset, extras = env.step(action)
        assert all(bool(torch.isfinite(value).all()) for value in (*observations.values(), reward))
        rows.append(observations)
        flags.append(reset.tolist())
        assert not bool(extras["time_outs"].any())
    assert flags == [[False] * 3, [False] * 3, [False, True, False], [False] * 3, [False] * 3, [False] * 3]
    for row, good in zip(rows, expected, strict=True):
        assert torch.equal(row["obs"][[0, 2]], good["obs"][[0, 2]])
    assert float(env.view.arm.joint_velocities[1].abs().max()) > 0.01, "it moves again"
    assert not env.engine.failed.any()


def test_wrong_shapes_and_names_are_refused() -> None:
    env = build_env(REACH, 2)
    with pytest.raises(ValueError, match=r"actions have shape \(2, 4\); expected \(2, 3\)"):
        env.step(torch.zeros(2, 4))
    with pytest.raises(ValueError, match="'payloda' acts on nothing; did you mean 'payload'"):
        build_env(REACH, 1, randomization=fixed(payloda=1.0))
    with pytest.raises(ValueError, match="engine 'torch' flies quadrotors"):
        sim.make("arm-reach", engine="torch")
    with pytest.raises(ValueError, match="has no setting 'tolerence'; did you mean 'tolerance'"):
        sim.make("arm-reach", settings={"tolerence": 0.02})
    with pytest.raises(ValueError, match="unknown engine 'bullet'"):
        sim.make("arm-reach", engine="bullet")


def test_settings_change_the_task() -> None:
    env = sim.make("arm-reach", num_envs=2, settings={"tolerance": 2.0}, randomization="none")
    assert isinstance(env, ArmEnv)
    env.reset()
    assert bool(env.task.success(env.view).all())
    assert float(distance(env.view.arm.tool_pose, env.view.goal).max()) < 2.0


# Storage


TERMS = (
    RandomizationTerm(parameter="action_latency", low=0.0, high=0.08),
    RandomizationTerm(parameter="observation_latency", low=0.0, high=0.08),
    RandomizationTerm(parameter="torque_latency", low=0.0, high=0.01),
    RandomizationTerm(parameter="joint_position_noise", low=0.001, high=0.002),
    RandomizationTerm(parameter="state_loss", low=0.3, high=0.5),
    RandomizationTerm(parameter="object_loss", low=0.3, high=0.5),
    RandomizationTerm(parameter="joint_position_drift", low=-0.01, high=0.01, when="step", correlation_time=0.5),
    RandomizationTerm(parameter="push_tool", low=-5.0, high=5.0, when="step", max_rate=10.0, correlation_time=0.5),
    RandomizationTerm(parameter="box.push", low=-1.0, high=1.0, when="interval", interval=(0.1, 0.3), duration=0.1),
    RandomizationTerm(parameter="link_mass", low=0.9, high=1.1, operation="scale"),
    RandomizationTerm(parameter="box.mass", low=0.2, high=0.4),
    RandomizationTerm(parameter="motor_strength", low=0.9, high=1.1),
)
GROWING = AutomaticConfig(
    parameters=(AutomaticParameter(parameter="link_mass", limits=(0.5, 2.0), delta=0.1),),
    boundary_fraction=0.8,
    queue_length=2,
    threshold_low=-2.0,
    threshold_high=-1.0,  # everything counts as good
)


def goes_on_alike(env: ArmEnv, other: ArmEnv, steps: int) -> int:
    """Run half of the steps, store, load into `other`, compare the rest; returns how many episodes ended there."""
    actions = random_actions(2 * steps, env)
    env.reset()
    for action in actions[:steps]:
        env.step(action)
    stored = {name: value.clone() for name, value in env.state_dict().items()}
    for action in random_actions(2, other, seed=9):
        other.step(action)
    other.load_state_dict(stored)
    endings = 0
    for number, action in enumerate(actions[steps:]):
        a, b = env.step(action), other.step(action)
        for name in a[0]:
            values = zip(_leaves(a[0][name]), _leaves(b[0][name]), strict=True)
            assert all(torch.equal(x, y) for x, y in values), f"{name}, {number} steps after loading"
        assert torch.equal(a[1], b[1]) and torch.equal(a[2], b[2])
        endings += int(a[2].sum())
    assert torch.equal(env.reset()["obs"], other.reset()["obs"]), "the next episodes go on from the same generators"
    return endings


def _leaves(value: Tensor | dict[str, Tensor]) -> list[Tensor]:
    return list(value.values()) if isinstance(value, dict) else [value]


def test_it_goes_on_bit_by_bit_with_everything_that_varies() -> None:
    task = changed(PUSH, episode_length=0.5)
    env, other = (build_env(task, 3, seed=seed, randomization=TERMS, automatic=GROWING) for seed in (1, 2))
    assert goes_on_alike(env, other, 7) > 0
    assert env.automatic is not None and other.automatic is not None
    assert env.automatic.ranges == other.automatic.ranges != {"link_mass": (0.9, 1.1)}
    stored = env.state_dict()
    assert all(isinstance(value, Tensor) for value in stored.values())
    with pytest.raises(ValueError, match=r"has shape .*expected"):
        build_env(task, 2, randomization=TERMS, automatic=GROWING).load_state_dict(stored)


def test_two_arms_with_grippers_go_on_bit_by_bit() -> None:
    task = dataclasses.replace(TASKS["arm-handover"], episode_length=0.3)
    env, other = (build_env(task, 2, seed=seed) for seed in (1, 2))
    assert goes_on_alike(env, other, 4) > 0


def test_with_cameras_it_goes_on_bit_by_bit() -> None:
    try:
        env, other = (build_env(changed(PUSH, episode_length=0.3), 2, seed=seed, cameras=("front",)) for seed in (1, 2))
    except (RuntimeError, ImportError) as error:
        pytest.skip(f"no pictures here: {error}")
    images = env.reset()["images"]["front"]
    assert images.dtype == torch.uint8 and images.shape[0] == 2 and images.shape[-1] == 3
    assert float(images.float().std()) > 5.0
    assert goes_on_alike(env, other, 4) > 0
    env.close()
    other.close()


def test_without_a_camera_of_that_name_or_in_another_engine_images_are_refused() -> None:
    with pytest.raises(ValueError, match="frnt"):
        sim.make("arm-push", cameras=("frnt",))
    with pytest.raises(ValueError, match="has no cameras"):
        sim.make("quadrotor-hover", cameras=("front",))


def test_the_global_generator_is_never_used() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    env = build_env(PUSH, 2)
    env.reset()
    env.step(torch.zeros(2, 2))
    assert torch.equal(torch.get_rng_state(), before)
