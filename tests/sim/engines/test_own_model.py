"""A user's own URDF or MJCF stands in for the model that is built from the description, in both engines."""

import dataclasses

import mujoco
import numpy as np
import pytest
import torch

from hardware.descriptions import load_arm
from hardware.kinematics import forward_kinematics
from hardware.urdf import to_urdf
from sim.engines.base import Placement
from sim.engines.mujoco import MujocoEngine
from sim.factory import build_env
from sim.scene import ArmMount, Scene
from sim.tasks import TASKS

pytest.importorskip("pybullet")
from sim.engines.bullet import BulletEngine  # noqa: E402

ENGINES = pytest.mark.parametrize("make", [MujocoEngine, BulletEngine], ids=["mujoco", "bullet"])


@pytest.fixture(params=["urdf", "mjcf"])
def own_file(request, tmp_path):
    description = load_arm("panda")
    path = tmp_path / f"own.{'urdf' if request.param == 'urdf' else 'xml'}"
    if request.param == "urdf":
        path.write_text(to_urdf(description))
    else:
        path.write_text(chain_of(description))
    return path


def chain_of(description):
    """The arm as a bare MJCF chain with a site `tool` at the flange, without fingers."""
    text, close = "", ""
    for k, name in enumerate(description.interface.actuators):
        position, turn = (
            " ".join(map(str, a[k])) for a in (description.joint_positions, description.joint_orientations)
        )
        axis = " ".join(map(str, description.joint_axes[k]))
        text += f'<body name="b{k}" pos="{position}" quat="{turn}"><joint name="{name}" axis="{axis}"/>'
        text += '<inertial pos="0 0 0" mass="2" diaginertia="0.02 0.02 0.02"/>'
        close += "</body>"
    tool = " ".join(map(str, description.flange_position))
    motors = "".join(f'<motor joint="{name}"/>' for name in description.interface.actuators)
    site = f'<site name="tool" pos="{tool}"/>'
    return f"<mujoco><worldbody>{text}{site}{close}</worldbody><actuator>{motors}</actuator></mujoco>"


@ENGINES
def test_kinematics_are_those_of_the_description(own_file, make):
    description = load_arm("panda")
    fingers = own_file.suffix == ".urdf"
    engine = make(Scene(arms=(ArmMount(model=str(own_file), gripper=fingers, wrench=True),)), 3)
    q = description.home + np.random.default_rng(0).normal(size=(3, 7)) * 0.2
    engine.place(np.arange(3), Placement(joints={"arm": q}))
    found = engine.kinematics("arm")
    expected = forward_kinematics(description, q)
    if fingers:
        np.testing.assert_allclose(found.tool_position, expected.tool_position, atol=1e-6)
        np.testing.assert_allclose(found.jacobian, expected.jacobian, atol=1e-6)
    before, step = found.tool_position.copy(), 1e-6
    moved = q.copy()
    moved[:, 3] += step
    engine.place(np.arange(3), Placement(joints={"arm": moved}))
    slope = (engine.kinematics("arm").tool_position - before) / step
    engine.place(np.arange(3), Placement(joints={"arm": q}))
    np.testing.assert_allclose(slope, engine.kinematics("arm").jacobian[:, :3, 3], atol=1e-4)


@ENGINES
def test_its_weight_is_compensated_and_torques_move_it(own_file, make):
    description = load_arm("panda")
    fingers = own_file.suffix == ".urdf"
    engine = make(Scene(arms=(ArmMount(model=str(own_file), gripper=fingers),)), 2)
    engine.place(np.arange(2), Placement(joints={"arm": np.tile(description.home, (2, 1))}))
    torques = np.zeros((2, 7))
    torques[1, 0] = 5.0
    for _ in range(50):
        engine.substep({"arm": torques}, {"arm": np.full(2, 0.08)})
    drift = np.abs(engine.joints("arm")[0] - description.home)
    assert drift[0].max() < 1e-6
    assert drift[1, 0] > 1e-3


