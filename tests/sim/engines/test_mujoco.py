"""The MuJoCo engine: bits are kept, failures stay where they are, the model is what the description says."""

import mujoco
import numpy as np
import pytest

from hardware.descriptions import load_arm
from hardware.kinematics import forward_kinematics
from policies import rotation
from sim.engines.base import Placement
from sim.engines.mujoco import MujocoEngine
from sim.scene import ArmMount, Body, Scene, Shape, mass_properties

PANDA = load_arm("panda")
HOME = PANDA.home
CUBE = Body(name="cube", shapes=(Shape(kind="box", size=(0.02, 0.02, 0.02)),), position=(0.47, 0.0, 0.3))
STAND = Body(
    name="stand", motion="placed", shapes=(Shape(kind="box", size=(0.05, 0.05, 0.05)),), position=(0.47, 0.0, 0.1)
)
SCENE = Scene(arms=(ArmMount(wrench=True),), bodies=(CUBE, STAND))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """MuJoCo logs a breakdown into the working directory."""
    monkeypatch.chdir(tmp_path)


def placement(count, seed=0):
    rng = np.random.default_rng(seed)
    cube = np.tile([0.47, 0.0, 0.3, 1.0, 0.0, 0.0, 0.0], (count, 1))
    cube[:, :3] += 0.01 * rng.normal(size=(count, 3))
    return Placement(joints={"arm": HOME + 0.02 * rng.normal(size=(count, 7))}, poses={"cube": cube})


def run(engine, steps, seed=0, bad=None, value=np.nan):
    rng, trace = np.random.default_rng(seed), []
    for step in range(steps):
        torques = 3.0 * rng.normal(size=(1, 7)).repeat(engine.num_envs, axis=0)
        if bad is not None and step == 20:
            torques[bad, 3] = value
        engine.substep({"arm": torques}, {"arm": np.full(engine.num_envs, 0.03)})
        parts = [*engine.joints("arm"), engine.pose("cube"), engine.twist("cube"), engine.wrench("arm")]
        trace.append(np.concatenate(parts, axis=1))
    return np.array(trace)


@pytest.fixture
def engine():
    made = MujocoEngine(SCENE, 3)
    made.place(np.arange(3), placement(3))
    return made


def test_the_same_placement_gives_the_same_bits_whatever_was_before(engine):
    first = run(engine, 100)
    run(engine, 77, seed=3)
    engine.place(np.arange(3), placement(3))
    assert np.array_equal(run(engine, 100), first)


def test_state_goes_on_bit_by_bit(engine):
    run(engine, 100)
    stored = engine.state()
    after = run(engine, 50, seed=1)
    engine.load_state(stored)
    assert np.array_equal(run(engine, 50, seed=1), after)
    other = MujocoEngine(SCENE, 3)
    other.load_state(stored)
    assert np.array_equal(run(other, 50, seed=1), after)


def test_reading_and_refreshing_change_nothing(engine):
    first = run(engine, 100)
    engine.place(np.arange(3), placement(3))
    rng = np.random.default_rng(0)
    for step in range(100):
        torques = 3.0 * rng.normal(size=(1, 7)).repeat(3, axis=0)
        engine.substep({"arm": torques}, {"arm": np.full(3, 0.03)})
        same = np.concatenate(engine.joints("arm"), axis=1)
        assert np.array_equal(same, first[step, :, :14]), step
        if step % 7 == 0:
            engine.refresh()
            engine.kinematics("arm"), engine.width("arm"), engine.state()


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e12], ids=str)
def test_a_torque_that_is_no_number_fails_its_environment_only(engine, value):
    healthy = run(engine, 60)
    engine.place(np.arange(3), placement(3))
    broken = run(engine, 60, bad=1, value=value)
    engine.refresh()
    assert engine.failed.tolist() == [False, True, False]
    assert np.array_equal(broken[:, [0, 2]], healthy[:, [0, 2]])
    assert np.isfinite(broken).all()
    engine.place(np.array([1]), Placement(**{
        key: {name: array[1:2] for name, array in getattr(placement(3), key).items()} for key in ("joints", "poses")
    }))  # fmt: skip
    assert not engine.failed.any()
    engine.place(np.arange(3), placement(3))
    assert np.array_equal(run(engine, 60), healthy)


def test_a_broken_state_is_a_failure_and_all_may_fail(engine):
    engine._qvel[2, 0] = 1e11
    run(engine, 3)
    engine.refresh()
    assert engine.failed.tolist() == [False, False, True]
    engine.substep({"arm": np.full((3, 7), np.nan)}, {"arm": np.zeros(3)})
    engine.substep({"arm": np.zeros((3, 7))}, {"arm": np.zeros(3)})
    engine.refresh()
    assert engine.failed.all()
    engine.place(np.arange(3), placement(3))
    assert not engine.failed.any()


