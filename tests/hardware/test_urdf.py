"""URDF that other programs read: names, limits, masses, shapes, fingers."""

from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from hardware.descriptions import load_arm
from hardware.dynamics import bias_torques
from hardware.kinematics import forward_kinematics
from hardware.urdf import to_urdf


def numbers(element, key):
    return np.array([float(word) for word in element.get(key).split()])


def placement(element):
    """Rotation and position of a URDF origin, written out from its definition."""
    origin = element.find("origin")
    roll, pitch, yaw = numbers(origin, "rpy")
    cr, sr, cp, sp, cy, sy = (f(a) for a in (roll, pitch, yaw) for f in (np.cos, np.sin))
    about_x = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    about_y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    about_z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x, numbers(origin, "xyz")


@pytest.fixture
def bullet(arm, tmp_path):
    """The arm in PyBullet: (module, client, body)."""
    pybullet = pytest.importorskip("pybullet")
    path = tmp_path / "arm.urdf"
    path.write_text(to_urdf(arm))
    client = pybullet.connect(pybullet.DIRECT)
    pybullet.setGravity(0, 0, -9.81, physicsClientId=client)
    flags = pybullet.URDF_USE_INERTIA_FROM_FILE
    body = pybullet.loadURDF(str(path), useFixedBase=True, flags=flags, physicsClientId=client)
    yield pybullet, client, body
    pybullet.disconnect(client)


def test_links_and_joints_form_one_tree_with_these_names(arm):
    robot = ElementTree.fromstring(to_urdf(arm))
    assert robot.get("name") == arm.interface.name
    links = [link.get("name") for link in robot.findall("link")]
    joints = {joint.get("name"): joint for joint in robot.findall("joint")}
    assert len(set(links)) == len(links) == len(joints) + 1
    children = [joint.find("child").get("link") for joint in joints.values()]
    assert {"base", *children} == set(links) and "base" not in children
    moving = [name for name, joint in joints.items() if joint.get("type") != "fixed"]
    assert moving == [*arm.interface.actuators, "finger_left", "finger_right"]
    assert joints["finger_right"].find("mimic").get("joint") == "finger_left"
    assert "tool" in links
    assert ElementTree.fromstring(to_urdf(arm, name="other")).get("name") == "other"


def test_limits_and_friction_are_the_descriptions(arm):
    joints = {joint.get("name"): joint for joint in ElementTree.fromstring(to_urdf(arm)).findall("joint")}
    for k, name in enumerate(arm.interface.actuators):
        limit, dynamics = joints[name].find("limit"), joints[name].find("dynamics")
        assert (float(limit.get("lower")), float(limit.get("upper"))) == arm.interface.limits["position"][k]
        assert float(limit.get("velocity")) == arm.interface.limits["velocity"][k][1]
        assert float(limit.get("effort")) == arm.interface.limits["torque"][k][1]
        assert float(dynamics.get("damping")) == arm.joint_damping[k]
        assert float(dynamics.get("friction")) == arm.joint_friction[k]
    fingers = joints["finger_left"].find("limit")
    assert float(fingers.get("upper")) == arm.gripper.max_width / 2
    assert float(fingers.get("effort")) == arm.gripper.max_force


def test_cylinders_and_spheres_are_the_capsules(arm):
    links = ElementTree.fromstring(to_urdf(arm)).findall("link")
    for index, link in enumerate(links[: arm.num_joints + 1]):
        expected = [capsule for capsule in arm.capsules if capsule.link == index]
        for use in ("visual", "collision"):
            shapes = link.findall(use)
            cylinders = [shape for shape in shapes if shape.find("geometry/cylinder") is not None]
            spheres = [placement(shape)[1] for shape in shapes if shape.find("geometry/sphere") is not None]
            long = [capsule for capsule in expected if not np.array_equal(capsule.start, capsule.end)]
            assert (len(cylinders), len(spheres)) == (len(long), len(expected) + len(long))
            for shape, capsule in zip(cylinders, long, strict=True):
                turn, middle = placement(shape)
                geometry = shape.find("geometry/cylinder")
                half = 0.5 * float(geometry.get("length")) * turn[:, 2]
                ends = sorted([tuple(np.round(middle - half, 9)), tuple(np.round(middle + half, 9))])
                wanted = sorted([tuple(np.round(capsule.start, 9)), tuple(np.round(capsule.end, 9))])
                np.testing.assert_allclose(ends, wanted, atol=1e-8)
                assert float(geometry.get("radius")) == capsule.radius
            for capsule in expected:
                for end in (capsule.start, capsule.end):
                    assert min(np.linalg.norm(end - center) for center in spheres) < 1e-12


