"""Interpolation to joint targets: limits, arrival, new targets on the way, for one robot and for batches."""

import builtins

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.controllers.joint_position import (
    BatchInterpolator,
    JointInterpolator,
    JointLimits,
    joint_limits,
    symmetric_limit,
)

# Of a robot whose jerk limit matters: 0.2 s from rest to full acceleration.
SOFT = JointLimits(
    lower=np.array([-2.0, -1.0]),
    upper=np.array([2.0, 1.5]),
    velocity=np.array([1.0, 0.5]),
    acceleration=np.array([4.0, 2.0]),
    jerk=np.array([40.0, 10.0]),
)
DT = 0.004


def batch_reference(limits, start, targets, steps_each, dt=DT):
    """References (time, ..., 3, n) of position, velocity, acceleration for a sequence of targets."""
    interpolator = BatchInterpolator(limits, dt, start)
    interpolator.reset(start)
    out = []
    for target in targets:
        interpolator.set_target(target)
        out += [np.stack(interpolator.step(), axis=-2) for _ in range(steps_each)]
    return np.array(out)


def check_limits(limits, start, out, dt):
    """Limits of the references as said and of their differences, which a robot would see."""
    position = np.concatenate([[start], out[..., 0, :]])
    velocity = np.diff(position, axis=0) / dt
    acceleration = np.diff(np.concatenate([np.zeros_like(velocity[:1]), velocity]), axis=0) / dt
    jerk = np.diff(np.concatenate([np.zeros_like(acceleration[:1]), acceleration]), axis=0) / dt
    tiny = 1e-9
    assert np.all(position >= limits.lower - tiny)
    assert np.all(position <= limits.upper + tiny)
    for said, value, limit in (
        (out[..., 1, :], velocity, limits.velocity),
        (out[..., 2, :], acceleration, limits.acceleration),
        (None, jerk, limits.jerk),
    ):
        # Differences lose digits with every division by dt.
        assert np.all(np.abs(value) <= limit * (1.0 + 1e-6) + 1e-3)
        if said is not None:
            np.testing.assert_allclose(said, value, atol=1e-5)


def arrival(positions, target, tolerance=1e-3):
    """Steps until the last time that any joint is away from the target."""
    return 1 + int(np.nonzero(np.any(np.abs(positions - target) > tolerance, axis=-1))[0][-1])


@given(st.integers(0, 10_000), st.integers(1, 60))
@settings(max_examples=30, deadline=None)
def test_batch_keeps_every_limit_for_any_sequence_of_targets(seed, steps_each):
    rng = np.random.default_rng(seed)
    start = rng.uniform(SOFT.lower, SOFT.upper, (3, 2))
    targets = rng.uniform(1.5 * SOFT.lower, 1.5 * SOFT.upper, (12, 3, 2))
    out = batch_reference(SOFT, start, targets, steps_each)
    check_limits(SOFT, start, out, DT)


@given(st.integers(0, 10_000))
@settings(max_examples=12, deadline=None)
def test_batch_arrives_exactly_without_overshoot_and_stays(seed):
    rng = np.random.default_rng(seed)
    start, target = rng.uniform(SOFT.lower, SOFT.upper, (2, 3, 2))
    out = batch_reference(SOFT, start, [target], 1500)
    np.testing.assert_allclose(out[-50:, :, 0], np.broadcast_to(target, (50, 3, 2)), atol=1e-9)
    np.testing.assert_allclose(out[-50:, :, 1:], 0.0, atol=1e-6)
    way = (out[..., 0, :] - start) * np.sign(target - start)
    assert np.all(np.diff(way, axis=0) >= -1e-12)
    assert np.all(way <= np.abs(target - start) + 1e-12)


def test_batch_takes_a_few_percent_more_time_than_ruckig(panda):
    limits = joint_limits(panda)
    rng = np.random.default_rng(0)
    ratios = []
    for _ in range(20):
        start, target = rng.uniform(limits.lower, limits.upper, (2, 7))
        single = JointInterpolator(limits)
        single.reset(start)
        single.set_target(target)
        optimal = np.array([single.step(DT)[0] for _ in range(1000)])
        ours = batch_reference(limits, start, [target], 1000)[:, 0]
        ratios.append(arrival(ours, target) / arrival(optimal, target))
    assert min(ratios) > 0.97
    assert max(ratios) < 1.05


def test_ruckig_keeps_limits_through_changes_of_target(panda):
    limits = joint_limits(panda, margin=0.05, fraction=0.5)
    rng = np.random.default_rng(1)
    dt = 0.001
    interpolator = JointInterpolator(limits)
    start = panda.home
    interpolator.reset(start)
    out = []
    for _ in range(12):
        asked = rng.uniform(-4.0, 4.0, 7)
        taken = interpolator.set_target(asked)
        np.testing.assert_array_equal(taken, np.clip(asked, limits.lower, limits.upper))
        out += [np.stack(interpolator.step(dt)) for _ in range(rng.integers(20, 600))]
    position, velocity, acceleration = np.moveaxis(np.array(out), 1, 0)
    assert np.all(position <= limits.upper + 1e-6)
    assert np.all(position >= limits.lower - 1e-6)
    assert np.all(np.abs(velocity) <= limits.velocity + 1e-6)
    assert np.all(np.abs(acceleration) <= limits.acceleration + 1e-6)
    jerk = np.diff(acceleration, axis=0, prepend=np.zeros((1, 7))) / dt
    assert np.all(np.abs(jerk) <= limits.jerk * (1.0 + 1e-6))
    # No jump, neither at the start nor at a change.
    steps = np.diff(position, axis=0, prepend=start[None])
    assert np.all(np.abs(steps) <= limits.velocity * dt * (1.0 + 1e-6))


