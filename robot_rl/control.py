"""The policy's side of a control loop: newest state and set-point in, command out, at its rate.

No ROS, no torch, no thread and no queue: a node, a process or a test calls `observe_state`,
`observe_setpoint` and `tick`, and passes the time. What cannot be flown on is refused in words
and counted; a tick without a good state gives no command, and the supervisor behind it
(`hardware.safety.quadrotor`) notices the silence.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from hardware.realtime.histogram import Histogram
from policies.types import MotorSpeeds, QuadrotorSetpoint, QuadrotorState


class FlightPolicy(Protocol):
    """What the runner needs of a policy; `policies.load` returns one."""

    @property
    def manifest(self) -> Any:
        """With `control_rate_hz` and `envelope.state_age`."""

    @property
    def last_action(self) -> np.ndarray | None:
        """Normalized action (A,) of the last step."""

    def reset(self, mask: Any = None) -> None:
        """Forget the past."""

    def step(self, state: QuadrotorState, setpoint: QuadrotorSetpoint) -> Any:
        """Command for a state and a set-point."""


@dataclass(frozen=True, kw_only=True)
class RunnerConfig:
    """Settings of the policy's side of the loop."""

    control_rate_hz: float
    """Rate at which `tick` is to be called."""
    max_state_age: float = 0.1
    """s since the measurement; an older state is not flown on."""
    clock_tolerance: float = 0.02
    """s by which a stamp may lie in the future: clocks of two machines differ."""
    max_setpoint_age: float = 0.5
    """s since the stamp; an older set-point is flown as a place to stand still: whoever moved it is gone."""
    max_setpoint_lead: float = 0.1
    """s by which a moving set-point is carried on from its stamp to the tick, with its velocity and acceleration."""
    gap_periods: float = 3.0
    """Control periods without a command after which the policy's memory is of another flight: it is reset."""

    @classmethod
    def from_manifest(cls, manifest: Any) -> RunnerConfig:
        """The settings that a bundle's manifest asks for."""
        return cls(
            control_rate_hz=float(manifest.control_rate_hz),
            max_state_age=float(manifest.envelope.state_age[0]),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class RunnerOutput:
    """Result of one tick."""

    command: MotorSpeeds | None
    """What to send, or None; then nothing is to be sent."""
    reason: str
    """Why there is no command, in words; empty if there is one."""
    stamp: float
    """s, time of the tick: the stamp to send the command with."""
    state_stamp: float
    """s, when the state that was used was measured; nan if none was."""
    action: np.ndarray | None
    """Normalized action (A,) in [-1, 1] behind the command, or None."""


_COUNTERS = (
    "ticks",
    "commands",
    "resets",
    "late_ticks",
    "overruns",
    "state_not_finite",
    "state_in_future",
    "state_not_newer",
    "setpoint_not_finite",
    "setpoint_in_future",
    "setpoint_older",
    "setpoint_stale",
    "inactive",
    "no_state",
    "state_stale",
    "no_setpoint",
    "command_not_finite",
)


class PolicyRunner:
    """Runs one policy on one vehicle. Inactive until `activate`."""

    def __init__(
        self,
        policy: FlightPolicy,
        config: RunnerConfig | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Wrap a policy.

        Args:
            policy: As `policies.load` returns it.
            config: Settings; None takes those of the policy's manifest.
            clock: Steady clock in s that measures how long inference takes. Ages and periods are
                taken from the `now` of each call.
        """
        self.policy = policy
        self.config = config or RunnerConfig.from_manifest(policy.manifest)
        if not (math.isfinite(self.config.control_rate_hz) and self.config.control_rate_hz > 0.0):
            raise ValueError(f"control_rate_hz is {self.config.control_rate_hz}; it must be above 0")
        self.period = 1.0 / self.config.control_rate_hz
        """s between two ticks."""
        self._clock = clock
        self._active = False
        self._active_since = math.nan
        self._state: QuadrotorState | None = None
        self._state_stamp = -math.inf
        self._setpoint: QuadrotorSetpoint | None = None
        self._setpoint_stamp = -math.inf
        self._last_tick = math.nan
        self._last_command = -math.inf
        self._counters = dict.fromkeys(_COUNTERS, 0)
        self._histograms = {name: Histogram() for name in ("period", "jitter", "inference", "state_age")}
        self._refusal = ""

    def observe_state(self, state: QuadrotorState, stamp: float, now: float) -> str:
        """Offer a state of one vehicle measured at `stamp` s; returns why it was refused, or ""."""
        parts = {
            "position": state.position,
            "orientation": state.orientation,
            "linear_velocity": state.linear_velocity,
            "angular_velocity": state.angular_velocity,
        }
        bad = [name for name, value in parts.items() if not np.all(np.isfinite(np.asarray(value)))]
        if bad or not math.isfinite(stamp):
            return self._refuse("state_not_finite", f"state has non-finite {', '.join(bad) or 'stamp'}")
        if stamp > now + self.config.clock_tolerance:
            ahead = 1e3 * (stamp - now)
            return self._refuse("state_in_future", f"state is stamped {ahead:.0f} ms in the future: compare the clocks")
        if stamp <= self._state_stamp:
            if self._state_stamp <= now + self.config.clock_tolerance:
                text = f"state stamp {stamp:.3f} s is not newer than the last, {self._state_stamp:.3f} s"
                return self._refuse("state_not_newer", text)
            # What was newest lies in the future now: the clock went back, as when a simulation restarts.
            self._last_command = -math.inf
        self._state, self._state_stamp, self._refusal = state, stamp, ""
        return ""

    def observe_setpoint(self, setpoint: QuadrotorSetpoint, stamp: float, now: float) -> str:
        """Offer a set-point of the instant `stamp` s; returns why it was refused, or ""."""
        parts = {
            "position": setpoint.position,
            "velocity": setpoint.velocity,
            "acceleration": setpoint.acceleration,
            "yaw": setpoint.yaw,
        }
        bad = [name for name, value in parts.items() if not np.all(np.isfinite(np.asarray(value)))]
        if bad or not math.isfinite(stamp):
            return self._count("setpoint_not_finite", f"set-point has non-finite {', '.join(bad) or 'stamp'}")
        latest = now + self.config.clock_tolerance
        if stamp > latest:
            ahead = 1e3 * (stamp - now)
            text = f"set-point is stamped {ahead:.0f} ms in the future: compare the clocks"
            return self._count("setpoint_in_future", text)
        if stamp < self._setpoint_stamp <= latest:
            text = f"set-point stamp {stamp:.3f} s is older than the last, {self._setpoint_stamp:.3f} s"
            return self._count("setpoint_older", text)
        self._setpoint, self._setpoint_stamp = setpoint, stamp
        return ""

    @property
    def active(self) -> bool:
        """Whether ticks may give commands."""
        return self._active

    def activate(self, now: float) -> None:
        """Start with a fresh policy memory; inputs seen before stay."""
        self._active = True
        self._active_since = now
        self._last_command = -math.inf
        self._last_tick = math.nan

    def deactivate(self) -> None:
        """No more commands until `activate`."""
        self._active = False
        self._last_tick = math.nan

    def tick(self, now: float) -> RunnerOutput:
        """One control period. Never raises for bad input; an error inside the policy passes through."""
        self._counters["ticks"] += 1
        self._measure_period(now)
        if problem := self._problem(now):
            return RunnerOutput(command=None, reason=problem, stamp=now, state_stamp=math.nan, action=None)
        assert self._state is not None and self._setpoint is not None
        if not 0.0 <= now - self._last_command <= self.config.gap_periods * self.period + 1e-9:
            self.policy.reset()
            self._counters["resets"] += 1
        begin = self._clock()
        command = self.policy.step(self._state, self._present_setpoint(now))
        inference = self._clock() - begin
        self._histograms["inference"].record(inference)
        self._histograms["state_age"].record(now - self._state_stamp)
        self._counters["overruns"] += int(inference > self.period)
        if not np.all(np.isfinite(np.asarray(command.values))):
            self._counters["command_not_finite"] += 1
            self._last_command = -math.inf  # Its memory holds what it put out: start afresh.
            text = "the policy's command is not finite"
            return RunnerOutput(command=None, reason=text, stamp=now, state_stamp=self._state_stamp, action=None)
        self._last_command = now
        self._counters["commands"] += 1
        return RunnerOutput(
            command=command,
            reason="",
            stamp=now,
            state_stamp=self._state_stamp,
            action=self.policy.last_action,
        )

    @property
    def counters(self) -> Mapping[str, int]:
        """Ticks, commands, refusals by reason, memory resets, overruns; the keys never change."""
        return dict(self._counters)

    @property
    def inference(self) -> Histogram:
        """Durations of the policy's steps."""
        return self._histograms["inference"]

    def diagnostics(self) -> dict[str, Any]:
        """Counters, and count, mean, p50, p99, max in s of each histogram, as plain data.

        `period` is the time between two ticks, `jitter` its distance from the nominal one.
        """
        return {
            "control_rate_hz": self.config.control_rate_hz,
            "active": self._active,
            "active_since": self._active_since if self._active else None,
            "counters": dict(self._counters),
            **{name: histogram.to_dict() for name, histogram in self._histograms.items()},
        }

    def _problem(self, now: float) -> str:
        """Why there can be no command now, in words, or an empty string."""
        if not self._active:
            return self._count("inactive", "the policy is not active")
        if self._state is None:
            return self._count("no_state", self._with_refusal("no state yet"))
        age = now - self._state_stamp
        if age >= self.config.max_state_age:
            limit = 1e3 * self.config.max_state_age
            return self._count(
                "state_stale", self._with_refusal(f"state is {1e3 * age:.0f} ms old (limit {limit:.0f} ms)")
            )
        if self._setpoint is None:
            return self._count("no_setpoint", "no set-point yet")
        return ""

    def _present_setpoint(self, now: float) -> QuadrotorSetpoint:
        """The newest set-point at this instant, however rarely or late they come; still where nobody moves it more."""
        assert self._setpoint is not None
        given = self._setpoint
        position, velocity, acceleration = (
            np.asarray(part, dtype=np.float64) for part in (given.position, given.velocity, given.acceleration)
        )
        age = now - self._setpoint_stamp
        lead = min(max(age, 0.0), self.config.max_setpoint_lead)
        position = position + lead * velocity + 0.5 * lead**2 * acceleration
        if age > self.config.max_setpoint_age:
            self._counters["setpoint_stale"] += 1
            still = np.zeros_like(velocity)
            return replace(given, position=position, velocity=still, acceleration=still)
        return replace(given, position=position, velocity=velocity + lead * acceleration)

    def _measure_period(self, now: float) -> None:
        last, self._last_tick = self._last_tick, now
        if not self._active or math.isnan(last) or now < last:
            return
        period = now - last
        self._histograms["period"].record(period)
        self._histograms["jitter"].record(abs(period - self.period))
        self._counters["late_ticks"] += int(period > 1.5 * self.period)

    def _count(self, key: str, sentence: str) -> str:
        self._counters[key] += 1
        return sentence

    def _refuse(self, key: str, sentence: str) -> str:
        self._counters[key] += 1
        self._refusal = sentence
        return sentence

    def _with_refusal(self, text: str) -> str:
        return f"{text}; last one refused: {self._refusal}" if self._refusal else text
