"""Universal Robots (CB3 and e-Series) over RTDE, by the library ur_rtde.

The library uploads a control program and streams set-points into its registers; state comes back at 500 Hz (125 Hz on
CB3). The program lives on the controller: `servoJ` holds the last joint target by itself, and a watchdog on the
register ends the program, and with it the motion, when no update came for `1 / watchdog_hz`. The driver kicks that
watchdog in `read` until the first command and after `stop`; in between only commands do.

Needs on the pendant: remote control, brakes released, and a tool point (TCP) that is moved but not turned.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from hardware.descriptions import ArmDescription, QuadrotorDescription
from hardware.drivers.driver import ArmSample, Capabilities, DriverError
from hardware.drivers.robotiq import RobotiqGripper
from hardware.drivers.support import (
    ContextManager,
    RobotClock,
    abandon,
    check_range,
    command_values,
    import_sdk,
    read_settings,
)
from policies.types import JointPositions, JointTorques

JOINTS = (
    "shoulder_pan_joint", "shoulder_lift_joint", "elbow_joint", "wrist_1_joint", "wrist_2_joint", "wrist_3_joint"
)  # fmt: skip
"""The controller's order, base to wrist."""
VARIABLES = (
    "timestamp", "actual_q", "actual_qd", "actual_TCP_pose", "actual_TCP_force", "robot_mode", "safety_mode",
    "runtime_state", "robot_status_bits", "safety_status_bits", "speed_scaling",
)  # fmt: skip
SAFETY_FAULTS: Mapping[int, str] = MappingProxyType(
    {
        3: "protective stop: look at what it met, then recover (5 s after it at the earliest)",
        4: "recovery mode: a joint is outside its safety limits; move it back on the pendant",
        5: "safeguard stop: the cell's safeguard input is open",
        6: "system emergency stop: release the cell's button, then restart on the pendant",
        7: "emergency stop: release the robot's button, then restart on the pendant",
        8: "safety violation: restart on the pendant",
        9: "safety fault: restart the controller",
        10: "joint identifiers are being validated",
        12: "automatic mode safeguard stop: the cell's safeguard input is open",
        13: "three-position enabling stop: hold the enabling device in the middle",
    }
)
ROBOT_MODES: Mapping[int, str] = MappingProxyType(
    {
        -1: "no controller", 0: "disconnected", 1: "waits for a safety confirmation", 2: "booting", 3: "power off",
        4: "power on, brakes locked", 5: "idle, brakes locked", 6: "backdrive", 8: "updating firmware",
    }
)  # fmt: skip
RUNNING = 7
TORQUE_VERSION = (5, 26)
"""PolyScope whose `direct_torque` the library's control program calls."""


@dataclass(frozen=True, kw_only=True)
class UrConfig:
    """Settings of the driver `ur`."""

    host: str
    """Address of the controller."""
    mode: Literal["positions", "torques"] = "positions"
    """What is written: joint positions by servoJ, or joint torques by direct_torque (PolyScope 5.26 or newer)."""
    lookahead_time: float = 0.03
    """s, 0.03 to 0.2, by which servoJ smooths: the delay it adds."""
    gain: float = 500.0
    """Proportional gain of servoJ, 100 to 2000."""
    watchdog_hz: float = 10.0
    """Commands may come no slower than this, or the robot stops: 10 Hz are 100 ms."""
    stale_s: float = 0.1
    """s without state after which nothing is sent any more: the library would wait, and the control loop with it."""
    stop_deceleration: float = 10.0
    """m/s² of the tool (positions) or rad/s² of the leading joint (torques) when it stops."""
    gripper: Literal["none", "robotiq"] = "none"
    """Gripper on the tool flange; `robotiq` speaks to Robotiq's URCap, port 63352 of the controller."""

    def __post_init__(self) -> None:
        check_range("lookahead_time", self.lookahead_time, 0.03, 0.2)
        check_range("gain", self.gain, 100.0, 2000.0)
        check_range("watchdog_hz", self.watchdog_hz, 1.0, 250.0)
        check_range("stale_s", self.stale_s, 0.01, 1.0)
        check_range("stop_deceleration", self.stop_deceleration, 0.5, 40.0)


