"""Distances of whole arms."""

import numpy as np
import pytest

from hardware.descriptions import load_arm
from hardware.kinematics import forward_kinematics
from hardware.safety.arm_envelope import ArmEnvelope, Box
from hardware.safety.arm_shape import ArmShape


def test_jacobian_is_the_derivative(arm, cell, random_angles):
    shape = ArmShape(arm, cell)
    step = 1e-6
    for q in random_angles(arm, 5):
        turned = [(shape.distances(q + step * axis), shape.distances(q - step * axis)) for axis in np.eye(len(q))]
        numeric = np.stack([(after.values - before.values) / (2.0 * step) for after, before in turned], axis=-1)
        # Where two capsules' segments cross, or the closest face changes, there is no derivative.
        smooth = np.abs(numeric - shape.distances(q).jacobian).max(axis=1) < 1e-4
        assert np.mean(smooth) > 0.97
        found = shape.distances(q)
        assert found.tool_position == pytest.approx(forward_kinematics(arm, q).tool_position)
        assert found.tool_jacobian == pytest.approx(forward_kinematics(arm, q).jacobian[:3])


def test_table_distance_is_the_height_of_the_fingertips(cell):
    panda = load_arm("panda")
    shape = ArmShape(panda, cell)
    values = dict(zip(shape.names, shape.distances(panda.home).values, strict=True))
    assert values["a finger to the table"] == pytest.approx(0.30, abs=1e-3)  # the home's tool stands upright there


def test_folded_arm_collides_with_itself():
    panda = load_arm("panda")
    shape = ArmShape(panda, ArmEnvelope())
    folded = panda.home.copy()
    folded[1:6] = [1.5, 0.0, -3.05, 0.0, 0.2]
    found = shape.distances(folded)
    assert found.values.min() < 0.0
    assert "link" in shape.names[int(np.argmin(found.values))]


def test_a_region_around_the_home_is_an_error_that_names_it():
    with pytest.raises(ValueError, match=r"at home is 0\.\d+ m too close: .* to forbidden box 0"):
        ArmShape(load_arm("panda"), ArmEnvelope(forbidden=(Box(lower=(0.3, -0.2, 0.2), upper=(0.6, 0.2, 0.5)),)))


def test_neighbours_are_no_pairs(arm):
    names = ArmShape(arm, ArmEnvelope()).names
    assert "link 2 to link 3" not in names
    assert any(name.startswith("link 2 to link 4") for name in names)
