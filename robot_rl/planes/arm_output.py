"""From what a policy or a person wants to what a driver takes: torques where it can, joint positions where it must.

Both kinds take a command once, carry it out tick by tick, and hold a pose without a jump.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from hardware.controllers.arm import ArmController
from hardware.controllers.arm_config import ArmControllerConfig
from hardware.controllers.cartesian_impedance import pose_error
from hardware.controllers.differential_ik import differential_ik
from hardware.controllers.gripper import width_from_command
from hardware.controllers.joint_position import BatchInterpolator, joint_limits
from hardware.descriptions.arm import ArmDescription
from hardware.drivers.driver import ArmSample, Capabilities, DriverError
from hardware.kinematics import ArmKinematics, forward_kinematics
from policies import rotation
from policies.types import JointPositions, JointTorques
from robot_rl.planes.records import ArmCommand

_LEASH = 0.25
"""rad that the target of a position robot may be ahead of a measured joint: a robot that is blocked is not left behind
for long, one that follows late is not held up."""


class ArmOutput(Protocol):
    """What turns commands into what the driver takes."""

    def hold(self, sample: ArmSample, kinematics: ArmKinematics) -> None:
        """Stay where the arm is measured; the gripper stays as it was told."""

    def follow(self, command: ArmCommand, sample: ArmSample, kinematics: ArmKinematics, period: float) -> None:
        """Take a command; the next one is expected after `period` s."""

    def step(self, sample: ArmSample, kinematics: ArmKinematics, dt: float) -> JointTorques | JointPositions:
        """What to send for the next `dt` s."""

    def release(self) -> None:
        """The brakes hold the arm: what was sent last counts no more."""

    @property
    def target_pose(self) -> np.ndarray:
        """Where the tool shall be at the end of the period: (7,)."""


def make_output(description: ArmDescription, capabilities: Capabilities, config: ArmControllerConfig) -> ArmOutput:
    """The best that a driver allows.

    Raises:
        DriverError: It takes neither torques nor joint positions.
    """
    if "JointTorques" in capabilities.commands:
        return TorqueOutput(description, config)
    if "JointPositions" in capabilities.commands:
        return PositionOutput(description, config)
    taken = ", ".join(capabilities.commands)
    raise DriverError(
        f"driver {capabilities.name!r} takes {taken}; the control process gives joint torques or positions"
    )


class TorqueOutput:
    """Impedance of the tool or of the joints, see `ArmController`."""

    def __init__(self, description: ArmDescription, config: ArmControllerConfig) -> None:
        """Prepare; call `hold` before `step`."""
        self.controller = ArmController(description, config)
        self._max_width = description.gripper.max_width if description.gripper is not None else 0.0
        self._braked = True

    def hold(self, sample: ArmSample, kinematics: ArmKinematics) -> None:
        """As `ArmOutput.hold`."""
        controller, q = self.controller, sample.joint_positions
        if self._braked:
            controller.reset(kinematics, q, width=np.asarray(sample.gripper_width))
            self._braked = False
            return
        before = controller.state()
        controller.reset(kinematics, q)
        # Torques go on from where they are, and what the gripper holds stays held.
        kept = {name: before[name] for name in ("_previous", "_width", "_width_target")}
        controller.load_state({**controller.state(), **kept})

    def follow(self, command: ArmCommand, sample: ArmSample, kinematics: ArmKinematics, period: float) -> None:
        """As `ArmOutput.follow`."""
        self.controller.command(command, kinematics, sample.joint_positions, period)

    def step(self, sample: ArmSample, kinematics: ArmKinematics, dt: float) -> JointTorques:
        """As `ArmOutput.step`."""
        torques = self.controller.torques(kinematics, sample.joint_positions, sample.joint_velocities, dt)
        width = float(self.controller.gripper_width(dt))
        gripper = _opening(width, self._max_width)
        return JointTorques(values=torques, gripper=gripper)

    def release(self) -> None:
        """As `ArmOutput.release`."""
        self._braked = True

    @property
    def target_pose(self) -> np.ndarray:
        """As `ArmOutput.target_pose`."""
        return np.asarray(self.controller.target_pose)


class PositionOutput:
    """Joint references within velocity, acceleration and jerk, towards joint angles or along a twist.

    A twist moves a target along a straight line, by differential inverse kinematics; the references follow the target
    within the limits. The next twist goes on from the target, not from the measured arm: a robot that follows with a
    lag would lose the lag at every command. Only a robot that is left behind by more than `_LEASH` pulls it back.
    """

    def __init__(self, description: ArmDescription, config: ArmControllerConfig) -> None:
        """Prepare; call `hold` before `step`."""
        self._description, self._config = description, config
        self._limits = joint_limits(description, config.joint_limit_margin, config.joint_limit_fraction)
        self._gripper = description.gripper
        self._posture = description.home if config.posture is None else np.array(config.posture)
        self._reference = self._target = description.home.copy()
        self._velocity = np.zeros(description.num_joints)
        self._joints: BatchInterpolator | None = None
        self._on_line = False
        self._end = np.zeros(7)
        self._left = 0.0
        self._width = self._width_target = 0.0
        self._braked = True

    def hold(self, sample: ArmSample, kinematics: ArmKinematics) -> None:
        """As `ArmOutput.hold`; references that move come to rest within their limits."""
        if self._braked:
            self._reference = sample.joint_positions.copy()
            self._velocity = np.zeros_like(self._reference)
            self._width = self._width_target = sample.gripper_width
            self._joints, self._braked = None, False
        # As far as they go on while they brake: no way back.
        self._target = self._reference + 0.5 * self._velocity * np.abs(self._velocity) / self._limits.acceleration
        self._on_line = False
        self._end = _pose(forward_kinematics(self._description, self._target))

    def follow(self, command: ArmCommand, sample: ArmSample, kinematics: ArmKinematics, period: float) -> None:
        """As `ArmOutput.follow`.

        Raises:
            TypeError: The command is torques, which the robot does not take.
        """
        if isinstance(command, JointTorques):
            raise TypeError("a command of joint torques for a robot that takes joint positions only")
        values = np.asarray(command.values, dtype=np.float64)
        gripper = np.asarray(float(np.asarray(command.gripper).reshape(-1)[0]))
        if self._gripper is not None and math.isfinite(float(gripper)):
            self._width_target = float(width_from_command(gripper, self._gripper.max_width))
        if isinstance(command, JointPositions):
            self._target, self._on_line = values, False
            return
        q = sample.joint_positions
        self._target = q + np.clip(self._target - q, -_LEASH, _LEASH)
        start = forward_kinematics(self._description, self._target)
        position, orientation = start.tool_position, start.tool_orientation
        linear, angular = values[:3], values[3:]
        if command.frame == "tool":
            linear, angular = rotation.rotate(orientation, linear), rotation.rotate(orientation, angular)
        moves = np.concatenate([linear, angular]) != 0.0
        # An axis without a command keeps its last target, as in `ArmController`.
        kept = pose_error(self._end, position, orientation)
        error = np.where(moves, period * np.concatenate([linear, angular]), kept)
        turned = rotation.multiply(rotation.from_rotation_vector(error[3:]), orientation)
        self._end = np.concatenate([position + error[:3], rotation.normalize(turned)])
        self._on_line, self._left = True, period

    def step(self, sample: ArmSample, kinematics: ArmKinematics, dt: float) -> JointPositions:
        """As `ArmOutput.step`."""
        if self._on_line:
            target = forward_kinematics(self._description, self._target)
            error = pose_error(self._end, target.tool_position, target.tool_orientation)
            # The rest of the way in the rest of the period.
            twist = error / max(self._left, dt)
            self._left -= dt
            velocity = differential_ik(target, self._target, twist, self._limits, dt, self._posture)
            self._target = self._target + velocity * dt
        if self._joints is None or self._joints.dt != dt:
            self._joints = BatchInterpolator(self._limits, dt, self._reference)
            self._joints.reset(self._reference)
        self._joints.set_target(self._target)
        self._reference, self._velocity, _ = self._joints.step()
        return JointPositions(values=self._reference.copy(), gripper=self._gripper_after(dt))

    def release(self) -> None:
        """As `ArmOutput.release`."""
        self._braked = True

    @property
    def target_pose(self) -> np.ndarray:
        """As `ArmOutput.target_pose`."""
        return self._end

    def _gripper_after(self, dt: float) -> float:
        if self._gripper is None or self._gripper.max_width == 0.0:
            return 1.0
        step = self._gripper.max_speed * dt
        self._width = min(max(self._width_target, self._width - step), self._width + step)
        return _opening(self._width, self._gripper.max_width)


def _pose(kinematics: ArmKinematics) -> np.ndarray:
    return np.concatenate([kinematics.tool_position, kinematics.tool_orientation])


def _opening(width: float, max_width: float) -> float:
    """A width in m as a command in [-1, 1]; open without a gripper."""
    return min(max(2.0 * width / max_width - 1.0, -1.0), 1.0) if max_width > 0.0 else 1.0
