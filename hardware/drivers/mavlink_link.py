"""The conversation with one autopilot: a thread that listens, keeps both heartbeats going and the clocks together.

Set-points are not its business: they go out where `write` is called and stop where it stops, so that an autopilot whose
commander has died notices.
"""

from __future__ import annotations

import logging
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

from hardware.drivers.driver import DriverError
from hardware.drivers.mavlink_autopilots import Autopilot, autopilot_of
from hardware.drivers.mavlink_state import VehicleState
from hardware.drivers.mavlink_wire import Wire

_log = logging.getLogger(__name__)
_ONBOARD_CONTROLLER, _INVALID_AUTOPILOT, _ACTIVE = 18, 8, 4
_INT32 = 6
_TIMESYNC_START, _TIMESYNC_PERIOD = 20, 0.5
"""Exchanges at 20 Hz to begin with, then one every s."""


class MavlinkLink:
    """One open link; `state` is None until the autopilot's first heartbeat."""

    def __init__(
        self,
        dialect: Any,
        wire: Wire,
        source: tuple[int, int],
        target_system: int,
        on_tick: Callable[[float], None],
        on_message: Callable[[Any, float], None],
    ) -> None:
        """Start listening.

        Args:
            dialect: pymavlink's module of messages, MAVLink 2.
            wire: The connection; closed by `close`.
            source: Our system and component id.
            target_system: Id of the vehicle, or 0 for the first one heard.
            on_tick: Called about 50 times per s in this thread, with the time.
            on_message: Called for every message of the vehicle after `state` took it.
        """
        self.state: VehicleState | None = None
        self.parameters: dict[str, float] = {}
        self.target = (target_system, 1)
        self.error = ""
        """Why the link is gone, in words."""
        self.lock = threading.Lock()
        """Held while `state` changes; hold it to read several things of it at once."""
        self._sending = threading.Lock()
        self._wire = wire
        self._parser = dialect.MAVLink(None, *source)
        self._parser.robust_parsing = True  # rubbish on the line is a message of its own, not an exception
        self._packer = dialect.MAVLink(None, *source)
        self._on_tick, self._on_message = on_tick, on_message
        self._start = time.monotonic()
        self._exchanges = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mavlink", daemon=True)
        self._thread.start()

    @property
    def encode(self) -> Any:
        """The encoder of pymavlink: `link.send(link.encode.heartbeat_encode(...))`."""
        return self._packer

    def send(self, message: Any) -> None:
        """Send one message; raises `OSError` if the link is gone."""
        with self._sending:
            data = message.pack(self._packer)
            self._packer.seq = (self._packer.seq + 1) % 256
            self._wire.write(data)

    def command(self, number: int, *parameters: float) -> None:
        """Send a COMMAND_LONG with up to 7 parameters."""
        values = [float(value) for value in parameters] + [0.0] * (7 - len(parameters))
        self.send(self.encode.command_long_encode(*self.target, number, 0, *values))

    def boot_ms(self) -> int:
        """Milliseconds since the start, for stamps of set-points."""
        return int(1e3 * (time.monotonic() - self._start)) & 0xFFFFFFFF

    def close(self) -> None:
        """End the thread, free the wire."""
        self._end.set()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout=2.0)
        self._wire.close()

    # The thread

    def _run(self) -> None:
        heartbeat = timesync = 0.0
        try:
            while not self._end.is_set():
                data = self._wire.read(0.02)
                received = time.monotonic()
                for message in self._parser.parse_buffer(data) or () if data else ():
                    self._take(message, received)
                if received - heartbeat >= 1.0:
                    heartbeat = received
                    self.send(self.encode.heartbeat_encode(_ONBOARD_CONTROLLER, _INVALID_AUTOPILOT, 0, 0, _ACTIVE))
                period = 0.05 if self._exchanges < _TIMESYNC_START else _TIMESYNC_PERIOD
                if self.state is not None and received - timesync >= period:
                    timesync = received
                    self.send(self.encode.timesync_encode(0, int(1e9 * time.monotonic())))
                self._on_tick(received)
        except DriverError as error:
            self.error = str(error)
        except OSError as error:
            self.error = f"the link broke: {error}"
        except Exception as error:  # a thread that dies without a word is worse than any error
            self.error = f"the link's thread failed: {type(error).__name__}: {error}"
            _log.exception("MAVLink thread")

    def _take(self, message: Any, received: float) -> None:
        kind = message.get_type()
        if kind == "BAD_DATA":
            return
        system = message.get_srcSystem()
        if self.state is None:
            self._meet(message, kind, system)
        if self.state is None or system != self.target[0] or message.get_srcComponent() != self.target[1]:
            return
        with self.lock:
            if kind == "TIMESYNC":
                self._take_timesync(message, received)
            elif kind == "PARAM_VALUE":
                self.parameters[message.param_id] = _parameter(message, self.state.autopilot)
            self.state.observe(message, received)
        self._on_message(message, received)

    def _meet(self, message: Any, kind: str, system: int) -> None:
        """The first heartbeat of an autopilot decides whom we talk to."""
        if kind != "HEARTBEAT" or message.autopilot == _INVALID_AUTOPILOT or self.target[0] not in (0, system):
            return
        self.target = (system, message.get_srcComponent())
        self.state = VehicleState(autopilot_of(message.autopilot))

    def _take_timesync(self, message: Any, received: float) -> None:
        assert self.state is not None
        if message.tc1 == 0:  # a question
            self.send(self.encode.timesync_encode(int(1e9 * received), message.ts1))
            return
        sent = 1e-9 * message.ts1
        if 0.0 <= received - sent < 1.0:
            self._exchanges += 1
            self.state.clock.round_trip(sent, 1e-9 * message.tc1, received)


def _parameter(message: Any, autopilot: Autopilot) -> float:
    """PX4 puts the bits of an integer into the float field, ArduPilot its value."""
    if autopilot.name == "px4" and message.param_type == _INT32:
        return float(struct.unpack("<i", struct.pack("<f", message.param_value))[0])
    return float(message.param_value)
