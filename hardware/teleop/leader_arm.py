"""A leader arm: a small copy of the robot, whose joints a person moves by hand, on a serial bus of servos.

It says joint angles, so that whoever drives with it lets it take over only where it stands as the robot does
(`clutch.mismatch`). With motors it can follow the robot until then. Its trigger moves the gripper, or is the dead-man;
where it is not, another device has to be (`paired`): without a dead-man nothing moves.
"""

from __future__ import annotations

import math
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hardware.teleop.clutch import follow
from hardware.teleop.device import DeviceError, Motion, Sample
from hardware.teleop.leader_calibration import PROTOCOLS, load_calibration
from hardware.teleop.reader import Reader
from hardware.teleop.servo import open_port

_ANSWER_TIME = 0.03
"""s after which servos that have not answered are asked anew."""
_FIRST_ANSWERS = 0.6
"""s in which every servo must have answered when it is opened."""
_LEASH = 0.1
"""rad by which a motor's goal may be ahead of its joint."""


@dataclass(frozen=True, kw_only=True)
class LeaderConfig:
    """How a leader arm is used."""

    calibration: str = ""
    """Path of its calibration file."""
    port: str = ""
    """Serial port; empty: that of the calibration."""
    period: float = 0.01
    """s between two questions to the servos."""
    follow_speed: float = 1.0
    """rad/s at most while it follows the robot."""
    follow_timeout: float = 0.3
    """s after which motors that nobody leads any more are switched off."""
    squeezed: float = 0.4
    """Opening of the trigger below which, as the dead-man, it is held; it is let go above the middle to the end."""
    wait: bool = False
    """Start without the device, and use it when it is plugged in."""