@ENGINES
def test_what_is_missing_is_named(tmp_path, make):
    path = tmp_path / "own.xml"
    path.write_text('<mujoco><worldbody><body><joint name="j1"/><geom size=".1"/></body></worldbody></mujoco>')
    with pytest.raises(ValueError, match="no joint 'joint1'; it has j1"):
        make(Scene(arms=(ArmMount(model=str(path)),)), 1)
    path.write_text(chain_of(load_arm("panda")).replace('name="tool"', 'name="tip"'))
    with pytest.raises(ValueError, match="called 'tool'"):
        make(Scene(arms=(ArmMount(model=str(path), gripper=False),)), 1)
    with pytest.raises(FileNotFoundError, match=r"nothing\.xml"):
        make(Scene(arms=(ArmMount(model="nothing.xml"),)), 1)


ODD = """<mujoco><compiler angle="radian"/><asset><mesh name="wedge" vertex="0 0 0 .05 0 0 0 .05 0 0 0 .05"/></asset>
<worldbody><geom type="cylinder" size=".06 .05"/><body name="lower" pos="0 0 .1" quat=".9 .1 .3 .2">
<joint name="joint1" pos=".02 -.01 .03" axis=".1 .2 1" ref=".4" range="-2 2" damping=".3" armature=".05"/>
<geom type="ellipsoid" size=".03 .04 .1" mass="2"/><body name="bracket" pos=".05 0 .2" quat=".8 0 .6 0">
<geom type="box" size=".02 .02 .02" pos="0 0 .01" mass=".3"/><body name="upper" pos="0 .1 .1">
<joint name="joint2" pos="0 .02 0" axis="0 1 0" ref="-.7" armature=".05" damping=".3" frictionloss=".05"/>
<geom type="mesh" mesh="wedge" pos=".01 0 .1" quat=".7 .1 .7 0" mass=".8"/>
<geom type="capsule" size=".02 .1" mass=".5"/>
<site name="tool" pos=".02 .01 .3" quat=".6 0 .8 0"/></body></body></body></worldbody></mujoco>"""


def odd_scene(tmp_path, monkeypatch, text=ODD):
    """Two joints with anchors, reference angles, odd axes, a bracket between, a mesh and an ellipsoid."""
    panda = load_arm("panda")
    interface = panda.interface
    limits = {name: values[:2] for name, values in interface.limits.items()}
    two = {
        name: getattr(panda, name)[:2]
        for name in (
            "joint_positions", "joint_orientations", "joint_axes", "link_masses", "link_centers", "link_inertias",
            "joint_damping", "joint_friction", "armature", "home",
        )
    }  # fmt: skip
    description = dataclasses.replace(
        panda,
        interface=dataclasses.replace(interface, actuators=interface.actuators[:2], limits=limits),
        capsules=(),
        gripper=None,
        **two,
    )
    for module in ("sim.engines.mujoco", "sim.engines.mujoco_arm", "sim.engines.bullet", "sim.arm_randomization"):
        monkeypatch.setattr(f"{module}.load_arm", lambda _: description)
    path = tmp_path / "odd.xml"
    path.write_text(text)
    mount = ArmMount(model=str(path), gripper=False, wrench=True, position=(0.2, -0.1, 0.3), yaw=0.8)
    return Scene(arms=(mount,), table=False)


def test_both_engines_read_anchors_reference_angles_and_shapes_alike(tmp_path, monkeypatch):
    scene = odd_scene(tmp_path, monkeypatch)
    engines = [make(scene, 4) for make in (MujocoEngine, BulletEngine)]
    q = np.random.default_rng(0).uniform(-1.5, 1.5, (4, 2))
    torques = {"arm": np.array([[0.5, -0.4], [-1.0, 0.3], [0.2, 0.8], [0.0, 0.0]])}
    for engine in engines:
        engine.place(np.arange(4), Placement(joints={"arm": q}))
    ours, theirs = (engine.kinematics("arm") for engine in engines)
    for field in ("tool_position", "jacobian"):
        np.testing.assert_allclose(getattr(ours, field), getattr(theirs, field), atol=1e-6)
    same = np.abs((ours.tool_orientation * theirs.tool_orientation).sum(axis=1))
    np.testing.assert_allclose(same, 1.0, atol=1e-9)
    for engine in engines:
        for _ in range(100):
            engine.substep(torques, {"arm": np.zeros(4)})
        engine.refresh()
    moved = [engine.joints("arm")[0] for engine in engines]
    assert np.abs(moved[0] - q)[:3].max() > 0.05
    np.testing.assert_allclose(moved[0], moved[1], atol=0.01 * np.abs(moved[0] - q).max())


