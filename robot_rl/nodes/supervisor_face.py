"""The face of a control process, whatever the robot: starts it, says what it does, passes on what people ask of it.

The safety state is the control process's, and so is every decision. This node may die: the control process ends with
it and stops the robot by the driver's own means. It may hang: the control process misses its sign of life and holds.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from std_msgs.msg import Bool, String
from std_srvs.srv import SetBool, Trigger

from hardware.drivers.registry import DRIVERS
from robot_rl.nodes import messages, qos
from robot_rl.nodes.managed import Settings, Values
from robot_rl.nodes.plane_face import Client, PlaneFace, PlaneProcess
from robot_rl.nodes.running import NodeError
from robot_rl.planes.slots_client import Request, Status

_STILL = 0.5
"""s without a word of the control process after which it stands still."""
_ANSWER = 0.25
"""s to wait for its answer to a request: it answers within two of its ticks, and the sign of life must go on."""
_CLOCK = 1.0
"""s between attempts to arm by `auto_arm`."""


class SupervisorFace(PlaneFace[Client]):
    """See the module. The settings of a subclass have `driver` and `auto_arm`; it claims `slots` when it configures."""

    part = "supervisor"
    bad_modes: frozenset[str] = frozenset({"holding", "fault", "stopped"})
    """Entering one of them is logged as an error."""
    policy_modes: frozenset[str] = frozenset({"armed", "active", "holding"})
    """In which the policy computes."""
    levels: Mapping[str, bytes] = {
        "idle": DiagnosticStatus.OK,
        "armed": DiagnosticStatus.OK,
        "active": DiagnosticStatus.OK,
        "fault": DiagnosticStatus.ERROR,
    }
    """Of `/diagnostics` by mode; a warning in the others."""
    patience: float = 3.0
    """s that the control process may take to end."""
    inactive_cause: str = "the supervisor is not active; the robot is stopped"
    """What `supervisor/status` says after `deactivate`."""

    def __init__(self, name: str, config_type: type[Settings]) -> None:
        super().__init__(name, config_type)
        self._status: tuple[str, str] | None = None
        self._policy_lets = False
        self._status_out = qos.publisher(self, String, "supervisor/status", qos.STATUS)
        qos.subscription(self, Bool, "estop", self._on_estop_message, qos.STATUS_READER)
        self.create_service(SetBool, "arm", lambda q, r: self._answer(r, "arm" if q.data else "disarm"))
        self.create_service(Trigger, "disarm", lambda _, r: self._answer(r, "disarm"))
        self.create_service(Trigger, "recover", lambda _, r: self._answer(r, "recover"))
        self.create_service(Trigger, "estop", lambda _, r: self._answer(r, "estop"))

    # What subclasses do

    def ready_to_arm(self, planes: Client) -> bool:
        """Whether `auto_arm` may ask to arm now."""
        return True

    def details(self) -> Mapping[str, Any]:
        """More values for `/diagnostics`."""
        return {}

    # The life cycle

    def configure(self) -> None:
        """As `PlaneFace`; a driver that is not known, and `auto_arm` of a real robot, are refused."""
        super().configure()
        config = self.settings
        if config.driver not in DRIVERS:
            raise ValueError(f"parameter driver is {config.driver!r}; choose from {', '.join(DRIVERS)}")
        if config.auto_arm and config.driver != "sim":
            raise ValueError(
                f"auto_arm is for the simulator only, but driver is {config.driver!r}; call the service arm"
            )
        self._to_auto_arm, self._next_try = config.auto_arm, 0.0
        self._started_at = self._told = 0.0

    def start_control(self, config: Any) -> None:
        """Start the control process; `config` has `folder` filled in."""
        self._started_at = self._told = time.monotonic()
        self._say("starting", "the control process starts", False, self.now())
        self.child = PlaneProcess("control", config, self.patience)

    def deactivate(self) -> None:
        """Stop the robot and end the control process."""
        super().deactivate()
        if self._status is not None and self._status[0] not in ("inactive", "stopped"):
            self._say("inactive", self.inactive_cause, False, self.now())

    def cleanup(self) -> None:
        """Free the memory."""
        self._detach()
        if slots := getattr(self, "slots", None):
            slots.release()

    # While active

    def attend(self) -> Client:
        """Give a sign of life and look after the control process; returns the client. The first thing in `work`.

        Raises:
            NodeError: The memory was removed, or the control process has ended.
        """
        planes = self.planes
        if planes is None or self.child is None:
            raise NodeError(f"the robot's memory {self.slots.path} was removed")
        planes.beat()
        try:
            self.child.check()
        except NodeError as error:
            self._say("stopped", str(error), True, self.now())
            raise
        return planes

    def tell_status(self, planes: Client) -> Status | None:
        """Tell what is new of the safety state, and do what follows from it: policy, `auto_arm`. Belongs into `work`.

        Returns:
            The status; None until the control process has said something.
        """
        status = self._newest_status(planes)
        if status is None or self.child is None:
            return None
        self.child.runs = True
        # Each change, also where several have come since the last look; `changes` are the newest, oldest first.
        for change in status.changes:
            if change.stamp > self._told:
                self._told = change.stamp
                self._say(change.mode, change.cause, change.latched, self.to_ros(change.stamp))
        self._let_policy(planes, status)
        if self._to_auto_arm and time.monotonic() >= self._next_try:
            self._next_try = time.monotonic() + _CLOCK
            self._try_to_arm(planes)
        return status

    def _newest_status(self, planes: Client) -> Status | None:
        """The status of the control process that this node has started, not of an earlier one."""
        status = planes.status()
        return status if status is not None and status.stamp > self._started_at else None

    def _say(self, mode: str, cause: str, latched: bool, stamp: float) -> None:
        """Tell the status, `stamp` s of the node's clock; a new mode goes into the log too."""
        before, self._status = self._status, (mode, cause)
        status = messages.SupervisorStatus(mode=mode, cause=cause, latched=latched, stamp=stamp)
        self._status_out.publish(messages.status_message(status))
        if (before is None or before[0] != mode) and mode != "inactive":
            text = f"{mode}: {cause}" if cause else mode
            # Two places: rclpy's logger allows one severity per line of code.
            if mode in self.bad_modes:
                self.get_logger().error(text)
            else:
                self.get_logger().info(text)

    def _let_policy(self, planes: Client, status: Status) -> None:
        """The policy computes while the robot is armed, from a fresh memory on each time."""
        wanted = status.mode in self.policy_modes
        if wanted and not self._policy_lets:
            planes.activate_policy()
        elif not wanted and self._policy_lets:
            planes.deactivate_policy()
        self._policy_lets = wanted

    def _try_to_arm(self, planes: Client) -> None:
        if not self.ready_to_arm(planes):
            return
        granted, why = planes.ask("arm", _ANSWER)
        if granted:
            self._to_auto_arm = False
            self.get_logger().warning(f"armed by auto_arm: {why}")
        else:
            self.get_logger().info(f"auto_arm waits: {why}", throttle_duration_sec=5.0)

    # What others ask

    def _answer(self, response: Any, request: Request) -> Any:
        planes = self.planes if self.active else None
        if planes is None:
            response.success, response.message = False, "the supervisor is not active: activate it first"
            return response
        if request != "arm":
            self._to_auto_arm = False
        response.success, response.message = planes.ask(request, _ANSWER)
        return response

    def _on_estop_message(self, message: Bool) -> None:
        if message.data and self.active and (planes := self.planes) is not None:
            self._to_auto_arm = False
            planes.request("estop")

    # Diagnostics

    def describe(self) -> tuple[bytes, str, Values]:
        """The safety state; when it is published, the loop's timing and every counter of the safety layer too."""
        planes = self.planes
        status = None if planes is None else self._newest_status(planes)
        if planes is None or status is None:
            return DiagnosticStatus.WARN, "the control process starts", {}
        age = time.monotonic() - status.stamp
        if age > _STILL:
            return DiagnosticStatus.STALE, f"the control process has said nothing for {age:.1f} s", {}
        level = self.levels.get(status.mode, DiagnosticStatus.WARN)
        summary = f"{status.mode}: {status.cause}" if status.cause else status.mode
        return level, summary, partial(self._values, planes, status)

    def _values(self, planes: Client, status: Status) -> Mapping[str, Any]:
        histograms = {
            f"timing.control_{name}": found.to_chart()
            for name, found in planes.histograms().items()
            if name != "inference"  # the policy's node tells it
        }
        return {
            "mode": status.mode,
            "cause": status.cause,
            "follows": status.follow,
            "command of": status.command_source,
            "state age": status.state_age,
            "command age": status.command_age,
            "driver": self.settings.driver,
            "driver fault": status.driver_fault,
            "interventions": status.interventions,
            "newest intervention": status.explanation,
            "ticks": status.ticks,
            "lost periods": status.lost_periods,
            "real time": status.realtime,
            **self.details(),
            "skipped periods": self.schedule.skipped,
            **{f"report.{name}": value for name, value in planes.report().items()},
            **histograms,
        }