def test_pybullet_weighs_and_moves_it_as_we_do(arm, bullet):
    pybullet, client, body = bullet
    n = arm.num_joints
    count = pybullet.getNumJoints(body, physicsClientId=client)
    masses = [pybullet.getDynamicsInfo(body, k, physicsClientId=client)[0] for k in range(count)]
    gripper = arm.gripper.mass + 2 * arm.gripper.finger_mass
    assert sum(masses) == pytest.approx(arm.link_masses.sum() + gripper), "frames must weigh nothing"
    rng = np.random.default_rng(0)
    for _ in range(3):
        q, qd = arm.home + rng.uniform(-0.5, 0.5, n), rng.normal(size=n)
        fingers = [arm.gripper.max_width / 4] * 2
        torques = pybullet.calculateInverseDynamics(
            body, [*q, *fingers], [*qd, 0.0, 0.0], [0.0] * (n + 2), physicsClientId=client
        )
        np.testing.assert_allclose(torques[:n], bias_torques(arm, q, qd), atol=1e-9)


def test_the_fingers_open_along_the_tools_y_axis_by_the_width(arm, bullet):
    pybullet, client, body = bullet
    names = {
        pybullet.getJointInfo(body, k, physicsClientId=client)[12].decode(): k
        for k in range(pybullet.getNumJoints(body, physicsClientId=client))
    }
    for k, angle in enumerate(arm.home):
        pybullet.resetJointState(body, k, angle, physicsClientId=client)
    gaps = []
    for opening in (0.0, arm.gripper.max_width / 2):
        for finger in ("finger_left", "finger_right"):
            pybullet.resetJointState(body, names[finger], opening, physicsClientId=client)
        states = [
            np.array(pybullet.getLinkState(body, names[name], True, True, physicsClientId=client)[4])
            for name in ("finger_left", "finger_right", "tool")
        ]
        gaps.append(states[0] - states[1])
        middle = 0.5 * (states[0] + states[1])
    # At home the tool's y axis is the base's -y; the pads meet on the tool's axis, behind the tool point.
    np.testing.assert_allclose(gaps[0], 0.0, atol=1e-6)
    np.testing.assert_allclose(gaps[1], [0.0, -arm.gripper.max_width, 0.0], atol=1e-4)
    reach = arm.gripper.tool_offset - arm.gripper.finger_root
    np.testing.assert_allclose(states[2] - middle, [0.0, 0.0, -reach], atol=1e-4)
    np.testing.assert_allclose(states[2], forward_kinematics(arm, arm.home).tool_position, atol=1e-6)
    # The fingertips reach past the tool point, so that they can hold something there.
    assert 0.0 < reach < 2 * arm.gripper.finger_size[2]


def test_without_a_gripper_the_tool_is_the_flange():
    pinocchio = pytest.importorskip("pinocchio")
    arm = replace(load_arm("panda"), gripper=None)
    model = pinocchio.buildModelFromXML(to_urdf(arm))
    assert model.nq == arm.num_joints
    data = model.createData()
    pinocchio.framesForwardKinematics(model, data, arm.home)
    np.testing.assert_allclose(
        data.oMf[model.getFrameId("tool")].translation,
        forward_kinematics(arm, arm.home).tool_position,
        atol=1e-9,
    )