def test_an_own_mesh_collides(tmp_path, monkeypatch):
    """PyBullet's rays hit the wedge and the ellipsoid where they are, and nothing beside them."""
    import pybullet

    engine = BulletEngine(odd_scene(tmp_path, monkeypatch), 1)
    engine.place(np.arange(1), Placement(joints={"arm": np.array([[0.4, -0.7]])}))
    model = MujocoEngine(engine.scene, 1).model
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    for kind in (mujoco.mjtGeom.mjGEOM_MESH, mujoco.mjtGeom.mjGEOM_ELLIPSOID):
        geom = next(i for i in range(model.ngeom) if model.geom_type[i] == kind)
        center = data.geom_xpos[geom]
        for direction in np.eye(3):
            start, none = center + direction, np.zeros(1, np.int32)
            hit = mujoco.mj_ray(model, data, start, -direction, None, 1, -1, none)
            found = pybullet.rayTest(start, start - 2.0 * direction, physicsClientId=engine._clients[0])[0]
            assert 2.0 * found[2] == pytest.approx(hit, abs=4e-3)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("<site", '<body name="b"><joint name="extra"/><geom size=".1"/></body><site', "joint 'extra' is none of"),
        ('ref=".4"', 'ref=".4" stiffness="3"', "joint 'joint1' has a spring"),
        ('name="joint2"', 'name="joint2" type="slide"', "joint 'joint2' is no hinge"),
        ("</worldbody>", '<body mocap="true"><geom size=".1"/></body></worldbody>', "it has mocap bodies"),
    ],
)
def test_what_only_mujoco_simulates_is_refused_in_a_sentence(tmp_path, monkeypatch, old, new, says):
    scene = odd_scene(tmp_path, monkeypatch, ODD.replace(old, new))
    with pytest.raises(ValueError, match=f"{says}.*use the engine 'mujoco'"):
        BulletEngine(scene, 1)


@ENGINES
def test_fingers_that_nothing_drives_stand_still(tmp_path, make):
    path = tmp_path / "own.urdf"
    path.write_text(to_urdf(load_arm("panda")))
    engine = make(Scene(arms=(ArmMount(model=str(path), gripper=False),)), 1)
    engine.place(np.arange(1), Placement(joints={"arm": load_arm("panda").home[None]}))
    for _ in range(50):
        engine.substep({"arm": np.zeros((1, 7))}, {})
    assert np.abs(engine.joints("arm")[0] - load_arm("panda").home).max() < 1e-4


@pytest.mark.parametrize("engine", ["mujoco", "pybullet"])
def test_the_expert_reaches_with_an_own_urdf(tmp_path, engine):
    """URDF cannot tell the rotors' inertia: it is that of the description, and the controllers work as usual."""
    path = tmp_path / "own.urdf"
    path.write_text(to_urdf(load_arm("panda")))
    task = TASKS["arm-reach"]
    mount = dataclasses.replace(task.scene.arms[0], model=str(path))
    task = dataclasses.replace(task, scene=dataclasses.replace(task.scene, arms=(mount,)), episode_length=3.0)
    env = build_env(task, 4, seed=1, engine=engine)
    env.reset()
    done, won = torch.zeros(4, dtype=torch.bool), torch.zeros(4, dtype=torch.bool)
    while not done.all():
        _, _, reset, extras = env.step(task.expert(env.measured, env.setpoint))
        won |= extras["success"] & ~done
        done |= reset
    assert won.all()
    env.close()
