"""Franka Emika Robot (Panda) and Franka Research 3 by panda-python, over the Franka Control Interface.

The 1 kHz loop stays in the library's own C++ thread: `write` only changes the torque or joint target that this thread
sends, and `read` copies the state that it last saw. Torques are without gravity, which the robot adds. libfranka
behind it limits the torques' rate and low-passes them at 100 Hz; panda-python adds soft walls at the joints' limits.

What the robot supervises is that thread, not us: a control process that hangs would leave the last torque standing.
Therefore a watchdog of this driver ends the motion when no `write` came for `watchdog_s`. A process that is frozen or
killed as a whole takes the 1 kHz thread with it, and the robot itself stops after 20 ms.

The wheel of panda-python on PyPI speaks to the Panda (libfranka 0.9.2); for a Research 3 install the one for its system
version from the library's releases. Needs in Desk: FCI activated, joints unlocked, the hand's mass and tool point set.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from hardware.descriptions import ArmDescription, QuadrotorDescription
from hardware.drivers.driver import ArmSample, Capabilities, DriverError
from hardware.drivers.franka_hand import FrankaHand
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

JOINTS = tuple(f"joint{index}" for index in range(1, 8))
"""The robot's order, base to flange."""
MODE_FAULTS: Mapping[str, str] = MappingProxyType(
    {
        "kOther": "the robot is not ready: unlock the joints and activate FCI in Desk",
        "kGuiding": "somebody guides the robot by hand",
        "kReflex": "a reflex stopped the robot: look at what it met, then recover",
        "kUserStopped": "the user stop is pressed: release it, then recover",
        "kAutomaticErrorRecovery": "the robot is recovering",
    }
)
"""By the names of libfranka's `RobotMode`."""
RATE_HZ = 500.0
"""Of reading and writing here: without a motion a read waits for the robot's next packet, up to 1 ms."""
STIFFNESS = (600.0, 600.0, 600.0, 600.0, 250.0, 150.0, 50.0)
DAMPING = (50.0, 50.0, 50.0, 20.0, 20.0, 20.0, 10.0)


@dataclass(frozen=True, kw_only=True)
class FrankaConfig:
    """Settings of the driver `franka`."""

    host: str
    """Address of the control box's robot network."""
    mode: Literal["torques", "positions"] = "torques"
    """What is written: joint torques without gravity, or targets of the library's joint impedance."""
    realtime: Literal["enforce", "ignore"] = "enforce"
    """Whether the library insists on a PREEMPT_RT kernel for its thread, which the manufacturer demands."""
    watchdog_s: float = 0.05
    """s without `write` after which the driver ends the motion."""
    stiffness: float = 1.0
    """Of `positions`: factor on 600, 600, 600, 600, 250, 150, 50 N m/rad; the damping grows with its root."""
    gripper: Literal["none", "franka"] = "none"
    """Gripper on the flange; `franka` is the Franka Hand."""

    def __post_init__(self) -> None:
        check_range("watchdog_s", self.watchdog_s, 0.005, 1.0)
        check_range("stiffness", self.stiffness, 0.1, 2.0)


