"""The quadrotor's supervisor: what the motors get when all is well, and what they get otherwise.

It stands between the policy and the motors, knows no ROS and reads no clock: `now` is an argument
everywhere, in s, on one monotonic clock, and every stamp is on that clock too. Call `tick` at a
steady rate, at least the policy's.

| fault | reaction | when (defaults) | way back |
|---|---|---|---|
| policy output old | `holding`: the fallback holds the position | 3 control periods | by itself |
| ... for longer | `descending` at 0.5 m/s, motors off on the ground | 500 ms | recover, arm |
| state old | `level` at hover thrust (1) | 100 ms | by itself |
| ... for longer | `descending`, level at a little less thrust (1, 2) | 500 ms | recover, arm |
| ... for longer | `fault`: motors off | 2000 ms | recover, arm |
| pose jumps further than the robot can move | ignored: no state | at once | by itself |
| ... three times in a row | no pose is believed: `descending` as above | at once | recover, arm |
| outside the geofence | `descending` at 0.5 m/s inside it | at once | recover, arm |
| a rule's robustness below 0 (3) | `holding`: the fallback holds the position | at once | recover |
| ... for longer, or `brake` | `descending` at 0.5 m/s | 10 s, at once | recover, arm |
| no tick for long: this process stood still | `descending` at 0.5 m/s | 500 ms | recover, arm |
| tilted beyond the envelope (tumble) | `fault`: motors off | `tumble_time` | recover, arm |
| non-finite, future, late or repeated input | refused: no input | at once | by itself |
| command outside the rotors' limits | refused: no output | at once | by itself |
| command of a second publisher | refused, the first is kept | at once | first silent for 500 ms |
| emergency stop | `fault`: motors off | at once | recover, arm |
| `now` goes backwards | `fault`: motors off, as no age is known | at once | recover, arm |

(1) On the inertial sensor's attitude while that is younger than 100 ms, else with equal rotor speeds.
(2) If the state returns it sinks at 0.5 m/s to the ground. Time without state counts neither as
time without policy output nor against it.
(3) Of the manifest's `envelope.rules` and the config's; `hardware.safety.quadrotor_watch` has the signals.

On the ground the fallbacks keep the motors at zero. What hovers is learned in flight: the mean
vertical thrust that was asked for, so that a wrong mass, battery or thrust curve does not make the
fallback climb or fall.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from hardware.descriptions import QuadrotorDescription
from hardware.safety.arm_envelope import Rule
from hardware.safety.quadrotor_config import Mode, SupervisorConfig, SupervisorOutput
from hardware.safety.quadrotor_fallback import QuadrotorFallback
from hardware.safety.quadrotor_inputs import AttitudeInput, CommandInput, StateInput
from hardware.safety.quadrotor_watch import QuadrotorWatch
from hardware.safety.rules import Verdict
from policies import rotation
from policies.manifest import Envelope
from policies.types import Array, QuadrotorState


class QuadrotorSupervisor:
    """State machine from inputs to motors. One vehicle, one thread, no clock of its own."""

    def __init__(
        self,
        description: QuadrotorDescription,
        envelope: Envelope,
        control_rate_hz: float,
        config: SupervisorConfig | None = None,
    ) -> None:
        """Start disarmed.

        Args:
            description: What is believed of the vehicle.
            envelope: Limits, from the policy's manifest.
            control_rate_hz: Rate of the policy's output.
            config: Further settings.
        """
        self.config = config or SupervisorConfig()
        self.envelope = envelope
        max_speed = float(description.parameters["max_speed"])
        self.state_input = StateInput(self.config.inputs, envelope.max_speed)
        self.attitude_input = AttitudeInput(self.config.inputs)
        self.command_input = CommandInput(self.config.inputs, max_speed)
        self.command_limit = envelope.command_age_periods / control_rate_hz
        self.fallback = QuadrotorFallback(description.parameters, self.config.fallback)
        rules = (*(Rule(**rule) for rule in envelope.rules), *self.config.rules)  # type: ignore[arg-type]
        self.watch = QuadrotorWatch(envelope, rules, control_rate_hz, max_speed, self.config.ground_height)
        self._geofence = np.asarray(envelope.geofence, dtype=np.float64)
        self._mode: Mode = "disarmed"
        self._cause = "not armed"
        self._counters = dict.fromkeys(
            (
                "armed",
                "arm_refused",
                "holding",
                "level",
                "descending",
                "fault",
                "recovered",
                "clock_backwards",
                "stood_still",
            ),
            0,
        )
        self._now = -math.inf
        self._broken_since, self._broken = math.inf, ""
        self._low_since = math.inf
        self._good_since = -math.inf
        self._descent_end = math.inf

    # What the vehicle and the policy say

    def observe_state(self, state: QuadrotorState, stamp: float, now: float) -> str:
        """Offer a state measured at `stamp`; returns why it was refused, or an empty string."""
        was_stale = self.state_input.age(now) >= self.envelope.state_age[0]
        problem = self.state_input.observe(state, stamp, now)
        if problem:
            if not self._armed and not self.state_input.trusted:
                # Carried by hand, or a new origin: nothing depends on the old pose yet.
                self.state_input.forget()
            return problem
        believed = self.state_input.state
        assert believed is not None
        if was_stale:
            self._good_since = now
        self.watch.see_tilt(believed.orientation, stamp)
        low = float(believed.position[2]) - self.config.ground_height < self.config.landed_height
        slow = float(np.linalg.norm(believed.linear_velocity)) < self.config.landed_speed
        self._low_since = min(self._low_since, stamp) if low and slow else math.inf
        return ""

    def observe_attitude(self, orientation: Array, angular_velocity: Array, stamp: float, now: float) -> str:
        """Offer an inertial sensor's attitude (4,) wxyz and body rates (3,) rad/s; returns why not, or ""."""
        problem = self.attitude_input.observe(orientation, angular_velocity, stamp, now)
        if not problem:
            self.watch.see_tilt(self.attitude_input.orientation, stamp)
        return problem

    def observe_command(self, values: Array, stamp: float, now: float, source: str) -> str:
        """Offer rotor speeds (4,) rad/s computed at `stamp` by publisher `source`; returns why not, or ""."""
        return self.command_input.observe(values, stamp, now, source)

    # What a person asks

    def arming_blockers(self, now: float) -> tuple[str, ...]:
        """Every reason for which `arm` would be refused now, in words."""
        if self._mode == "fault":
            return (f"fault not recovered: {self._cause}",)
        if self._mode != "disarmed":
            return (f"already armed, mode is {self._mode}",)
        reasons = list(self._rest_blockers(now))
        state = self.state_input.state
        if state is not None:
            reasons += [self.watch.outside(state.position)] if self.watch.outside(state.position) else []
            speed = float(np.linalg.norm(state.linear_velocity))
            if speed > self.config.arm_max_speed:
                reasons.append(f"moving at {speed:.2f} m/s (limit {self.config.arm_max_speed:g} m/s)")
        if problem := self._command_problem(now):
            reasons.append(problem)
        return tuple(reasons)

    def arm(self, now: float) -> tuple[bool, str]:
        """Let the policy's output through to the motors; refused with every reason in words."""
        reasons = self.arming_blockers(now)
        if reasons:
            self._counters["arm_refused"] += 1
            return False, "; ".join(reasons)
        self._counters["armed"] += 1
        self._good_since = now
        self.fallback.reset()
        self.watch.reset()
        self._change("active", "")
        return True, "armed"

    def disarm(self, now: float) -> tuple[bool, str]:
        """Motors off at once, also in the air; a fault or a latched descent stays to be recovered."""
        if self._mode in ("descending", "fault"):
            self._change("fault", self._cause)
            return True, f"motors off; recover before arming: {self._cause}"
        self._change("disarmed", "not armed")
        return True, "disarmed"

    def recover(self, now: float) -> tuple[bool, str]:
        """From `fault` to `disarmed`, once the vehicle is upright and its state good; or on after a broken rule."""
        if math.isfinite(self._broken_since) and self._mode == "holding":
            if problem := self._command_problem(now):
                return False, problem
            self._counters["recovered"] += 1
            self.watch.reset()
            self._change("active", "")
            return True, "recovered; the policy flies on"
        if self._mode == "descending":
            return False, f"still descending: {self._cause}; wait for the ground, or disarm to cut the motors"
        if self._mode != "fault":
            return False, f"nothing to recover, mode is {self._mode}"
        if reasons := self._rest_blockers(now):
            return False, "; ".join(reasons)
        self._counters["recovered"] += 1
        self._change("disarmed", "not armed")
        return True, "recovered; arm to fly"

    def estop(self, now: float) -> None:
        """Motors off now, whatever the mode; latched."""
        self._change("fault", "emergency stop")

    @property
    def time(self) -> float:
        """S, of the newest tick; -inf before the first."""
        return self._now

    @property
    def mode(self) -> Mode:
        """What decides about the motors."""
        return self._mode

    @property
    def cause(self) -> str:
        """Why the mode is not `active`, in words; empty while it is."""
        return self._cause

    @property
    def counters(self) -> Mapping[str, int]:
        """Entries into each mode and refused inputs since the start, by name; the keys never change."""
        return {
            **self._counters,
            **self.state_input.counters,
            **self.attitude_input.counters,
            **self.command_input.counters,
            **self.watch.counters,
        }

    # What the motors get

    def tick(self, now: float) -> SupervisorOutput:
        """Decide about the motors; call at a steady rate."""
        dt = min(max(now - self._now, 0.0), 0.05)
        if now < self._now - self.config.inputs.clock_tolerance:
            self._counters["clock_backwards"] += 1
            if self._armed:
                self._change("fault", f"the clock went back by {self._now - now:.3f} s: give a monotonic one")
            for forgotten in (self.state_input, self.attitude_input, self.command_input):
                forgotten.forget()
            self.watch.forget()
            self._low_since = math.inf
        elif self._armed and now - self._now >= self.envelope.state_age[1]:
            self._counters["stood_still"] += 1
            self._descend(now, f"the supervisor stood still for {1e3 * (now - self._now):.0f} ms")
        self._now = now
        if self._armed:
            self._decide(now)
        command = self._command(now, dt)
        self.fallback.sent(command, dt)
        state = self.state_input.state
        airborne = self._armed and not math.isfinite(self._low_since)
        if airborne and state is not None and self._state_is_good(now):
            self.fallback.learn_hover_thrust(state.orientation, dt)
        return SupervisorOutput(
            motor_speeds=command,
            mode=self._mode,
            cause=self._cause,
            latched=self._mode in ("descending", "fault") or math.isfinite(self._broken_since),
            state_age=self.state_input.age(now),
            command_age=self.command_input.age(now),
            landed=self._landed(now),
        )

    def _decide(self, now: float) -> None:
        """Choose the mode of an armed vehicle: the worst trouble first."""
        level_age, descent_age, off_age = self.envelope.state_age
        state_age = self.state_input.age(now)
        state = self.state_input.state
        seen = max(self.state_input.stamp, self.attitude_input.stamp)
        broken: Verdict | None = None
        if state is not None and self._state_is_good(now):
            broken = self.watch.rules(now, state, state_age, self.command_input.age(now), self.command_input.values)
        if tumble := self.watch.tumble(seen):
            self._change("fault", tumble)
        elif state_age >= off_age:
            self._change("fault", self._stale(now, off_age))
        elif self._mode == "descending":
            if self._landed(now):
                self._change("fault", f"landed after: {self._cause}")
            elif now > self._descent_end:
                self._change("fault", f"descent took too long, after: {self._cause}")
        elif state is None or state_age >= descent_age:
            self._descend(now, self._stale(now, descent_age))
        elif not self.state_input.trusted:
            count = self.state_input.outliers_in_row
            self._descend(now, f"{count} outliers in a row: {self.state_input.refusal}")
        elif state_age >= level_age:
            self._change("level", self._stale(now, level_age))
        elif outside := self.watch.outside(state.position):
            self._descend(now, outside)
        elif broken is not None and broken.rule.reaction == "brake":
            self._descend(now, broken.explain)
        elif math.isfinite(self._broken_since):
            if now - self._broken_since >= self.config.rule_hold_time:
                self._descend(now, f"nobody recovered for {self.config.rule_hold_time:g} s after: {self._broken}")
            else:
                self._change("holding", self._broken)
        elif broken is not None:
            self._broken_since, self._broken = now, broken.explain
            self._change("holding", broken.explain)
        elif problem := self._command_problem(now):
            # Without state there can be no output either: that time is not the policy's.
            if min(self.command_input.age(now), now - self._good_since) >= self.config.return_time:
                self._descend(now, problem)
            else:
                self._change("holding", problem)
        else:
            self._change("active", "")

    def _command(self, now: float, dt: float) -> np.ndarray:
        """Rotor speeds (4,) for the mode."""
        if self._mode in ("disarmed", "fault"):
            return np.zeros(4)
        if self._mode == "active":
            self.fallback.release()
            return self.command_input.values
        if self._landed(now):
            return np.zeros(4)
        sinking = self._mode == "descending"
        state = self.state_input.state
        if state is not None and self._state_is_good(now):
            return self.fallback.hold(state, self._geofence, sinking, dt)
        attitude = self.attitude_input
        fresh = attitude.age(now) < self.envelope.state_age[0]
        return self.fallback.level((attitude.orientation, attitude.angular_velocity) if fresh else None, sinking)

    # Details

    @property
    def _armed(self) -> bool:
        return self._mode not in ("disarmed", "fault")

    def _change(self, mode: Mode, cause: str) -> None:
        if mode != self._mode and mode in self._counters:
            self._counters[mode] += 1
        if mode not in ("holding", "level"):
            self._broken_since = math.inf
        self._mode, self._cause = mode, cause

    def _descend(self, now: float, cause: str) -> None:
        """Begin the controlled descent, for good."""
        state = self.state_input.state
        height = 0.0 if state is None else max(0.0, float(state.position[2]) - self.config.ground_height)
        self._descent_end = now + height / self.config.fallback.descent_speed + self.config.descent_slack
        self._change("descending", cause)

    def _state_is_good(self, now: float) -> bool:
        return self.state_input.trusted and self.state_input.age(now) < self.envelope.state_age[0]

    def _landed(self, now: float) -> bool:
        return now - self._low_since >= self.config.landed_time

    def _command_problem(self, now: float) -> str:
        age = self.command_input.age(now)
        if age <= self.command_limit:
            return ""
        if not math.isfinite(age):
            text = "no policy output yet"
        else:
            text = f"policy output is {1e3 * age:.0f} ms old (limit {1e3 * self.command_limit:.0f} ms)"
        return f"{text}; last: {self.command_input.refusal}" if self.command_input.refusal else text

    def _rest_blockers(self, now: float) -> tuple[str, ...]:
        """Why the vehicle is not known to be at rest and upright."""
        state = self.state_input.state
        if state is None or self.state_input.age(now) >= self.envelope.state_age[0]:
            return (self._stale(now, self.envelope.state_age[0]),)
        tilt = float(rotation.tilt_of(state.orientation))
        if tilt > self.config.arm_max_tilt:
            limit = math.degrees(self.config.arm_max_tilt)
            return (f"tilted by {math.degrees(tilt):.0f}° (limit {limit:.0f}°)",)
        return ()

    def _stale(self, now: float, limit: float) -> str:
        """How old the state is, and what came instead."""
        if self.state_input.state is None:
            text = "no state yet"
        else:
            text = f"state is {1e3 * self.state_input.age(now):.0f} ms old (limit {1e3 * limit:.0f} ms)"
        return f"{text}; last: {self.state_input.refusal}" if self.state_input.refusal else text
