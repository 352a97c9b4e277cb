"""Scripted resets: how the robot itself brings a task back to a beginning. One entry per task in `RESETS`.

Like a task's expert, a reset is a function of what is measured now, without memory, so that it goes on from wherever
things are. It works on a single sample of numpy arrays, and its actions are along the axes of the base.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policies import rotation
from policies.types import ArmSetpoint, ArmState
from robot_rl.errors import UserError, unknown_name
from sim.tasks import arm_peg_insert, arm_pick_lift
from sim.tasks.arm import ArmTask, drive

Floats = NDArray[np.float64]

NEAR = 0.012
"""m, how close the tool must come to where it shall begin."""
TURNED = 0.08
"""rad, how closely it must be turned."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Target:
    """How the next episode shall begin. Poses (7,) in the base frame."""

    tool: Floats
    """Of the tool."""
    objects: Mapping[str, Floats] = field(default_factory=dict)
    """Of objects by name."""
    goal: Floats | None = None
    """Of the set-point, where the task has one."""


@dataclass(frozen=True, kw_only=True)
class Reset:
    """How to bring a task back to a beginning."""

    act: Callable[[ArmState, Target], Floats]
    """Normalized action (A,), along the axes of the base."""
    done: Callable[[ArmState, Target], bool]
    """Whether, as far as can be measured, an episode can begin."""
    aim: Callable[[ArmState, Target], Target] = lambda state, target: target
    """The target as this scene allows it, e.g. about an object that the robot cannot move."""


def find_reset(task: ArmTask) -> Reset:
    """The scripted reset of a task.

    Raises:
        UserError: It has none.
    """
    if task.name not in RESETS:
        raise unknown_name("reset of task", task.name, RESETS)
    return RESETS[task.name](task)


# What resets share


def towards(state: ArmState, target: Target, period: float, speed: float, turn_speed: float) -> Floats:
    """Normalized x, y, z and turn about the vertical (4,) that take the tool to where it shall begin."""
    linear = drive(target.tool[:3] - state.tool_pose[:3], period, speed)
    turn = _wrapped(rotation.yaw_of(target.tool[3:]) - rotation.yaw_of(state.tool_pose[3:]))
    return np.append(linear, np.clip(turn / (period * turn_speed), -1.0, 1.0))


def arrived(state: ArmState, target: Target) -> bool:
    """Whether the tool is where it shall begin, at rest."""
    turn = _wrapped(rotation.yaw_of(target.tool[3:]) - rotation.yaw_of(state.tool_pose[3:]))
    way = float(np.linalg.norm(target.tool[:3] - state.tool_pose[:3]))
    return way < NEAR and abs(turn) < TURNED and float(np.linalg.norm(state.tool_twist[:3])) < 0.05


def _wrapped(angle: float) -> float:
    return float((angle + math.pi) % (2.0 * math.pi) - math.pi)


# arm-pick-lift

_CARRY = 0.06
"""m above the table at which the cube is carried."""
_PLACED = 0.015
"""m from its place at which the cube is let go."""
_MOST_TURN = 1.8
"""rad, how far the tool is turned at most to put the cube down as asked: the last joint ends at 2.1 rad."""


