"""What a vehicle's MAVLink messages say, as one sample. Pure: messages in, `QuadrotorSample` out, no socket.

Frames change here and only here on the way in: NED/FRD of the messages becomes ENU/FLU.

| message | gives |
|---|---|
| HEARTBEAT | armed, mode, whether it calls itself critical |
| LOCAL_POSITION_NED + ATTITUDE_QUATERNION | the state, each part with its own stamp of 1 ms resolution |
| ODOMETRY | the state at one instant, stamp of 1 µs; preferred where the vehicle sends it |
| SYS_STATUS | battery |
| EXTENDED_SYS_STATE | whether it stands on the ground |
| STATUSTEXT | why not |
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hardware.drivers import frames
from hardware.drivers.mavlink_autopilots import Autopilot
from hardware.drivers.quadrotor import QuadrotorSample
from hardware.drivers.remote_clock import RemoteClock
from policies import rotation
from policies.types import QuadrotorState

_ARMED_FLAG = 128
_STATES = {5: "critical", 6: "emergency", 7: "power-off", 8: "flight termination"}
"""MAV_STATE of a heartbeat in which something is wrong."""
_LOCAL_FRAMES = (1, 20)
"""MAV_FRAME_LOCAL_NED and LOCAL_FRD of ODOMETRY."""
_BODY_FRAMES = (8, 12)
"""MAV_FRAME_BODY_NED (as PX4 once called it) and BODY_FRD: the velocity's frame in ODOMETRY."""
_ERROR = 3
"""MAV_SEVERITY_ERROR; smaller is worse."""


