"""Cables in PyBullet: known solutions, MuJoCo's as a second opinion, and what varies."""

import math

import numpy as np
import pytest

from hardware.descriptions import load_arm
from policies import rotation
from sim.engines.base import Placement
from sim.engines.mujoco import MujocoEngine
from sim.scene import ArmMount, Body, Scene, Shape

pytest.importorskip("pybullet")
from sim.engines.bullet import BulletEngine  # noqa: E402

DT = 0.002
HOME = load_arm("panda").home
HALF = 0.01
ALONG_X = (math.sqrt(0.5), 0.0, math.sqrt(0.5), 0.0)
STIFFNESS = np.array([600.0, 600.0, 400.0, 400.0, 100.0, 100.0, 40.0])
DAMPING = np.array([40.0, 40.0, 30.0, 30.0, 8.0, 8.0, 3.0])


def rope(count, stiffness=0.004, damping=0.0005, first=None, **changes):
    """Segments of 2 g and 2 cm in a line; `first` changes the first one."""
    values = {"position": (0.5, 0.3, 0.5), "orientation": ALONG_X, **changes}
    shape = Shape(kind="capsule", size=(0.004, HALF), collides=False)
    bodies = []
    for k in range(count):
        own = {**values, "cable_stiffness": stiffness, "cable_damping": damping, **((first or {}) if k == 0 else {})}
        bodies.append(Body(name=f"r{k}", shapes=(shape,), mass=0.002, cable="rope", **own))
    return tuple(bodies)


def built(make, bodies, num_envs=1, **scene):
    engine = make(Scene(bodies=bodies, **scene), num_envs)
    engine.place(np.arange(num_envs), Placement(joints={"arm": np.tile(HOME, (num_envs, 1))}))
    return engine


def advance(engine, seconds, extra=0.0):
    for _ in range(round(seconds / DT)):
        q, qd = engine.joints("arm")
        torques = STIFFNESS * (HOME - q) - DAMPING * qd + extra
        engine.substep({"arm": torques}, {"arm": np.full(engine.num_envs, 0.08)})
    engine.refresh()
    assert not engine.failed.any()


def ends(engine, name):
    """Near and far end (3,) of a segment."""
    pose = engine.pose(name)[0]
    axis = rotation.rotate(pose[3:], np.array([0.0, 0.0, HALF]))
    return pose[:3] - axis, pose[:3] + axis


STANDS = {"motion": "fixed"}


@pytest.mark.parametrize(("stiffness", "tolerance"), [(0.02, 0.003), (0.5, 0.0005)])
def test_a_cable_falls_and_sags_as_in_mujoco(stiffness, tolerance):
    """12 segments from a wall: on the way down, and at rest within 0.2 mm; a beam's tip sags by some centimetres."""
    bodies = rope(12, stiffness, stiffness / 8.0, first=STANDS)
    engines = [built(make, bodies) for make in (MujocoEngine, BulletEngine)]
    for seconds, bound in ((0.15, tolerance), (0.35, tolerance)):
        for engine in engines:
            advance(engine, seconds)
        ours, theirs = (engine.pose("r11")[0, :3] for engine in engines)
        assert ours == pytest.approx(theirs, abs=bound)
        assert ours[2] < 0.49
    if stiffness == 0.5:
        assert ours == pytest.approx(theirs, abs=2e-4)


