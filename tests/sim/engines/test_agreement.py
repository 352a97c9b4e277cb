"""MuJoCo and PyBullet on the same scenes: the same laws hold in both, and they agree within stated bounds."""

import math

import numpy as np
import pytest

from hardware.controllers.arm import ArmController
from hardware.descriptions import load_arm
from policies import rotation
from policies.types import CartesianTwist
from sim.engines.base import Placement
from sim.engines.mujoco import MujocoEngine
from sim.scene import ArmMount, Body, Scene, Shape

pytest.importorskip("pybullet")
from sim.engines.bullet import BulletEngine  # noqa: E402

DT = 0.002
PANDA = load_arm("panda")
HOME = PANDA.home
ENGINES = pytest.mark.parametrize("make", [MujocoEngine, BulletEngine], ids=["mujoco", "bullet"])
STIFFNESS = np.array([600.0, 600.0, 400.0, 400.0, 100.0, 100.0, 40.0])
DAMPING = np.array([40.0, 40.0, 30.0, 30.0, 8.0, 8.0, 3.0])


def cube(half=0.02, **changes):
    values = {"name": "cube", "position": (0.47, 0.0, half), "mass": 0.1, **changes}
    return Body(shapes=(Shape(kind="box", size=(half, half, half)),), **values)


def built(make, scene, num_envs=1, joints=HOME, **placed):
    engine = make(scene, num_envs)
    joints = np.broadcast_to(joints, (num_envs, 7))
    engine.place(np.arange(num_envs), Placement(joints={arm.name: joints for arm in scene.arms}, **placed))
    return engine


def advance(engine, seconds, torques=0.0, width=0.08):
    n = engine.num_envs
    for _ in range(round(seconds / DT)):
        torque = np.broadcast_to(torques, (n, 7))
        engine.substep(
            {arm.name: torque for arm in engine.scene.arms}, {arm.name: np.full(n, width) for arm in engine.scene.arms}
        )
    engine.refresh()


def hold(engine, seconds, joints=HOME, extra=0.0, width=0.08):
    """Stiff joints."""
    n = engine.num_envs
    for _ in range(round(seconds / DT)):
        q, qd = engine.joints("arm")
        torque = STIFFNESS * (joints - q) - DAMPING * qd + extra
        engine.substep({"arm": torque}, {"arm": np.full(n, width)})
    engine.refresh()


def move_tool(engine, controller, waypoints):
    """The real controller follows (position, gripper in [-1, 1], seconds)."""
    n = engine.num_envs
    for position, gripper, seconds in waypoints:
        for _ in range(round(seconds / 0.1)):
            engine.refresh()
            kinematics, (q, _) = engine.kinematics("arm"), engine.joints("arm")
            twist = np.zeros((n, 6))
            twist[:, :3] = np.clip((np.array(position) - kinematics.tool_position) / 0.1, -0.3, 0.3)
            command = CartesianTwist(values=twist, frame="base", gripper=np.full(n, gripper))
            controller.command(command, kinematics, q, 0.1)
            for _ in range(50):
                torques = controller.torques(engine.kinematics("arm"), *engine.joints("arm"), DT)
                engine.substep({"arm": torques}, {"arm": controller.gripper_width(DT)})
    engine.refresh()


# Kinematics


@pytest.mark.parametrize(
    "mounts",
    [(ArmMount(),), (ArmMount(name="a", position=(0.3, -0.2, 0.1), yaw=0.7), ArmMount(name="b", yaw=-2.0))],
    ids=["one", "two, moved and turned"],
)
def test_tool_poses_and_jacobians_agree(mounts):
    rng = np.random.default_rng(1)
    limits = np.array(PANDA.interface.limits["position"])
    joints = {mount.name: rng.uniform(limits[:, 0], limits[:, 1], (20, 7)) for mount in mounts}
    engines = [make(Scene(arms=mounts), 20) for make in (MujocoEngine, BulletEngine)]
    for engine in engines:
        engine.place(np.arange(20), Placement(joints=joints))
    for mount in mounts:
        ours, theirs = (engine.kinematics(mount.name) for engine in engines)
        assert ours.tool_position == pytest.approx(theirs.tool_position, abs=1e-6)
        assert ours.jacobian == pytest.approx(theirs.jacobian, abs=1e-6)
        turn = rotation.multiply(ours.tool_orientation, rotation.conjugate(theirs.tool_orientation))
        assert rotation.to_rotation_vector(turn) == pytest.approx(np.zeros((20, 3)), abs=1e-6)
        poses = [engine.pose(f"{mount.name}/tool")[:, :3] for engine in engines]
        assert poses[0] == pytest.approx(poses[1], abs=1e-6)


