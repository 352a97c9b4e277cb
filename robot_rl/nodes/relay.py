"""What the nodes `px4` and `crazyswarm2` share: orders of the control process in, what the vehicle says out.

They carry what `hardware.drivers.relayed_quadrotor` exchanges with the control process. A set-point is passed on once
and never repeated. A vehicle that is not flown from here (a pilot has it) is never told to land, but for `kill`.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus

from hardware.drivers.mavlink_arming import Arming, ArmingConfig
from hardware.drivers.memory_quadrotor import STATE_FIELDS
from hardware.drivers.relayed_quadrotor import SAID, SAID_RECORD, TOLD, TOLD_RECORD
from hardware.realtime.histogram import Histogram
from hardware.realtime.seqlock import SlotReader, SlotWriter
from robot_rl.nodes.carrier import Carrier, Pair
from robot_rl.nodes.managed import Settings, Values
from robot_rl.nodes.quadrotor_face import QuadrotorFace
from robot_rl.planes.quadrotor_client import QuadrotorClient

_STALE = 0.1
"""s after which a set-point is not sent any more."""
_SILENCE = 0.25
"""s without set-points after which the stream has ended for good: who has fallen silent does not begin by itself."""
_LATE_ARMING = 3.0
"""s after a stop in which a vehicle that arms is still stopped: the request may have been on its way."""


@dataclass(kw_only=True)
class Heard:
    """What the vehicle has said last; stamps are `time.monotonic()` in s, frames ENU and FLU."""

    state_stamp: float = 0.0
    """Of the measurement; 0: none yet."""
    position: np.ndarray | None = None
    """Shape (3,), m."""
    orientation: np.ndarray | None = None
    """Shape (4,), wxyz, body to world."""
    linear_velocity: np.ndarray | None = None
    """Shape (3,), m/s, world."""
    angular_velocity: np.ndarray | None = None
    """Shape (3,), rad/s, body."""
    attitude_stamp: float = 0.0
    """Of orientation and angular velocity, where they come without a position too."""
    battery_voltage: float = math.nan
    """V."""
    battery_remaining: float = math.nan
    """0 to 1."""
    armed: bool = False
    """Whether its motors may turn."""
    in_mode: bool = False
    """Whether it is in the mode that listens."""
    landing: bool = False
    """Whether it lands by itself, or has landed."""
    fault: str = ""
    """Why it takes no commands, or warns, in words."""


class RelayNode(Carrier[QuadrotorClient], QuadrotorFace):
    """See the module. Subclasses fill `heard` and say how the vehicle is spoken to."""

    priority = 15
    arming_config = ArmingConfig()
    """Of the steps before it follows."""

    def __init__(self, name: str, config_type: type[Settings]) -> None:
        super().__init__(name, config_type)
        self._forget()

    def _forget(self) -> None:
        self.heard = Heard()
        self.arming = Arming(self.arming_config)
        self._done = {"requests": 0, "stops": 0, "kills": 0}
        self._sent_at = -math.inf
        self._problem = ""
        self._stopping = False
        self._late_until = self._next_stop = -math.inf
        self._sent = 0
        self._age = Histogram()

    # What subclasses do

    def ask(self, what: str) -> None:
        """Ask the vehicle for `mode`, or to `arm`; repeated until it has done so."""
        raise NotImplementedError

    def land(self) -> None:
        """Tell it to land, or to disarm on the ground; repeated twice a second until it is disarmed."""
        raise NotImplementedError

    def kill(self) -> None:
        """Motors off now."""
        raise NotImplementedError

    def send(self, rates: np.ndarray, thrust: float) -> None:
        """Send body rates (3,) rad/s FLU and thrust in m/s²; zeros while it is not armed."""
        raise NotImplementedError

    def details(self) -> Mapping[str, Any]:
        """What else the vehicle says of itself."""
        return {}

    # The life cycle

    def activate(self) -> None:
        """Begin to carry; what was asked for before is asked for no more, since the slots are opened anew."""
        self.let_pair_go()
        self._forget()

    def deactivate(self) -> None:
        """Land what is flown from here; carry nothing more."""
        if self.arming.phase != "idle":
            self._stop()
        super().deactivate()

    def open_pair(self, folder: Path) -> Pair:
        """What the vehicle says and is told; what was asked of an earlier node is not asked of this one."""
        reader = SlotReader(folder, TOLD, TOLD_RECORD)
        reading = reader.read_new()
        self._done = {name: 0 if reading is None else int(reading.record[name]) for name in self._done}
        return SlotWriter(folder, SAID, SAID_RECORD), reader

    def lost_pair(self) -> None:
        """Whoever has flown is gone: it lands."""
        self._stop()

    # While active

    def work(self) -> None:
        """One look: orders, the next step of arming, what there is to say."""
        now = time.monotonic()
        pair = self.pair()
        reading = None if pair is None else pair[1].read_new()
        if reading is not None:
            self._obey(reading.record, reading.stamp, now)
        self._go_on(now)
        if pair is not None:
            self._say(pair[0])

    def _obey(self, told: np.void, stamp: float, now: float) -> None:
        new = {name for name in self._done if int(told[name]) > self._done[name]}
        self._done = {name: int(told[name]) for name in self._done}
        if "kills" in new:
            if self.arming.phase == "arming":
                self._stopping, self._late_until = True, now + _LATE_ARMING
            self.arming.cancel()
            self.kill()
        elif "stops" in new:
            self._stop()
        elif "requests" in new:
            self._problem, self._stopping = "", False
            self.arming.request(now)
            self._sent_at = now
        if told["has_command"] and now - stamp <= _STALE and self.arming.phase not in ("idle", "failed"):
            armed = self.heard.armed
            self.send(told["rates"].copy() if armed else np.zeros(3), float(told["thrust"]) if armed else 0.0)
            self.arming.observe_setpoint(now)
            self._age.record(now - stamp)
            self._sent_at, self._sent = now, self._sent + 1

    def _go_on(self, now: float) -> None:
        heard = self.heard
        if self.arming.phase in ("mode", "arming", "done") and now - self._sent_at > _SILENCE:
            self.arming.cancel()
            self._problem = f"commands had stopped for {_SILENCE:g} s: nothing is sent until arming is requested again"
        elif self.arming.phase == "done" and not (heard.armed and heard.in_mode):
            how = "disarmed" if not heard.armed else "left the mode"
            self.arming.cancel()
            self._problem = f"the vehicle {how} by itself: nothing is sent until arming is requested again"
        elif asked := self.arming.tick(now, heard.in_mode, heard.armed):
            self.ask(asked)
        if self._stopping:
            # What a pilot does meanwhile is the pilot's.
            flown = heard.armed and (heard.in_mode or heard.landing)
            self._stopping = flown or (not heard.armed and now < self._late_until)
            if flown and now >= self._next_stop:
                self._next_stop = now + 0.5
                self.land()

    def _stop(self) -> None:
        phase, now = self.arming.phase, time.monotonic()
        ours = phase not in ("idle", "failed")
        self.arming.cancel()
        self._stopping, self._next_stop = ours or self._stopping, -math.inf
        if phase == "arming":
            self._late_until = now + _LATE_ARMING
        if ours and self.heard.armed:
            self._next_stop = now + 0.5
            self.land()

    def _say(self, said: SlotWriter) -> None:
        record, heard = np.zeros((), SAID_RECORD), self.heard
        record["state_stamp"], record["attitude_stamp"] = heard.state_stamp, heard.attitude_stamp
        for name in STATE_FIELDS:
            if (value := getattr(heard, name)) is not None:
                record[name] = value
        record["attitude"], record["rates"] = record["orientation"], record["angular_velocity"]
        record["battery_voltage"], record["battery_remaining"] = heard.battery_voltage, heard.battery_remaining
        record["armed"], record["accepting"] = heard.armed, heard.armed and heard.in_mode
        record["phase"] = self.arming.phase.encode()
        record["problem"] = (self.arming.reason or self._problem).encode()[:240]
        record["fault"] = heard.fault.encode()[:240]
        record["requests"], record["stops"] = self._done["requests"], self._done["stops"]
        text = json.dumps(dict(self.details()), default=str).encode()
        record["json"] = text if len(text) <= 512 else b"{}"
        said.write(record)

    # Diagnostics

    def describe(self) -> tuple[bytes, str, Values]:
        """Whether both sides are there."""
        heard, problem = self.heard, self.arming.reason or self._problem

        def values() -> Mapping[str, Any]:
            return {
                "arming": self.arming.phase,
                "problem": problem,
                "armed": heard.armed,
                "in the mode that listens": heard.in_mode,
                "fault": heard.fault,
                "set-points sent": self._sent,
                "battery voltage": heard.battery_voltage,
                "skipped periods": self.schedule.skipped,
                "timing.relay_setpoint_age": self._age.to_chart(),
                "timing.relay_lateness": self.schedule.lateness.to_chart(),
                **{f"vehicle {name}": value for name, value in self.details().items()},
            }

        if not max(heard.state_stamp, heard.attitude_stamp):
            return DiagnosticStatus.WARN, "nothing is heard of the vehicle", values
        if problem:
            return DiagnosticStatus.WARN, problem, values
        return DiagnosticStatus.OK, f"connected; arming {self.arming.phase}", values