def test_a_stiff_cable_swings_as_a_rod():
    """About a joint without stiffness: the period of a rod, of which 10° take 0.2 % more, within 1 %."""
    count, tilt = 8, math.radians(10.0)
    down = (math.cos(0.5 * (math.pi - tilt)), 0.0, math.sin(0.5 * (math.pi - tilt)), 0.0)
    bodies = rope(count + 1, 2.0, 1e-3, first=STANDS, orientation=down)
    bodies = (bodies[0], Body(**{**vars(bodies[1]), "cable_stiffness": 0.0, "cable_damping": 0.0}), *bodies[2:])
    engine = built(BulletEngine, bodies)
    heights, angles = [], []
    for _ in range(500):
        advance(engine, DT)
        tip = ends(engine, "r8")[1] - ends(engine, "r1")[0]
        angles.append(math.atan2(tip[0], -tip[2]))
        heights.append(np.linalg.norm(tip))
    length, mass = 2.0 * HALF * count, 0.002 * count
    inertia = mass * length**2 / 3.0 + mass * 0.004**2 * 0.5
    expected = 2.0 * math.pi * math.sqrt(inertia / (mass * 9.81 * 0.5 * length)) * (1.0 + tilt**2 / 16.0)
    crossings = [k + angles[k] / (angles[k] - angles[k + 1]) for k in range(499) if angles[k] > 0 >= angles[k + 1]]
    assert np.diff(crossings).mean() * DT == pytest.approx(expected, rel=0.01)
    assert heights == pytest.approx(np.full(500, length), rel=0.002)
    assert 0.8 * tilt < np.abs(angles[-300:]).max() < 1.01 * tilt


def energy_of(engine, names):
    """J, of motion and height."""
    total = 0.0
    for name in names:
        pose, twist = engine.pose(name)[0], engine.twist(name)[0]
        total += 0.002 * (9.81 * pose[2] + 0.5 * twist[:3] @ twist[:3])
    return total


def test_energy_only_falls_and_the_length_stays():
    bodies = rope(8, 0.0, 1e-5, first=STANDS)
    engine = built(BulletEngine, bodies)
    names = [body.name for body in bodies[1:]]
    energies = [energy_of(engine, names)]
    fall = sum(0.002 * 9.81 * 2.0 * HALF * (k + 0.5) for k in range(len(names)))
    for _ in range(16):
        advance(engine, 0.05)
        energies.append(energy_of(engine, names))
        for before, after in zip(names[:-1], names[1:], strict=True):
            assert ends(engine, before)[1] == pytest.approx(ends(engine, after)[0], abs=1e-6)
    assert max(np.diff(energies)) < 0.02 * fall
    assert energies[0] - 1.05 * fall < energies[-1] < energies[0] - 0.02 * fall


def test_a_loose_cable_falls_freely():
    engine = built(BulletEngine, rope(5, position=(0.5, 0.5, 3.0)))
    advance(engine, 0.3)
    for k in range(5):
        place = np.array([0.5 + 2.0 * HALF * k, 0.5, 3.0 - 0.5 * 9.81 * 0.3**2])
        assert engine.pose(f"r{k}")[0, :3] == pytest.approx(place, abs=5e-3)
        assert engine.twist(f"r{k}")[0] == pytest.approx([0, 0, -9.81 * 0.3, 0, 0, 0], abs=1e-2)


def held(count=6):
    """A cable between the tool and a block."""
    first = {"attached_to": "arm", "position": (0.0, 0.0, 0.0), "orientation": (1.0, 0.0, 0.0, 0.0)}
    bodies = rope(count, first=first)
    end = Body(**{**vars(bodies[-1]), "tied_to": "block"})
    block = Body(name="block", motion="placed", shapes=(Shape(kind="box", size=(0.01, 0.01, 0.01), collides=False),))
    return (*bodies[:-1], end, block)