def test_pybullet_itself_has_the_tool_where_our_kinematics_say():
    import pybullet

    joints = HOME + 0.3 * np.random.default_rng(2).normal(size=7)
    engine = built(BulletEngine, Scene(arms=(ArmMount(position=(0.2, 0.1, 0.0), yaw=1.0),)), joints=joints)
    arm = engine._arms["arm"].model
    state = pybullet.getLinkState(
        arm.index, arm.palm, computeForwardKinematics=True, physicsClientId=engine._clients[0]
    )
    x, y, z, w = state[5]
    tip = np.array(state[4]) + rotation.rotate(np.array([w, x, y, z]), np.array([0.0, 0.0, 0.1034]))
    assert tip == pytest.approx(engine.pose("arm/tool")[0, :3], abs=1e-6)


# Dynamics of the arm


def test_motions_under_the_same_torques_agree():
    """Within half a per cent of the way: MuJoCo lets a joint creep that friction should hold."""
    rng = np.random.default_rng(3)
    joints = HOME + 0.1 * rng.normal(size=(6, 7))
    torques = 1.5 * rng.normal(size=(6, 7)) * [1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.3]
    engines = [built(make, Scene(), 6, joints) for make in (MujocoEngine, BulletEngine)]
    for engine in engines:
        advance(engine, 0.3, torques)
    ours, theirs = (engine.joints("arm")[0] for engine in engines)
    way = np.abs(ours - joints).max()
    assert 0.1 < way < 0.6
    assert np.abs(ours - theirs).max() < 0.005 * way + 1e-3


def test_motions_agree_in_a_controlled_movement():
    engines = [built(make, Scene()) for make in (MujocoEngine, BulletEngine)]
    for engine in engines:
        hold(engine, 0.25, joints=HOME + [0.2, 0.1, -0.2, 0.1, 0.3, -0.2, 0.4])
    ours, theirs = (engine.joints("arm")[0] for engine in engines)
    assert np.abs(ours - HOME).max() > 0.2
    assert ours == pytest.approx(theirs, abs=1e-3)


@ENGINES
def test_without_torques_the_arm_stays(make):
    """Gravity is compensated, of the arm and of what it holds."""
    peg = Body(name="peg", shapes=(Shape(kind="cylinder", size=(0.02, 0.05)),), mass=2.0, attached_to="arm")
    engine = built(make, Scene(arms=(ArmMount(gripper=False),), bodies=(peg,)))
    advance(engine, 1.0)
    assert engine.joints("arm")[0] == pytest.approx(HOME[None], abs=2e-4)


@ENGINES
def test_a_torque_below_the_friction_moves_nothing_much_and_one_above_does(make):
    friction = np.array(PANDA.joint_friction)
    engine = built(make, Scene(), 2)
    advance(engine, 0.5, np.stack([0.7 * friction, 3.0 * friction]))
    moved = np.abs(engine.joints("arm")[0] - HOME).max(axis=1)
    assert moved[0] < 0.02
    assert moved[1] > 0.1


@ENGINES
def test_joint_limits_stop_the_arm(make):
    engine = built(make, Scene(table=False))
    advance(engine, 1.5, [20.0, 0.0, 0.0, 0.0, 0.0, 0.0, 5.0])
    reached = engine.joints("arm")[0][0]
    limits = np.array(PANDA.interface.limits["position"])
    assert reached[[0, 6]] == pytest.approx(limits[[0, 6], 1], abs=0.03)


@ENGINES
def test_torques_are_bounded_by_what_the_robot_has(make):
    engine = built(make, Scene(), 2)
    advance(engine, 0.02, np.stack([[0, 0, 0, 0, 0, 0, 12.0], [0, 0, 0, 0, 0, 0, 1e4]]))
    q = engine.joints("arm")[0]
    assert q[1] == pytest.approx(q[0])


# Objects


@ENGINES
def test_a_dropped_cube_comes_to_rest_on_the_table(make):
    engine = built(make, Scene(bodies=(cube(position=(0.5, 0.3, 0.08)),)))
    hold(engine, 1.0)
    pose, twist = engine.pose("cube")[0], engine.twist("cube")[0]
    assert pose[:3] == pytest.approx([0.5, 0.3, 0.02], abs=5e-4)
    assert np.abs(pose[3]) == pytest.approx(1.0, abs=1e-4)
    assert twist == pytest.approx(np.zeros(6), abs=1e-2)


