"""From standing still to following our set-points, one step after the other, each refusal in words.

`Arming.tick` is called with what is known and says what to send; it waits for nothing and owns no socket:

    idle → streaming (idle set-points, at least `stream_time`) → mode → arming → done, or failed: why

Before a new request nothing is asked for again: if the autopilot leaves the mode or disarms by itself, it had a reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from hardware.drivers.quadrotor import ArmingPhase

Request: TypeAlias = Literal["", "mode", "arm"]

_RESULTS = {
    1: "temporarily rejected",
    2: "denied",
    3: "not supported",
    4: "failed",
    6: "cancelled",
}
"""MAV_RESULT of a COMMAND_ACK that means no; 0 is accepted, 5 in progress."""
SET_MODE, ARM = 176, 400
"""MAV_CMD_DO_SET_MODE, MAV_CMD_COMPONENT_ARM_DISARM."""


@dataclass(frozen=True, kw_only=True)
class ArmingConfig:
    """Times of the sequence."""

    stream_time: float = 1.2
    """s of unbroken set-points before the mode is asked for; PX4 wants more than 1."""
    stream_gap: float = 0.4
    """s, longest pause between set-points that still counts as a stream: PX4 wants 2 Hz."""
    step_timeout: float = 3.0
    """s that the mode, and then the arming, may take."""
    repeat: float = 1.0
    """s after which an unanswered request is repeated."""


class Arming:
    """State of one request to fly."""

    def __init__(self, config: ArmingConfig | None = None) -> None:
        """Ask for nothing yet."""
        self.config = config or ArmingConfig()
        self.phase: ArmingPhase = "idle"
        self._why = ""
        self._since = 0.0
        self._asked = 0.0
        self._failed = 0.0
        self._stream_start = 0.0
        self._last_setpoint = -1e9
        self._texts: list[str] = []

    @property
    def reason(self) -> str:
        """Why it failed, in words; what the autopilot said of it comes a moment later than its answer."""
        said = f"; the autopilot says: {'; '.join(self._texts)}" if self._texts else ""
        return self._why + said if self._why else ""

    def request(self, now: float) -> None:
        """Begin."""
        self._why, self._since = "", now
        self._texts.clear()
        self.phase = "streaming"

    def cancel(self) -> None:
        """Ask for nothing more."""
        self.phase = "idle"

    def observe_setpoint(self, now: float) -> None:
        """A set-point was sent."""
        if now - self._last_setpoint > self.config.stream_gap:
            self._stream_start = now
        self._last_setpoint = now

    def observe_text(self, text: str, now: float) -> None:
        """The autopilot said something while it was asked: the reason of a refusal comes this way."""
        asked = self.phase in ("mode", "arming") or (self.phase == "failed" and now - self._failed < 1.0)
        if asked and text not in self._texts and len(self._texts) < 8:
            self._texts.append(text)

    def observe_ack(self, command: int, result: int, now: float) -> None:
        """The autopilot answered a command."""
        waiting = {"mode": SET_MODE, "arming": ARM}.get(self.phase)
        if command == waiting and result in _RESULTS:
            self._fail(_RESULTS[result], now)

    def tick(self, now: float, in_mode: bool, armed: bool) -> Request:
        """What to ask the autopilot for now."""
        if self.phase == "streaming":
            if now - self._last_setpoint > self.config.stream_gap:
                if now - self._since > self.config.step_timeout:
                    self._fail(
                        f"no set-points for {1e3 * self.config.stream_gap:.0f} ms: keep writing while it arms", now
                    )
            elif self._last_setpoint - max(self._stream_start, self._since) >= self.config.stream_time:
                self._enter("mode", now)
        if self.phase == "mode" and in_mode:
            self._enter("arming", now)
        if self.phase == "arming" and armed:
            if in_mode:
                self.phase = "done"
            else:
                self._fail("the autopilot left the mode while arming", now)
        if self.phase not in ("mode", "arming"):
            return ""
        if now - self._since > self.config.step_timeout:
            self._fail(f"no effect within {self.config.step_timeout:g} s", now)
            return ""
        if now - self._asked < self.config.repeat:
            return ""
        self._asked = now
        return "mode" if self.phase == "mode" else "arm"

    def _enter(self, phase: ArmingPhase, now: float) -> None:
        self.phase, self._since, self._asked = phase, now, -1e9
        self._texts.clear()

    def _fail(self, why: str, now: float) -> None:
        step = {"mode": "change of mode", "arming": "arming"}.get(self.phase, "before the change of mode")
        self.phase, self._why, self._failed = "failed", f"{step}: {why}", now