class LeaderArm:
    """A leader arm, until `close`. It may be unplugged and plugged in again; the robot rests meanwhile."""

    motion: Motion = "joints"

    def __init__(self, config: LeaderConfig) -> None:
        """Open it.

        Raises:
            DeviceError: It is not there and `wait` is false, may not be opened, or not every servo answers.
            ValueError: The calibration is wrong.
        """
        self.config = config
        self._calibration = load_calibration(Path(config.calibration))
        self._protocol = PROTOCOLS[self._calibration.protocol]
        self._port = config.port or self._calibration.port
        self.name = f"leader arm on {self._port}"
        trigger = self._calibration.trigger
        self.has_dead_man = trigger is not None and trigger.role == "dead_man"
        """Its trigger is a dead-man; otherwise another device's is needed."""
        self._lock = threading.Lock()
        self._buffer = bytearray()
        self._ticks: dict[int, int] = {}
        self._heard: dict[int, float] = {}
        self._pending: set[int] = set()
        self._asked = -math.inf
        self._held = self._let_go = False
        self._goal: np.ndarray | None = None
        self._reference: np.ndarray | None = None
        self._goal_time = -math.inf
        self._powered = False
        self._reader = Reader(
            self.name, self._open, self._feed, self._forget, retry=0.3, wait=config.wait, ask=self._ask
        )
        if not config.wait:
            self._wait_for_answers()

    def read(self) -> Sample:
        """The newest sample. Never blocks."""
        connected = self._reader.connected
        with self._lock:
            ticks = dict(self._ticks)
            oldest = min((self._heard.get(servo, -math.inf) for servo in self._calibration.servos), default=-math.inf)
            held = self._held
        if not connected or len(ticks) < len(self._calibration.servos):
            return Sample(connected=connected)
        resolution = self._protocol.resolution
        joints = np.array([joint.angle(ticks[joint.servo], resolution) for joint in self._calibration.joints])
        trigger = self._calibration.trigger
        gripper = None
        if trigger is not None and trigger.role == "gripper":
            gripper = 2.0 * trigger.opening(ticks[trigger.servo]) - 1.0
        return Sample(
            joints=joints,
            gripper=gripper,
            engaged=held,
            dead_man=held,
            age=time.monotonic() - oldest,
            connected=connected,
        )

    def follow(self, joints: np.ndarray | None) -> None:
        """Move to the robot's angles (n,) rad, slowly, or let go (None): for while the person does not drive.

        Has to be called again within `follow_timeout`. Does nothing where the calibration gives the motors no strength.
        """
        with self._lock:
            usable = joints is not None and self._calibration.strength > 0 and bool(np.all(np.isfinite(joints)))
            self._goal = np.asarray(joints, dtype=np.float64) if usable else None
            self._goal_time = time.monotonic()

    @property
    def silent(self) -> list[int]:
        """Servos that have not answered for a while."""
        now = time.monotonic()
        with self._lock:
            return [s for s in self._calibration.servos if now - self._heard.get(s, -math.inf) > _FIRST_ANSWERS]

    @property
    def ticks(self) -> dict[int, int]:
        """Positions of the servos as last heard."""
        with self._lock:
            return dict(self._ticks)

    def help(self) -> str:
        """How it drives."""
        trigger, state = self._calibration.trigger, ""
        if not self._reader.connected:
            state = f" (not connected: {self._reader.problem})"
        elif silent := self.silent:
            state = f" (no answer from servo {', '.join(map(str, silent))})"
        lines = [f"{self.name}{state}: move it to where the robot stands, then take over; the robot follows its joints"]
        if self.has_dead_man:
            lines.append("  HOLD the trigger to drive; nothing moves without it")
        else:
            lines.append("  hold the dead-man of the device beside it to drive; nothing moves without it")
        if trigger is not None and trigger.role == "gripper":
            lines.append("  trigger                 the gripper")
        return "\n".join(lines)

    def close(self) -> None:
        """Motors off, and let it go."""
        self.follow(None)
        end = time.monotonic() + 0.2
        while self._powered and self._reader.connected and time.monotonic() < end:
            time.sleep(0.005)
        self._reader.close()

    # In the reader's thread

    def _open(self) -> int:
        descriptor = open_port(self._port, self._calibration.baud)
        with self._lock:
            self._asked = -math.inf
            self._buffer.clear()
            # Whatever died before this may have left the motors on.
            self._powered = self._calibration.strength > 0
        return descriptor

    def _ask(self, descriptor: int, now: float) -> float:
        """One question to all servos, after what they are told; nothing while they still answer the last one."""
        with self._lock:
            if self._pending and now - self._asked < _ANSWER_TIME:
                return 0.002
            request = self._orders(now) + self._protocol.read(self._calibration.servos)
            self._pending, self._asked = set(self._calibration.servos), now
            self._buffer.clear()
        try:
            os.write(descriptor, request)
        except BlockingIOError:  # the port is still full: ask again later
            with self._lock:
                self._pending.clear()
        return self.config.period

    def _orders(self, now: float) -> bytes:
        servos = [joint.servo for joint in self._calibration.joints]
        goal = self._goal if now - self._goal_time <= self.config.follow_timeout else None
        if goal is None or len(goal) != len(servos) or any(servo not in self._ticks for servo in servos):
            off = self._protocol.switch(servos, False) if self._powered else b""
            self._powered = False
            return off
        resolution, joints = self._protocol.resolution, self._calibration.joints
        present = np.array([joint.angle(self._ticks[joint.servo], resolution) for joint in joints])
        before = present if self._reference is None or not self._powered else self._reference
        ahead = follow(before, goal, self.config.follow_speed * self.config.period)
        self._reference = follow(present, ahead, _LEASH)  # a hand that holds a joint back does not wind it up
        order = self._protocol.go({
            joint.servo: joint.goal(float(angle), self._ticks[joint.servo], self._protocol)
            for joint, angle in zip(joints, self._reference, strict=True)
        })  # fmt: skip
        if not self._powered:
            # The goal first, so that no servo starts for an old one.
            order = self._protocol.prepare(servos, self._calibration.strength) + order
            order += self._protocol.switch(servos, True)
            self._powered = True
        return order

    def _feed(self, data: bytes, now: float) -> None:
        with self._lock:
            self._buffer += data
            for answer in self._protocol.parse(self._buffer):
                if answer.servo in self._calibration.servos:
                    self._ticks[answer.servo], self._heard[answer.servo] = answer.ticks, now
                    self._pending.discard(answer.servo)
            self._squeeze()

    def _squeeze(self) -> None:
        trigger = self._calibration.trigger
        if not self.has_dead_man or trigger is None or trigger.servo not in self._ticks:
            return
        opening, squeezed = trigger.opening(self._ticks[trigger.servo]), self.config.squeezed
        if opening > 0.5 * (1.0 + squeezed):
            self._held, self._let_go = False, True
        elif opening < squeezed:
            self._held = self._let_go  # one that is squeezed while it is plugged in has to be let go first

    def _forget(self) -> None:
        with self._lock:
            self._ticks, self._heard, self._pending = {}, {}, set()
            self._asked = -math.inf
            self._held = self._let_go = False
            self._reference = None

    def _wait_for_answers(self) -> None:
        end = time.monotonic() + _FIRST_ANSWERS
        while silent := [servo for servo in self._calibration.servos if servo not in self.ticks]:
            if time.monotonic() > end:
                heard = ", ".join(str(servo) for servo in self.ticks) or "none"
                self._reader.close()
                raise DeviceError(
                    f"{self.name}: no answer from servo {', '.join(map(str, silent))} (heard: {heard}); check its "
                    f"power, the numbers and the protocol in {self.config.calibration}, and that baud is "
                    f"{self._calibration.baud}"
                )
            time.sleep(0.01)