def test_placing_one_leaves_the_others_alone(engine):
    run(engine, 30)
    stored = engine.state()
    undisturbed = run(engine, 40, seed=1)
    engine.load_state(stored)
    engine.place(np.array([1]), placement(1, seed=9))
    assert engine.joints("arm")[0][1] == pytest.approx(placement(1, seed=9).joints["arm"][0])
    disturbed = run(engine, 40, seed=1)
    assert np.array_equal(disturbed[:, [0, 2]], undisturbed[:, [0, 2]])


def test_pushes_last_until_the_environment_is_placed(engine):
    force = np.zeros((3, 3))
    force[:2, 0] = 1.0
    away = Placement(joints={"arm": HOME[None]}, poses={"cube": np.array([[2.0, 0.0, 3.0, 1.0, 0.0, 0.0, 0.0]])})
    engine.place(np.array([0]), away)
    engine.push("cube", force)
    engine.place(np.array([1]), away)
    run(engine, 10)
    speed = engine.twist("cube")[:, 0]
    assert speed[0] == pytest.approx(10 * 0.002 * 1.0 / CUBE.mass, rel=0.05)
    assert speed[1] == pytest.approx(0.0, abs=1e-6)


def test_kinematics_are_those_of_the_robots_own_functions():
    rng = np.random.default_rng(4)
    joints = HOME + 0.4 * rng.normal(size=(5, 7))
    engine = MujocoEngine(Scene(), 5)
    engine.place(np.arange(5), Placement(joints={"arm": joints}))
    ours, theirs = engine.kinematics("arm"), forward_kinematics(PANDA, joints)
    assert ours.tool_position == pytest.approx(theirs.tool_position, abs=1e-7)
    assert ours.jacobian == pytest.approx(theirs.jacobian, abs=1e-7)
    assert np.abs((ours.tool_orientation * theirs.tool_orientation).sum(1)) == pytest.approx(1.0)


def test_widths_and_missing_ones():
    engine = MujocoEngine(Scene(), 2)
    engine.place(np.arange(2), Placement(joints={"arm": np.tile(HOME, (2, 1))}))
    assert engine.width("arm") == pytest.approx(0.08)
    engine.place(np.arange(2), Placement(joints={"arm": np.tile(HOME, (2, 1))}, widths={"arm": np.array([0.01, 0.05])}))
    assert engine.width("arm") == pytest.approx([0.01, 0.05])
    bare = MujocoEngine(Scene(arms=(ArmMount(gripper=False),)), 2)
    assert not bare.width("arm").any()
    assert not bare.wrench("arm").any()


def test_a_fixed_body_cannot_be_placed():
    wall = Body(name="wall", motion="fixed", shapes=CUBE.shapes, position=(0.0, 0.5, 0.2))
    engine = MujocoEngine(Scene(bodies=(wall,)), 1)
    with pytest.raises(ValueError, match="'wall' can't be placed.*'fixed'"):
        engine.place(np.arange(1), Placement(joints={"arm": HOME[None]}, poses={"wall": np.zeros((1, 7))}))


def test_masses_and_inertias_of_the_model():
    peg = Body(
        name="peg",
        shapes=(Shape(kind="cylinder", size=(0.01, 0.04)), Shape(kind="box", size=(0.01, 0.03, 0.01))),
        mass=0.2,
    )
    model = MujocoEngine(Scene(bodies=(peg,)), 1).model
    for k in range(7):
        body = model.body(f"arm/link{k + 1}")
        assert body.mass[0] == pytest.approx(PANDA.link_masses[k])
        assert sorted(body.inertia) == pytest.approx(np.linalg.eigvalsh(PANDA.link_inertias[k]), rel=1e-6)
    found = model.body("peg")
    assert found.mass[0] == pytest.approx(0.2)
    assert sorted(found.inertia) == pytest.approx(np.linalg.eigvalsh(mass_properties(peg)[1]), rel=1e-6)
    total = PANDA.link_masses.sum() + PANDA.gripper.mass + 2 * PANDA.gripper.finger_mass
    assert model.body("arm/link0").subtreemass[0] == pytest.approx(total)


def test_the_twist_of_a_body_is_the_change_of_its_pose():
    tilted = Body(name="cube", shapes=(Shape(kind="box", size=(0.02, 0.03, 0.04)),), position=(2.0, 0.0, 5.0))
    engine = MujocoEngine(Scene(bodies=(tilted,)), 1)
    engine._qpos[0, -4:] = [0.5, 0.5, -0.5, 0.5]
    engine._qvel[0, -6:] = [1.0, -0.5, 0.3, 0.8, -1.2, 2.0]
    engine.refresh()
    before, twist = engine.pose("cube")[0], engine.twist("cube")[0]
    engine.substep({"arm": np.zeros((1, 7))}, {"arm": np.zeros(1)})
    engine.refresh()
    after = engine.pose("cube")[0]
    turned = rotation.to_rotation_vector(rotation.multiply(after[3:], rotation.conjugate(before[3:])))
    assert (after[:3] - before[:3]) / 0.002 == pytest.approx(twist[:3] + [0, 0, -9.81 * 0.002], abs=1e-3)
    assert turned / 0.002 == pytest.approx(twist[3:], abs=0.02)


