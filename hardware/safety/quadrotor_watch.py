"""What is watched of a quadrotor beside its inputs: tumbling, the geofence, and rules in signal temporal logic."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hardware.safety.arm_envelope import Rule
from hardware.safety.rules import RuleMonitor, Verdict
from policies import rotation
from policies.manifest import Envelope
from policies.types import QuadrotorState

SIGNALS = ("x", "y", "z", "height", "speed", "climb", "tilt", "rate", "fence", "motor", "command_age", "state_age")
"""What rules may name: `x`, `y`, `z` m in the odometry's frame, `height` m above the ground, `speed` m/s and its upward
part `climb`, `tilt` rad, `rate` rad/s of the body, `fence` m to the nearest face of the geofence, below 0 outside,
`motor` the largest share of a rotor's highest speed that the policy wants, ages s."""


class QuadrotorWatch:
    """Looks at states; one vehicle, one thread, no clock of its own."""

    def __init__(
        self, envelope: Envelope, rules: Sequence[Rule], rate_hz: float, max_speed: float, ground_height: float
    ) -> None:
        """Prepare.

        Args:
            envelope: Limits.
            rules: What has to hold while the vehicle is armed.
            rate_hz: Rate at which rules are judged; `rules` may be called more often.
            max_speed: rad/s of a rotor.
            ground_height: m, z of the vehicle on the ground.

        Raises:
            ValueError: A rule cannot be read.
        """
        self.counters = {f"rule_{rule.name}": 0 for rule in rules}
        """How often each rule was broken, by its name."""
        self._envelope, self._max_speed, self._ground = envelope, max_speed, ground_height
        self._geofence = np.asarray(envelope.geofence, dtype=np.float64)
        self._monitor = RuleMonitor(rules, SIGNALS, rate_hz)
        self._has_rules = bool(rules)
        self._period = 1.0 / rate_hz
        self._next = -math.inf
        self._broken = ""
        self._tilted_since = math.inf

    def reset(self) -> None:
        """Judge rules by what is to come only."""
        self._monitor.reset()
        self._next, self._broken = -math.inf, ""

    def forget(self) -> None:
        """As if nothing had been seen yet."""
        self.reset()
        self._tilted_since = math.inf

    def see_tilt(self, orientation: np.ndarray, stamp: float) -> None:
        """Note the attitude (4,) at `stamp` s."""
        tilted = float(rotation.tilt_of(orientation)) > self._envelope.max_tilt
        self._tilted_since = min(self._tilted_since, stamp) if tilted else math.inf

    def tumble(self, seen: float) -> str:
        """Whether it has been tilted for too long by `seen` s, the newest attitude's stamp; in words, or ""."""
        if seen - self._tilted_since < self._envelope.tumble_time:
            return ""
        limit = math.degrees(self._envelope.max_tilt)
        return f"tumble: tilted beyond {limit:.0f}° for {self._envelope.tumble_time:g} s"

    def outside(self, position: np.ndarray) -> str:
        """How a position (3,) leaves the geofence, in words, or an empty string."""
        for axis, value, (lower, upper) in zip("xyz", position, self._envelope.geofence, strict=True):
            if not lower <= value <= upper:
                return f"outside the geofence: {axis} = {value:.2f} m, allowed {lower:g} to {upper:g} m"
        return ""

    def rules(
        self, now: float, state: QuadrotorState, state_age: float, command_age: float, command: np.ndarray
    ) -> Verdict | None:
        """The rule that is broken now, or None; judged once per period, on the newest believed state."""
        if not self._has_rules or now < self._next - 0.5 * self._period:
            return None
        self._next = now + self._period if math.isinf(self._next) else max(self._next + self._period, now)
        position, velocity = state.position, state.linear_velocity
        inside = np.minimum(position - self._geofence[:, 0], self._geofence[:, 1] - position)
        verdict = self._monitor.update({
            "x": float(position[0]), "y": float(position[1]), "z": float(position[2]),
            "height": float(position[2]) - self._ground,
            "speed": float(np.linalg.norm(velocity)), "climb": float(velocity[2]),
            "tilt": float(rotation.tilt_of(state.orientation)),
            "rate": float(np.linalg.norm(state.angular_velocity)),
            "fence": float(np.min(inside)),
            "motor": float(np.max(command)) / self._max_speed,
            "command_age": command_age, "state_age": state_age,
        })  # fmt: skip
        name = "" if verdict is None else verdict.rule.name
        if name and name != self._broken:
            self.counters[f"rule_{name}"] += 1
        self._broken = name
        return verdict
