"""What the arm's supervisor is told, checked before it is believed: samples of the robot, and commands for it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from hardware.controllers.joint_position import symmetric_limit
from hardware.descriptions.arm import ArmDescription
from hardware.drivers.driver import ArmSample
from hardware.safety.arm_envelope import ArmEnvelope
from hardware.safety.stamped import StampConfig, StampedInput
from policies.types import CartesianTwist, JointPositions, JointTorques

ArmCommand: TypeAlias = CartesianTwist | JointPositions | JointTorques
Source: TypeAlias = int | str


@dataclass(frozen=True, kw_only=True)
class ArmInputConfig(StampConfig):
    """What the arm's inputs believe."""

    range_slack: float = 0.1
    """rad beyond its limits where a joint cannot be: a measurement there is an outlier."""
    teleop_sources: tuple[Source, ...] = ("teleop",)
    """Publishers that are a person's hand: their commands get old after the envelope's `teleop_age`."""


class ArmStateInput(StampedInput):
    """Newest believed sample of an arm."""

    def __init__(self, description: ArmDescription, envelope: ArmEnvelope, config: ArmInputConfig) -> None:
        super().__init__("state", config, "shape", "outlier", label="state")
        self.names = description.interface.actuators
        self.sample: ArmSample | None = None
        self.fault = ""
        """Why the robot takes no commands, by its own newest word; empty while it does."""
        self.outliers_in_row = 0
        self._margin = envelope.state_jump
        self._velocity = envelope.overspeed * symmetric_limit(description, "velocity")
        lower, upper = np.array(description.interface.limits["position"], dtype=np.float64).T
        self._lower, self._upper = lower - config.range_slack, upper + config.range_slack
        self._last_stamp = -math.inf

    @property
    def trusted(self) -> bool:
        """False after too many jumps in a row, until `forget`."""
        return self.outliers_in_row < self.timing.outliers_to_fault

    def observe(self, sample: ArmSample, now: float) -> str:
        """Take a sample; returns why not, or an empty string. The same sample again is no news and no refusal."""
        self.fault = sample.fault
        if sample.stamp == self._last_stamp:
            return self.refusal
        if problem := self.check_stamp(sample.stamp, now):
            return problem
        self._last_stamp = sample.stamp
        q = sample.joint_positions
        if problem := self._check_arrays(sample):
            return problem
        if not self.trusted:
            return self.refuse("outlier", f"is not believed after {self.outliers_in_row} jumps in a row: recover")
        if (q < self._lower).any() or (q > self._upper).any():
            self.outliers_in_row += 1
            worst = int(np.argmax(np.maximum(self._lower - q, q - self._upper)))
            return self.refuse(
                "outlier",
                f"of {self.names[worst]} is {q[worst]:.3f} rad, where it cannot be "
                f"({self._lower[worst]:.3f} to {self._upper[worst]:.3f} rad): are joints permuted?",
            )
        if self.sample is not None:
            reach = self._velocity * (sample.stamp - self.stamp) + self._margin
            jump = np.abs(q - self.sample.joint_positions)
            if (jump > reach).any():
                self.outliers_in_row += 1
                worst = int(np.argmax(jump - reach))
                return self.refuse(
                    "outlier",
                    f"of {self.names[worst]} jumps by {jump[worst]:.3f} rad where {reach[worst]:.3f} rad are possible",
                )
        self.outliers_in_row = 0
        self.sample = sample
        return self.accept(sample.stamp)

    def forget(self) -> None:
        """Believe the next sample wherever the joints are."""
        super().forget()
        self.sample = None
        self.outliers_in_row = 0
        self._last_stamp = -math.inf

    def _check_arrays(self, sample: ArmSample) -> str:
        count = len(self.names)
        for name in ("joint_positions", "joint_velocities", "joint_torques", "wrench"):
            values = getattr(sample, name)
            if values is None and name in ("joint_torques", "wrench"):
                continue
            expected = 6 if name == "wrench" else count
            if not isinstance(values, np.ndarray) or values.shape != (expected,):
                return self.refuse("shape", f"has {np.size(values)} {name}; expected {expected}: is a joint missing?")
            if not np.isfinite(values).all():
                bad = [i for i in range(expected) if not math.isfinite(values[i])]
                where = ", ".join(self.names[i] for i in bad) if expected == count else str(bad)
                return self.refuse("not_finite", f"has non-finite {name}: {where}")
        return ""


