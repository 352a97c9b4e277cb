"""The control-barrier filter: nothing penetrates, nothing safe is changed, the change is the smallest."""

import numpy as np
import pytest

from hardware.descriptions import load_arm
from hardware.drivers.driver import ArmSample
from hardware.safety.arm_envelope import ArmEnvelope, Box, RoundRegion
from hardware.safety.arm_filter import ArmFilter, ArmFilterConfig
from policies.types import JointPositions

pytest.importorskip("daqp")

from hardware.safety.barrier import BarrierConfig, BarrierFilter  # noqa: E402

CELL = ArmEnvelope(
    table_height=0.0,
    workspace=(Box(lower=(-0.2, -0.6, 0.0), upper=(0.75, 0.6, 1.0)),),
    forbidden=(
        Box(lower=(0.3, 0.25, 0.0), upper=(0.6, 0.5, 0.4)),
        RoundRegion(start=(0.4, -0.4, 0.2), end=(0.4, -0.4, 0.2), radius=0.15),
    ),
)


@pytest.mark.parametrize("name", ["panda", "xarm7", "ur5e"])
def test_random_velocities_never_penetrate(name):
    arm = load_arm(name)
    barrier, rng, q = BarrierFilter(arm, CELL), np.random.default_rng(0), arm.home.copy()
    changed = 0
    for k in range(500):
        if k % 60 == 0:
            wanted = 2.0 * rng.normal(size=arm.num_joints)
        result = barrier.velocity(wanted, q)
        assert result.feasible
        changed += result.changed
        q = q + 0.005 * result.values
        # The conditions are linear in a step: what is left of its curvature stays far below the margins.
        assert barrier.shape.distances(q).values.min() > -1e-3, result.explain
        assert np.all(q >= barrier.limits.lower - 1e-9) and np.all(q <= barrier.limits.upper + 1e-9)
    assert changed > 50


def test_what_is_safe_passes_unchanged():
    panda = load_arm("panda")
    barrier, rng = BarrierFilter(panda, CELL), np.random.default_rng(1)
    for _ in range(50):
        wanted = 0.05 * rng.normal(size=7)
        result = barrier.velocity(wanted, panda.home)
        assert not result.changed
        assert np.max(np.abs(result.values - wanted)) < 1e-9
        wanted = 0.5 * rng.normal(size=7)
        barrier.reset()
        assert np.max(np.abs(barrier.acceleration(wanted, panda.home, np.zeros(7), 0.002).values - wanted)) < 1e-9


def test_the_change_is_the_smallest():
    panda = load_arm("panda")
    barrier, rng = BarrierFilter(panda, CELL), np.random.default_rng(2)
    compared = 0
    for _ in range(30):
        q = panda.home + 0.3 * rng.normal(size=7)
        found = barrier.shape.distances(q)
        if found.values.min() < 0.0:
            continue
        wanted = 2.0 * rng.normal(size=7)
        result = barrier.velocity(wanted, q)
        rate = barrier.config.rate
        assert np.all(found.jacobian @ result.values >= -rate * found.values - 1e-6)
        # Any other velocity that keeps the conditions is further away: the way to it never leads towards the wanted.
        for _ in range(20):
            other = 0.1 * rng.normal(size=7)
            inside = np.all(found.jacobian @ other >= -rate * found.values) and np.all(
                np.abs(other) <= barrier.limits.velocity
            )
            bounded = np.all(other >= -rate * (q - barrier.limits.lower)) and np.all(
                other <= rate * (barrier.limits.upper - q)
            )
            if inside and bounded:
                assert (wanted - result.values) @ (other - result.values) < 1e-6
                compared += 1
    assert compared > 50


def test_without_a_way_out_it_brakes_and_says_so():
    panda = load_arm("panda")
    barrier = BarrierFilter(panda, CELL, BarrierConfig(pole=200.0))
    q = panda.home.copy()
    q[1] += 1.2  # deep in the table
    qd = np.full(7, 0.1)
    # The joints' own bounds leave too little acceleration to jump out.
    barrier.limits.lower[:], barrier.limits.upper[:] = q - 1e-6, q + 1e-6
    result = barrier.acceleration(np.zeros(7), q, qd, 0.002)
    assert not result.feasible
    assert result.values == pytest.approx(-qd / barrier.config.stop_time)
    assert "nothing keeps all conditions, the arm brakes" in result.explain


def test_inside_the_filter_position_jumps_stay_clear_of_everything():
    panda = load_arm("panda")
    last = ArmFilter(panda, CELL, 500.0, ArmFilterConfig(barrier=BarrierConfig()))
    last.reset(ArmSample(stamp=0.0, joint_positions=panda.home, joint_velocities=np.zeros(7)))
    shape, rng = BarrierFilter(panda, CELL).shape, np.random.default_rng(0)
    for k in range(600):
        if k % 100 == 0:
            target = JointPositions(panda.home + 0.8 * rng.normal(size=7), 0.0)
        now = 0.002 * k
        sample = ArmSample(stamp=now, joint_positions=panda.home, joint_velocities=np.zeros(7))
        q = last.apply(target, sample, now).command.values
        if k % 5 == 0:
            assert shape.distances(q).values.min() > 0.0
    assert last.interventions["barrier"] > 100
    assert last.interventions["no_way"] == 0
