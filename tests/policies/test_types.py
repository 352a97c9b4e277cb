"""States, set-points and commands: what CONTRACT.md fixes, documented, immutable."""

import ast
import dataclasses
import inspect

import numpy as np
import pytest
import torch

from policies import types

# Fields in their order, from CONTRACT.md, "States, set-points, commands".
CONTRACT = {
    "QuadrotorState": ("position", "orientation", "linear_velocity", "angular_velocity", "motor_speeds"),
    "QuadrotorSetpoint": ("position", "velocity", "acceleration", "yaw"),
    "MotorSpeeds": ("values",),
    "BodyRatesThrust": ("rates", "thrust"),
    "ArmState": (
        "joint_positions",
        "joint_velocities",
        "tool_pose",
        "tool_twist",
        "gripper_width",
        "joint_torques",
        "wrench",
        "objects",
        "images",
    ),
    "ArmSetpoint": ("tool_pose", "parameters"),
    "CartesianTwist": ("values", "frame", "gripper"),
    "JointPositions": ("values", "gripper"),
    "JointTorques": ("values", "gripper"),
}
CLASSES = {
    name: item
    for name, item in vars(types).items()
    if inspect.isclass(item) and dataclasses.is_dataclass(item) and item.__module__ == types.__name__
}


@pytest.mark.parametrize("name", CONTRACT)
def test_fields_are_those_of_the_contract(name):
    assert tuple(f.name for f in dataclasses.fields(CLASSES[name])) == CONTRACT[name]


def test_every_dataclass_is_in_the_contract():
    assert set(CLASSES) == {*CONTRACT, "RobotInterface"}


@pytest.mark.parametrize("name", CLASSES)
def test_fields_cannot_be_assigned(name):
    item = CLASSES[name]
    value = item(**dict.fromkeys((f.name for f in dataclasses.fields(item)), np.zeros(3)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, dataclasses.fields(item)[0].name, np.ones(3))


@pytest.mark.parametrize("name", CLASSES)
def test_every_field_has_a_docstring_under_it(name):
    body = ast.parse(inspect.getsource(CLASSES[name])).body[0].body
    for this, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(this, ast.AnnAssign):
            documented = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            assert documented and after.value.value.strip(), f"{name}.{this.target.id} says nothing of itself"


@pytest.mark.parametrize("name", CONTRACT)
def test_array_fields_state_their_shape(name):
    source = inspect.getsource(CLASSES[name])
    arrays = [f.name for f in dataclasses.fields(CLASSES[name]) if f.type in ("Array", "Array | None")]
    assert source.count('"""Shape (') == len(arrays)


@pytest.mark.parametrize("make", [np.zeros, torch.zeros], ids=["numpy", "torch"])
def test_states_hold_either_array_kind_and_compare_by_identity(make):
    def state():
        return types.QuadrotorState(make((2, 3)), make((2, 4)), make((2, 3)), make((2, 3)))

    one = state()
    assert one.motor_speeds is None
    assert one == one
    # Comparing arrays has no one truth value; two states are never silently "equal" or an exception.
    assert one != state()
    assert dataclasses.replace(one, position=make((2, 3)) + 1.0).position[0, 0] == 1.0


def test_optional_signals_default_to_none_and_mappings_are_not_shared():
    zeros = np.zeros(7)
    first, second = (types.ArmState(zeros, zeros, zeros, zeros[:6], np.zeros(())) for _ in range(2))
    assert first.joint_torques is None
    assert first.wrench is None
    assert first.objects == {} and first.objects is not second.objects
    assert first.images == {} and first.images is not second.images
    assert types.ArmSetpoint().tool_pose is None


def test_an_interface_is_built_by_name_and_compares_by_value(robot):
    assert robot == dataclasses.replace(robot)
    assert robot != dataclasses.replace(robot, command_rate_hz=50.0)
    with pytest.raises(TypeError):
        types.RobotInterface("crazyflie", "quadrotor")
