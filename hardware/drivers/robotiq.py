"""Robotiq 2F gripper behind its URCap: text over TCP, port 63352 of the UR controller.

Never waits inside a control loop: commands are sent when the target changes, positions are asked for and read as they
arrive. Activation moves the fingers, so a person does it on the pendant.
"""

from __future__ import annotations

import math
import socket

from hardware.descriptions import GripperDescription
from hardware.drivers.driver import DriverError

PORT = 63352
CLOSED = 255
"""Position register when closed; 0 is open."""
ACTIVE = 3
"""Status register once activated."""


class RobotiqGripper:
    """Position-controlled; `command` and `poll` return at once."""

    def __init__(self, host: str, description: GripperDescription | None, period: float = 0.02) -> None:
        if description is None:
            raise DriverError("setting gripper=robotiq needs a robot description with a gripper")
        self.host = host
        self.max_width = description.max_width
        self.period = period
        self.width = 0.0
        self._socket: socket.socket | None = None
        self._rest = b""
        self._target = -1
        self._asked = self._sent = -math.inf

    def connect(self) -> None:
        """Open the wire and see that the gripper is active."""
        try:
            self._socket = socket.create_connection((self.host, PORT), timeout=1.0)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._ask("STA") != ACTIVE:
                raise DriverError("the Robotiq gripper is not active: activate it on the pendant, it moves then")
            self._read_position(self._ask("POS"))
            self._socket.sendall(b"SET GTO 1\n")
            self._socket.setblocking(False)
        except (OSError, ValueError) as error:
            raise DriverError(f"no Robotiq gripper at {self.host}:{PORT}: {error}") from error

    def _ask(self, name: str) -> int:
        assert self._socket is not None
        self._socket.sendall(f"GET {name}\n".encode())
        answer = self._socket.recv(64).decode().split()
        if len(answer) != 2 or answer[0] != name:
            raise ValueError(f"it answers {answer} to GET {name}")
        return int(answer[1])

    def _read_position(self, position: int) -> None:
        self.width = self.max_width * (1.0 - position / CLOSED)

    def command(self, opening: float, now: float) -> None:
        """Move to an opening in [-1, 1], closed to open."""
        target = round(CLOSED * 0.5 * (1.0 - min(1.0, max(-1.0, opening))))
        if self._socket is None or target == self._target or now - self._sent < self.period:
            return
        self._target, self._sent = target, now
        self._send(f"SET POS {target}\n")

    def poll(self, now: float) -> float:
        """The newest width in m, and a question for the next."""
        if self._socket is None:
            return self.width
        try:
            self._rest += self._socket.recv(4096)
        except BlockingIOError:
            pass
        except OSError:
            return self.width  # the arm's own connection says that the controller is gone
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            words = line.split()
            if len(words) == 2 and words[0] == b"POS" and words[1].isdigit():
                self._read_position(int(words[1]))
        if now - self._asked >= self.period:
            self._asked = now
            self._send("GET POS\n")
        return self.width

    def _send(self, text: str) -> None:
        if self._socket is not None:
            try:
                self._socket.send(text.encode())
            except OSError:
                return  # a full or broken wire: the next question comes in a period

    def close(self) -> None:
        """Free the wire; the fingers stay."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
