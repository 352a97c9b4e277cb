"""The last thing before an arm's driver: no command outside the limits leaves it, whatever goes in.

| intervention | what it does |
|---|---|
| `not_finite`, `shape`, `type` | the command is none: torques brake the joints, positions come to rest |
| `stale_state` | torques fade to zero while the sample gets old, or is none; positions come to rest |
| `joint_limit` | torques that would carry a joint beyond a limit of position or velocity brake it (`torque_limits`) |
| `barrier` | the smallest change that keeps every distance (`barrier`, off by default) |
| `no_way` | nothing keeps every distance: it brakes |
| `position`, `velocity`, `acceleration`, `jerk` | positions go as far as this limit allows (`position_limits`) |
| `torque`, `torque_rate` | torques are clipped, and approach what is asked at most at their rate |
| `gripper` | an opening that is not finite stays as it was, any other is clipped to [-1, 1] |

The limits of torques and their rate, and those of positions and their differences, hold for every command that
leaves, also at interventions. Counts are of ticks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hardware.descriptions.arm import ArmDescription
from hardware.drivers.driver import ArmSample
from hardware.dynamics import bias_torques, mass_matrix
from hardware.safety.arm_envelope import ArmEnvelope, joint_envelope
from hardware.safety.barrier import Barred, BarrierConfig, BarrierFilter
from hardware.safety.position_limits import JointLimiter
from hardware.safety.torque_limits import (
    TorqueLimitConfig,
    acceleration_bounds,
    approach,
    jerk_limits,
    torque_limits,
    within,
)
from policies.types import JointPositions, JointTorques

INTERVENTIONS = (
    "not_finite", "shape", "type", "stale_state", "joint_limit", "barrier", "no_way", "position", "velocity",
    "acceleration", "jerk", "torque", "torque_rate", "gripper",
)  # fmt: skip
"""Names of what the filter counts."""
_NO_GRAVITY = (0.0, 0.0, 0.0)
"""Robots add gravity themselves."""
_ABSURD = 1e3
"""rad and rad/s: no joint of a robot has more."""


@dataclass(frozen=True, kw_only=True)
class ArmFilterConfig:
    """Settings beside the envelope."""

    torque_fade_age: float = 0.02
    """s, age of the sample from which torques computed from it fade; they are zero at the envelope's first age."""
    stop_time: float = 0.1
    """s, time constant with which joints brake when there is no torque command to follow."""
    inertia_period: float = 0.02
    """s between computations of the joint-space inertia: it changes as the arm moves, and costs most of the time."""
    coriolis_period: float = 0.01
    """s between computations of the Coriolis torques while a joint is fast."""
    coriolis_speed: float = 0.3
    """Share of the envelope's velocity from which a joint is fast: below, these torques are small."""
    torque: TorqueLimitConfig = TorqueLimitConfig()
    """How hard limits of position and velocity are kept by torques."""
    barrier: BarrierConfig | None = None
    """How distances are kept; None: not by the filter, the supervisor holds the arm."""


@dataclass(frozen=True, eq=False)
class Filtered:
    """What goes to the driver."""

    command: JointPositions | JointTorques
    """Within every limit; of the type that came in, or of the last good one if that was none. Its arrays are new."""
    interventions: dict[str, int]
    """Interventions since the start, by name; the same dictionary at every tick, its keys never change."""
    explain: str
    """The newest intervention in words; empty if there was none yet."""
    changed: bool
    """Whether this command was changed."""


