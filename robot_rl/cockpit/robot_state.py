"""What the page tells of a robot: an arm's joints within their limits, tool, gripper, force; a quadrotor's flight."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hardware.descriptions import load_arm
from policies import rotation
from policies.types import ArmState, QuadrotorSetpoint, QuadrotorState
from robot_rl.cockpit.messages import finite
from sim.scene import ArmMount

FORCE_SHOWN = 30.0
"""N at which the page's bar of the force is full."""


def describe_arm(mount: ArmMount) -> dict[str, Any]:
    """What does not change: names and limits of the joints, the gripper, whether there is a force sensor."""
    description = load_arm(mount.robot)
    interface, gripper = description.interface, description.gripper
    return {
        "name": mount.name,
        "robot": interface.name,
        "joints": list(interface.actuators),
        "position_limits": [list(pair) for pair in interface.limits["position"]],
        "velocity_limits": [pair[1] for pair in interface.limits["velocity"]],
        "gripper": gripper.max_width if gripper is not None and mount.gripper else None,
        "force": FORCE_SHOWN if mount.wrench else None,
    }


def tell_arm(state: ArmState, force: bool) -> dict[str, Any]:
    """What changes: the measured state, a batch of one or a single one."""

    def row(value: Any) -> list[float | None]:
        flat = np.asarray(value, dtype=np.float64)
        return [finite(x) for x in flat.reshape(-1, flat.shape[-1])[0]]

    wrench = (
        np.asarray(state.wrench, dtype=np.float64).reshape(-1, 6)[0] if force and state.wrench is not None else None
    )
    return {
        "positions": row(state.joint_positions),
        "velocities": row(state.joint_velocities),
        "tool": row(state.tool_pose),
        "twist": row(state.tool_twist),
        "width": finite(float(np.asarray(state.gripper_width).reshape(-1)[0]))
        if state.gripper_width is not None
        else None,
        "force": None if wrench is None else finite(float(np.linalg.norm(wrench[:3])), 2),
    }


def tell_vehicle(state: QuadrotorState, setpoint: QuadrotorSetpoint | None = None, phase: str = "") -> dict[str, str]:
    """Where a quadrotor is and how it flies, as texts for people."""
    x, y, z = (float(value) for value in state.position)
    up = float(rotation.rotate(state.orientation, np.array([0.0, 0.0, 1.0]))[2])
    told = {
        "x, m": f"{x:.2f}",
        "y, m": f"{y:.2f}",
        "z, m": f"{z:.2f}",
        "yaw": f"{math.degrees(float(rotation.yaw_of(state.orientation))):.0f}°",
        "speed, m/s": f"{float(np.linalg.norm(state.linear_velocity)):.2f}",
        "tilt": f"{math.degrees(math.acos(min(1.0, max(-1.0, up)))):.0f}°",
    }
    if setpoint is not None:
        told["error, cm"] = f"{100.0 * float(np.linalg.norm(setpoint.position - state.position)):.0f}"
    if phase:
        told["phase"] = phase.replace("_", " ")
    return told
