"""What is not computed anew must not be missed."""

import math

import numpy as np
import pytest

from hardware.descriptions import load_arm
from hardware.drivers.driver import ArmSample
from hardware.safety.arm_envelope import ArmEnvelope, Box
from hardware.safety.arm_watch import ArmWatch

RATE = 500.0
CELL = ArmEnvelope(table_height=0.0, forbidden=(Box(lower=(0.3, 0.3, 0.0), upper=(0.6, 0.5, 0.4)),))


def sample_at(time, q, qd):
    return ArmSample(stamp=time, joint_positions=q, joint_velocities=qd)


def simple_verdict(shape, envelope, q, qd):
    """Every distance and its rate, computed anew: the row that is worst, or None."""
    found = shape.distances(q)
    rates = found.jacobian @ qd
    foreseen = found.values + envelope.stopping_time * np.minimum(rates, 0.0)
    bad = (foreseen < 0.0) & (rates < -1e-3)
    return int(np.argmin(np.where(bad, foreseen, math.inf))) if bad.any() else None


@pytest.mark.parametrize("envelope", [ArmEnvelope(), CELL], ids=["alone", "cell"])
@pytest.mark.parametrize(("amplitude", "speed"), [(0.3, 0.5), (0.8, 1.0), (1.5, 2.0)])
def test_every_look_finds_what_computing_all_distances_finds(envelope, amplitude, speed):
    panda = load_arm("panda")
    watch, computed = ArmWatch(panda, envelope, RATE), []
    closest = watch.shape.closest
    watch.shape.closest = lambda *arguments: computed.append(arguments) or closest(*arguments)
    phase = np.random.default_rng(4).uniform(0.0, 6.0, panda.num_joints)
    looks = stopped = 0
    for step in range(2500):
        time = 0.01 * step / 5
        q = panda.home + amplitude * (np.sin(speed * time + phase) - np.sin(phase))
        qd = amplitude * speed * np.cos(speed * time + phase)
        verdict = watch.look(sample_at(time, q, qd), 0.0, 0.0)
        if not watch.looked:
            assert verdict is None
            continue
        looks += 1
        worst = simple_verdict(watch.shape, envelope, q, qd)
        assert (verdict is None) == (worst is None), f"at {time:.3f} s"
        if worst is not None:
            assert verdict[0] == "hold" and verdict[1].startswith(watch.shape.names[worst])
            stopped += 1
    assert looks == 500
    if speed == 2.0:
        assert stopped > 20, "the motion must come too close at times, or nothing is tested"
    if speed == 0.5 and envelope is not CELL:
        assert len(computed) - looks < 0.2 * looks, "slow motion in free space costs next to nothing"


def test_an_arm_that_was_carried_elsewhere_is_looked_at_anew():
    panda = load_arm("panda")
    watch = ArmWatch(panda, ArmEnvelope(), RATE)
    assert watch.look(sample_at(0.0, panda.home, np.zeros(7)), 0.0, 0.0) is None
    watch.reset()
    folded = panda.home.copy()
    folded[1:6] = [1.5, 0.0, -3.05, 0.0, 0.2]
    closing = np.zeros(7)
    closing[3] = -0.1  # the elbow folds on
    verdict = watch.look(sample_at(0.002, folded, closing), 0.0, 0.0)
    assert verdict is not None and "coming closer" in verdict[1]