class ArmFilter:
    """Limits of one arm's commands, with what they depend on from tick to tick. One thread, no clock of its own."""

    def __init__(
        self,
        description: ArmDescription,
        envelope: ArmEnvelope | None = None,
        rate_hz: float = 500.0,
        config: ArmFilterConfig | None = None,
    ) -> None:
        """Prepare; call `reset` before use.

        Args:
            description: The arm.
            envelope: Limits; None: the defaults.
            rate_hz: Rate at which `apply` is called.
            config: Further settings.

        Raises:
            ValueError: The description lacks a limit, or the arm is too close to something at home.
            ImportError: The barrier is asked for and its solver is missing.
        """
        self.description = description
        self.envelope = envelope or ArmEnvelope()
        self.config = config or ArmFilterConfig()
        self.dt = 1.0 / rate_hz
        self.interventions = dict.fromkeys(INTERVENTIONS, 0)
        self.explain = ""
        self._names = description.interface.actuators
        self._joints = joint_envelope(description, self.envelope)
        self._limits = torque_limits(description, self.envelope, self.config.torque)
        self._torque_step = self._joints.torque_rate * self.dt
        self._position_limits = (
            self._joints.lower, self._joints.upper, self._joints.velocity, self._joints.acceleration, self._joints.jerk,
        )  # fmt: skip
        columns = zip(*(values.tolist() for values in self._position_limits), strict=True)
        self._limiters = [JointLimiter(low, high, v, a, j, self.dt) for low, high, v, a, j in columns]
        self._barrier = None
        if self.config.barrier is not None:
            self._barrier = BarrierFilter(description, self.envelope, self.config.barrier)
        self._inertia_ticks = max(1, round(self.config.inertia_period * rate_hz))
        self._coriolis_ticks = max(1, round(self.config.coriolis_period * rate_hz))
        self._inertia = self._inverse = np.eye(description.num_joints)
        self._alone = jerk_limits(self._limits, self._inertia)
        self._coriolis = np.zeros(description.num_joints)
        self._bounds: tuple[np.ndarray, np.ndarray] | None = None
        self._inertia_age, self._coriolis_age = self._inertia_ticks, self._coriolis_ticks
        self._busy = False
        self._none = np.zeros(description.num_joints)
        self._fast = self.config.coriolis_speed * self._joints.velocity
        self._torques = np.zeros(description.num_joints)
        self._kind: type = JointTorques
        self._gripper = 0.0
        self._changed = False
        self._ready = False

    def reset(self, sample: ArmSample, torques: np.ndarray | None = None) -> None:
        """Begin at a measured posture.

        Args:
            sample: Newest, finite.
            torques: Shape (n,), N m, that the robot makes now beside gravity; None: none.

        Raises:
            ValueError: The sample is not finite or has the wrong number of joints.
        """
        if not self._good(sample):
            raise ValueError(
                f"cannot begin at joint angles {sample.joint_positions}: they must be finite, one per joint"
            )
        for limiter, angle in zip(self._limiters, sample.joint_positions.tolist(), strict=True):
            limiter.reset(angle)
        limit = self._joints.torque
        self._torques = np.zeros(len(limit)) if torques is None else np.clip(np.asarray(torques, float), -limit, limit)
        self._inertia_age, self._coriolis_age = self._inertia_ticks, self._coriolis_ticks
        if self._barrier is not None:
            self._barrier.reset()
        self._ready = True

    def apply(
        self, command: JointTorques | JointPositions, sample: ArmSample, now: float, busy: bool = False
    ) -> Filtered:
        """The command that may go to the driver.

        Args:
            command: What controller or policy want.
            sample: Newest one that is believed.
            now: s, on the clock of `sample.stamp`.
            busy: Whether this tick has much to do already: inertia and Coriolis torques are then computed in the next
                one, if their periods allow.

        Raises:
            RuntimeError: `reset` was not called.
        """
        if not self._ready:
            raise RuntimeError("the filter does not know where the arm is; call reset(sample) first")
        self._changed, self._busy = False, busy
        kind = type(command)
        if kind is not JointTorques and kind is not JointPositions:
            self._count("type", f"a command of type {kind.__name__}; the driver takes joint torques or joint angles")
            wanted = None
        else:
            if kind is not self._kind:
                self._switch(kind, sample)
            wanted = self._values(command)
        gripper = self._opening(getattr(command, "gripper", math.nan))
        age = now - sample.stamp if self._good(sample) else math.inf
        if not age >= -1.0:  # a stamp from the future, or none
            age = math.inf
        if self._kind is JointTorques:
            return self._filtered(JointTorques(self._filter_torques(wanted, sample, age), gripper))
        return self._filtered(JointPositions(self._filter_positions(wanted, age), gripper))

    # Torques

    def _filter_torques(self, wanted: np.ndarray | None, sample: ArmSample, age: float) -> np.ndarray:
        limit = self._joints.torque
        self._bounds = None
        if wanted is not None and (np.abs(wanted) > limit).any():
            worst = int(np.argmax(np.abs(wanted) / limit))
            self._count("torque", f"{self._names[worst]}: {wanted[worst]:.1f} N m (limit {limit[worst]:.1f} N m)")
            wanted = np.minimum(np.maximum(wanted, -limit), limit)
        if age >= self.config.torque_fade_age:
            wanted = self._faded(wanted, age)
        else:
            wanted = self._within_joint_limits(wanted, sample)
        # Braking may ask for more than there is.
        wanted = np.minimum(np.maximum(wanted, -limit), limit)
        torques, arrived = approach(wanted, self._torques, self._torque_step)
        if not arrived:
            torques, _ = approach(wanted, self._torques, self._torque_step, self._safe_from(self._torques))
            way = np.abs(wanted - self._torques) / self._torque_step
            worst = int(np.argmax(way))
            self._count(
                "torque_rate",
                f"{self._names[worst]}: {way[worst] * self._joints.torque_rate[worst]:.0f} N m/s "
                f"(limit {self._joints.torque_rate[worst]:.0f} N m/s)",
            )
        self._torques = torques
        return torques.copy()

    def _faded(self, wanted: np.ndarray | None, age: float) -> np.ndarray:
        """A torque computed from an old sample is no control: it fades, and the robot's friction stops the arm."""
        begin, end = self.config.torque_fade_age, self.envelope.state_age[0]
        share = min(1.0, max(0.0, (end - age) / (end - begin)))
        old = "unknown" if math.isinf(age) else f"{1e3 * age:.0f} ms"
        self._count(
            "stale_state", f"the sample's age is {old}: torques fade from {1e3 * begin:.0f} to {1e3 * end:.0f} ms"
        )
        if wanted is None or share == 0.0:
            return np.zeros_like(self._torques)
        return share * wanted

    def _within_joint_limits(self, wanted: np.ndarray | None, sample: ArmSample) -> np.ndarray:
        q, qd = sample.joint_positions, sample.joint_velocities
        self._update_dynamics(q, qd)
        acceleration = -qd / self.config.stop_time if wanted is None else self._inverse @ (wanted - self._coriolis)
        if self._barrier is not None:
            barred = self._barrier.acceleration(acceleration, q, qd, self.dt)
            if barred.changed:
                self._barred(barred)
                if wanted is not None:
                    wanted = wanted + self._inertia @ (barred.values - acceleration)
                acceleration = barred.values
        self._bounds = acceleration_bounds(self._limits, q, qd, acceleration, self._inertia, self._alone)
        kept = within(acceleration, *self._bounds)
        if wanted is None:
            return self._inertia @ kept + self._coriolis
        change = kept - acceleration
        if not change.any():
            return wanted
        worst = int(np.argmax(np.abs(change)))
        self._count(
            "joint_limit",
            f"{self._names[worst]} at {q[worst]:.3f} rad and {qd[worst]:.3f} rad/s: {wanted[worst]:.1f} N m would "
            f"leave {self._limits.lower[worst]:.3f} to {self._limits.upper[worst]:.3f} rad "
            f"or {self._limits.velocity[worst]:.2f} rad/s",
        )
        return wanted + self._inertia @ change

    def _update_dynamics(self, q: np.ndarray, qd: np.ndarray) -> None:
        """Inertia and Coriolis torques, each now and then, and not at the same tick, for they cost time."""
        self._inertia_age += 1
        self._coriolis_age += 1
        # The shorter period has less room to wait.
        if self._due(self._coriolis_age, self._coriolis_ticks):
            fast = bool((np.abs(qd) > self._fast).any())
            self._coriolis = bias_torques(self.description, q, qd, _NO_GRAVITY) if fast else self._none
            self._coriolis_age, self._busy = 0, self._busy or fast
        if self._due(self._inertia_age, self._inertia_ticks):
            self._inertia = mass_matrix(self.description, q)
            self._inverse = np.asarray(np.linalg.inv(self._inertia))
            self._alone = jerk_limits(self._limits, self._inertia)
            self._inertia_age = 0

    def _due(self, age: int, period: int) -> bool:
        """Whether to compute what is `age` ticks old: one tick early if there is time, at its period in any case."""
        return age >= period or (age == period - 1 and not self._busy)

    def _safe_from(self, torques: np.ndarray) -> np.ndarray | None:
        """The torques next to these that keep the bounds of this tick; None if these keep them."""
        if self._bounds is None:
            return None
        acceleration = self._inverse @ (torques - self._coriolis)
        change = within(acceleration, *self._bounds) - acceleration
        if not change.any():
            return None
        safe: np.ndarray = torques + self._inertia @ change
        return np.clip(safe, -self._joints.torque, self._joints.torque)

    # Positions

    def _filter_positions(self, wanted: np.ndarray | None, age: float) -> np.ndarray:
        if not age < self.envelope.state_age[0]:
            old = "unknown" if math.isinf(age) else f"{1e3 * age:.0f} ms"
            self._count("stale_state", f"the sample's age is {old}: positions come to rest")
            wanted = None
        if wanted is None:
            for limiter in self._limiters:
                limiter.stop()
        else:
            if self._barrier is not None:
                wanted = self._barred_positions(wanted)
            limited: dict[str, str] = {}
            for name, limiter, value in zip(self._names, self._limiters, wanted.tolist(), strict=True):
                if limit := limiter.step(value):
                    limited[limit] = f"{name}: {value:.4f} rad asked, {limiter.q:.4f} rad taken (limit of {limit})"
            for limit, sentence in limited.items():
                self._count(limit, sentence)
        return np.array([limiter.q for limiter in self._limiters])

    def _barred_positions(self, wanted: np.ndarray) -> np.ndarray:
        assert self._barrier is not None
        q = np.array([limiter.q for limiter in self._limiters])
        velocity = self._joints.velocity
        barred = self._barrier.velocity(np.clip((wanted - q) / self.dt, -velocity, velocity), q)
        if not barred.changed:
            return wanted
        self._barred(barred)
        return q + barred.values * self.dt

    def _barred(self, barred: Barred) -> None:
        self._count("barrier" if barred.feasible else "no_way", barred.explain)

    # Details

    def _switch(self, kind: type, sample: ArmSample) -> None:
        """Torques after positions, or the other way round: begin where the arm is, not where it was left."""
        if kind is JointPositions and self._good(sample):
            for limiter, angle in zip(self._limiters, sample.joint_positions.tolist(), strict=True):
                limiter.reset(angle)
        self._torques = np.zeros_like(self._torques)
        self._kind = kind

    def _values(self, command: JointTorques | JointPositions) -> np.ndarray | None:
        """Values of a command that is one, else None."""
        try:
            values = np.asarray(command.values, dtype=np.float64)
        except (TypeError, ValueError):
            self._count("shape", f"values are a {type(command.values).__name__}; expected {len(self._names)} numbers")
            return None
        if values.shape != (len(self._names),):
            self._count("shape", f"{values.size} values for {len(self._names)} joints")
            return None
        finite = np.isfinite(values)
        if not finite.all():
            worst = int(np.argmin(finite))
            self._count("not_finite", f"{self._names[worst]}: {values[worst]}")
            return None
        return values

    def _opening(self, gripper: object) -> float:
        """Opening in [-1, 1] of the gripper, the last one if this is none."""
        try:
            opening = float(np.asarray(gripper, dtype=np.float64).reshape(()))
        except (TypeError, ValueError):
            opening = math.nan
        if not -1.0 <= opening <= 1.0:
            self._count("gripper", f"opening {gripper} (limits -1 to 1)")
            opening = self._gripper if math.isnan(opening) else min(max(opening, -1.0), 1.0)
        self._gripper = opening
        return opening

    def _good(self, sample: ArmSample) -> bool:
        """Whether the joints' state can be reckoned with."""
        q, qd = sample.joint_positions, sample.joint_velocities
        shape = self._torques.shape
        # What is not a number compares as false; a large one is no measurement.
        good: bool = q.shape == shape and qd.shape == shape and np.abs(q).max() < _ABSURD and np.abs(qd).max() < _ABSURD
        return bool(good)

    def _count(self, name: str, sentence: str) -> None:
        self.interventions[name] += 1
        self.explain = f"{name}: {sentence}"
        self._changed = True

    def _filtered(self, command: JointTorques | JointPositions) -> Filtered:
        return Filtered(command, self.interventions, self.explain, self._changed)