class FrankaDriver(ContextManager):
    """A Franka arm behind panda-python; see the module. `recover` after a reflex is explicit."""

    def __init__(self, description: ArmDescription, config: FrankaConfig) -> None:
        if description.interface.actuators != JOINTS:
            raise DriverError(f"driver 'franka' drives {JOINTS}; {description.interface.name} is another robot")
        if config.gripper != "none" and description.gripper is None:
            raise DriverError("setting gripper=franka needs a robot description with a gripper")
        self.config = config
        self.description = description
        self._library: Any = None
        self._panda: Any = None
        self._hand: FrankaHand | None = None
        self._lock = threading.RLock()
        self._wake, self._ended = threading.Event(), threading.Event()
        self._closing = True
        self._watcher: threading.Thread | None = None
        self._reset()

    def _reset(self) -> None:
        self._clock = RobotClock()
        self._sample: ArmSample | None = None
        self._controller: Any = None
        self._written = -math.inf
        self._broken = ""

    @property
    def capabilities(self) -> Capabilities:
        """What the robot can do."""
        return Capabilities(
            name="franka",
            kind="arm",
            actuators=JOINTS,
            commands=("JointTorques",) if self.config.mode == "torques" else ("JointPositions",),
            signals=("joint_positions", "joint_velocities", "joint_torques", "wrench")
            + (("gripper_width",) if self.config.gripper != "none" else ()),
            rate_hz=RATE_HZ,
            realtime=True,
            simulated=False,
            watchdog_s=self.config.watchdog_s,
        )

    def connect(self) -> None:
        """Open the control interface and wait for a first state; no motion is started."""
        if self._panda is not None:
            return
        host = self.config.host
        self._library = import_sdk("panda_py", driver="franka", package="panda-python", extra="franka")
        enforce = self.config.realtime == "enforce"
        if enforce and not self._library.libfranka.has_realtime_kernel():
            raise DriverError(
                "driver 'franka' wants a PREEMPT_RT kernel (setting realtime=enforce) and this one is none: "
                "install one, or set realtime=ignore for tests at low speed"
            )
        self._reset()
        config = self._library.libfranka.RealtimeConfig
        try:
            self._panda = self._library.Panda(host, "franka", config.kEnforce if enforce else config.kIgnore)
            if self.config.gripper == "franka":
                assert self.description.gripper is not None  # checked in the constructor
                self._hand = FrankaHand(host, self.description.gripper)
                self._hand.connect()
        except RuntimeError as error:
            self.close()
            raise DriverError(f"no connection to the Franka robot at {host}: {_short(error)}") from error
        except DriverError:
            self.close()
            raise
        self._closing = False
        self._watcher = threading.Thread(target=self._watch, name="franka watchdog", daemon=True)
        self._watcher.start()
        if self.read() is None:
            self.close()
            raise DriverError(f"the Franka robot at {host} sends no state: {self._broken}")

    def _watch(self) -> None:
        """Ends the motion when told to, or when the control loop no longer writes; on a dead wire it takes seconds."""
        while not self._closing:
            told = self._wake.wait(0.25 * self.config.watchdog_s)
            silent = time.monotonic() - self._written
            if self._controller is not None and (told or silent > self.config.watchdog_s):
                with self._lock:
                    self._end_motion()
                    if not told and not self._broken:
                        self._broken = f"no command for {1e3 * silent:.0f} ms: motion ended; recover"
            self._wake.clear()
            self._ended.set()

    def read(self) -> ArmSample | None:
        """The newest state; its `fault` says why the robot takes no commands."""
        if self._panda is None:
            return None
        if not self._lock.acquire(blocking=False):
            return None if self._sample is None else replace(self._sample, fault="the motion is being ended")
        try:
            return self._read()
        finally:
            self._lock.release()

    def _read(self) -> ArmSample | None:
        try:
            self._panda.raise_error()
        except RuntimeError as error:
            self._controller, self._broken = None, f"{_short(error)}; recover"
        try:
            # With a broken motion the library keeps giving the last state of it; the robot has newer ones.
            state = self._panda.get_robot().read_once() if self._broken else self._panda.get_state()
        except RuntimeError as error:
            self._broken = f"no state from the robot: {_short(error)}"
            return None if self._sample is None else replace(self._sample, fault=self._broken)
        width = 0.0 if self._hand is None else self._hand.poll()
        sample = convert_state(state, self._clock.stamp(state.time.to_sec(), time.monotonic()), width)
        if self._broken:
            sample = replace(sample, fault="; ".join(filter(None, (self._broken, sample.fault))))
        if self._hand is not None and self._hand.fault:
            sample = replace(sample, details={**sample.details, "hand": self._hand.fault})
        self._sample = sample
        return sample

    def write(self, command: JointTorques | JointPositions) -> None:
        """Change what the 1 kHz thread sends; the first one starts it."""
        torques = self.config.mode == "torques"
        if self._panda is None:
            raise DriverError("driver 'franka' is not connected")
        if not isinstance(command, JointTorques if torques else JointPositions):
            raise DriverError(f"driver 'franka' in mode {self.config.mode!r} takes no {type(command).__name__}")
        values = command_values("franka", command.values, 7)
        if not self._lock.acquire(blocking=False):
            raise DriverError("the motion is being ended")
        try:
            if self._broken:
                raise DriverError(self._broken)
            if self._controller is None:
                self._start_motion()
            self._controller.set_control(values)
            self._written = time.monotonic()
        finally:
            self._lock.release()
        if self._hand is not None:
            self._hand.command(float(command.gripper))

    def _start_motion(self) -> None:
        sample = self._read()
        if sample is None or sample.fault:  # the library would recover by itself, which a person has to decide
            raise DriverError("no state" if sample is None else sample.fault)
        controllers = import_sdk("panda_py.controllers", driver="franka", package="panda-python", extra="franka")
        if self.config.mode == "torques":
            controller = controllers.AppliedTorque()
        else:
            factor = self.config.stiffness
            controller = controllers.JointPosition(factor * np.array(STIFFNESS), math.sqrt(factor) * np.array(DAMPING))
        try:
            self._panda.start_controller(controller)
        except RuntimeError as error:
            raise DriverError(f"the robot starts no motion: {_short(error)}") from error
        self._controller = controller

    def _end_motion(self) -> None:
        self._controller = None
        try:
            # `stop_controller` waits with Python's lock held, which the thread needs to report an error: a dead end.
            # Switching a teaching mode off that is not on does the same and lets go of the lock.
            self._panda.teaching_mode(False)
        except RuntimeError as error:
            self._broken = f"{_short(error)}; recover"

    def stop(self) -> None:
        """End the motion; the robot's own controller then holds it."""
        if self._panda is not None and self._controller is not None:
            self._ended.clear()
            self._wake.set()
            self._ended.wait(0.25)

    def recover(self) -> None:
        """Clear a reflex or error, where the robot stands; a person has looked at the cause.

        Raises:
            DriverError: The robot refuses, e.g. while the user stop is pressed.
        """
        with self._lock:
            if self._panda is None:
                raise DriverError("driver 'franka' is not connected")
            self._broken = ""
            self._end_motion()  # ends what is left of the motion, and recovers
            sample = self._read()
            if sample is None or sample.fault:
                raise DriverError(f"the robot does not recover: {'no state' if sample is None else sample.fault}")

    def close(self) -> None:
        """Stop and free the sockets."""
        self.stop()
        self._closing = True
        watcher, panda, hand = self._watcher, self._panda, self._hand
        self._watcher = self._panda = self._hand = self._controller = None
        if watcher is not None:
            watcher.join(timeout=5.0)
        if hand is not None:
            hand.close()
        if panda is not None:
            try:
                panda.get_state()
            except RuntimeError:
                abandon(panda)  # its destructor reads the robot, and aborts the process when it cannot


