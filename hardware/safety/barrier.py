"""Control-barrier filter: the smallest change of a joint motion that keeps every distance and joint limit.

For velocities, and thus for position commands, with h a distance less its margin or the way to a joint limit (Ames et
al., "Control barrier functions: theory and applications", 2019):

    minimize |v - v_wanted|²    subject to    J v ≥ -α h,   lower ≤ v ≤ upper

For accelerations, and thus for torques, with both poles at p (Nguyen and Sreenath, "Exponential control barrier
functions", 2016):

    minimize |a - a_wanted|²    subject to    J a + J̇ q̇ ≥ -2 p J q̇ - p² h

J̇ q̇ comes from the Jacobian's change since the last call. What keeps all conditions passes unchanged, without the
solver. The quadratic program has as many unknowns as joints and is solved by DAQP (Arnström, Bemporad and Axehill, "A
dual active-set solver for embedded quadratic programming using recursive LDLᵀ updates", 2022).
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from hardware.descriptions.arm import ArmDescription
from hardware.safety.arm_envelope import ArmEnvelope, joint_envelope
from hardware.safety.arm_shape import ArmShape


@dataclass(frozen=True, kw_only=True)
class BarrierConfig:
    """How fast limits may be approached."""

    rate: float = 5.0
    """1/s, α: a distance may shrink by this share of itself per second."""
    pole: float = 3.0
    """1/s, p, of accelerations: a distance may shrink by p times itself per second, and what stops it grows with p². A
    higher one leaves more room, and asks for more than the joints' torques can brake."""
    reach: float = 0.8
    """m: distances beyond do not limit accelerations. At p times this speed, something from beyond meets the limit."""
    tolerance: float = 1e-9
    """Of the conditions, m/s or m/s²: rounding."""
    stop_time: float = 0.1
    """s, time constant of braking where no acceleration keeps all conditions."""


@dataclass(frozen=True, eq=False)
class Barred:
    """A motion that keeps the conditions."""

    values: np.ndarray
    """Shape (n,), rad/s or rad/s²; the very array that was wanted, if it was not changed."""
    changed: bool
    """Whether it was changed."""
    feasible: bool
    """False: nothing keeps all conditions, and the values brake the arm."""
    explain: str
    """What changed it, in words; empty if nothing did."""


class BarrierFilter:
    """Conditions of one arm; keeps only the Jacobian of the last call."""

    def __init__(self, description: ArmDescription, envelope: ArmEnvelope, config: BarrierConfig | None = None) -> None:
        """Prepare.

        Raises:
            ImportError: `daqp` is missing.
            ValueError: At home the arm is too close to something.
        """
        try:
            daqp: Any = importlib.import_module("daqp")
        except ImportError as error:
            raise ImportError(
                "the control-barrier filter needs the package 'daqp'; install it: pip install 'robot_rl[arm]'"
            ) from error
        self._solve: Any = daqp.solve
        self.config = config or BarrierConfig()
        self.shape = ArmShape(description, envelope)
        self.limits = joint_envelope(description, envelope)
        self._names = description.interface.actuators
        self._identity = np.eye(description.num_joints)
        self._jacobian: np.ndarray | None = None

    def reset(self) -> None:
        """Forget the last call."""
        self._jacobian = None

    def velocity(self, wanted: np.ndarray, q: np.ndarray) -> Barred:
        """Velocity nearest to `wanted` (n,) rad/s at joint angles `q` (n,) rad that keeps the conditions."""
        limits, rate = self.limits, self.config.rate
        lower = np.maximum(-limits.velocity, -rate * (q - limits.lower))
        upper = np.minimum(limits.velocity, rate * (limits.upper - q))
        # Beyond a limit it comes back, at most at the joint's velocity.
        lower, upper = np.minimum(lower, limits.velocity), np.maximum(upper, -limits.velocity)
        distances = self.shape.distances(q)
        # Only what the joints' velocities could bring too close.
        near = np.flatnonzero(rate * distances.values < np.abs(distances.jacobian) @ limits.velocity)
        return self._nearest(
            wanted, lower, upper, distances.jacobian[near], -rate * distances.values[near], near, np.zeros_like(wanted)
        )

    def acceleration(self, wanted: np.ndarray, q: np.ndarray, qd: np.ndarray, dt: float) -> Barred:
        """Acceleration nearest to `wanted` (n,) rad/s² that keeps the conditions.

        Args:
            wanted: Shape (n,), rad/s².
            q: Shape (n,), rad.
            qd: Shape (n,), rad/s.
            dt: s since the last call.
        """
        limits, pole = self.limits, self.config.pole
        lower = -2.0 * pole * qd - pole * pole * (q - limits.lower)
        upper = -2.0 * pole * qd + pole * pole * (limits.upper - q)
        lower, upper = np.minimum(lower, limits.acceleration), np.maximum(upper, -limits.acceleration)
        distances = self.shape.distances(q)
        drift = np.zeros(len(distances.values))
        if self._jacobian is not None:
            drift = (distances.jacobian - self._jacobian) @ qd / dt
        self._jacobian = distances.jacobian
        near = np.flatnonzero(distances.values < self.config.reach)
        jacobian = distances.jacobian[near]
        least = -2.0 * pole * (jacobian @ qd) - pole * pole * distances.values[near] - drift[near]
        return self._nearest(wanted, lower, upper, jacobian, least, near, -qd / self.config.stop_time)

    def _nearest(
        self,
        wanted: np.ndarray,
        lower: np.ndarray,
        upper: np.ndarray,
        jacobian: np.ndarray,
        least: np.ndarray,
        rows: np.ndarray,
        stop: np.ndarray,
    ) -> Barred:
        slack = jacobian @ wanted - least
        tolerance = self.config.tolerance
        if (slack >= -tolerance).all() and (wanted >= lower - tolerance).all() and (wanted <= upper + tolerance).all():
            return Barred(wanted, False, True, "")
        low = np.concatenate([lower, least])
        high = np.concatenate([upper, np.full(len(least), 1e30)])
        solved, _, status, _ = self._solve(self._identity, -wanted, np.ascontiguousarray(jacobian), high, low)
        explain = self._explain(wanted, lower, upper, slack, rows)
        if status < 1 or not np.isfinite(solved).all():
            return Barred(stop, True, False, f"nothing keeps all conditions, the arm brakes: {explain}")
        return Barred(np.asarray(solved), True, True, explain)

    def _explain(
        self, wanted: np.ndarray, lower: np.ndarray, upper: np.ndarray, slack: np.ndarray, rows: np.ndarray
    ) -> str:
        if len(slack) and slack.min() < 0.0:
            return f"{self.shape.names[rows[int(np.argmin(slack))]]} would come too close"
        worst = int(np.argmax(np.maximum(wanted - upper, lower - wanted)))
        return f"{self._names[worst]} would leave its limits"
