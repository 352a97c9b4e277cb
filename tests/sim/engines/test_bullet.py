"""What is PyBullet's own affair: reproducibility in spite of its caches, storage, refusals, variables."""

import builtins
import importlib
import sys

import numpy as np
import pytest

from hardware.descriptions import load_arm
from sim.engines.base import Placement
from sim.scene import ArmMount, Body, Scene, Shape

pybullet = pytest.importorskip("pybullet")
from sim.engines.bullet import BulletEngine  # noqa: E402
from sim.engines.bullet_parts import principal_axes  # noqa: E402

HOME = load_arm("panda").home
CUBE = Body(name="cube", shapes=(Shape(kind="box", size=(0.02, 0.02, 0.02)),), position=(0.47, 0.0, 0.3))
STAND = Body(
    name="stand", motion="placed", shapes=(Shape(kind="box", size=(0.05, 0.05, 0.05)),), position=(0.47, 0.0, 0.1)
)
SCENE = Scene(arms=(ArmMount(wrench=True),), bodies=(CUBE, STAND))


@pytest.fixture
def engine():
    made = BulletEngine(SCENE, 3)
    yield made
    made.close()


def placement(count, seed=0):
    rng = np.random.default_rng(seed)
    cube = np.tile([0.47, 0.0, 0.3, 1.0, 0.0, 0.0, 0.0], (count, 1))
    cube[:, :3] += 0.01 * rng.normal(size=(count, 3))
    return Placement(
        joints={"arm": HOME + 0.02 * rng.normal(size=(count, 7))},
        widths={"arm": np.full(count, 0.08)},
        poses={"cube": cube},
    )


def run(engine, steps, width=0.03, seed=0, bad=None):
    """Random torques, closing fingers: contacts of fingers, cube, stand; returns a trace of everything."""
    rng, trace = np.random.default_rng(seed), []
    for step in range(steps):
        torques = 3.0 * rng.normal(size=(1, 7)).repeat(engine.num_envs, axis=0)
        if bad is not None and step == 20:
            torques[bad] = np.nan
        engine.substep({"arm": torques}, {"arm": np.full(engine.num_envs, width)})
        parts = [*engine.joints("arm"), engine.pose("cube"), engine.twist("cube"), engine.wrench("arm")]
        trace.append(np.concatenate(parts, axis=1))
    return np.array(trace)


def test_the_same_placement_gives_the_same_bits_whatever_was_before(engine):
    everywhere = np.arange(3)
    engine.place(everywhere, placement(3))
    first = run(engine, 200)
    engine.place(everywhere, placement(3, seed=5))
    other = run(engine, 130, seed=3)
    engine.place(everywhere, placement(3))
    assert not np.array_equal(first[:130], other)
    assert np.array_equal(run(engine, 200), first)


def test_a_new_engine_gives_the_same_bits(engine):
    engine.place(np.arange(3), placement(3))
    again = BulletEngine(SCENE, 3)
    again.place(np.arange(3), placement(3))
    assert np.array_equal(run(engine, 150), run(again, 150))
    again.close()


def test_placing_one_leaves_the_others_alone(engine):
    everywhere = np.arange(3)
    engine.place(everywhere, placement(3))
    run(engine, 50)
    undisturbed = run(engine, 50, seed=1)
    engine.place(everywhere, placement(3))
    run(engine, 50)
    engine.place(np.array([1]), placement(1))
    disturbed = run(engine, 50, seed=1)
    assert np.array_equal(disturbed[:, [0, 2]], undisturbed[:, [0, 2]])
    assert not np.array_equal(disturbed[:, 1], undisturbed[:, 1])


