"""Between the supervisor and the node of a real vehicle: what the vehicle says of arming, and what it is asked for.

The vehicle has a safety of its own, which arms and refuses in its own time. It is asked only because somebody has
called the supervisor's service `arm`; the supervisor flies as soon as the vehicle follows, and stops when it no longer
does: a pilot, or its failsafe, has taken it.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Literal, TypeAlias

from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

from robot_rl.nodes import messages, qos
from robot_rl.nodes.running import Face

STATUS_TOPIC, ARM_SERVICE, KILL_SERVICE = "vehicle/status", "vehicle/arm", "vehicle/kill"
STATUS_PERIOD = 0.1
"""s between two statuses of the vehicle; changes are told at once."""
_SILENT = 1.0
"""s without a status after which the vehicle's node counts as gone."""
_PATIENCE = 15.0
"""s that arming may take in all; each driver gives up earlier, and says why."""
Progress: TypeAlias = Literal["idle", "waiting", "following", "refused"]


@dataclass(frozen=True, kw_only=True)
class VehicleStatus:
    """What a vehicle's node tells on the topic `vehicle/status`."""

    driver: str
    """Its driver."""
    arming: str
    """Where the newest request is, as `hardware.drivers.quadrotor.ArmingPhase`."""
    requests: int
    """Requests since the node's start."""
    armed: bool
    """Whether the vehicle's own safety lets the motors turn."""
    following: bool
    """Whether the vehicle follows what this node sends."""
    problem: str
    """Why it does not, or what else is wrong, in words."""


def status_message(status: VehicleStatus) -> String:
    """The status as JSON text."""
    return String(data=json.dumps(vars(status)))


def status_from_message(message: String) -> VehicleStatus:
    """The status from its JSON text.

    Raises:
        MessageError: It is none.
    """
    try:
        data = json.loads(message.data)
        return VehicleStatus(
            driver=str(data["driver"]),
            arming=str(data["arming"]),
            requests=int(data["requests"]),
            armed=bool(data["armed"]),
            following=bool(data["following"]),
            problem=str(data["problem"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise messages.MessageError(f"vehicle status {message.data[:80]!r} cannot be read: {error!r}") from error


class VehicleLink:
    """The supervisor's side. Nothing here waits; `progress` is polled."""

    def __init__(self, node: Face) -> None:
        """Listen; ask for nothing."""
        self._node = node
        self.status: VehicleStatus | None = None
        self._heard = 0.0
        self._waiting = False
        self._requests = 0
        self._give_up = 0.0
        qos.subscription(node, String, STATUS_TOPIC, self._on_status, qos.STATUS)
        self._arm = node.create_client(SetBool, ARM_SERVICE)
        self._kill = node.create_client(Trigger, KILL_SERVICE)

    @property
    def waiting(self) -> bool:
        """Whether a request is under way."""
        return self._waiting

    @property
    def following(self) -> bool:
        """Whether the vehicle followed when it was last heard."""
        return self.status is not None and self.status.following

    @property
    def armed(self) -> bool:
        """Whether the vehicle's motors may turn, also because a pilot flies it."""
        return self.status is not None and self.status.armed

    def blocker(self) -> str:
        """Why it cannot be asked now, or an empty string."""
        if self.status is None or not self._arm.service_is_ready():
            return "no vehicle: its node is not there, or not active"
        silence = time.monotonic() - self._heard
        return f"the vehicle's node has said nothing for {silence:.1f} s" if silence > _SILENT else ""

    def ask(self) -> None:
        """Have the vehicle arm and follow."""
        assert self.status is not None
        self._waiting, self._requests = True, self.status.requests
        self._give_up = time.monotonic() + _PATIENCE
        self._arm.call_async(SetBool.Request(data=True))

    def release(self) -> None:
        """End what was asked for: the vehicle lands by itself if it follows, and else is left alone."""
        self._waiting = False
        if self._arm.service_is_ready():
            self._arm.call_async(SetBool.Request(data=False))

    def kill(self) -> None:
        """Motors off now."""
        self._waiting = False
        if self._kill.service_is_ready():
            self._kill.call_async(Trigger.Request())

    def progress(self) -> tuple[Progress, str]:
        """Where the request is, in words; `following` and `refused` are told once."""
        status = self.status
        if not self._waiting or status is None:
            return "idle", ""
        if time.monotonic() > self._give_up or time.monotonic() - self._heard > _SILENT:
            self.release()
            return "refused", self.blocker() or f"the vehicle did not arm within {_PATIENCE:g} s"
        if status.requests == self._requests:
            return "waiting", "asked"
        if status.following:
            self._waiting = False
            return "following", ""
        if status.arming in ("failed", "idle"):
            self._waiting = False
            return "refused", status.problem or "the vehicle does not arm and does not say why"
        return "waiting", status.arming

    def _on_status(self, message: String) -> None:
        try:
            self.status, self._heard = status_from_message(message), time.monotonic()
        except messages.MessageError as error:
            self._node.get_logger().warning(str(error), throttle_duration_sec=1.0)