def test_knots_hold_and_the_pull_is_felt():
    """The arm lifts with about 20 N, the block is below: the ends stay within a millimetre, the sensor agrees."""
    bodies = held()
    engine = BulletEngine(Scene(arms=(ArmMount(gripper=False, wrench=True),), bodies=bodies), 1)
    tool = engine.pose("arm/tool")[0, :3]
    block = np.array([[*(tool - [0.0, 0.0, (2 * 6 - 1) * HALF]), 1.0, 0.0, 0.0, 0.0]])
    engine.place(np.arange(1), Placement(joints={"arm": HOME[None]}, poses={"block": block}))
    advance(engine, 0.2)
    lift = engine.kinematics("arm").jacobian[0, 2] * 20.0
    advance(engine, 0.6, extra=lift)
    assert ends(engine, "r5")[1] == pytest.approx(block[0, :3], abs=1e-3)
    assert ends(engine, "r0")[1] == pytest.approx(ends(engine, "r1")[0], abs=1e-3)
    wrench, turn = engine.wrench("arm")[0], engine.pose("arm/tool")[0, 3:]
    assert rotation.rotate(turn, wrench[:3])[2] == pytest.approx(-20.0, rel=0.25)


def test_what_varies_bends_it_otherwise_and_what_is_nominal_does_not():
    bodies = rope(6, 0.02, 0.002, first=STANDS)
    engine = built(BulletEngine, bodies, 4)
    begin = Placement(joints={"arm": np.tile(HOME, (4, 1))})
    advance(engine, 0.1)
    nominal = engine.pose("r5")
    assert np.array_equal(nominal[1:], nominal[:-1])
    names = [f"r{k}.{kind}" for k in range(1, 6) for kind in ("cable_stiffness", "cable_damping", "mass")]
    assert engine.vary(names) == {}
    for k in range(1, 6):
        values = {
            f"r{k}.cable_stiffness": np.array([[0.02], [0.1], [0.02], [0.02]]),
            f"r{k}.cable_damping": np.array([[0.002], [0.002], [0.02], [0.002]]),
            f"r{k}.mass": np.array([[0.002], [0.002], [0.002], [0.01]]),
        }
        engine.set_variables(np.arange(4), values)
    engine.place(np.arange(4), begin)
    advance(engine, 0.1)
    height = engine.pose("r5")[:, 2]
    assert np.array_equal(engine.pose("r5")[0], nominal[0])
    assert height[1] > height[0] + 1e-3 and height[2] > height[0] + 1e-3
    assert height[3] < height[0] - 1e-3
    assert engine.vary([]) == {}
    engine.place(np.arange(4), begin)
    advance(engine, 0.1)
    assert engine.pose("r5") == pytest.approx(nominal, abs=1e-12)


def test_a_stored_cable_goes_on_and_the_same_placement_gives_the_same_bits():
    engine = built(BulletEngine, rope(5, first=STANDS), 2)
    advance(engine, 0.1)
    stored = engine.state()
    advance(engine, 0.1)
    after = engine.pose("r4")
    engine.load_state(stored)
    assert engine.pose("r4") == pytest.approx(stored["cable/rope"][:, -1], abs=1e-9)
    assert engine.twist("r4") == pytest.approx(stored["cable_twist/rope"][:, -1], abs=1e-9)
    advance(engine, 0.1)
    assert engine.pose("r4") == pytest.approx(after, abs=1e-4)
    engine.place(np.arange(2), Placement(joints={"arm": np.tile(HOME, (2, 1))}))
    advance(engine, 0.2)
    first = engine.pose("r4")
    engine.place(np.arange(2), Placement(joints={"arm": np.tile(HOME, (2, 1))}))
    advance(engine, 0.2)
    assert np.array_equal(engine.pose("r4"), first)


def test_only_the_beginning_of_a_loose_cable_can_be_placed():
    engine = built(BulletEngine, rope(3))
    pose = np.array([[0.3, -0.2, 0.7, 1.0, 0.0, 0.0, 0.0]])
    engine.place(np.arange(1), Placement(joints={"arm": HOME[None]}, poses={"r0": pose}))
    assert engine.pose("r2")[0, :3] == pytest.approx([0.3, -0.2, 0.7 + 4.0 * HALF], abs=1e-9)
    with pytest.raises(ValueError, match="'r1' can't be placed.*'r0'"):
        engine.place(np.arange(1), Placement(joints={"arm": HOME[None]}, poses={"r1": pose}))
