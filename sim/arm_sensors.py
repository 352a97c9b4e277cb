"""What a policy is told of arms and objects: the truth with bias, drift, noise, latency and lost frames.

Bias is drawn once an episode: encoder offsets, a camera that is off by a millimetre. Drift is bias that wanders: its
terms are drawn at every step with a correlation time. Noise is white, drawn at every control period. A joint's encoder
error shows in the tool's pose as well, as on a robot. A lost frame repeats the last one.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from array_api_compat import array_namespace
from torch import Tensor

from policies import rotation
from policies.types import ArmState, Array

OBJECT_VARIABLES: dict[str, tuple[int, str, float, str]] = {
    "object_position_noise": (1, "m", 0.0, "white noise of every object's position"),
    "object_position_bias": (3, "m", -math.inf, "shift of every object in an episode"),
    "object_position_drift": (3, "m", -math.inf, "shift of every object that wanders; for terms of every step"),
    "object_rotation_noise": (1, "rad", 0.0, "white noise of every object's orientation"),
    "object_rotation_bias": (3, "rad", -math.inf, "turn of every object in an episode"),
    "object_rotation_drift": (3, "rad", -math.inf, "turn of every object that wanders"),
    "object_loss": (1, "1", 0.0, "probability that an object's pose is that of the control period before"),
}
"""Name → size, unit, lowest value and meaning of what perception does to every object alike; all 0 for perfect ones.
Noise is a standard deviation."""
SIGNAL_KINDS: dict[str, tuple[float, str]] = {
    "offset": (0.0, "added, drawn at every step: white noise of the "),
    "bias": (0.0, "added, drawn at every reset: correlated noise of the "),
    "scale": (1.0, "factor, drawn at every step, of the "),
    "scale_bias": (0.0, "added to the factor, drawn at every reset, of the "),
}
"""End of the name → nominal value and meaning of what `disturb` does to a signal as a whole."""


def arm_sensor_variables(joints: int) -> dict[str, tuple[int, str, float, str]]:
    """As `OBJECT_VARIABLES`, of the sensors of an arm."""
    free = -math.inf
    return {
        "joint_position_noise": (1, "rad", 0.0, "white noise of the encoders"),
        "joint_position_bias": (joints, "rad", free, "offsets of the encoders in an episode"),
        "joint_position_drift": (joints, "rad", free, "offsets of the encoders that wander; for terms of every step"),
        "joint_velocity_noise": (1, "rad/s", 0.0, "white noise of the joint velocities"),
        "wrench_noise": (2, "N, N m", 0.0, "white noise of force and torque"),
        "wrench_bias": (6, "N, N m", free, "offset of force and torque in an episode"),
        "wrench_drift": (6, "N, N m", free, "offset of force and torque that wanders"),
        "state_loss": (1, "1", 0.0, "probability that the arm's whole state is that of the control period before"),
    }


def noise_size(joints: int, objects: int) -> int:
    """Normal samples that `measure` needs for an arm."""
    return 2 * joints + 6 + 6 * objects


def measure(true: ArmState, jacobian: Array, values: Mapping[str, Array], white: Array) -> ArmState:
    """The measured state (N, ...) of an arm; all arrays are numpy's, or all torch's.

    Args:
        true: True state.
        jacobian: Tool Jacobian (N, 6, n), to carry encoder errors to the tool.
        values: `arm_sensor_variables` and `OBJECT_VARIABLES` by name, each (N, size).
        white: Standard normal samples (N, `noise_size`).
    """
    n = true.joint_positions.shape[-1]
    rest = white[..., 2 * n + 6 :]
    bias = values["joint_position_bias"] + values["joint_position_drift"]
    bias = bias + values["joint_position_noise"] * white[..., :n]
    moved = (jacobian @ bias[..., None])[..., 0]
    velocities = true.joint_velocities + values["joint_velocity_noise"] * white[..., n : 2 * n]
    objects = {}
    shifted = values["object_position_bias"] + values["object_position_drift"]
    turned = values["object_rotation_bias"] + values["object_rotation_drift"]
    for index, (name, pose) in enumerate(true.objects.items()):
        sample = rest[..., 6 * index : 6 * index + 6]
        shift = shifted + values["object_position_noise"] * sample[..., :3]
        turn = turned + values["object_rotation_noise"] * sample[..., 3:]
        objects[name] = _moved(pose, shift, turn)
    wrench = true.wrench
    if wrench is not None:
        offset = values["wrench_bias"] + values["wrench_drift"]
        spread, sample = values["wrench_noise"], white[..., 2 * n : 2 * n + 6]
        force = wrench[..., :3] + offset[..., :3] + spread[..., :1] * sample[..., :3]
        torque = wrench[..., 3:] + offset[..., 3:] + spread[..., 1:] * sample[..., 3:]
        wrench = array_namespace(wrench).concat([force, torque], axis=-1)
    return dataclasses.replace(
        true,
        joint_positions=true.joint_positions + bias,
        joint_velocities=velocities,
        tool_pose=_moved(true.tool_pose, moved[..., :3], moved[..., 3:]),
        tool_twist=(jacobian @ velocities[..., None])[..., 0],
        wrench=wrench,
        objects=objects,
    )


def hold_lost(
    measured: ArmState, before: ArmState, values: Mapping[str, Array], fresh: Array, uniform: Array
) -> ArmState:
    """The measured state (N, ...), or parts of the one before where a frame is lost; arrays as in `measure`.

    Args:
        measured: Of now.
        before: What this function returned a control period ago.
        values: `state_loss` and `object_loss` (N, 1) by name: probabilities.
        fresh: Where an episode begins (N,) bool: nothing is lost there.
        uniform: Samples (N, 1 + number of objects) in [0, 1).
    """
    xp = array_namespace(uniform)

    def keep(lost: Array, new: Array, old: Array) -> Array:
        return xp.where(lost.reshape(-1, *[1] * (new.ndim - 1)), old, new)

    lost = (uniform[:, 0] < values["state_loss"][:, 0]) & ~fresh
    fields = ("joint_positions", "joint_velocities", "tool_pose", "tool_twist", "gripper_width", "wrench")
    changed: dict[str, Any] = {
        name: keep(lost, getattr(measured, name), getattr(before, name))
        for name in fields
        if getattr(measured, name) is not None
    }
    objects = {}
    for index, (name, pose) in enumerate(measured.objects.items()):
        unseen = (uniform[:, 1 + index] < values["object_loss"][:, 0]) & ~fresh
        objects[name] = keep(unseen, pose, before.objects[name])
    return dataclasses.replace(measured, **changed, objects=objects)


def disturb(signal: Tensor, values: Mapping[str, Tensor], name: str) -> Tensor:
    """A signal (N, size), `observation` or `action`, with the noise that Isaac Gym's files put on it as a whole."""
    factor = values[f"{name}_scale"] + values[f"{name}_scale_bias"]
    return signal * factor + values[f"{name}_offset"] + values[f"{name}_bias"]


def _moved(pose: Array, shift: Array, turn: Array) -> Array:
    """A pose (N, 7) shifted and turned by a rotation vector (N, 3), both in the world."""
    orientation = pose[..., 3:]
    if turn.any():
        orientation = rotation.multiply(rotation.from_rotation_vector(turn), orientation)
    return array_namespace(pose).concat([pose[..., :3] + shift, orientation], axis=-1)