def pick_lift(task: ArmTask) -> Reset:
    """Put the cube down at another place, let go, go up to the start; grasp it first where it is not held."""
    half = float(task.settings.half_size)
    period, speed, turn_speed = task.period, arm_pick_lift.SPEED, arm_pick_lift.TURN_SPEED

    def low(state: ArmState) -> bool:
        """Whether the cube lies on the table: fingers that hold it are as far apart as it is high."""
        return bool(state.objects["cube"][2] < 0.5 * state.gripper_width + 0.005)

    def act(state: ArmState, target: Target) -> Floats:
        cube, tool, place = state.objects["cube"], state.tool_pose, target.objects["cube"]
        away, aside = place[:2] - cube[:2], float(np.linalg.norm(place[:2] - cube[:2]))
        between = float(np.linalg.norm(cube[:3] - tool[:3])) < 0.02
        if aside < _PLACED and low(state):
            if state.gripper_width < arm_pick_lift.WIDE - 0.01:
                return np.array([0.0, 0.0, 0.0, 0.0, 1.0])  # a finger that opens must not drag it along
            beside = float(np.linalg.norm(cube[:2] - tool[:2]))
            if beside < 0.1 and tool[2] < cube[2] + half + 0.04:
                return np.array([0.0, 0.0, 0.5, 0.0, 1.0])
            return np.append(towards(state, target, period, speed, turn_speed), 1.0)
        if not (between and state.gripper_width < 2.3 * half + 0.003):
            return np.asarray(arm_pick_lift.expert(state, ArmSetpoint(), half), dtype=np.float64)
        turn = _turn_of_place(state, place)
        height = float(np.clip(3.0 * (aside - 0.008), 0.0, _CARRY))
        height = _CARRY if abs(turn) > 0.15 else height
        rise = 0.5 * float(state.gripper_width) + height - cube[2]
        way = np.array([*away, rise])
        if cube[2] < 0.5 * state.gripper_width + 0.5 * height:
            way[:2] = 0.0  # up first: a cube that is dragged over the table tilts
        linear = 0.7 * drive(way, period, speed)
        return np.array([*linear, np.clip(turn / (period * turn_speed), -0.7, 0.7), -1.0])

    def done(state: ArmState, target: Target) -> bool:
        cube = state.objects["cube"]
        inside = all(
            lower - 0.02 < value < upper + 0.02
            for value, (lower, upper) in zip(cube[:2], arm_pick_lift.CUBES, strict=True)
        )
        upright = rotation.to_matrix(cube[3:])[2, 2] < -0.98
        lying = cube[2] < 1.2 * half + 0.006
        free = state.gripper_width > arm_pick_lift.WIDE - 0.01
        return bool(inside and upright and lying and free and arrived(state, target))

    return Reset(act=act, done=done)


def _turn_of_place(state: ArmState, place: Floats) -> float:
    """Turn, rad, that puts the cube down as `place` says, or mirrored where the wrist would not go so far."""
    cube, tool = rotation.yaw_of(state.objects["cube"][3:]), float(rotation.yaw_of(state.tool_pose[3:]))
    wanted = float(rotation.yaw_of(place[3:]))
    turn = _wrapped(wanted - cube)
    return turn if abs(tool + turn) < _MOST_TURN else _wrapped(-wanted - cube)


# arm-peg-insert


def peg_insert(task: ArmTask) -> Reset:
    """Pull the peg out, straight up, and go to a start beside and above the hole, which stays where it is."""
    period, speed, turn_speed = task.period, arm_peg_insert.SPEED, arm_peg_insert.TURN_SPEED

    def act(state: ArmState, target: Target) -> Floats:
        hole, tip = state.objects["hole"], state.tool_pose
        height, aside = float(tip[2] - hole[2]), float(np.linalg.norm(tip[:2] - hole[:2]))
        if height < 0.01 and aside < 0.05:
            return np.array([0.0, 0.0, 0.5, 0.0])
        action = towards(state, target, period, speed, turn_speed)
        action[:3] = drive(target.tool[:3] - tip[:3] + _stiction(target.tool[:3] - tip[:3]), period, speed)
        return action

    def aim(state: ArmState, target: Target) -> Target:
        """The same start as seen from the hole."""
        old, new, tool = target.objects["hole"], state.objects["hole"], target.tool
        way = rotation.rotate(new[3:], rotation.rotate_inverse(old[3:], tool[:3] - old[:3]))
        turn = rotation.multiply(rotation.multiply(new[3:], rotation.conjugate(old[3:])), tool[3:])
        return replace(target, tool=np.concatenate([new[:3] + way, turn]))

    return Reset(act=act, done=arrived, aim=aim)


def _stiction(way: Floats) -> Floats:
    """Way m to add to small steps, which the joints' friction would swallow."""
    return arm_peg_insert.STICTION * np.tanh(way / 0.0005)


RESETS: dict[str, Callable[[ArmTask], Reset]] = {"arm-pick-lift": pick_lift, "arm-peg-insert": peg_insert}
"""Scripted reset by task."""


def single(state: Any) -> ArmState:
    """A batch of one, of tensors or arrays, as one sample of float64 arrays.

    Raises:
        UserError: There are two arms.
    """
    if not isinstance(state, ArmState):
        raise UserError("scripted resets move one arm; this robot has several")

    def one(value: Any) -> Any:
        return None if value is None else np.asarray(value, dtype=np.float64)[0]

    names = ("joint_positions", "joint_velocities", "tool_pose", "tool_twist", "gripper_width", "wrench")
    objects = {name: one(pose) for name, pose in state.objects.items()}
    return ArmState(**{name: one(getattr(state, name)) for name in names}, objects=objects)