def test_placed_is_where_it_was_put_and_at_rest(engine):
    wanted = placement(2, seed=2)
    wanted.poses["stand"] = np.array([[0.2, 0.3, 0.1, 0.6, 0.0, 0.8, 0.0], [0.1, 0.4, 0.1, 1.0, 0.0, 0.0, 0.0]])
    engine.place(np.array([2, 0]), wanted)
    rows = [2, 0]
    q, qd = engine.joints("arm")
    assert q[rows] == pytest.approx(wanted.joints["arm"])
    assert not qd.any()
    for name in ("cube", "stand"):
        assert engine.pose(name)[rows] == pytest.approx(wanted.poses[name], abs=1e-6)
    assert not engine.twist("cube")[rows].any()
    assert engine.width("arm")[rows] == pytest.approx(0.08)
    assert engine.pose("stand")[1, :3] == pytest.approx(STAND.position)


def test_state_goes_on_in_free_motion(engine):
    engine.place(np.arange(3), placement(3))
    run(engine, 40, width=0.08)
    stored = engine.state()
    after = run(engine, 20, width=0.08, seed=4)
    engine.load_state(stored)
    assert run(engine, 20, width=0.08, seed=4) == pytest.approx(after, abs=2e-3)


def test_every_load_of_a_state_gives_the_same_bits(engine):
    engine.place(np.arange(3), placement(3))
    run(engine, 150)
    stored = engine.state()
    engine.load_state(stored)
    first = run(engine, 60, seed=7)
    engine.load_state(stored)
    assert np.array_equal(run(engine, 60, seed=7), first)
    assert engine.state().keys() == stored.keys()
    assert all(value.shape[0] == 3 for value in stored.values())


def test_a_torque_that_is_no_number_stops_its_environment_only(engine):
    everywhere = np.arange(3)
    engine.place(everywhere, placement(3))
    healthy = run(engine, 60)
    engine.place(everywhere, placement(3))
    broken = run(engine, 60, bad=1)
    assert engine.failed.tolist() == [False, True, False]
    assert np.array_equal(broken[:, [0, 2]], healthy[:, [0, 2]])
    assert np.isfinite(broken).all()
    assert np.array_equal(broken[-1, 1], broken[21, 1])
    engine.place(everywhere, placement(3))
    assert not engine.failed.any()
    assert np.array_equal(run(engine, 60), healthy)


def test_links_have_the_descriptions_masses_and_moments(engine):
    description = load_arm("panda")
    arm = engine._arms["arm"].model.index
    for k in range(7):
        info = pybullet.getDynamicsInfo(arm, k, physicsClientId=engine._clients[0])
        assert info[0] == pytest.approx(description.link_masses[k])
        assert sorted(info[2]) == pytest.approx(np.linalg.eigvalsh(description.link_inertias[k]))


def test_principal_axes_give_the_inertia_back():
    from policies import rotation

    rng = np.random.default_rng(0)
    for _ in range(20):
        root = rng.normal(size=(3, 3))
        moments, turn = principal_axes(root @ root.T)
        matrix = rotation.to_matrix(turn)
        assert matrix @ np.diag(moments) @ matrix.T == pytest.approx(root @ root.T)


@pytest.mark.parametrize("armature", [0.0, 0.1, 1.0])
def test_armature_slows_a_joint_down(armature):
    """Joint 7 turns about its own axis, so that it is a wheel: acceleration = torque / (inertia + armature)."""
    engine = BulletEngine(Scene(table=False), 1)
    arm = engine._arms["arm"]
    arm.armature[:] = armature
    arm.damping[:] = arm.friction_bound[:] = 0.0
    engine.place(np.arange(1), Placement(joints={"arm": HOME[None]}))
    torque = np.array([[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.1]])
    engine.substep({"arm": torque}, {"arm": np.array([0.08])})
    inertia = arm.mass[0] + armature * np.eye(7)
    for _ in range(9):
        engine.substep({"arm": torque}, {"arm": np.array([0.08])})
    expected = np.linalg.solve(inertia, torque[0])
    assert engine.joints("arm")[1][0] / 0.02 == pytest.approx(expected, rel=0.01, abs=0.01 * np.abs(expected).max())
    engine.close()


