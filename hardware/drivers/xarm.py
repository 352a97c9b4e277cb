"""UFACTORY xArm 5, 6, 7 and 850 by the vendor's xArm-Python-SDK.

Joint targets go out in servo mode (mode 1, `set_servo_angle_j`): the arm runs to each at once and stands at the last
one when no more come. Reading and writing are a question and an answer each, so that a tick waits twice for the wire;
the report of port 30003 brings mode and state at 100 Hz. Errors arrive as a flag in every answer, their number and
words are asked for then.

Connecting switches the motors on and sets servo mode; the arm stays where it is.
"""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from hardware.descriptions import ArmDescription, QuadrotorDescription
from hardware.drivers.driver import ArmSample, Capabilities, DriverError
from hardware.drivers.support import ContextManager, check_range, command_values, import_sdk, read_settings
from policies.types import JointPositions

SERVO_MODE = 1
READY, PAUSED, STOPPED = 0, 3, 4
"""States to set; `STOPPED` decelerates and takes no commands."""
STOP_STATES = (4, 5)
"""States to read: stopped, and stopped by a change of the system's settings."""
REPORT_DELAY = 0.1
"""s after engaging in which a report from before may still come; the box itself refuses targets when it is stopped."""
CLOSED, OPEN = 0, 850
"""Positions of the xArm gripper."""
ANSWERS: Mapping[int, str] = MappingProxyType(
    {
        -1: "not connected", -2: "motors off, or its state not set", -8: "the target is outside the joint's range",
        -9: "emergency stop", 1: "it has an error", 3: "no answer in time", 7: "the wire is broken",
        9: "it is not ready to move (state)", 10: "it refused the parameters",
    }
)  # fmt: skip
"""What the codes of the library mean; those above 0 come from the controller."""


@dataclass(frozen=True, kw_only=True)
class XarmConfig:
    """Settings of the driver `xarm`."""

    host: str
    """Address of the control box."""
    rate_hz: float = 100.0
    """Rate of reading and writing, up to 250: each tick waits twice for an answer."""
    timeout: float = 0.1
    """s to wait for an answer once connected: the longest that a tick can hang on a dead wire."""
    gripper: Literal["none", "xarm"] = "none"
    """Gripper on the flange; `xarm` is the xArm gripper on the tool's RS-485."""
    gripper_period: float = 0.25
    """s between questions for the gripper's width: each takes several milliseconds on RS-485."""

    def __post_init__(self) -> None:
        check_range("rate_hz", self.rate_hz, 10.0, 250.0)
        check_range("timeout", self.timeout, 0.02, 1.0)
        check_range("gripper_period", self.gripper_period, 0.05, 5.0)


