"""Cost terms: the geometry of regions, and 0 exactly where nothing is violated."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from hardware.descriptions import load_arm
from policies.types import ArmState
from sim.constraints import (
    contact_force,
    cost_terms,
    forbidden_region,
    joint_limits,
    joint_speeds,
    region_body,
    signed_distance,
)
from sim.engines import make_engine
from sim.engines.base import Placement
from sim.scene import Scene, Shape
from sim.tasks.arm import ArmView

PANDA = load_arm("panda")
TURNED = (math.cos(0.5), math.sin(0.5) * 0.6, 0.0, math.sin(0.5) * 0.8)
SHAPES = [
    Shape(kind="box", size=(0.1, 0.2, 0.3), position=(0.4, -0.1, 0.2), orientation=TURNED),
    Shape(kind="sphere", size=(0.15,), position=(0.4, -0.1, 0.2)),
    Shape(kind="cylinder", size=(0.1, 0.3), position=(0.4, -0.1, 0.2), orientation=TURNED),
    Shape(kind="capsule", size=(0.1, 0.3), position=(0.4, -0.1, 0.2), orientation=TURNED),
]
BALL = Shape(kind="sphere", size=(0.1,), position=(0.5, 0.0, 0.3))


def state(tool=(0.47, 0.0, 0.3), turn=(0.0, 1.0, 0.0, 0.0), **changes):
    """One arm at home, its tool wherever it is wanted."""
    values = {
        "joint_positions": torch.tensor(PANDA.home, dtype=torch.float32)[None],
        "joint_velocities": torch.zeros(1, 7),
        "tool_pose": torch.tensor([[*tool, *turn]]),
        "tool_twist": torch.zeros(1, 6),
        "gripper_width": torch.zeros(1),
        "wrench": torch.zeros(1, 6),
    }
    return ArmState(**{**values, **changes})


def view(**arms):
    arms = arms or {"arm": state()}
    nothing = torch.zeros(1, 3)
    return ArmView(
        arms=arms, goal=torch.zeros(1, 7), twists={}, start={}, action=nothing, previous_action=nothing, values={},
        peak_force={},
        time=torch.zeros(1),
    )  # fmt: skip


# Regions


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.kind)
def test_the_inside_of_a_region_is_as_large_as_its_shape(shape) -> None:
    points = torch.rand(200_000, 3, generator=torch.Generator().manual_seed(0)) * 1.2 - 0.6
    points = points + torch.tensor(shape.position)
    inside = signed_distance(shape, points) < 0.0
    assert float(inside.float().mean()) * 1.2**3 == pytest.approx(shape.volume, rel=0.05)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.kind)
def test_a_signed_distance_leads_to_the_surface(shape) -> None:
    """Along its gradient, whose length is 1, one comes to where it is 0; float64, so that rounding does not hide it."""
    points = torch.rand(500, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 0.5
    points = (points + torch.tensor(shape.position, dtype=torch.float64)).requires_grad_()
    distances = signed_distance(shape, points)
    (gradient,) = torch.autograd.grad(distances.sum(), points)
    torch.testing.assert_close(gradient.norm(dim=-1), torch.ones(500, dtype=torch.float64))
    surface = (points - distances[:, None] * gradient).detach()
    assert float(signed_distance(shape, surface).abs().max()) < 1e-6
    assert bool((distances > 0.05).any())
    assert bool((distances < -0.02).any())


def test_known_distances_from_a_box() -> None:
    box = Shape(kind="box", size=(1.0, 2.0, 3.0))
    points = torch.tensor([[0.0, 0.0, 0.0], [4.0, 0.0, 0.0], [4.0, 6.0, 0.0], [0.0, 1.5, 0.0]])
    torch.testing.assert_close(signed_distance(box, points), torch.tensor([-1.0, 3.0, 5.0, -0.5]))


def test_a_region_costs_one_per_step_inside_and_nothing_outside() -> None:
    term = forbidden_region(BALL)
    costs = [float(term(view(arm=state((x, 0.0, 0.3))))) for x in (0.39, 0.41, 0.5, 0.59, 0.61)]
    assert costs == [0.0, 1.0, 1.0, 1.0, 0.0]


def test_a_smoothed_region_costs_its_depth() -> None:
    term = forbidden_region(BALL, depth=0.05)
    costs = [float(term(view(arm=state((x, 0.0, 0.3))))) for x in (0.39, 0.41, 0.425, 0.46, 0.5)]
    assert costs == pytest.approx([0.0, 0.2, 0.5, 1.0, 1.0], abs=1e-5)


def test_points_of_the_tool_turn_with_it() -> None:
    """A point 0.2 m behind the fingertips enters a region above them only while the tool points down."""
    term = forbidden_region(BALL, points=((0.0, 0.0, 0.0), (0.0, 0.0, -0.2)))
    below = (0.5, 0.0, 0.1)
    assert float(term(view(arm=state(below)))) == 1.0
    assert float(term(view(arm=state(below, turn=(1.0, 0.0, 0.0, 0.0))))) == 0.0


def test_a_term_names_its_arm() -> None:
    both = view(left=state((0.5, 0.0, 0.3)), right=state((0.2, 0.0, 0.3)))
    assert float(forbidden_region(BALL)(both)) == 1.0
    assert float(forbidden_region(BALL, arm="right")(both)) == 0.0


def test_a_visible_region_is_where_it_says_and_touches_nothing() -> None:
    """The arm's hand stands in it and feels nothing."""
    body = region_body("region", SHAPES[2])
    assert body.position == SHAPES[2].position
    assert body.orientation == SHAPES[2].orientation
    assert 0.0 < body.shapes[0].color[3] < 1.0
    around = Shape(kind="box", size=(0.2, 0.2, 0.2), position=(0.47, 0.0, 0.3))
    joints = []
    for bodies in ((), (region_body("region", around),)):
        engine = make_engine("mujoco", Scene(bodies=bodies), 1)
        home = PANDA.home[None]
        engine.place(np.arange(1), Placement(joints={"arm": home}, widths={"arm": np.zeros(1)}, poses={}))
        for _ in range(50):
            engine.substep({"arm": np.zeros((1, 7))}, {"arm": np.zeros(1)})
        joints.append(engine.joints("arm")[0].copy())
        engine.close()
    np.testing.assert_array_equal(joints[0], joints[1])