@ENGINES
@pytest.mark.parametrize("friction", [0.2, 0.8])
def test_a_cube_slides_where_the_force_beats_its_friction(make, friction):
    weight = 0.1 * 9.81
    engine = built(make, Scene(bodies=(cube(position=(0.5, 0.3, 0.02), friction=friction),)), 2)
    hold(engine, 0.3)
    before = engine.pose("cube")[:, 0]
    engine.push("cube", np.array([[0.8 * friction * weight, 0, 0], [1.25 * friction * weight, 0, 0]]))
    hold(engine, 0.5)
    moved = engine.pose("cube")[:, 0] - before
    assert abs(moved[0]) < 2e-3
    expected = 0.5 * 0.25 * friction * 9.81 * 0.5**2
    assert moved[1] == pytest.approx(expected, rel=0.15)


@ENGINES
def test_a_free_body_falls_and_turns_as_mechanics_say(make):
    """Thrown about its middle axis of inertia: the centre of mass falls, energy and angular momentum last."""
    body = Body(
        name="thing",
        shapes=(
            Shape(kind="box", size=(0.02, 0.04, 0.06)),
            Shape(kind="sphere", size=(0.02,), position=(0.08, 0.0, 0.03)),
        ),
        mass=0.5,
        position=(2.0, 0.0, 3.0),
    )
    from sim.scene import mass_properties

    center, inertia = mass_properties(body)
    engine = built(make, Scene(bodies=(body,)))

    def motion():
        pose, twist = engine.pose("thing")[0], engine.twist("thing")[0]
        arm = rotation.rotate(pose[3:], center)
        turn = rotation.to_matrix(pose[3:])
        momentum = turn @ inertia @ turn.T @ twist[3:]
        velocity = twist[:3] + np.cross(twist[3:], arm)
        return pose[:3] + arm, velocity, momentum, 0.5 * momentum @ twist[3:]

    start = motion()[0]
    # A couple: two pushes would need two bodies, so an offset contact-free spin comes from the stored state.
    stored = engine.state()
    if make is MujocoEngine:
        engine._qvel[0, -6:] = [0.3, 0.0, 1.0, 2.0, 5.0, -3.0]
    else:
        stored["twist/thing"][0] = [0.3, 0.0, 1.0, 2.0, 5.0, -3.0]
        engine.load_state(stored)
    engine.refresh()
    _, velocity, momentum, energy = motion()
    advance(engine, 0.5)
    position, later, momentum_later, energy_later = motion()
    assert position == pytest.approx(start + 0.5 * velocity + [0, 0, -0.5 * 9.81 * 0.25], abs=0.01)
    assert later == pytest.approx(velocity + [0.0, 0.0, -9.81 * 0.5], abs=0.01)
    assert momentum_later == pytest.approx(momentum, abs=0.03 * np.linalg.norm(momentum))
    assert energy_later == pytest.approx(energy, rel=0.03)


@ENGINES
def test_the_base_of_an_arm_is_solid_for_objects_and_stands_on_the_table(make):
    engine = built(make, Scene(bodies=(cube(position=(-0.03, 0.0, 0.2)),)))
    hold(engine, 0.6)
    x, y, z = engine.pose("cube")[0, :3]
    assert z > 0.1 or math.hypot(x + 0.03, y) > 0.06
    assert engine.joints("arm")[0] == pytest.approx(HOME[None], abs=1e-3)


# Grasping and forces


@ENGINES
def test_the_gripper_measures_and_lifts_a_cube(make):
    engine = built(make, Scene(arms=(ArmMount(wrench=True),), bodies=(cube(),)))
    controller = ArmController(PANDA, batch=(1,))
    controller.reset(engine.kinematics("arm"), engine.joints("arm")[0])
    move_tool(engine, controller, [((0.47, 0, 0.02), 1.0, 1.5), ((0.47, 0, 0.02), -1.0, 0.8)])
    assert engine.width("arm")[0] == pytest.approx(0.04, abs=1.2e-3)
    move_tool(engine, controller, [((0.47, 0, 0.25), -1.0, 1.5)])
    assert engine.pose("cube")[0, 2] == pytest.approx(0.25, abs=6e-3)
    # The tool points down: the cube's weight is along its z axis.
    assert engine.wrench("arm")[0, 2] == pytest.approx(0.981, abs=0.1)
    move_tool(engine, controller, [((0.47, 0, 0.03), -1.0, 1.5), ((0.47, 0, 0.03), 1.0, 1.1)])
    assert engine.pose("cube")[0, 2] == pytest.approx(0.02, abs=2e-3)
    assert engine.width("arm")[0] == pytest.approx(0.08, abs=5e-4)