class XarmDriver(ContextManager):
    """An xArm behind its SDK; see the module. `recover` after an error is explicit."""

    def __init__(self, description: ArmDescription, config: XarmConfig) -> None:
        self._count = description.num_joints
        if description.interface.actuators != tuple(f"joint{index + 1}" for index in range(self._count)):
            raise DriverError(f"driver 'xarm' drives joint1, joint2, …; {description.interface.name} is another robot")
        if config.gripper != "none" and description.gripper is None:
            raise DriverError("setting gripper=xarm needs a robot description with a gripper")
        self.config = config
        self._actuators = description.interface.actuators
        self._max_width = 0.0 if description.gripper is None else description.gripper.max_width
        self._arm: Any = None
        self._default_timeout: float | None = None
        self._words: Any = None
        self._reset()

    def _reset(self) -> None:
        self._sample: ArmSample | None = None
        self._fault = ""
        self._engaged, self._engaged_at = False, -math.inf
        self._width, self._width_asked, self._opening = 0.0, -math.inf, math.nan

    @property
    def capabilities(self) -> Capabilities:
        """What the robot can do."""
        return Capabilities(
            name="xarm",
            kind="arm",
            actuators=self._actuators,
            commands=("JointPositions",),
            signals=("joint_positions", "joint_velocities", "joint_torques")
            + (("gripper_width",) if self.config.gripper != "none" else ()),
            rate_hz=self.config.rate_hz,
            realtime=True,
            simulated=False,
            watchdog_s=math.inf,
        )

    def connect(self) -> None:
        """Motors on, servo mode, a first sample; the arm stays where it is."""
        if self._arm is not None:
            return
        wrapper = import_sdk("xarm.wrapper", driver="xarm", package="xarm-python-sdk", extra="xarm")
        self._words = import_sdk("xarm.core.config.x_code", driver="xarm", package="xarm-python-sdk", extra="xarm")
        host, self._default_timeout = self.config.host, socket.getdefaulttimeout()
        self._reset()
        try:
            arm = wrapper.XArmAPI(host, is_radian=True, report_type="real", do_not_open=True, check_joint_limit=False)
            arm.connect()
        except Exception as error:  # the library raises bare `Exception`
            raise DriverError(f"no connection to the xArm control box at {host}: {error}") from error
        finally:
            socket.setdefaulttimeout(self._default_timeout)  # the library sets it for the whole process
        self._arm = arm
        try:
            if arm.axis != self._count:
                raise DriverError(f"the arm at {host} has {arm.axis} joints; {self._count} are expected")
            if fault := self._error_words():
                raise DriverError(f"the arm at {host} takes no commands: {fault}; clear it in UFACTORY Studio")
            if self.config.gripper == "xarm":
                self._check(arm.set_gripper_mode(0), "gripper mode")
                self._check(arm.set_gripper_enable(True), "gripper on")
            self._engage()
            arm.set_timeout(self.config.timeout)
            if self.read() is None or self._fault:
                raise DriverError(f"the arm at {host} sends no state: {self._fault}")
        except DriverError:
            self.close()
            raise

    def _engage(self) -> None:
        self._check(self._arm.motion_enable(True), "motors on")
        self._check(self._arm.set_mode(SERVO_MODE), "servo mode")
        self._check(self._arm.set_state(READY), "ready")
        end = time.monotonic() + 0.5
        while self._arm.mode != SERVO_MODE or self._arm.state in STOP_STATES:  # until the report says so
            if time.monotonic() > end:
                raise DriverError(
                    f"the arm stays in mode {self._arm.mode}, state {self._arm.state}: {self._error_words() or 'why?'}"
                )
            time.sleep(0.002)
        self._engaged, self._engaged_at = True, time.monotonic()

    def _check(self, code: int, what: str) -> None:
        if code != 0:
            raise DriverError(f"xArm at {self.config.host}, {what}: {ANSWERS.get(code, f'code {code}')}")

    def read(self) -> ArmSample | None:
        """Ask for positions, velocities and torques; on silence the old sample, with a fault."""
        arm = self._arm
        if arm is None:
            return None
        before = time.monotonic()
        code, states = arm.get_joint_states(is_radian=True, num=3) if arm.connected else (-1, [])
        now = time.monotonic()
        if code != 0:
            self._fault = f"no state from the arm: {ANSWERS.get(code, f'code {code}')}; look at the cable"
            return self._again()
        self._fault = self._robot_fault()
        if self.config.gripper == "xarm" and now - self._width_asked > self.config.gripper_period:
            self._width_asked = now
            code, position = arm.get_gripper_position()
            if code == 0 and position is not None:
                self._width = self._max_width * position / OPEN
        positions, velocities, torques = (np.array(values[: self._count], dtype=np.float64) for values in states)
        self._sample = ArmSample(
            stamp=0.5 * (before + now),
            joint_positions=positions,
            joint_velocities=velocities,
            joint_torques=torques,
            gripper_width=self._width,
            fault=self._fault,
            details={"round_trip_s": now - before, "mode": arm.mode, "state": arm.state, "warning": arm.warn_code},
        )
        return self._sample

    def _again(self) -> ArmSample | None:
        old = self._sample
        if old is None:
            return None
        return ArmSample(
            stamp=old.stamp,
            joint_positions=old.joint_positions,
            joint_velocities=old.joint_velocities,
            joint_torques=old.joint_torques,
            gripper_width=old.gripper_width,
            fault=self._fault,
            details=old.details,
        )

    def _robot_fault(self) -> str:
        arm = self._arm
        if arm.core.has_err_warn and (words := self._error_words()):
            return words
        if time.monotonic() - self._engaged_at < REPORT_DELAY:
            return ""
        if self._engaged and arm.state in STOP_STATES:
            return f"stopped from elsewhere (state {arm.state}): recover"
        if self._engaged and arm.state == PAUSED:
            return "paused from elsewhere: recover"
        if self._engaged and arm.mode != SERVO_MODE:
            return f"somebody set mode {arm.mode}; {SERVO_MODE} is needed: recover"
        return ""

    def _error_words(self) -> str:
        code, numbers = self._arm.get_err_warn_code()
        if code != 0 or numbers[0] == 0:
            return ""
        error = self._words.ControllerError(numbers[0])
        return f"C{numbers[0]}: {error.title['en']}. {error.description['en']}"

    def write(self, command: JointPositions) -> None:
        """One target of servo mode."""
        if self._arm is None:
            raise DriverError("driver 'xarm' is not connected")
        if not isinstance(command, JointPositions):
            raise DriverError(f"driver 'xarm' takes JointPositions, no {type(command).__name__}")
        values = command_values("xarm", command.values, self._count).tolist()
        if self._fault:
            raise DriverError(self._fault)
        if not self._engaged:
            self._engage()
        self._check(self._arm.set_servo_angle_j(values, is_radian=True), "servo target")
        if self.config.gripper == "xarm":
            self._move_gripper(float(command.gripper))

    def _move_gripper(self, opening: float) -> None:
        opening = min(1.0, max(-1.0, opening))
        if math.isnan(self._opening) or abs(opening - self._opening) > 0.02:
            self._opening = opening
            target = round(CLOSED + (OPEN - CLOSED) * 0.5 * (opening + 1.0))
            code = self._arm.set_gripper_position(
                target, wait=False, wait_motion=False, check_baud=False, check_err=False
            )
            self._check(code, "gripper target")

    def stop(self) -> None:
        """Decelerate and stand, motors on; the next `write` engages again."""
        if self._arm is not None and self._arm.connected:
            self._engaged = False
            self._arm.set_state(STOPPED)

    def recover(self) -> None:
        """Clear the error and engage again, where the arm stands; a person has looked at the cause.

        Raises:
            DriverError: The error stays.
        """
        if self._arm is None or not self._arm.connected:
            raise DriverError("driver 'xarm' is not connected: close and connect again")
        self._arm.clean_error()
        self._arm.clean_warn()
        if fault := self._error_words():
            raise DriverError(f"the arm does not recover: {fault}")
        self._engage()
        self._fault = ""

    def close(self) -> None:
        """Stop and free the sockets; the motors stay on and hold."""
        self.stop()
        arm, self._arm = self._arm, None
        if arm is not None:
            arm.disconnect()
            socket.setdefaulttimeout(self._default_timeout)  # its threads set it again when they reconnect


def open_driver(description: ArmDescription | QuadrotorDescription, settings: Mapping[str, str]) -> XarmDriver:
    """The driver `xarm`, not yet connected."""
    if not isinstance(description, ArmDescription):
        raise DriverError(f"driver 'xarm' drives arms; {description.interface.name} is none")
    return XarmDriver(description, read_settings("xarm", XarmConfig, settings))