def convert_state(state: Any, stamp: float, gripper_width: float = 0.0) -> ArmSample:
    """A `RobotState` of libfranka as a sample.

    Its external wrench is what the robot exerts on its surroundings, in the stiffness frame K, which is the tool's
    unless somebody has set another; a sample's wrench is what acts on the tool.
    """
    mode = state.robot_mode.name
    faults = [MODE_FAULTS[mode]] if mode in MODE_FAULTS else []
    if state.current_errors:
        faults.append(repr(state.current_errors).strip("[]").replace('"', "").replace("_", " "))
    return ArmSample(
        stamp=stamp,
        joint_positions=np.array(state.q),
        joint_velocities=np.array(state.dq),
        joint_torques=np.array(state.tau_J),
        gripper_width=gripper_width,
        wrench=-np.array(state.K_F_ext_hat_K),
        fault=": ".join(faults),
        details={"mode": mode, "success_rate": state.control_command_success_rate},
    )


def _short(error: Exception) -> str:
    """The library's message on one line."""
    return " ".join(str(error).split()).removeprefix("libfranka: ")


def open_driver(description: ArmDescription | QuadrotorDescription, settings: Mapping[str, str]) -> FrankaDriver:
    """The driver `franka`, not yet connected."""
    if not isinstance(description, ArmDescription):
        raise DriverError(f"driver 'franka' drives arms; {description.interface.name} is none")
    return FrankaDriver(description, read_settings("franka", FrankaConfig, settings))