@ENGINES
def test_fingers_stay_symmetric(make):
    """A cube off the middle is pulled there, or the tool goes along: both fingers share one drive."""
    engine = built(make, Scene(bodies=(cube(position=(0.47, 0.012, 0.02)),)))
    controller = ArmController(PANDA, batch=(1,))
    controller.reset(engine.kinematics("arm"), engine.joints("arm")[0])
    move_tool(engine, controller, [((0.47, 0, 0.02), 1.0, 1.5), ((0.47, 0, 0.02), -1.0, 1.0)])
    tool, found = engine.pose("arm/tool")[0], engine.pose("cube")[0]
    assert engine.width("arm")[0] == pytest.approx(0.04, abs=1.2e-3)
    assert found[1] == pytest.approx(tool[1], abs=1.5e-3)


@ENGINES
def test_the_wrench_of_a_known_push(make):
    """What pushes the tool's point is felt in the tool's frame, without a torque and without what it holds."""
    peg = Body(name="peg", shapes=(Shape(kind="box", size=(0.01, 0.01, 0.04)),), mass=0.3, attached_to="arm")
    joints = HOME + [0.2, 0.0, 0.1, 0.2, 0.5, 0.3, 0.4]
    engine = built(make, Scene(arms=(ArmMount(gripper=False, wrench=True),), bodies=(peg,)), 4, joints)
    forces = np.array([[0.0, 0.0, 0.0], [20.0, 0.0, 0.0], [0.0, -10.0, 0.0], [5.0, 5.0, -30.0]])
    engine.push("arm/tool", forces)
    hold(engine, 1.0, joints)
    wrench = engine.wrench("arm")
    assert wrench[:, :3] == pytest.approx(rotation.rotate_inverse(engine.pose("arm/tool")[:, 3:], forces), abs=0.1)
    assert wrench[:, 3:] == pytest.approx(np.zeros((4, 3)), abs=0.03)


@ENGINES
def test_pressing_on_the_table_is_felt(make):
    """Statics: what presses is known from the joint torques, without the sensor."""
    peg = Body(
        name="peg",
        shapes=(Shape(kind="sphere", size=(0.02,)),),
        mass=0.2,
        attached_to="arm",
        position=(0.0, 0.0, 0.05),
    )
    block = Body(
        name="block", shapes=(Shape(kind="box", size=(0.2, 0.2, 0.1)),), motion="fixed", position=(0.47, 0.0, 0.1)
    )
    engine = built(make, Scene(arms=(ArmMount(gripper=False, wrench=True),), bodies=(peg, block)))
    q, qd = engine.joints("arm")
    down = np.array([0.0, 0.0, -20.0])
    for _ in range(round(2.0 / DT)):
        kinematics = engine.kinematics("arm")
        jacobian = kinematics.jacobian[0]
        slow = -150.0 * (jacobian[:3] @ qd[0])
        level = rotation.to_rotation_vector(
            rotation.multiply(np.array([0.0, 1.0, 0.0, 0.0]), rotation.conjugate(kinematics.tool_orientation[0]))
        )
        turn = 60.0 * level - 6.0 * (jacobian[3:] @ qd[0])
        sideways = np.array([1.0, 1.0, 0.0]) * 500.0 * (np.array([0.47, 0.0, 0.0]) - kinematics.tool_position[0])
        torque = jacobian[:3].T @ (down + slow + sideways) + jacobian[3:].T @ turn - 0.5 * qd[0]
        engine.substep({"arm": torque[None]}, {"arm": np.zeros(1)})
        q, qd = engine.joints("arm")
    engine.refresh()
    wrench = engine.wrench("arm")[0]
    assert engine.pose("peg")[0, 2] == pytest.approx(0.22, abs=3e-3)
    assert np.abs(qd).max() < 0.02
    world = rotation.rotate(engine.pose("arm/tool")[0, 3:], wrench[:3])
    # The joints' friction takes or gives a few newtons; but for that, the torques balance what the sensor says.
    jacobian = engine.kinematics("arm").jacobian[0]
    torque_world = rotation.rotate(engine.pose("arm/tool")[0, 3:], wrench[3:])
    balance = torque + jacobian[:3].T @ world + jacobian[3:].T @ torque_world
    assert np.all(np.abs(balance) < np.array(PANDA.joint_friction) + 0.03)
    assert world[2] == pytest.approx(20.0, rel=0.25)
