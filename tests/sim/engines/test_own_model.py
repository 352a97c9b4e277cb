"""A user's own URDF or MJCF stands in for the model that is built from the description."""

import numpy as np
import pytest

from hardware.descriptions import load_arm
from hardware.kinematics import forward_kinematics
from hardware.urdf import to_urdf
from sim.engines.base import Placement
from sim.engines.mujoco import MujocoEngine
from sim.scene import ArmMount, Scene


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


def test_kinematics_are_those_of_the_description(own_file):
    description = load_arm("panda")
    fingers = own_file.suffix == ".urdf"
    engine = MujocoEngine(Scene(arms=(ArmMount(model=str(own_file), gripper=fingers, wrench=True),)), 3)
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


def test_its_weight_is_compensated_and_torques_move_it(own_file):
    description = load_arm("panda")
    fingers = own_file.suffix == ".urdf"
    engine = MujocoEngine(Scene(arms=(ArmMount(model=str(own_file), gripper=fingers),)), 2)
    engine.place(np.arange(2), Placement(joints={"arm": np.tile(description.home, (2, 1))}))
    torques = np.zeros((2, 7))
    torques[1, 0] = 5.0
    for _ in range(50):
        engine.substep({"arm": torques}, {"arm": np.full(2, 0.08)})
    drift = np.abs(engine.joints("arm")[0] - description.home)
    assert drift[0].max() < 1e-6
    assert drift[1, 0] > 1e-3


def test_what_is_missing_is_named(tmp_path):
    path = tmp_path / "own.xml"
    path.write_text('<mujoco><worldbody><body><joint name="j1"/><geom size=".1"/></body></worldbody></mujoco>')
    with pytest.raises(ValueError, match="no joint 'joint1'; it has j1"):
        MujocoEngine(Scene(arms=(ArmMount(model=str(path)),)), 1)
    path.write_text(chain_of(load_arm("panda")).replace('name="tool"', 'name="tip"'))
    with pytest.raises(ValueError, match="called 'tool'"):
        MujocoEngine(Scene(arms=(ArmMount(model=str(path), gripper=False),)), 1)
    with pytest.raises(FileNotFoundError, match=r"nothing\.xml"):
        MujocoEngine(Scene(arms=(ArmMount(model="nothing.xml"),)), 1)
