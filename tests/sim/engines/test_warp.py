"""MuJoCo Warp beside MuJoCo: the same model, variables and measurements, in the accuracy of float32.

Nearly all tests share one engine, since a new size of model or batch may compile kernels anew.
"""

import sys

import numpy as np
import pytest
import torch

from hardware.descriptions import load_arm
from sim.arm_randomization import scene_variables
from sim.engines import make_engine
from sim.engines.base import Placement
from sim.engines.mujoco import MujocoEngine
from sim.scene import ArmMount, Body, Scene, Shape

HOME = load_arm("panda").home
BOX = (Shape(kind="box", size=(0.02, 0.02, 0.02)),)
BALL = (Shape(kind="sphere", size=(0.02,)),)
CUBE = Body(name="cube", shapes=BOX, position=(0.47, 0.2, 0.021), cousins=(BALL,))
STAND = Body(name="stand", motion="placed", shapes=BOX, position=(0.3, -0.3, 0.02))
SCENE = Scene(arms=(ArmMount(wrench=True),), bodies=(CUBE, STAND))
N = 3
slow = [pytest.mark.slow, pytest.mark.timeout(1200)]  # compiling takes a minute of CPU time the first time


def test_without_the_package_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mujoco_warp", None)
    monkeypatch.delitem(sys.modules, "sim.engines.warp", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'robot_rl\[warp\]'"):
        make_engine("warp", SCENE, 1)


@pytest.fixture(scope="module")
def warp_engine():
    pytest.importorskip("mujoco_warp")
    import warp

    if warp.get_preferred_device().is_cuda:
        return make_engine("warp", SCENE, N)
    with pytest.warns(UserWarning, match="no CUDA device is used.*'mujoco' is more than 10 times"):
        return make_engine("warp", SCENE, N)


@pytest.fixture
def engine(warp_engine):
    warp_engine.vary([])
    warp_engine.place(np.arange(N), placement())
    return warp_engine


def placement(count=N, seed=0):
    rng = np.random.default_rng(seed)
    cube = np.tile([*CUBE.position, 1.0, 0.0, 0.0, 0.0], (count, 1))
    stand = np.tile([*STAND.position, 1.0, 0.0, 0.0, 0.0], (count, 1))
    cube[:, :2] += 0.01 * rng.normal(size=(count, 2))
    return Placement(
        joints={"arm": HOME + 0.05 * rng.normal(size=(count, 7))}, poses={"cube": cube, "stand": stand}
    )  # fmt: skip


def run(engine, steps, seed=0, bad=None, value=np.nan):
    """What is measured (steps, N, …) under torques, a closing gripper and a pushed cube."""
    rng, trace = np.random.default_rng(seed), []
    torques = 1.5 * rng.normal(size=(engine.num_envs, 7)) * [1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.3]
    for step in range(steps):
        applied = torques.copy()
        if bad is not None and step == 5:
            applied[bad, 3] = value
        engine.substep({"arm": applied}, {"arm": np.full(engine.num_envs, 0.03)})
        kinematics = engine.kinematics("arm")
        parts = [*engine.joints("arm"), engine.pose("cube"), engine.wrench("arm"), kinematics.tool_position]
        trace.append(np.concatenate([*parts, engine.width("arm")[:, None]], axis=1))
    return np.array(trace)


class TestBesideMujoco:
    pytestmark = slow

    def test_motions_and_measurements_under_the_same_torques(self, engine):
        other = MujocoEngine(SCENE, N)
        other.place(np.arange(N), placement())
        ours, theirs = run(engine, 150), run(other, 150)
        moved = np.abs(theirs[-1, :, :7] - theirs[0, :, :7]).max()
        assert moved > 0.1
        assert ours[..., :7] == pytest.approx(theirs[..., :7], abs=2e-3 * moved)
        assert ours[..., 7:14] == pytest.approx(theirs[..., 7:14], abs=5e-3)
        assert ours[..., 14:21] == pytest.approx(theirs[..., 14:21], abs=2e-4)
        assert ours[..., 21:27] == pytest.approx(theirs[..., 21:27], abs=0.02)
        assert ours[..., 27:] == pytest.approx(theirs[..., 27:], abs=2e-4)
        engine.refresh(), other.refresh()
        assert engine.kinematics("arm").jacobian == pytest.approx(other.kinematics("arm").jacobian, abs=1e-3)
        assert not engine.failed.any()

    def test_a_cube_rests_and_slides_where_it_is_pushed(self, engine):
        before = engine.pose("cube").copy()
        force = np.zeros((N, 3))
        force[1, 0] = 1.5 * CUBE.friction * CUBE.mass * 9.81
        engine.push("cube", force)
        run(engine, 100)
        engine.refresh()
        way = engine.pose("cube")[:, :3] - before[:, :3]
        assert way[[0, 2], :2] == pytest.approx(0.0, abs=5e-4)
        assert way[:, 2] == pytest.approx(-0.001, abs=5e-4)
        assert 0.5 < way[1, 0] / (0.5 * 0.5 * CUBE.friction * 9.81 * 0.2**2) < 1.5
        assert engine.twist("cube")[1, 0] > 0.3
        engine.place(np.arange(N), placement())
        run(engine, 20)
        assert np.abs(engine.twist("cube")).max() < 0.05

    @pytest.mark.filterwarnings("ignore:engine 'warp'")
    def test_every_variable_does_what_it_does_in_mujoco(self):
        pytest.importorskip("mujoco_warp")
        variables = {name: found for name, found in scene_variables(SCENE).items() if found.where == "model"}
        changes = {
            "gravity": [1.0, 0.0, -9.0], "contact_damping": [0.3], "link_center": [0.02] * 21, "payload": [1.0],
            "gravity_compensation": [0.8], "torque_limit": [0.3] * 7, "torque_latency": [0.01],
            "joint_lower": HOME + 0.1, "joint_upper": HOME - 0.1, "center": [0.005, 0.004, -0.004],
        }  # fmt: skip
        names = [name for name, found in variables.items() if found.kind != "cousin"]
        engines = [make(SCENE, len(names) + 1) for make in (MujocoEngine, lambda *args: make_engine("warp", *args))]
        refused = [engine.vary(list(variables)) for engine in engines]
        assert refused[0] == {}
        assert list(refused[1]) == ["cube.cousin"]
        assert "kinds of shapes" in refused[1]["cube.cousin"]
        everywhere = np.arange(len(names) + 1)
        finals = []
        for engine in engines:
            for row, name in enumerate(names):
                nominal = np.array(variables[name].nominal)
                value = np.array(changes.get(variables[name].kind, 1.5 * nominal))
                engine.set_variables(np.array([row]), {name: value[None]})
            # A tilted cube falls onto the stand: its inertia counts, and so does the stand's height.
            poses = {
                "cube": [*STAND.position[:2], 0.085, 0.9689124, 0.2, 0.1, 0.1],
                "stand": [*STAND.position, 1, 0, 0, 0],
            }
            engine.place(
                everywhere,
                Placement(
                    joints={"arm": np.tile(HOME, (len(everywhere), 1))},
                    poses={name: np.tile(pose, (len(everywhere), 1)) for name, pose in poses.items()},
                ),
            )
            engine.push("cube", np.tile([0.4, 0.6, 0.1], (len(everywhere), 1)))
            for step in range(60):
                torques = np.tile(4.0 * np.cos(0.2 * step + np.arange(7.0)), (len(everywhere), 1))
                engine.substep({"arm": torques}, {"arm": np.full(len(everywhere), 0.02)})
            finals.append(np.concatenate([*engine.joints("arm"), engine.pose("cube"), engine.width("arm")[:, None]], 1))
        effects = [np.abs(final[:-1] - final[-1]).max(axis=1) for final in finals]
        apart = np.abs(finals[0] - finals[1]).max(axis=1)
        assert apart[-1] < 2e-3
        for name, in_mujoco, in_warp, error in zip(names, *effects, apart, strict=False):
            if name == "stand.friction":  # the friction of a contact is the free body's
                assert in_mujoco == in_warp == 0.0
                continue
            assert in_mujoco > 2e-4, name
            assert in_warp > 0.7 * in_mujoco, name
            # What only the cube feels goes through an impact with other contact points, the rest does not.
            assert error < (0.25 if name.startswith(("contact", "cube", "stand")) else 0.01) * in_mujoco, name


class TestEpisodes:
    pytestmark = slow

    def test_placing_one_leaves_the_others_alone(self, engine):
        run(engine, 10)
        stored = engine.state()
        undisturbed = run(engine, 15, seed=1)
        engine.load_state(stored)
        engine.place(np.array([1]), placement(1, seed=9))
        assert engine.joints("arm")[0][1] == pytest.approx(placement(1, seed=9).joints["arm"][0], abs=1e-6)
        assert engine.width("arm")[1] == pytest.approx(0.08)
        assert not engine.joints("arm")[1][1].any()
        disturbed = run(engine, 15, seed=1)
        assert np.array_equal(disturbed[:, [0, 2]], undisturbed[:, [0, 2]])
        assert not np.array_equal(disturbed[:, 1], undisturbed[:, 1])

    def test_the_same_placement_and_a_stored_state_give_the_same_bits(self, engine):
        first = run(engine, 15)
        stored = engine.state()
        after = run(engine, 15, seed=1)
        engine.place(np.arange(N), placement())
        assert np.array_equal(run(engine, 15), first)
        engine.load_state(stored)
        assert np.array_equal(run(engine, 15, seed=1), after)

    @pytest.mark.parametrize("value", [np.nan, 1e12], ids=str)
    def test_a_torque_that_is_no_number_fails_its_environment_only(self, engine, value):
        healthy = run(engine, 10)
        engine.place(np.arange(N), placement())
        broken = run(engine, 10, bad=1, value=value)
        assert engine.failed.tolist() == [False, True, False]
        assert np.array_equal(broken[:, [0, 2]], healthy[:, [0, 2]])
        assert np.isfinite(broken).all()
        engine.place(np.arange(N), placement())
        assert not engine.failed.any()
        assert np.array_equal(run(engine, 10), healthy)

    def test_a_state_that_breaks_down_fails_and_stays_finite(self, engine):
        healthy = run(engine, 10)
        engine.place(np.arange(N), placement())
        stored = engine.state()
        engine._qvel[2, 0] = np.nan
        engine.load_state({"state": engine.batch.state.copy(), "failed": stored["failed"]})
        broken = run(engine, 10)
        assert engine.failed.tolist() == [False, False, True]
        assert np.array_equal(broken[:, :2], healthy[:, :2])
        assert np.isfinite(broken).all()

    def test_contacts_without_room_are_a_failure_and_not_silent(self, engine):
        engine._data.overflow.assign(np.array([0, 1, 0]))
        with pytest.warns(UserWarning, match=r"environments \[1\] have more contacts than there is room for"):
            engine.refresh()
        assert engine.failed.tolist() == [False, True, False]
        engine.place(np.arange(N), placement())
        engine.refresh()
        assert not engine.failed.any()

    def test_a_device_that_is_not_there_is_refused(self, engine):
        with pytest.raises(ValueError, match="device 'cuda:77' can't be used.*there are: cpu"):
            type(engine)(SCENE, 1, device="cuda:77")


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.filterwarnings("ignore:engine 'warp'")
def test_the_expert_of_reach_succeeds():
    pytest.importorskip("mujoco_warp")
    import sim

    env = sim.make("arm-reach", num_envs=4, seed=3, engine="warp", randomization="none")
    won = torch.zeros(4, dtype=torch.bool)
    for _ in range(env.max_episode_length):
        command = env.task.expert(env.measured, env.setpoint)
        won |= env.step(torch.as_tensor(command, dtype=torch.float32))[3]["success"]
        if bool(won.all()):
            break
    env.close()
    assert won.all()