class ArmCommandInput(StampedInput):
    """Newest believed command, from one publisher only."""

    def __init__(self, description: ArmDescription, envelope: ArmEnvelope, config: ArmInputConfig) -> None:
        super().__init__("command", config, "shape", "out_of_limits", "jump", "second_source", label="command")
        self.config = config
        self.envelope = envelope
        self.names = description.interface.actuators
        self.command: ArmCommand | None = None
        self.sequence = 0
        """Number of commands believed so far: a new one is latched once."""
        self.source: Source | None = None
        self._heard = -math.inf
        self._torque = symmetric_limit(description, "torque") * (1.0 + config.limit_tolerance)
        linear, angular = envelope.tool_speed
        self._twist = np.array([linear, angular]) * (1.0 + config.limit_tolerance)

    @property
    def is_teleoperation(self) -> bool:
        """Whether a person's hand is the source."""
        return self.source in self.config.teleop_sources

    def observe(
        self, command: ArmCommand, stamp: float, now: float, source: Source, measured: np.ndarray | None
    ) -> str:
        """Take a command of publisher `source`; returns why not, or an empty string.

        Args:
            command: What to do.
            stamp: s, when it was computed.
            now: s.
            source: Who says so.
            measured: Shape (n,), rad, newest believed joint angles.
        """
        if source != self.source and now - self._heard < self.config.source_timeout:
            return self.refuse("second_source", f"from {source!r} is refused while {self.source!r} is alive")
        self.source, self._heard = source, now
        if problem := self.check_stamp(stamp, now):
            return problem
        if not isinstance(command, (CartesianTwist, JointPositions, JointTorques)):
            return self.refuse("shape", f"is a {type(command).__name__}; an arm takes twists, joint angles or torques")
        values = np.asarray(command.values, dtype=np.float64)
        gripper = np.asarray(command.gripper, dtype=np.float64)
        expected = 6 if isinstance(command, CartesianTwist) else len(self.names)
        if values.shape != (expected,) or gripper.size != 1:
            return self.refuse("shape", f"has {values.size} values, {gripper.size} grippers; expected {expected}, 1")
        if not (np.isfinite(values).all() and math.isfinite(float(gripper.reshape(-1)[0]))):
            return self.refuse("not_finite", f"is {values.tolist()}, gripper {gripper.tolist()}")
        if problem := self._check_size(command, values, measured):
            return problem
        # A copy: the sender may reuse its arrays.
        self.command = replace(command, values=values.copy(), gripper=float(gripper.reshape(-1)[0]))
        self.sequence += 1
        return self.accept(stamp)

    def forget(self) -> None:
        """As if no command and no publisher had come yet."""
        super().forget()
        self._heard = -math.inf

    def _check_size(self, command: ArmCommand, values: np.ndarray, measured: np.ndarray | None) -> str:
        if isinstance(command, CartesianTwist):
            if command.frame not in ("base", "tool"):
                return self.refuse("shape", f"is in frame {command.frame!r}; choose 'base' or 'tool'")
            speeds = math.hypot(*values[:3].tolist()), math.hypot(*values[3:].tolist())
            if speeds[0] > self._twist[0] or speeds[1] > self._twist[1]:
                linear, angular = self.envelope.tool_speed
                return self.refuse(
                    "out_of_limits",
                    f"moves the tool at {speeds[0]:.2f} m/s, {speeds[1]:.2f} rad/s "
                    f"(limits {linear:g}, {angular:g}): is a scale applied twice?",
                )
            return ""
        if isinstance(command, JointTorques):
            share = np.abs(values) - self._torque
            if np.any(share > 0.0):
                worst = int(np.argmax(share))
                return self.refuse(
                    "out_of_limits",
                    f"is {values[worst]:.1f} N m on {self.names[worst]} (limit {self._torque[worst]:.1f} N m)",
                )
            return ""
        if measured is None:
            return self.refuse("jump", "asks for joint angles before the robot's are known")
        jump = np.abs(values - measured)
        worst = int(np.argmax(jump))
        if jump[worst] > self.envelope.command_jump:
            return self.refuse(
                "jump",
                f"puts {self.names[worst]} at {values[worst]:.3f} rad, {jump[worst]:.3f} rad from where it is "
                f"(limit {self.envelope.command_jump:g} rad): are joints permuted?",
            )
        return ""
