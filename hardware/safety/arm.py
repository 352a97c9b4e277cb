"""The arm's supervisor: whose command the arm follows, when it holds, when it brakes, and why, in words.

It stands between policy or teleoperation and the controller, knows no ROS and reads no clock: `now` is an argument
everywhere, in s, on one monotonic clock, and every stamp is on that clock too. Call `tick` at the controller's rate.

| fault | reaction | when (defaults) | way back |
|---|---|---|---|
| command old | `holding` | 3 control periods; teleoperation 150 ms | by itself, blended |
| ... for longer | `holding`, latched | 500 ms | recover |
| state old | `holding` (1) | 100 ms | by itself, blended |
| ... for longer | `fault`: controlled stop, brakes at 2000 ms | 500 ms | recover, arm |
| joints jump further than they can move | ignored: no state | at once | by itself |
| ... three times in a row | `fault`: controlled stop, brakes at 2000 ms | at once | recover, arm |
| contact force or torque | `holding`, latched | 10 ms | recover |
| ... twice as large | `fault`: holds, which lets go, then brakes after 500 ms | 10 ms | recover, arm |
| tool leaving its workspace; arm coming too close (2) | `holding`, latched | 100 ms ahead | recover |
| rule broken | `holding`, latched, or `fault`, as the rule says | at once | recover (, arm) |
| joint faster than 1.3 × its limit | `fault`: holds, brakes after 500 ms | at once | recover, arm |
| driver's fault | `fault`: brakes | at once | recover, arm |
| non-finite, future, late, repeated or misshapen input | refused: no input | at once | by itself |
| command out of limits, or far from the arm | refused: no input | at once | by itself |
| command of a second publisher | refused, the first is kept | at once | first silent for 500 ms |
| emergency stop | `fault`: brakes | at once | recover, arm |
| `now` goes backwards | `fault`: brakes, as no age is known | at once | recover, arm |

(1) A torque computed from an old state is no control: `ArmFilter` takes it to zero, and position commands to rest.
(2) To itself, to the table or to a forbidden region; what moves away from them is let go.

`recover` leads from a latched `holding` to `armed`, from `fault` to `idle`. `armed` holds the pose and waits for a
command computed after it was entered.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import numpy as np

from hardware.controllers.joint_position import symmetric_limit
from hardware.descriptions.arm import ArmDescription
from hardware.drivers.driver import ArmSample
from hardware.safety.arm_envelope import ArmEnvelope
from hardware.safety.arm_inputs import ArmCommand, ArmCommandInput, ArmInputConfig, ArmStateInput, Source
from hardware.safety.arm_watch import ArmWatch
from policies.types import JointPositions

Mode: TypeAlias = Literal["idle", "armed", "active", "holding", "fault"]
Follow: TypeAlias = Literal["command", "hold", "brake"]


@dataclass(frozen=True, kw_only=True)
class ArmSupervisorConfig:
    """Settings beside the envelope."""

    tick_rate_hz: float = 500.0
    """Rate at which `tick` is called: the rules count in it."""
    stop_time: float = 0.5
    """s that the arm holds, to come to rest under control, before it brakes."""
    arm_max_speed: float = 0.05
    """rad/s of any joint at which arming and recovery are still allowed."""
    inputs: ArmInputConfig = field(default_factory=ArmInputConfig)
    """What is believed of samples and commands."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ArmDecision:
    """What the arm does now, and why."""

    mode: Mode
    """See the module's table; `armed` holds and waits for a command."""
    cause: str
    """Why the mode is not `active`, in words; empty while it is."""
    follow: Follow
    """`command`: what is in `command`; `hold`: the pose measured when this began; `brake`: the driver's own stop."""
    command: ArmCommand | None
    """Newest believed command; followed only while `follow` is `command`."""
    sequence: int
    """Number of that command: the controller latches each once."""
    blend: float
    """0 to 1: share of the command to follow, growing since the mode became active; see `blended`."""
    latched: bool
    """Only `recover` leads on."""
    state_age: float
    """s since the newest believed sample was measured; inf if there is none."""
    command_age: float
    """s since the newest believed command was computed; inf if there is none."""


