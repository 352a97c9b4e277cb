"""Bytes to and from an autopilot: UDP, TCP or a serial port behind three functions.

| connection | meaning |
|---|---|
| `udp:0.0.0.0:14540` | wait for the vehicle on this port (PX4's simulator and `MAV_x_REMOTE_PRT`), answer its sender |
| `udpout:192.168.4.1:14550` | send first to this address |
| `tcp:127.0.0.1:5760` | ArduPilot's simulator |
| `serial:/dev/ttyACM0:921600` | a telemetry port or USB, with its baud rate |
"""

from __future__ import annotations

import select
import socket
from typing import Any, Protocol

from hardware.drivers.driver import DriverError
from hardware.drivers.support import import_sdk

_PACKET = 4096


class Wire(Protocol):
    """One open connection. `read` is called from one thread only, `write` from several under the caller's lock."""

    realtime: bool
    """Whether `write` never waits for the other side."""

    def read(self, timeout: float) -> bytes:
        """What has come, or nothing after `timeout` s."""

    def write(self, data: bytes) -> None:
        """Send; raises `OSError` if the link is gone."""

    def close(self) -> None:
        """Free it; a second time does nothing."""


def open_wire(connection: str) -> Wire:
    """Open a connection as in the module's table.

    Raises:
        DriverError: The text is none of these, or the port cannot be opened.
    """
    scheme, _, rest = connection.partition(":")
    place, _, last = rest.rpartition(":")
    if scheme not in ("udp", "udpout", "tcp", "serial") or not place or not last.isdigit():
        raise DriverError(
            f"connection {connection!r} is none of udp:ADDRESS:PORT, udpout:ADDRESS:PORT, tcp:ADDRESS:PORT, "
            "serial:DEVICE:BAUD"
        )
    try:
        if scheme == "serial":
            return _SerialWire(place, int(last))
        return _SocketWire(scheme, place, int(last))
    except OSError as error:
        raise DriverError(f"connection {connection!r} cannot be opened: {error}") from error


class _SocketWire:
    """UDP or TCP; a full send buffer drops the packet instead of waiting."""

    realtime = True

    def __init__(self, scheme: str, host: str, port: int) -> None:
        self._tcp = scheme == "tcp"
        self._peer: Any = None if scheme == "udp" else (host, port)
        self._listening = scheme == "udp"
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM if self._tcp else socket.SOCK_DGRAM)
        try:
            if self._tcp:
                self._socket.settimeout(3.0)
                self._socket.connect((host, port))
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            else:
                self._socket.bind((host, port) if self._listening else ("0.0.0.0", 0))
            self._socket.setblocking(False)
        except OSError:
            self._socket.close()
            raise

    def read(self, timeout: float) -> bytes:
        if self._socket.fileno() < 0 or not select.select([self._socket], [], [], timeout)[0]:
            return b""
        try:
            if self._tcp:
                data = self._socket.recv(_PACKET)
                if not data:
                    raise ConnectionResetError("the vehicle closed the connection")
                return data
            data, sender = self._socket.recvfrom(_PACKET)
        except (BlockingIOError, ConnectionRefusedError):
            return b""
        if self._listening and self._peer is None:
            self._peer = sender  # the first one: a later stranger cannot take the link over
        return data if sender == self._peer or not self._listening else b""

    def write(self, data: bytes) -> None:
        if self._peer is None:
            return
        try:
            if self._tcp:
                self._socket.sendall(data)
            else:
                self._socket.sendto(data, self._peer)
        except BlockingIOError:
            return  # a full buffer: an old set-point is worth nothing anyway

    def close(self) -> None:
        self._socket.close()


class _SerialWire:
    """A serial port by pyserial."""

    realtime = False

    def __init__(self, device: str, baud: int) -> None:
        serial = import_sdk("serial", driver="mavlink", package="pyserial", extra="mavlink")
        self._port = serial.Serial(device, baud, timeout=0.05, write_timeout=0.05, exclusive=True)
        self._timeout_error = serial.SerialTimeoutException

    def read(self, timeout: float) -> bytes:
        self._port.timeout = timeout
        first = self._port.read(1)
        return bytes(first + self._port.read(self._port.in_waiting)) if first else b""

    def write(self, data: bytes) -> None:
        try:
            self._port.write(data)
        except self._timeout_error as error:
            raise OSError(
                f"serial port {self._port.port} takes no more bytes: lower the rates or raise the baud"
            ) from error

    def close(self) -> None:
        self._port.close()