def test_a_cable_hangs_from_what_holds_it():
    segments = tuple(
        Body(
            name=f"rope{i}",
            shapes=(Shape(kind="capsule", size=(0.004, 0.02)),),
            motion="fixed" if i == 0 else "free",
            mass=0.01,
            cable="rope",
            cable_stiffness=0.0005,
            cable_damping=0.0005,
            position=(0.5, 0.3, 0.5),
            orientation=(0.7071068, 0.0, 0.7071068, 0.0),
        )
        for i in range(5)
    )
    engine = MujocoEngine(Scene(bodies=segments), 1)
    engine.place(np.arange(1), Placement(joints={"arm": HOME[None]}))
    data = mujoco.MjData(engine.model)
    mujoco.mj_forward(engine.model, data)
    assert data.ncon == 0, "joined segments overlap and do not touch each other"
    length = np.linalg.norm(engine.pose("rope4")[0, :3] - engine.pose("rope1")[0, :3])
    assert engine.pose("rope4")[0, 2] == pytest.approx(0.5, abs=1e-6)
    for _ in range(1500):
        q, qd = engine.joints("arm")
        engine.substep({"arm": 100.0 * (HOME - q) - 5.0 * qd}, {"arm": np.zeros(1)})
    engine.refresh()
    assert not engine.failed.any()
    drop = engine.pose("rope1")[0, :3] - engine.pose("rope4")[0, :3]
    assert drop[2] > 0.8 * length
    assert np.linalg.norm(drop) == pytest.approx(length, rel=0.05)


def test_the_scenes_time_step_and_no_contact_at_home():
    engine = MujocoEngine(Scene(timestep=0.001), 1)
    engine.place(np.arange(1), Placement(joints={"arm": HOME[None]}))
    data = mujoco.MjData(engine.model)
    data.qpos[:] = engine._qpos[0]
    mujoco.mj_forward(engine.model, data)
    assert engine.model.opt.timestep == 0.001
    assert data.ncon == 0


def test_one_environment_and_many_measure_the_same_while_the_arm_moves_and_pushes():
    """One environment is measured with fewer and other calls: a Jacobian, a wrench and a twist of their own."""
    yaw = np.array([0.3, 0.0, 0.0])
    scene = Scene(arms=(ArmMount(wrench=True, position=(0.1, -0.2, 0.0), yaw=0.7),), bodies=(CUBE, STAND))
    one, many = MujocoEngine(scene, 1), MujocoEngine(scene, 3)
    description = load_arm("panda")
    home = np.array(description.home)
    for engine in (one, many):
        count = engine.num_envs
        pose = np.array([0.5, 0.1, 0.4, *rotation.from_rotation_vector(yaw)])
        engine.place(
            np.arange(count),
            Placement(joints={"arm": np.tile(home, (count, 1))}, poses={CUBE.name: np.tile(pose, (count, 1))}),
        )
    rng = np.random.default_rng(0)
    fastest = 0.0
    for step in range(150):
        torques = 8.0 * np.sin(0.05 * step + np.arange(7)) + rng.normal(size=7)
        for engine in (one, many):
            engine.substep({"arm": np.tile(torques, (engine.num_envs, 1))}, {"arm": np.full(engine.num_envs, 0.03)})
            if step % 50 == 49:
                engine.refresh()
        if step % 10 == 9:
            for engine in (one, many):
                engine.push(CUBE.name, np.full((engine.num_envs, 3), 0.5))
            first, second = one.kinematics("arm"), many.kinematics("arm")
            for name in ("tool_position", "tool_orientation", "jacobian"):
                np.testing.assert_allclose(getattr(first, name)[0], getattr(second, name)[1], atol=1e-9, err_msg=name)
            np.testing.assert_allclose(one.wrench("arm")[0], many.wrench("arm")[1], atol=1e-7)
            np.testing.assert_allclose(one.twist(CUBE.name)[0], many.twist(CUBE.name)[1], atol=1e-8)
            assert one.width("arm") == pytest.approx(many.width("arm")[:1], abs=1e-9)
            fastest = max(fastest, np.abs(one.twist(CUBE.name)[0, 3:]).max())
            # A second way to the Jacobian: the robot's own functions, in the base's frame.
            if step % 50 == 49:
                q, qd = one.joints("arm")
                base = np.array([np.cos(0.35), 0.0, 0.0, np.sin(0.35)])
                expected = forward_kinematics(description, q[0]).jacobian @ qd[0]
                twist = first.jacobian[0] @ qd[0]
                turned = np.concatenate([rotation.rotate(base, part) for part in (expected[:3], expected[3:])])
                np.testing.assert_allclose(twist, turned, atol=1e-9)
    assert fastest > 0.1
    assert np.linalg.norm(one.wrench("arm")) > 0.1