class VehicleState:
    """The newest of everything that the vehicle said."""

    def __init__(self, autopilot: Autopilot, text_time: float = 5.0, link_timeout: float = 2.5) -> None:
        """Nothing was heard yet.

        Args:
            autopilot: Whose modes these are.
            text_time: s that an error text stays in the fault.
            link_timeout: s without a heartbeat after which the link counts as lost; heartbeats come every second.
        """
        self.autopilot = autopilot
        self.clock = RemoteClock()
        self.armed = False
        self.mode = ""
        self.on_ground: bool | None = None
        self._text_time = text_time
        self._link_timeout = link_timeout
        self._heartbeat = -math.inf
        self._critical = ""
        self._text, self._text_at = "", -math.inf
        self._position: tuple[float, np.ndarray, np.ndarray] | None = None
        self._attitude: tuple[float, np.ndarray, np.ndarray] | None = None
        self._odometry = -math.inf
        self._voltage: float | None = None
        self._remaining: float | None = None
        self._refused = 0
        self._handlers = {
            "HEARTBEAT": self._heard_heartbeat,
            "LOCAL_POSITION_NED": self._heard_position,
            "ATTITUDE_QUATERNION": self._heard_attitude,
            "ODOMETRY": self._heard_odometry,
            "SYS_STATUS": self._heard_status,
            "EXTENDED_SYS_STATE": self._heard_landed,
            "STATUSTEXT": self._heard_text,
        }

    def observe(self, message: Any, received: float) -> None:
        """Take a message that came at `received` s, `time.monotonic()`."""
        if handler := self._handlers.get(message.get_type()):
            handler(message, received)

    def alive(self, now: float) -> bool:
        """Whether heartbeats come."""
        return now - self._heartbeat <= self._link_timeout

    def in_mode(self, modes: tuple[str, ...]) -> bool:
        """Whether it is in one of these modes."""
        return self.mode in modes

    def sample(self, now: float, accepting: bool, problem: str) -> QuadrotorSample | None:
        """Everything at once, or None before there was an attitude.

        Args:
            now: s.
            accepting: Whether it follows our set-points.
            problem: What the driver knows to be wrong, first in the fault.
        """
        if self._attitude is None:
            return None
        stamp, orientation, rates = self._attitude
        state, state_stamp = None, -math.inf
        if self._position is not None:
            measured, position, velocity = self._position
            state = QuadrotorState(position, orientation, velocity, rates)
            state_stamp = min(measured, stamp)
        words = [problem, f"the vehicle says it is {self._critical}" if self._critical else ""]
        if not self.alive(now):
            words.insert(0, f"no heartbeat for {now - self._heartbeat:.1f} s: check the link")
        if now - self._text_at < self._text_time:
            words.append(self._text)
        return QuadrotorSample(
            stamp=state_stamp,
            state=state,
            attitude_stamp=stamp,
            orientation=orientation,
            angular_velocity=rates,
            battery_voltage=self._voltage,
            battery_remaining=self._remaining,
            armed=self.armed,
            accepting=accepting,
            fault="; ".join(word for word in words if word),
            details={
                "mode": self.mode,
                "on_ground": self.on_ground,
                "clock": "timesync" if self.clock.synchronized else "receipt",
                "clock_uncertainty": self.clock.uncertainty,
                "refused": self._refused,
            },
        )

    # One message each

    def _heard_heartbeat(self, message: Any, received: float) -> None:
        self._heartbeat = received
        self.armed = bool(message.base_mode & _ARMED_FLAG)
        self.mode = self.autopilot.mode_name(message.custom_mode)
        self._critical = _STATES.get(message.system_status, "")

    def _heard_position(self, message: Any, received: float) -> None:
        stamp = self.clock.local(1e-3 * message.time_boot_ms, received)
        if received - self._odometry < 1.0:
            return  # ODOMETRY says the same with a better stamp
        position = np.array([message.x, message.y, message.z])
        velocity = np.array([message.vx, message.vy, message.vz])
        if self._finite(position, velocity) and self._newer(self._position, stamp):
            self._position = (stamp, frames.swap_world(position), frames.swap_world(velocity))

    def _heard_attitude(self, message: Any, received: float) -> None:
        stamp = self.clock.local(1e-3 * message.time_boot_ms, received)
        quaternion = np.array([message.q1, message.q2, message.q3, message.q4])
        rates = np.array([message.rollspeed, message.pitchspeed, message.yawspeed])
        if received - self._odometry >= 1.0:
            self._take_attitude(stamp, quaternion, rates)

    def _heard_odometry(self, message: Any, received: float) -> None:
        if message.frame_id not in _LOCAL_FRAMES or message.child_frame_id not in _BODY_FRAMES:
            self._refused += 1
            return
        stamp = self.clock.local(1e-6 * message.time_usec, received)
        position = np.array([message.x, message.y, message.z])
        velocity = np.array([message.vx, message.vy, message.vz])
        rates = np.array([message.rollspeed, message.pitchspeed, message.yawspeed])
        if not self._finite(position, velocity) or not self._newer(self._position, stamp):
            return
        if self._take_attitude(stamp, np.array(message.q, dtype=np.float64), rates):
            assert self._attitude is not None
            world = rotation.rotate(self._attitude[1], frames.swap_body(velocity))
            self._position = (stamp, frames.swap_world(position), world)
            self._odometry = received

    def _take_attitude(self, stamp: float, quaternion: np.ndarray, rates: np.ndarray) -> bool:
        length = float(np.linalg.norm(quaternion))
        if not self._finite(quaternion, rates) or not 0.9 < length < 1.1:
            self._refused += 1
            return False
        if not self._newer(self._attitude, stamp):
            return False
        self._attitude = (stamp, frames.swap_orientation(quaternion / length), frames.swap_body(rates))
        return True

    def _heard_status(self, message: Any, received: float) -> None:
        self._voltage = None if message.voltage_battery == 0xFFFF else 1e-3 * message.voltage_battery
        self._remaining = None if message.battery_remaining < 0 else 1e-2 * message.battery_remaining

    def _heard_landed(self, message: Any, received: float) -> None:
        self.on_ground = None if message.landed_state == 0 else message.landed_state == 1

    def _heard_text(self, message: Any, received: float) -> None:
        if message.severity <= _ERROR:
            self._text, self._text_at = text_of(message), received

    def _finite(self, *arrays: np.ndarray) -> bool:
        good = all(bool(np.all(np.isfinite(array))) for array in arrays)
        self._refused += not good
        return good

    @staticmethod
    def _newer(known: tuple[float, np.ndarray, np.ndarray] | None, stamp: float) -> bool:
        """Datagrams overtake each other; after a reboot of the vehicle stamps go on from what we know."""
        return known is None or stamp > known[0]


def text_of(message: Any) -> str:
    """The words of a STATUSTEXT."""
    return str(message.text).rstrip("\0 ").strip()
