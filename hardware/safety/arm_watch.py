"""What is watched of an arm beside its inputs: contact forces, distances, and rules in signal temporal logic."""

from __future__ import annotations

import math

import numpy as np

from hardware.controllers.joint_position import symmetric_limit
from hardware.descriptions.arm import ArmDescription
from hardware.drivers.driver import ArmSample
from hardware.safety.arm_envelope import ArmEnvelope
from hardware.safety.arm_shape import ArmShape
from hardware.safety.rules import RuleMonitor

SIGNALS = (
    "joint_speed", "tool_speed", "tool_x", "tool_y", "tool_z", "clearance", "force", "moment", "torque", "command_age",
    "state_age",
)  # fmt: skip
"""What rules may name. `joint_speed` and `torque` are the largest shares of the joints' limits; `tool_speed` m/s;
`tool_x` … m in the base frame; `clearance` m, the smallest distance less its margin; `force` N and `moment` N m on
the tool; ages s. What the robot does not measure is not a number, and a rule that needs it cannot be judged: it is
broken."""
_ROUNDING = 1e-9
"""m."""


class ArmWatch:
    """Looks at samples; one thread, no clock of its own."""

    def __init__(
        self, description: ArmDescription, envelope: ArmEnvelope, rate_hz: float, distance_rate_hz: float = 100.0
    ) -> None:
        """Prepare.

        Args:
            description: The arm.
            envelope: Limits.
            rate_hz: Rate of `look`.
            distance_rate_hz: Rate at which distances are looked at: they take the most time, and the envelope's
                `stopping_time` foresees more than a period. Those that were large the last time they were computed,
                and cannot have become small by how the joints have turned since, are not computed anew.

        Raises:
            ValueError: A rule cannot be read, or the arm is too close to something at home.
        """
        self.shape = ArmShape(description, envelope)
        self.counters = {name: 0 for name in ("contact", "distance", *(f"rule_{rule.name}" for rule in envelope.rules))}
        self.looked = False
        """Whether the newest look was at distances too: a tick in which other work can wait."""
        self._envelope = envelope
        self._monitor = RuleMonitor(envelope.rules, SIGNALS, rate_hz)
        self._velocity = symmetric_limit(description, "velocity")
        self._torque = symmetric_limit(description, "torque")
        self._every = max(1, round(rate_hz / distance_rate_hz))
        self._tick = 0
        self._contact_since = self._fault_since = math.inf
        self._clearance = math.nan
        self._values = self.shape.closest(description.home).values
        self._measured_at = np.tile(description.home, (len(self._values), 1))
        """Newest distances (m,), m, and the joint angles (m, n) of each, rad."""
        self._tool = np.full(3, math.nan)
        self._tool_jacobian = np.zeros((3, description.num_joints))

    def reset(self) -> None:
        """Look at what is to come only."""
        self._contact_since = self._fault_since = math.inf
        self._tick = 0
        self._monitor.reset()

    def look(self, sample: ArmSample, state_age: float, command_age: float) -> tuple[str, str] | None:
        """Look at the newest sample, at every tick.

        Returns:
            What to do, `hold`, `fault` or `brake`, and why; the gravest if there are several; None if all is well.
        """
        found = [self._contact(sample), self._distances(sample), self._rules(sample, state_age, command_age)]
        grave = {"hold": 0, "fault": 1, "brake": 2}
        return max((each for each in found if each is not None), key=lambda each: grave[each[0]], default=None)

    def _contact(self, sample: ArmSample) -> tuple[str, str] | None:
        if sample.wrench is None:
            return None
        x, y, z, a, b, c = sample.wrench.tolist()
        force, moment = math.sqrt(x * x + y * y + z * z), math.sqrt(a * a + b * b + c * c)
        envelope = self._envelope
        share = max(force / envelope.contact_force, moment / envelope.contact_torque)
        self._contact_since = min(self._contact_since, sample.stamp) if share > 1.0 else math.inf
        self._fault_since = min(self._fault_since, sample.stamp) if share > envelope.contact_fault else math.inf
        if sample.stamp - self._contact_since < envelope.contact_time:
            return None
        if sample.stamp - self._fault_since >= envelope.contact_time:
            return self._found(
                "contact", "fault", f"contact of {force:.0f} N, {moment:.1f} N m", envelope.contact_fault
            )
        return self._found("contact", "hold", f"contact of {force:.0f} N, {moment:.1f} N m", 1.0)

    def _found(self, name: str, reaction: str, what: str, scale: float) -> tuple[str, str]:
        self.counters[name] += 1
        force, moment = scale * self._envelope.contact_force, scale * self._envelope.contact_torque
        return reaction, f"{what} on the tool (limits {force:g} N, {moment:g} N m)"

    def _distances(self, sample: ArmSample) -> tuple[str, str] | None:
        self._tick += 1
        self.looked = (self._tick - 1) % self._every == 0
        if not self.looked:
            return None
        q, qd = sample.joint_positions, sample.joint_velocities
        # As far as any distance may fall until the arm stands, and what may be left of it.
        fall = self._envelope.stopping_time * np.abs(qd)
        if self._monitor.rules:
            closest = self.shape.closest(q)
            self._clearance = float(closest.values.min())
            self._tool, self._tool_jacobian = closest.tool[:3], self.shape.tool_jacobian(closest)
        else:
            parts = self._in_doubt(np.abs(q - self._measured_at) + fall)
            if not parts:
                return None
            closest = self.shape.closest(q, parts)
        rows = closest.rows
        self._values[rows], self._measured_at[rows] = closest.values, q
        near = np.flatnonzero(~(closest.values - self.shape.reach[rows] @ fall > _ROUNDING))
        if not near.size:
            return None
        values, rates = closest.values[near], self.shape.jacobian(closest, near) @ qd
        foreseen = values + self._envelope.stopping_time * np.minimum(rates, 0.0)
        # What is too close already may move away, or rest: only coming closer is stopped.
        bad = (foreseen < 0.0) & (rates < -1e-3)
        if not bad.any():
            return None
        self.counters["distance"] += 1
        worst = int(np.argmin(np.where(bad, foreseen, math.inf)))
        return "hold", (
            f"{self.shape.names[rows[near[worst]]]}: {1e3 * values[worst]:.0f} mm left of the margin, "
            f"coming closer at {-rates[worst]:.2f} m/s"
        )

    def _in_doubt(self, turned: np.ndarray) -> list[int]:
        """Parts of the shape in which a distance may have fallen to nothing, had joints turned by (m, n) rad."""
        left = self._values - np.einsum("ij,ij->i", self.shape.reach, turned)
        doubtful = ~(left > _ROUNDING)
        return [part for part, rows in enumerate(self.shape.parts) if len(rows) and doubtful[rows].any()]

    def _rules(self, sample: ArmSample, state_age: float, command_age: float) -> tuple[str, str] | None:
        if not self._monitor.rules:
            return None
        torques, wrench = sample.joint_torques, sample.wrench
        x, y, z = self._tool.tolist()
        verdict = self._monitor.update({
            "joint_speed": float(np.max(np.abs(sample.joint_velocities) / self._velocity)),
            "tool_speed": float(np.linalg.norm(self._tool_jacobian @ sample.joint_velocities)),
            "tool_x": x, "tool_y": y, "tool_z": z,
            "clearance": self._clearance,
            "force": math.nan if wrench is None else float(np.linalg.norm(wrench[:3])),
            "moment": math.nan if wrench is None else float(np.linalg.norm(wrench[3:])),
            "torque": math.nan if torques is None else float(np.max(np.abs(torques) / self._torque)),
            "state_age": min(state_age, 1e6), "command_age": min(command_age, 1e6),
        })  # fmt: skip
        if verdict is None:
            return None
        self.counters[f"rule_{verdict.rule.name}"] += 1
        return verdict.rule.reaction, verdict.explain