def blended(command: ArmCommand, blend: float, held: np.ndarray) -> ArmCommand:
    """The share `blend` of a twist or of torques themselves, of joint angles that of the way from `held` (n,) rad."""
    if blend >= 1.0:
        return command
    if isinstance(command, JointPositions):
        return replace(command, values=held + blend * (command.values - held))
    return replace(command, values=blend * command.values)


class ArmSupervisor:
    """State machine from inputs to decisions. One arm, one thread, no clock of its own."""

    def __init__(
        self,
        description: ArmDescription,
        envelope: ArmEnvelope | None = None,
        control_rate_hz: float = 20.0,
        config: ArmSupervisorConfig | None = None,
    ) -> None:
        """Start idle, with brakes.

        Args:
            description: The arm.
            envelope: Limits; None: the defaults.
            control_rate_hz: Rate of the policy's output.
            config: Further settings.

        Raises:
            ValueError: A limit is missing, a rule cannot be read, or the arm collides with itself at home.
        """
        self.config = config or ArmSupervisorConfig()
        self.envelope = envelope or ArmEnvelope()
        self.state_input = ArmStateInput(description, self.envelope, self.config.inputs)
        self.command_input = ArmCommandInput(description, self.envelope, self.config.inputs)
        self.command_limit = self.envelope.command_age_periods / control_rate_hz
        self.watch = ArmWatch(description, self.envelope, self.config.tick_rate_hz)
        self._names = description.interface.actuators
        self._overspeed = self.envelope.overspeed * symmetric_limit(description, "velocity")
        self._mode: Mode = "idle"
        self._cause = "not armed"
        self._latched = False
        self._counters = dict.fromkeys(
            ("armed", "arm_refused", "active", "holding", "fault", "recovered", "clock_backwards"), 0
        )
        self._now = -math.inf
        self._good_since = -math.inf
        self._active_since = math.inf
        self._armed_at = math.inf
        self._brake_at = -math.inf

    # What the robot and the commanders say

    def observe_state(self, sample: ArmSample, now: float) -> str:
        """Offer a sample; returns why it was refused, or an empty string."""
        problem = self.state_input.observe(sample, now)
        if problem and self._mode == "idle" and not self.state_input.trusted:
            # Moved by hand with the brakes open: nothing depends on the old pose yet.
            self.state_input.forget()
        return problem

    def observe_command(self, command: ArmCommand, stamp: float, now: float, source: Source) -> str:
        """Offer a command computed at `stamp` by publisher `source`; returns why it was refused, or ""."""
        sample = self.state_input.sample
        return self.command_input.observe(
            command, stamp, now, source, None if sample is None else sample.joint_positions
        )

    # What a person asks

    def arming_blockers(self, now: float) -> tuple[str, ...]:
        """Every reason for which `arm` would be refused now, in words."""
        if self._mode == "fault":
            return (f"fault not recovered: {self._cause}",)
        if self._mode != "idle":
            return (f"already armed, mode is {self._mode}",)
        return self._rest_blockers(now)

    def arm(self, now: float) -> tuple[bool, str]:
        """Hold the pose and let the next command through; refused with every reason in words."""
        reasons = self.arming_blockers(now)
        if reasons:
            self._counters["arm_refused"] += 1
            return False, "; ".join(reasons)
        self._wait(now)
        return True, "armed"

    def disarm(self, now: float) -> tuple[bool, str]:
        """Come to rest, then brake; a fault stays to be recovered."""
        if self._mode == "fault":
            return True, f"stopped; recover before arming: {self._cause}"
        self._stop_then_brake(now)
        self._change("idle", "not armed")
        return True, "disarmed"

    def recover(self, now: float) -> tuple[bool, str]:
        """From `fault` to `idle`, from a latched `holding` to `armed`, once the arm rests and its state is good."""
        if not self._latched:
            return False, f"nothing to recover, mode is {self._mode}"
        if not self.state_input.trusted:
            # The person vouches for where the arm is; the next samples have to agree with each other.
            self.state_input.forget()
            self.state_input.refusal = ""
            return False, "the state was not believed any more; it is from its next sample on: recover again"
        if self._mode == "fault":
            if reasons := self._rest_blockers(now):
                return False, "; ".join(reasons)
            self._counters["recovered"] += 1
            self._change("idle", "not armed")
            return True, "recovered; arm to move"
        if self.state_input.age(now) >= self.envelope.state_age[0]:
            return False, self._stale(now, self.envelope.state_age[0])
        self._counters["recovered"] += 1
        self._wait(now)
        return True, "recovered; the next command moves the arm"

    def estop(self, now: float) -> None:
        """Brakes now, whatever the mode; latched."""
        self._fault("emergency stop", brake_at=now)

    @property
    def mode(self) -> Mode:
        """What decides about the arm."""
        return self._mode

    @property
    def cause(self) -> str:
        """Why the mode is not `active`, in words; empty while it is."""
        return self._cause

    @property
    def counters(self) -> Mapping[str, int]:
        """Entries into each mode, refused inputs and broken rules since the start, by name; the keys never change."""
        return {**self._counters, **self.state_input.counters, **self.command_input.counters, **self.watch.counters}

    # What the arm does

    def tick(self, now: float) -> ArmDecision:
        """Decide about the arm; call at a steady rate."""
        if now < self._now - self.config.inputs.clock_tolerance:
            self._counters["clock_backwards"] += 1
            if self._mode != "idle":
                self._fault(f"the clock went back by {self._now - now:.3f} s: give a monotonic one", brake_at=now)
            for forgotten in (self.state_input, self.command_input):
                forgotten.forget()
            self._brake_at = min(self._brake_at, now)
            self.watch.reset()
        self._now = now
        state_age = self.state_input.age(now)
        sample = self.state_input.sample
        broken: tuple[str, str] | None = None
        if sample is not None and state_age < self.envelope.state_age[0]:
            broken = self.watch.look(sample, state_age, self.command_input.age(now))
        if self._mode not in ("idle", "fault"):
            self._decide(now, state_age, broken)
        elif self._brake_at > now and state_age >= self.envelope.state_age[2]:
            self._brake_at = now
        return ArmDecision(
            mode=self._mode,
            cause=self._cause,
            follow=self._follow(now),
            command=self.command_input.command,
            sequence=self.command_input.sequence,
            blend=self._blend(now),
            latched=self._latched,
            state_age=state_age,
            command_age=self.command_input.age(now),
        )

    def _decide(self, now: float, state_age: float, broken: tuple[str, str] | None) -> None:
        """Choose the mode of an arm that is armed: the worst trouble first."""
        hold_age, stop_age, brake_age = self.envelope.state_age
        sample = self.state_input.sample
        if self.state_input.fault:
            self._fault(f"driver: {self.state_input.fault}", brake_at=now)
        elif sample is None or state_age >= brake_age:
            self._fault(self._stale(now, brake_age), brake_at=now)
        elif state_age >= stop_age:
            self._fault(self._stale(now, stop_age))
        elif not self.state_input.trusted:
            self._fault(f"{self.state_input.outliers_in_row} outliers in a row: {self.state_input.refusal}")
        elif too_fast := self._too_fast(sample):
            self._stop_then_brake(now)
            self._fault(too_fast, brake_at=self._brake_at)
        elif broken is not None and broken[0] != "hold":
            self._stop_then_brake(now)
            self._fault(broken[1], brake_at=now if broken[0] == "brake" else self._brake_at)
        elif broken is not None:
            self._hold(broken[1], latched=True)
        elif self._latched:
            return
        elif state_age >= hold_age:
            self._good_since = now
            self._hold(self._stale(now, hold_age), latched=False)
        elif problem := self._command_problem(now):
            if self._mode == "armed":
                self._cause = problem
            else:
                # Without state there can be no output either: that time is not the policy's.
                silent = min(self.command_input.age(now), now - self._good_since)
                self._hold(problem, latched=silent >= self.envelope.return_time)
        elif self._mode != "active":
            self._active_since = now
            self._change("active", "")

    # Details

    def _follow(self, now: float) -> Follow:
        if self._mode == "active":
            return "command"
        if self._mode in ("armed", "holding") or now < self._brake_at:
            return "hold"
        return "brake"

    def _blend(self, now: float) -> float:
        if self._mode != "active":
            return 0.0
        if self.envelope.blend_time <= 0.0:
            return 1.0
        return min(1.0, max(0.0, (now - self._active_since) / self.envelope.blend_time))

    def _change(self, mode: Mode, cause: str, latched: bool = False) -> None:
        if mode != self._mode and mode in self._counters:
            self._counters[mode] += 1
        self._mode, self._cause, self._latched = mode, cause, latched

    def _wait(self, now: float) -> None:
        """Hold where the arm is until a command comes that was computed from now on."""
        self._armed_at = self._good_since = now
        self.watch.reset()
        self._change("armed", "no command since it was armed")

    def _hold(self, cause: str, latched: bool) -> None:
        if not self._latched:
            self._change("holding", cause, latched)

    def _fault(self, cause: str, brake_at: float = math.inf) -> None:
        """Latch a fault; brakes at a time, or when the state is older than the last of its limits."""
        if self._mode == "fault":
            self._brake_at = min(self._brake_at, brake_at)
            if brake_at <= self._now or brake_at < math.inf:
                self._cause = cause
            return
        self._brake_at = brake_at
        self._change("fault", cause, latched=True)

    def _stop_then_brake(self, now: float) -> None:
        self._brake_at = now + self.config.stop_time if self._follow(now) != "brake" else now

    def _command_problem(self, now: float) -> str:
        if self._mode == "armed" and self.command_input.stamp <= self._armed_at:
            text = "no command since it was armed"
        else:
            teleoperated = self.command_input.is_teleoperation
            limit = self.envelope.teleop_age if teleoperated else self.command_limit
            age = self.command_input.age(now)
            if age <= limit:
                return ""
            who = "teleoperation" if teleoperated else "policy output"
            text = f"{who} is {1e3 * age:.0f} ms old (limit {1e3 * limit:.0f} ms)"
        return f"{text}; last: {self.command_input.refusal}" if self.command_input.refusal else text

    def _rest_blockers(self, now: float) -> tuple[str, ...]:
        """Why the arm is not known to be at rest and able to move."""
        if self.state_input.fault:
            return (f"driver: {self.state_input.fault}",)
        sample = self.state_input.sample
        if sample is None or self.state_input.age(now) >= self.envelope.state_age[0]:
            return (self._stale(now, self.envelope.state_age[0]),)
        speeds = np.abs(sample.joint_velocities)
        fastest = int(np.argmax(speeds))
        if speeds[fastest] > self.config.arm_max_speed:
            limit = self.config.arm_max_speed
            return (f"{self._names[fastest]} moves at {speeds[fastest]:.3f} rad/s (limit {limit:g} rad/s)",)
        return ()

    def _stale(self, now: float, limit: float) -> str:
        """How old the state is, and what came instead."""
        if self.state_input.sample is None:
            text = "no state yet"
        else:
            text = f"state is {1e3 * self.state_input.age(now):.0f} ms old (limit {1e3 * limit:.0f} ms)"
        return f"{text}; last: {self.state_input.refusal}" if self.state_input.refusal else text

    def _too_fast(self, sample: ArmSample) -> str:
        speeds = np.abs(sample.joint_velocities)
        if not (speeds > self._overspeed).any():
            return ""
        worst = int(np.argmax(speeds - self._overspeed))
        return f"{self._names[worst]} moves at {speeds[worst]:.2f} rad/s (fault at {self._overspeed[worst]:.2f} rad/s)"