def test_variables_move_trajectories_and_nominal_ones_do_not(engine):
    everywhere = np.arange(3)
    engine.place(everywhere, placement(3))
    before = run(engine, 60)
    values = {
        "gravity": [0.0, 0.0, -5.0],
        "joint_damping": [3.0] * 7,
        "joint_friction": [1.0] * 7,
        "armature": [0.5] * 7,
        "torque_limit": [1.0] * 7,
        "torque_latency": [0.01],
        "gravity_compensation": [0.8],
        "joint_lower": [HOME[0] - 0.001, *[-3.0] * 6],
        "joint_upper": [HOME[0] - 0.012, *[4.0] * 6],
    }
    for name, value in values.items():
        assert engine.vary([name]) == {}
        engine.set_variables(np.array([1]), {name: np.array([value])})
        engine.place(everywhere, placement(3))
        after = run(engine, 60)
        assert np.array_equal(after[:, [0, 2]], before[:, [0, 2]]), name
        assert not np.array_equal(after[:, 1], before[:, 1]), name
    assert engine.vary([]) == {}
    engine.place(everywhere, placement(3))
    assert run(engine, 60) == pytest.approx(before, abs=1e-9)


def test_a_heavier_cube_and_a_slippery_one():
    low = Body(name="cube", shapes=CUBE.shapes, position=(0.5, 0.3, 0.02), mass=0.1, friction=0.5)
    engine = BulletEngine(Scene(bodies=(low,)), 3)
    engine.vary(["cube.mass", "cube.friction"])
    values = {"cube.mass": np.array([[0.1], [1.0], [0.1]]), "cube.friction": np.array([[0.5], [0.5], [1.5]])}
    engine.set_variables(np.arange(3), values)
    engine.place(np.arange(3), Placement(joints={"arm": np.tile(HOME, (3, 1))}))
    engine.push("cube", np.tile([0.8, 0.0, 0.0], (3, 1)))
    for _ in range(100):
        engine.substep({"arm": np.zeros((3, 7))}, {"arm": np.full(3, 0.08)})
    moved = engine.pose("cube")[:, 0] - 0.5
    assert moved[0] > 0.04
    assert np.abs(moved[1:]).max() < 2e-3
    engine.place(np.arange(3), Placement(joints={"arm": np.tile(HOME, (3, 1))}))
    for _ in range(100):
        engine.substep({"arm": np.zeros((3, 7))}, {"arm": np.full(3, 0.08)})
    assert np.abs(engine.pose("cube")[:, 0] - 0.5).max() < 1e-3
    engine.close()


def test_what_cannot_vary_says_why(engine):
    reasons = engine.vary(["contact_time", "link_mass", "cube.size", "stand.friction", "cube.friction"])
    assert set(reasons) == {"contact_time", "link_mass", "cube.size", "stand.friction"}
    assert all(reason.startswith("PyBullet: does nothing") for reason in reasons.values())


def test_too_many_environments_are_refused():
    with pytest.raises(ValueError, match="num_envs is 5000.*256"):
        BulletEngine(Scene(), 5000)


def test_what_stands_or_is_unknown_cannot_be_placed_or_pushed(engine):
    with pytest.raises(ValueError, match="'wall' can't be placed.*cube"):
        engine.place(np.arange(1), Placement(joints={"arm": HOME[None]}, poses={"wall": np.zeros((1, 7))}))
    with pytest.raises(ValueError, match="'wall' can't be pushed"):
        engine.push("wall", np.zeros((3, 3)))


def test_without_pybullet_the_message_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "pybullet":
            raise ImportError("No module named 'pybullet'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.delitem(sys.modules, "sim.engines.bullet_parts")
    with pytest.raises(ImportError, match=r"pip install 'robot_rl\[bullet\]'.*Python 3\.11"):
        importlib.import_module("sim.engines.bullet_parts")


def test_close_gives_the_clients_back():
    engine = BulletEngine(Scene(), 2)
    clients = list(engine._clients)
    assert all(pybullet.isConnected(client) for client in clients)
    engine.close()
    assert not any(pybullet.isConnected(client) for client in clients)
    engine.close()