class UrDriver(ContextManager):
    """An arm behind `ur_rtde`; see the module. `recover` after a stop of the controller is explicit."""

    def __init__(self, description: ArmDescription, config: UrConfig) -> None:
        if description.interface.actuators != JOINTS:
            raise DriverError(f"driver 'ur' drives {JOINTS}; {description.interface.name} is another robot")
        self.config = config
        self.description = description
        self.rate_hz = 500.0
        self._control: Any = None
        self._receive: Any = None
        self._gripper: RobotiqGripper | None = None
        yaw = 0.0 if description.gripper is None else description.gripper.mount_yaw
        self._mount = np.array(
            [[math.cos(yaw), -math.sin(yaw), 0.0], [math.sin(yaw), math.cos(yaw), 0.0], [0.0, 0.0, 1.0]]
        )
        self._reset()

    def _reset(self) -> None:
        self._clock = RobotClock()
        self._stamp = -math.inf
        self._sample: ArmSample | None = None
        self._commanding = False
        self._kicked = -math.inf

    @property
    def capabilities(self) -> Capabilities:
        """What the robot can do."""
        torques = self.config.mode == "torques"
        return Capabilities(
            name="ur",
            kind="arm",
            actuators=JOINTS,
            commands=("JointTorques",) if torques else ("JointPositions",),
            signals=("joint_positions", "joint_velocities", "wrench")
            + (("gripper_width",) if self.config.gripper != "none" else ()),
            rate_hz=self.rate_hz,
            realtime=True,
            simulated=False,
            watchdog_s=1.0 / self.config.watchdog_hz,
        )

    def connect(self) -> None:
        """Upload the control program and wait for a first sample; nothing moves."""
        if self._receive is not None:
            return
        host = self.config.host
        sdk = {name: import_sdk(name, driver="ur", package="ur-rtde", extra="ur") for name in _MODULES}
        self._reset()
        try:
            dashboard = sdk["dashboard_client"].DashboardClient(host)
            dashboard.connect()
            version = _version(dashboard.polyscopeVersion())
            dashboard.disconnect()
            if self.config.mode == "torques" and version < TORQUE_VERSION:
                raise DriverError(f"the controller runs PolyScope {version}; torques need {TORQUE_VERSION} or newer")
            self.rate_hz = 500.0 if version[0] >= 5 else 125.0
            self._receive = sdk["rtde_receive"].RTDEReceiveInterface(host, self.rate_hz, list(VARIABLES))
            mode = self._receive.getRobotMode()
            if mode != RUNNING:
                raise DriverError(
                    f"the robot at {host} is not ready: {ROBOT_MODES.get(mode, mode)}; switch it on and release the "
                    "brakes on the pendant"
                )
            self._control = sdk["rtde_control"].RTDEControlInterface(host, self.rate_hz)
            self._set_watchdog()
            if self.config.gripper == "robotiq":
                self._gripper = RobotiqGripper(host, self.description.gripper)
                self._gripper.connect()
            self._wait_for_sample()
        except (RuntimeError, ValueError) as error:  # what the library throws
            self.close()
            raise DriverError(f"no connection to the UR controller at {host}: {error}") from error
        except DriverError:
            self.close()
            raise

    def _set_watchdog(self) -> None:
        """Right after an upload the library may not know yet that the program runs, and then sends nothing."""
        end = time.monotonic() + 1.0
        while not self._control.setWatchdog(self.config.watchdog_hz):
            if time.monotonic() > end:
                raise DriverError("the control program did not take its watchdog; nothing may move without it")
            time.sleep(0.01)

    def _wait_for_sample(self) -> None:
        end = time.monotonic() + 2.0
        while self.read() is None:
            if time.monotonic() > end:
                raise DriverError(f"the controller at {self.config.host} sends no state within 2 s")
            time.sleep(0.002)

    def read(self) -> ArmSample | None:
        """The newest sample; its `fault` says why the controller takes no commands."""
        receive = self._receive
        if receive is None:
            return None
        now = time.monotonic()
        # Values are fetched one by one while another thread renews them: again, if the stamp changed meanwhile.
        for _ in range(3):
            timestamp = receive.getTimestamp()
            positions, velocities = receive.getActualQ(), receive.getActualQd()
            pose, force = receive.getActualTCPPose(), receive.getActualTCPForce()
            if receive.getTimestamp() == timestamp:
                break
        if timestamp > 0.0:
            self._stamp = self._clock.stamp(timestamp, now)
        if not self._commanding and now - self._kicked > 0.25 / self.config.watchdog_hz and self._alive(now):
            self._kicked = now
            self._control.kickWatchdog()
        if timestamp <= 0.0 or len(positions) != 6:
            return self._sample
        self._sample = ArmSample(
            stamp=self._stamp,
            joint_positions=np.array(positions),
            joint_velocities=np.array(velocities),
            gripper_width=0.0 if self._gripper is None else self._gripper.poll(now),
            wrench=self._tool_wrench(np.array(pose), np.array(force)),
            fault=self._fault(now),
            details={"speed_scaling": receive.getSpeedScaling(), "safety_mode": receive.getSafetyMode()},
        )
        return self._sample

    def _alive(self, now: float) -> bool:
        return self._control is not None and self._receive.isConnected() and now - self._stamp < self.config.stale_s

    def _look(self) -> float:
        """What time it is, and how old the state is by now."""
        now = time.monotonic()
        self._stamp = self._clock.stamp(self._receive.getTimestamp(), now)
        return now

    def _tool_wrench(self, pose: np.ndarray, force: np.ndarray) -> np.ndarray:
        """From the axes of the controller's base into those of the tool; the point is the TCP in both."""
        turn = (rotation_matrix(pose[3:]) @ self._mount).T
        return np.concatenate([turn @ force[:3], turn @ force[3:]])

    def _fault(self, now: float) -> str:
        receive = self._receive
        if not receive.isConnected():
            return f"the RTDE connection to {self.config.host} is lost: close and connect again"
        if now - self._stamp > self.config.stale_s:
            return f"no state from the controller for {1e3 * (now - self._stamp):.0f} ms: look at the cable"
        safety, mode = receive.getSafetyMode(), receive.getRobotMode()
        if safety in SAFETY_FAULTS:
            return SAFETY_FAULTS[safety]
        if mode != RUNNING:
            return f"the robot does not run: {ROBOT_MODES.get(mode, mode)}"
        if self._control is not None and not self._control.isProgramRunning():
            return "the control program does not run (stopped on the pendant, or by its watchdog): recover"
        return ""

    def write(self, command: JointPositions | JointTorques) -> None:
        """One servoJ or direct_torque."""
        if self._control is None:
            raise DriverError("driver 'ur' is not connected")
        torques = self.config.mode == "torques"
        if not isinstance(command, JointTorques if torques else JointPositions):
            raise DriverError(f"driver 'ur' in mode {self.config.mode!r} takes no {type(command).__name__}")
        values = command_values("ur", command.values, 6).tolist()
        now = self._look()
        if fault := self._fault(now):
            raise DriverError(fault)
        self._commanding = True
        if torques:
            sent = self._control.directTorque(values)
        else:
            config = self.config
            sent = self._control.servoJ(values, 0.5, 0.5, 1.0 / self.rate_hz, config.lookahead_time, config.gain)
        if not sent:
            raise DriverError(f"the control program did not take the command: {self._fault(now) or 'no reason given'}")
        if self._gripper is not None:
            self._gripper.command(float(command.gripper), now)

    def stop(self) -> None:
        """Decelerate and stand, held by the controller. Without a connection the robot's watchdog does it."""
        if self._control is None:
            return
        now = self._look()
        if self._alive(now) and self._control.isProgramRunning():
            if self.config.mode == "torques":
                self._control.stopJ(self.config.stop_deceleration)
            else:
                self._control.servoStop(self.config.stop_deceleration)
        self._commanding = False

    def recover(self) -> None:
        """Unlock a protective stop and start the control program again; a person has looked at the cause.

        Raises:
            DriverError: The controller refuses, or stands for a reason that only the pendant can end.
        """
        if self._control is None:
            raise DriverError("driver 'ur' is not connected")
        try:
            if self._receive.getSafetyMode() == 3:
                dashboard = import_sdk(_MODULES[2], driver="ur", package="ur-rtde", extra="ur").DashboardClient(
                    self.config.host
                )
                dashboard.connect()
                dashboard.closeSafetyPopup()
                dashboard.unlockProtectiveStop()
                dashboard.disconnect()
                time.sleep(0.1)
            if (safety := self._receive.getSafetyMode()) in SAFETY_FAULTS:
                raise DriverError(f"the controller does not recover: {SAFETY_FAULTS[safety]}")
            if not self._control.isProgramRunning():
                self._control.reuploadScript()
                self._set_watchdog()
        except RuntimeError as error:
            raise DriverError(f"the controller does not recover: {error}") from error
        self._commanding = False
        time.sleep(0.02)
        sample = self.read()
        if sample is not None and sample.fault:
            raise DriverError(f"the controller does not recover: {sample.fault}")

    def close(self) -> None:
        """Stop, end the control program and free the sockets."""
        self.stop()
        control, receive, gripper = self._control, self._receive, self._gripper
        alive = control is not None and self._alive(self._look())
        self._control = self._receive = self._gripper = None
        if gripper is not None:
            gripper.close()
        if control is not None and alive:
            control.stopScript()
            control.disconnect()
        elif control is not None:
            abandon(control)  # its destructor tries to reconnect for ever (ur_rtde 1.6.5)
        if receive is not None:
            receive.disconnect()


_MODULES = ("rtde_control", "rtde_receive", "dashboard_client")


def rotation_matrix(vector: np.ndarray) -> np.ndarray:
    """A rotation vector (3,), rad, as a matrix (3, 3): Rodrigues' formula."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    matrix: np.ndarray = np.eye(3) + math.sin(angle) * cross + (1.0 - math.cos(angle)) * cross @ cross
    return matrix


def _version(text: str) -> tuple[int, int]:
    parts = text.split(".")
    try:
        return int(parts[0]), int(parts[1])
    except (IndexError, ValueError) as error:
        raise DriverError(f"the controller says that its PolyScope is {text!r}; expected a version number") from error


def open_driver(description: ArmDescription | QuadrotorDescription, settings: Mapping[str, str]) -> UrDriver:
    """The driver `ur`, not yet connected."""
    if not isinstance(description, ArmDescription):
        raise DriverError(f"driver 'ur' drives arms; {description.interface.name} is none")
    return UrDriver(description, read_settings("ur", UrConfig, settings))