# The robot's own limits


def test_force_counts_above_its_limit_in_units_of_it() -> None:
    term = contact_force(20.0)

    def cost(force):
        return float(term(view(arm=state(wrench=torch.tensor([[0.0, 0.6 * force, -0.8 * force, 9.0, 9.0, 9.0]])))))

    assert [cost(force) for force in (0.0, 19.9, 40.0, 30.0)] == pytest.approx([0.0, 0.0, 1.0, 0.5], abs=1e-6)


def test_force_without_a_sensor_is_refused() -> None:
    with pytest.raises(ValueError, match="no wrench"):
        contact_force(20.0)(view(arm=state(wrench=None)))


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("joint", range(7))
def test_a_joint_counts_from_the_margin_to_its_limit(joint, side) -> None:
    term = joint_limits(PANDA, margin=0.1)
    bound = PANDA.interface.limits["position"][joint][side]
    inward = 1.0 if side == 0 else -1.0

    def cost(left):
        q = torch.tensor(PANDA.home, dtype=torch.float32)[None].clone()
        q[0, joint] = bound + inward * left
        return float(term(view(arm=state(joint_positions=q))))

    assert [cost(left) for left in (0.11, 0.05, 0.0, -0.1)] == pytest.approx([0.0, 0.5, 1.0, 2.0], abs=1e-4)


def test_joint_speeds_count_from_a_share_of_their_limits_and_add_up() -> None:
    term = joint_speeds(PANDA, share=0.5)
    limits = torch.tensor([bounds[1] for bounds in PANDA.interface.limits["velocity"]])
    shares = torch.tensor([0.5, -0.75, 1.0, 0.2, 0.0, -0.4, 0.0])
    assert float(term(view(arm=state(joint_velocities=(shares * limits)[None])))) == pytest.approx(1.5, abs=1e-5)
    assert float(term(view(arm=state(joint_velocities=(0.49 * limits)[None])))) == 0.0


def test_terms_keep_their_names_and_the_batch() -> None:
    costs = cost_terms(region=forbidden_region(BALL), joints=joint_limits(PANDA, margin=0.1))
    tool = torch.tensor([[0.5, 0.0, 0.3, 0.0, 1.0, 0.0, 0.0], [0.1, 0.0, 0.3, 0.0, 1.0, 0.0, 0.0]])
    q = torch.tensor(PANDA.home, dtype=torch.float32).expand(2, 7)
    terms = costs(dataclasses.replace(view(), arms={"arm": state(tool_pose=tool, joint_positions=q)}))
    assert list(terms) == ["region", "joints"]
    assert terms["region"].tolist() == [1.0, 0.0]
    assert terms["joints"].tolist() == [0.0, 0.0]
