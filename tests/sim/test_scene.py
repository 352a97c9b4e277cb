"""A scene is checked as it is made, and its masses follow mechanics."""

import math

import numpy as np
import pytest

from sim.scene import ArmMount, Body, Camera, Scene, Shape, mass_properties

BALL = Shape(kind="sphere", size=(0.02,))


def sampled(shape, rng, count=400_000):
    """Volume, centre and second moments of a shape from points in its bounding box: a definition, not a formula."""
    reach = {
        "box": shape.size,
        "sphere": shape.size * 3,
        "cylinder": (shape.size[0], shape.size[0], shape.size[-1]),
        "capsule": (shape.size[0], shape.size[0], shape.size[-1] + shape.size[0]),
    }[shape.kind]
    points = rng.uniform(-1.0, 1.0, (count, 3)) * reach
    x, y, z = points.T
    if shape.kind == "box":
        inside = np.ones(count, dtype=bool)
    elif shape.kind == "cylinder":
        inside = x * x + y * y < shape.size[0] ** 2
    else:
        half = shape.size[1] if shape.kind == "capsule" else 0.0
        inside = x * x + y * y + np.maximum(np.abs(z) - half, 0.0) ** 2 < shape.size[0] ** 2
    kept = points[inside]
    inertia = np.eye(3) * (kept * kept).sum(1).mean() - kept.T @ kept / len(kept)
    return 8.0 * math.prod(reach) * inside.mean(), inertia


@pytest.mark.parametrize(
    "shape",
    [
        Shape(kind="box", size=(0.1, 0.2, 0.3)),
        Shape(kind="sphere", size=(0.2,)),
        Shape(kind="cylinder", size=(0.1, 0.3)),
        Shape(kind="capsule", size=(0.1, 0.3)),
        Shape(kind="capsule", size=(0.3, 0.1)),
    ],
    ids=lambda shape: f"{shape.kind}-{shape.size[0]}",
)
def test_volume_and_inertia_are_those_of_points_inside(shape):
    volume, inertia = sampled(shape, np.random.default_rng(0))
    center, ours = mass_properties(Body(name="it", shapes=(shape,), mass=1.0))
    assert shape.volume == pytest.approx(volume, rel=5e-3)
    assert center == pytest.approx(np.zeros(3))
    assert ours == pytest.approx(inertia, abs=5e-3 * np.trace(inertia))


def test_two_halves_weigh_as_the_whole():
    whole = Body(name="whole", shapes=(Shape(kind="box", size=(0.2, 0.05, 0.05)),), mass=3.0)
    halves = Body(
        name="halves",
        shapes=tuple(Shape(kind="box", size=(0.1, 0.05, 0.05), position=(x, 0.0, 0.0)) for x in (-0.1, 0.1)),
        mass=3.0,
    )
    assert mass_properties(halves)[1] == pytest.approx(mass_properties(whole)[1])


def test_a_turned_and_shifted_shape_takes_its_inertia_along():
    half = math.sqrt(0.5)
    lying = Shape(kind="cylinder", size=(0.02, 0.1), position=(0.3, 0.0, 0.1), orientation=(half, 0.0, half, 0.0))
    center, inertia = mass_properties(Body(name="rod", shapes=(lying,), mass=2.0))
    along, across = 0.5 * 2.0 * 0.02**2, 2.0 * (0.02**2 / 4 + 0.1**2 / 3)
    assert center == pytest.approx([0.3, 0.0, 0.1])
    assert inertia == pytest.approx(np.diag([along, across, across]))


def test_mass_is_shared_by_volume():
    big, small = (Shape(kind="sphere", size=(r,), position=(x, 0.0, 0.0)) for r, x in ((0.2, 0.0), (0.1, 0.9)))
    center, _ = mass_properties(Body(name="pair", shapes=(big, small)))
    assert center == pytest.approx([0.9 / 9.0, 0.0, 0.0])


def test_names_are_unique_across_kinds():
    with pytest.raises(ValueError, match="'arm' is used 2 times"):
        Scene(bodies=(Body(name="arm", shapes=(BALL,)),))
    with pytest.raises(ValueError, match="used 1 times|names are unique"):
        Scene(cameras=(Camera(name="", position=(0.0, 0.0, 1.0), target=(0.0, 0.0, 0.0)),))


def test_attached_to_an_arm_that_is_not_there():
    with pytest.raises(ValueError, match="'peg' is attached to 'left'.*'arm'"):
        Scene(bodies=(Body(name="peg", shapes=(BALL,), attached_to="left"),))


def test_a_body_is_found_by_its_name():
    scene = Scene(arms=(ArmMount(name="a"),), bodies=tuple(Body(name=n, shapes=(BALL,)) for n in ("x", "y")))
    assert scene.body("y") is scene.bodies[1]
