"""Positions that keep the limits of their differences, whatever is wanted."""

import numpy as np
import pytest

from hardware.controllers.joint_position import JointInterpolator, joint_limits
from hardware.descriptions import load_arm
from hardware.safety.arm_envelope import ArmEnvelope, joint_envelope
from hardware.safety.position_limits import JointLimiter


def limiters(name, dt):
    limits = joint_envelope(load_arm(name), ArmEnvelope())
    rows = zip(limits.lower, limits.upper, limits.velocity, limits.acceleration, limits.jerk, strict=True)
    return limits, [JointLimiter(*(float(value) for value in row), dt) for row in rows]


def worst_excess(positions, limits, joint, dt):
    """Largest excess over each limit: rad, then shares."""
    q = np.array(positions)
    v = np.diff(q) / dt
    a = np.diff(v) / dt
    return [
        max(q.max() - limits.upper[joint], limits.lower[joint] - q.min()),
        np.abs(v).max() / limits.velocity[joint] - 1.0,
        np.abs(a).max() / limits.acceleration[joint] - 1.0,
        np.abs(np.diff(a)).max() / dt / limits.jerk[joint] - 1.0,
    ]


def jumps(rng, lower, upper):
    while True:
        target = rng.uniform(lower - 1.0, upper + 1.0)
        for _ in range(int(rng.integers(1, 200))):
            yield target


def noise(rng, lower, upper):
    while True:
        yield rng.uniform(-10.0, 10.0)


def ends(rng, lower, upper):
    while True:
        target = rng.choice([-100.0, 100.0])
        for _ in range(150):
            yield target


def walk(rng, lower, upper):
    place = 0.5 * (lower + upper)
    while True:
        place += rng.normal() * 0.02
        yield place


@pytest.mark.parametrize("signal", [jumps, noise, ends, walk])
@pytest.mark.parametrize(("name", "dt"), [("panda", 0.002), ("panda", 0.01), ("ur5e", 0.002), ("xarm7", 0.004)])
def test_no_sequence_breaks_a_limit(signal, name, dt):
    limits, joints = limiters(name, dt)
    rng = np.random.default_rng(3)
    for index in (0, len(joints) - 1):
        joint = joints[index]
        start = rng.uniform(limits.lower[index], limits.upper[index])
        joint.reset(start)
        positions = [start] * 3  # at rest
        for _, wanted in zip(range(700), signal(rng, limits.lower[index], limits.upper[index]), strict=False):
            joint.step(float(wanted))
            positions.append(joint.q)
        assert max(worst_excess(positions, limits, index, dt)) < 2e-6


def test_a_trajectory_within_the_limits_passes_unchanged():
    panda = load_arm("panda")
    limits, joints = limiters("panda", 0.002)
    interpolator = JointInterpolator(joint_limits(panda, margin=0.05, fraction=0.8))
    interpolator.reset(panda.home)
    for joint, angle in zip(joints, panda.home, strict=True):
        joint.reset(float(angle))
    rng = np.random.default_rng(0)
    for k in range(1000):
        if k % 500 == 0:
            interpolator.set_target(rng.uniform(limits.lower + 0.05, limits.upper - 0.05))
        q, _, _ = interpolator.step(0.002)
        for joint, angle in zip(joints, q, strict=True):
            assert joint.step(float(angle)) == ""
            assert joint.q == angle


@pytest.mark.parametrize("name", ["panda", "ur5e"])
def test_a_jump_is_followed_to_its_end_without_overshoot(name):
    limits, joints = limiters(name, 0.002)
    joint = joints[0]
    joint.reset(-1.0)
    track = []
    for _ in range(1500):
        reason = joint.step(1.0)
        track.append(joint.q)
    assert reason == ""
    assert track[-1] == 1.0
    assert max(track) < 1.0 + 2e-3
    # The time of the limits themselves is 2 / v + v / a + a / j; the nested steps may take some more.
    v, a, j = limits.velocity[0], limits.acceleration[0], limits.jerk[0]
    assert 0.002 * np.argmax(np.array(track) > 1.0 - 1e-3) < 1.4 * (2.0 / v + v / a + a / j)


def test_beyond_a_limit_it_may_only_come_back():
    limits, joints = limiters("panda", 0.002)
    joint = joints[3]
    start = limits.upper[3] + 0.02
    joint.reset(start)
    for _ in range(300):
        joint.step(start + 1.0)
        assert joint.q <= start
    for _ in range(600):
        joint.step(limits.upper[3] - 0.3)
    assert joint.q == pytest.approx(limits.upper[3] - 0.3)
    for _ in range(1000):
        joint.step(start)
        assert joint.q <= limits.upper[3] + 1e-9
