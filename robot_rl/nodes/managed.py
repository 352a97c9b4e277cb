"""A node with a life cycle (`rclpy.lifecycle`) on top of `Face`: configure, activate, deactivate, cleanup.

Without a life-cycle manager a node configures and activates itself as it starts (`autostart`), and one that cannot
refuses to start, in one sentence. With `autostart:=false` it waits for a manager; a transition that fails then leaves
it where it was and says why in the log and in `/diagnostics`.

In rclpy an inactive node's subscriptions and timers go on: whatever a managed node does is therefore done in `work`,
which is called while it is active only, and its callbacks are wrapped in `when_active`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.lifecycle import LifecycleNodeMixin, LifecycleState, TransitionCallbackReturn

from hardware.drivers.driver import DriverError
from hardware.realtime.seqlock import SlotError
from robot_rl.nodes import messages, parameters, qos
from robot_rl.nodes.parameters import parameter
from robot_rl.nodes.running import Face, StartError

REFUSALS = (ValueError, OSError, SlotError, DriverError)
"""What `configure` and `activate` raise to refuse, with the reason in one sentence."""
_REPORT_PERIOD = 1.0
_CHANGES = 0.1
"""s at least between two reports of the same level."""
Settings = TypeVar("Settings", bound="ManagedConfig")
Values: TypeAlias = "Mapping[str, Any] | Callable[[], Mapping[str, Any]]"
"""Values for `/diagnostics`; a function where they cost something, called when they are published."""


@dataclass(frozen=True, kw_only=True)
class ManagedConfig:
    """Parameters that every managed node has."""

    autostart: bool = parameter(True, "Configure and activate by itself; false: wait for a life-cycle manager.")


class Managed(LifecycleNodeMixin, Face):
    """A node with a life cycle. Subclasses override the four transitions, `work` and `describe`."""

    part: str = "node"
    """What its entry in `/diagnostics` is about."""
    hardware_id: str = ""
    """The robot's name, for `/diagnostics`."""

    def __init__(self, name: str, config_type: type[Settings]) -> None:
        Face.__init__(self, name)
        LifecycleNodeMixin.__init__(self)
        self.settings: Any = parameters.read(self, config_type)
        self.problem = ""
        """Why the last transition failed, in one sentence."""
        self.active = False
        """Whether the node is in the state `active`."""
        self._starting = False
        self._next_report = 0.0
        self._reported: tuple[bytes, str] | None = None
        self._diagnostics = qos.publisher(self, DiagnosticArray, "/diagnostics", qos.SENSOR_PUBLISHER)

    # What subclasses do

    def configure(self) -> None:
        """Load and check everything; nothing moves. Raises one of `REFUSALS` to refuse."""

    def activate(self) -> None:
        """Begin to work. Raises one of `REFUSALS` to refuse."""

    def deactivate(self) -> None:
        """Stop working; the robot holds or stands. Must not fail."""

    def cleanup(self) -> None:
        """Let go of what `configure` took, also of half of it. Must not fail."""

    def work(self) -> None:
        """Called every period while active."""

    def describe(self) -> tuple[bytes, str, Values]:
        """Level, summary and values for `/diagnostics` while active; asked for at every tick."""
        return DiagnosticStatus.OK, "active", {}

    # The life cycle

    def started(self) -> None:
        """Configure and activate, unless a manager shall."""
        if not self.settings.autostart:
            return
        self._starting = True  # what refuses is told once, by who started it
        for step in (self.trigger_configure, self.trigger_activate):
            if step() != TransitionCallbackReturn.SUCCESS:
                raise StartError(self.problem or "a transition failed, see above")
        self._starting = False

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """From `unconfigured` to `inactive`."""
        return self._change(self.configure, self.cleanup, lambda: LifecycleNodeMixin.on_configure(self, state))

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """From `inactive` to `active`."""
        result = self._change(self.activate, self.deactivate, lambda: LifecycleNodeMixin.on_activate(self, state))
        self.active = result == TransitionCallbackReturn.SUCCESS
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """From `active` to `inactive`."""
        self.active = False
        return self._change(self.deactivate, None, lambda: LifecycleNodeMixin.on_deactivate(self, state))

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """From `inactive` to `unconfigured`."""
        return self._change(self.cleanup, None, lambda: LifecycleNodeMixin.on_cleanup(self, state))

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """To `finalized`; the node's process ends."""
        self._let_go()
        self.finished = True
        return LifecycleNodeMixin.on_shutdown(self, state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After an exception in a transition: back to `unconfigured`, everything let go."""
        self._let_go()
        return LifecycleNodeMixin.on_error(self, state)

    def tick(self) -> None:
        """Work while active; tell `/diagnostics` once a second and at every change."""
        if self.active:
            self.work()
        level, summary, values = self._describe()
        now = time.monotonic()
        before = self._reported
        # A text may tell an age, which is another one at every tick.
        changed = before is None or level != before[0]
        changed |= before is not None and summary != before[1] and now >= self._next_report - _REPORT_PERIOD + _CHANGES
        if now >= self._next_report or changed:
            self._next_report, self._reported = now + _REPORT_PERIOD, (level, summary)
            values = values() if callable(values) else values
            name = f"{self.get_fully_qualified_name()}: {self.part}"
            self._diagnostics.publish(
                messages.diagnostics_message(name, self.hardware_id, level, summary, values, self.now())
            )

    def close(self) -> None:
        """The end of the process, however it was asked for."""
        self._let_go()

    def when_active(self, callback: Callable[[Any], None]) -> Callable[[Any], None]:
        """A subscription's callback that does nothing while the node is not active."""

        def only_then(message: Any) -> None:
            if self.active:
                callback(message)

        return only_then

    def when_active_with_info(self, callback: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
        """The same for a callback that asks who published."""

        def only_then(message: Any, info: Any) -> None:
            if self.active:
                callback(message, info)

        return only_then

    # Details

    def _change(
        self,
        action: Callable[[], None],
        undo: Callable[[], None] | None,
        entities: Callable[[], TransitionCallbackReturn],
    ) -> TransitionCallbackReturn:
        self.problem = ""
        try:
            action()
        except REFUSALS as error:
            self.problem = " ".join(str(error).split())
            if not self._starting:
                self.get_logger().error(f"{action.__name__} refused: {self.problem}")
            if undo is not None:
                undo()
            return TransitionCallbackReturn.FAILURE
        self.get_logger().info(f"{action.__name__}: done")
        return entities()

    def _let_go(self) -> None:
        self.active = False
        self.deactivate()
        self.cleanup()

    def _describe(self) -> tuple[bytes, str, Values]:
        if self.active:
            return self.describe()
        if self.problem:
            return DiagnosticStatus.ERROR, f"refused: {self.problem}", {}
        return DiagnosticStatus.WARN, "not active", {}