def test_ruckig_moves_in_a_straight_line_and_arrives_with_all_joints_at_once(panda):
    limits = joint_limits(panda)
    interpolator = JointInterpolator(limits)
    interpolator.reset(panda.home)
    target = panda.home + np.array([0.5, -0.2, 0.3, 0.4, -0.6, 0.2, 0.1])
    interpolator.set_target(target)
    way = np.array([interpolator.step(0.002)[0] for _ in range(900)]) - panda.home
    shares = way / (target - panda.home)
    np.testing.assert_allclose(shares, np.broadcast_to(shares[:, :1], shares.shape), atol=1e-9)
    np.testing.assert_allclose(way[-1], target - panda.home, atol=1e-12)


def test_ruckig_refuses_what_is_not_finite_and_goes_on(panda):
    interpolator = JointInterpolator(joint_limits(panda))
    interpolator.reset(panda.home)
    target = panda.home + 0.1
    interpolator.set_target(target)
    interpolator.step(0.01)
    for bad in (np.full(7, np.nan), np.array([np.inf, *panda.home[1:]]), np.zeros(6)):
        with pytest.raises(ValueError, match=r"must be finite and of shape \(7,\)"):
            interpolator.set_target(bad)
    for _ in range(100):
        position = interpolator.step(0.01)[0]
    np.testing.assert_allclose(position, target)


def test_batch_keeps_the_target_of_joints_that_are_not_finite():
    interpolator = BatchInterpolator(SOFT, DT, np.zeros(2))
    interpolator.reset(np.zeros((2, 2)))
    interpolator.set_target(np.array([[0.3, 0.2], [0.1, -0.1]]))
    taken = interpolator.set_target(np.array([[np.nan, 0.4], [9.0, np.inf]]))
    np.testing.assert_array_equal(taken, [[0.3, 0.4], [2.0, -0.1]])


def test_batch_single_and_torch_agree(panda):
    limits = joint_limits(panda)
    rng = np.random.default_rng(2)
    start = rng.uniform(limits.lower, limits.upper, (5, 7))
    targets = rng.uniform(limits.lower, limits.upper, (4, 5, 7))
    out = batch_reference(limits, start, targets, 40)
    np.testing.assert_array_equal(batch_reference(limits, start[3], targets[:, 3], 40), out[:, 3])
    interpolator = BatchInterpolator(limits, DT, torch.from_numpy(start))
    interpolator.reset(torch.from_numpy(start))
    theirs = []
    for target in torch.from_numpy(targets):
        interpolator.set_target(target)
        theirs += [torch.stack(interpolator.step(), dim=-2).numpy() for _ in range(40)]
    np.testing.assert_allclose(theirs, out, atol=1e-9)


@pytest.mark.parametrize("dt", [DT, 0.0201])
def test_a_masked_reset_rests_there_and_leaves_the_others_alone(dt):
    start, target = np.zeros((3, 2)), np.ones((3, 2))
    mask = np.array([True, False, True])
    outs = []
    for touched in (False, True):
        interpolator = BatchInterpolator(SOFT, dt, start)
        interpolator.reset(start)
        interpolator.set_target(target)
        for _ in range(33):
            interpolator.step()
        if touched:
            interpolator.reset(np.full((3, 2), -0.5), mask)
        outs.append(np.array([np.stack(interpolator.step()) for _ in range(300)]))
    np.testing.assert_allclose(outs[1][:, 0, mask], -0.5)
    np.testing.assert_allclose(outs[1][:, 1:, mask], 0.0, atol=1e-9)
    np.testing.assert_array_equal(outs[1][:, :, ~mask], outs[0][:, :, ~mask])


def test_limits_come_from_the_description_with_margin_and_fraction(panda):
    limits = joint_limits(panda, margin=0.1, fraction=0.5)
    lower, upper = np.array(panda.interface.limits["position"]).T
    np.testing.assert_allclose(limits.lower, lower + 0.1)
    np.testing.assert_allclose(limits.upper, upper - 0.1)
    np.testing.assert_allclose(limits.velocity, 0.5 * symmetric_limit(panda, "velocity"))
    with pytest.raises(ValueError, match="'panda' has no limit of 'snap'; its description gives position"):
        symmetric_limit(panda, "snap")
    with pytest.raises(ValueError, match="margin 9.0 rad leaves no range"):
        joint_limits(panda, margin=9.0)
    with pytest.raises(ValueError, match="fraction of the limits is 0.0"):
        joint_limits(panda, fraction=0.0)


def test_a_missing_ruckig_names_the_extra(panda, monkeypatch):
    original = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "ruckig":
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'robot_rl\[arm\]'"):
        JointInterpolator(joint_limits(panda))
