"""Lever arms bound how distances change, in every posture."""

from dataclasses import replace

import numpy as np
import pytest

from hardware.descriptions import load_arm
from hardware.safety.arm_envelope import Box
from hardware.safety.arm_reach import lever_arms
from hardware.safety.arm_shape import ArmShape


def test_no_distance_changes_faster_than_its_lever_arms(arm, cell, random_angles):
    shape = ArmShape(arm, cell)
    rng = np.random.default_rng(3)
    for q in random_angles(arm, 40):
        found = shape.distances(q)
        assert np.all(np.abs(found.jacobian) <= shape.reach + 1e-9)
        change = rng.normal(size=q.shape) * rng.choice([0.01, 0.1, 1.0])
        after = shape.closest(q + change).values
        apart = (found.values > 0.0) | (after > 0.0)  # deep inside a box the distance is no true one
        assert np.all(np.abs(after - found.values)[apart] <= (shape.reach @ np.abs(change) + 1e-9)[apart])


def test_lever_arms_of_known_segments():
    panda = load_arm("panda")
    # On the last link: one end on its axis, the other 0.1 m beside it.
    ends = np.array([[[0.0, 0.0, 0.05], [0.1, 0.0, 0.0]]])
    levers = lever_arms(panda, np.array([7]), ends)[0]
    assert levers[6] == pytest.approx(0.1)
    assert levers[5] == pytest.approx(0.088 + 0.1)  # the last axis is 88 mm beside the one before
    # On the base, as seen from the first joint: its axis is the base's z.
    base = lever_arms(panda, np.array([0]), np.array([[[0.3, 0.4, 0.2], [0.0, 0.0, 1.0]]]))[0]
    assert base[0] == pytest.approx(0.5)


def test_between_several_workspaces_nothing_is_bounded(cell):
    boxes = (*cell.workspace, Box(lower=(-0.7, -0.6, 0.0), upper=(-0.3, 0.6, 1.0)))
    shape = ArmShape(load_arm("panda"), replace(cell, workspace=boxes))
    faces = [row for row, name in enumerate(shape.names) if "workspace" in name]
    assert len(faces) == 6 and np.all(shape.reach[faces] > 1e6)
