"""From joint position targets to references that keep limits of velocity, acceleration and jerk.

`JointInterpolator` is for one robot: time-optimal trajectories of Ruckig (Berscheid and Kröger, "Jerk-limited
real-time trajectory generation with arbitrary target states", 2021), all joints arriving together.

`BatchInterpolator` is for simulation, vectorized over environments and joints, which arrive each in its own time:

1. The time-optimal velocity- and acceleration-limited step in discrete time (Han, "From PID to active disturbance
   rejection control", 2009, the function `fhan` with an unsmoothed velocity): the largest velocity from which the
   joint can still stop on the target, with the exact sum of the braking steps, so that it neither overshoots nor
   chatters.
2. A moving average (Biagiotti and Melchiorri, "FIR filters for online trajectory planning", 2012). It keeps every
   bound on position, velocity and acceleration, being a mean, and makes the acceleration change by at most
   2 a_max / T per second over a window T: with T >= 2 a_max / j_max the jerk limit holds for any sequence of targets.

Both take a new target at any time without a jump, and go beyond a target only where they are too fast to stop on it;
they stop no further than they were going to before, thus within the position limits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device

from hardware.descriptions.arm import ArmDescription
from policies.types import Array


@dataclass(frozen=True, kw_only=True, eq=False)
class JointLimits:
    """Limits of n joints; those of velocity, acceleration and jerk hold in both directions."""

    lower: np.ndarray
    """Shape (n,), rad."""
    upper: np.ndarray
    """Shape (n,), rad."""
    velocity: np.ndarray
    """Shape (n,), rad/s."""
    acceleration: np.ndarray
    """Shape (n,), rad/s²."""
    jerk: np.ndarray
    """Shape (n,), rad/s³."""


def symmetric_limit(description: ArmDescription, quantity: str) -> np.ndarray:
    """Limit (n,) of `quantity` that holds in both directions.

    Raises:
        ValueError: The description lacks this limit.
    """
    limits = description.interface.limits
    if quantity not in limits:
        raise ValueError(
            f"robot {description.interface.name!r} has no limit of {quantity!r}; its description gives "
            f"{', '.join(limits)}"
        )
    return np.min(np.abs(np.array(limits[quantity], dtype=np.float64)), axis=-1)


def joint_limits(description: ArmDescription, margin: float = 0.01, fraction: float = 1.0) -> JointLimits:
    """Limits of a description.

    Args:
        description: The arm.
        margin: rad that references keep from the position limits.
        fraction: Share of the limits of velocity, acceleration and jerk to use.
    """
    if not 0.0 < fraction <= 1.0:
        raise ValueError(f"fraction of the limits is {fraction}; it must be above 0 and at most 1")
    lower, upper = np.array(description.interface.limits["position"], dtype=np.float64).T
    if np.any(lower + margin >= upper - margin):
        raise ValueError(f"margin {margin} rad leaves no range between the position limits {lower} and {upper} rad")
    return JointLimits(
        lower=lower + margin,
        upper=upper - margin,
        velocity=fraction * symmetric_limit(description, "velocity"),
        acceleration=fraction * symmetric_limit(description, "acceleration"),
        jerk=fraction * symmetric_limit(description, "jerk"),
    )


class JointInterpolator:
    """Reference of one robot's joints, time-optimal within the limits; needs `ruckig`."""

    def __init__(self, limits: JointLimits) -> None:
        """Prepare; call `reset` before use.

        Raises:
            ImportError: `ruckig` is missing.
        """
        try:
            import ruckig
        except ImportError as error:
            raise ImportError(
                "jerk-limited interpolation needs the package 'ruckig'; install it: pip install 'robot_rl[arm]'"
            ) from error
        self.limits = limits
        self._ruckig: Any = ruckig
        count = len(limits.lower)
        self._generator = ruckig.Ruckig(count, 1e-3)
        self._input = ruckig.InputParameter(count)
        self._output = ruckig.OutputParameter(count)
        self._input.synchronization = ruckig.Synchronization.Phase
        self._input.max_velocity = limits.velocity.tolist()
        self._input.max_acceleration = limits.acceleration.tolist()
        self._input.max_jerk = limits.jerk.tolist()

    def reset(self, q: np.ndarray) -> None:
        """Rest at `q` (n,) rad, which is also the target, as far as it is within the position limits."""
        q = self._finite(q)
        zeros = [0.0] * len(q)
        self._generator.reset()
        self._input.current_position = q.tolist()
        self._input.current_velocity = zeros
        self._input.current_acceleration = zeros
        self.set_target(q)

    def set_target(self, q: np.ndarray) -> np.ndarray:
        """Go to `q` (n,) rad from the present reference, at any time.

        Returns:
            The target that was taken: `q` clipped to the position limits.

        Raises:
            ValueError: `q` has the wrong shape or is not finite; the target before stays.
        """
        target: np.ndarray = np.clip(self._finite(q), self.limits.lower, self.limits.upper)
        self._input.target_position = target.tolist()
        return target

    def step(self, dt: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Reference after `dt` s: position (n,) rad, velocity rad/s and acceleration rad/s².

        Raises:
            RuntimeError: Ruckig finds no trajectory; the reference is unchanged.
        """
        self._generator.delta_time = dt
        result = self._generator.update(self._input, self._output)
        if result not in (self._ruckig.Result.Working, self._ruckig.Result.Finished):
            raise RuntimeError(f"ruckig found no trajectory ({result}) for {self._input}")
        self._output.pass_to_input(self._input)
        new = self._output
        return np.array(new.new_position), np.array(new.new_velocity), np.array(new.new_acceleration)

    def _finite(self, q: np.ndarray) -> np.ndarray:
        q = np.asarray(q, dtype=np.float64)
        if q.shape != self.limits.lower.shape or not np.all(np.isfinite(q)):
            raise ValueError(f"joint positions {q} must be finite and of shape {self.limits.lower.shape}")
        return q


class BatchInterpolator:
    """References of a batch of arms within the limits; see the module's docstring for the method."""

    def __init__(self, limits: JointLimits, dt: float, like: Array) -> None:
        """Prepare; call `reset` before use.

        Args:
            limits: Limits of all arms.
            dt: s between calls of `step`.
            like: Any array of the batch's kind, type and device.
        """
        xp = self._xp = array_namespace(like)
        if dt <= 0.0:
            raise ValueError(f"dt is {dt} s; it must be positive")

        def array(value: np.ndarray) -> Array:
            return xp.asarray(value, dtype=like.dtype, device=device(like))

        self.dt = dt
        self.window = max(1, math.ceil(float(np.max(2.0 * limits.acceleration / limits.jerk)) / dt - 1e-9))
        """Samples of the moving average; the largest that any joint needs."""
        self._lower, self._upper = array(limits.lower), array(limits.upper)
        self._velocity, self._step = array(limits.velocity), array(limits.acceleration * dt)

    def reset(self, q: Array, mask: Array | None = None) -> None:
        """Rest at `q` (..., n) rad, which is also the target, where `mask` (...) is true or everywhere."""
        xp = self._xp
        target = self._clip(q)
        if mask is None:
            self._target, self._q, self._v = target, xp.asarray(q, copy=True), xp.zeros_like(q)
            # Raw positions and velocities of the last `window` samples, the oldest at `_next`.
            self._positions = [self._q] * self.window
            self._velocities = [self._v] * self.window
            self._next, self._sum = 0, self.window * self._q
            return
        inside = mask[..., None]
        self._target = xp.where(inside, target, self._target)
        self._q = xp.where(inside, q, self._q)
        self._v = xp.where(inside, xp.zeros_like(q), self._v)
        self._positions = [xp.where(inside, q, old) for old in self._positions]
        self._velocities = [xp.where(inside, xp.zeros_like(q), old) for old in self._velocities]
        self._sum = xp.where(inside, self.window * q, self._sum)

    def set_target(self, q: Array) -> Array:
        """Go to `q` (..., n) rad, clipped to the position limits; joints that are not finite keep their target.

        Returns:
            Shape (..., n), the targets that were taken.
        """
        xp = self._xp
        self._target = xp.where(xp.isfinite(q), self._clip(q), self._target)
        return self._target

    def step(self) -> tuple[Array, Array, Array]:
        """References after `dt` s: positions (..., n) rad, velocities rad/s and accelerations rad/s²."""
        xp, dt, step = self._xp, self.dt, self._step
        error = self._target - self._q
        distance = xp.abs(error)
        # Braking in k equal steps from velocity v covers dt (v + (v - step) + … ), k the least number that suffices.
        k = xp.ceil(0.5 * xp.sqrt(1.0 + (8.0 / dt) * distance / step) - 0.5)
        k = xp.maximum(k, xp.ones_like(k))
        speed = xp.minimum(distance / (k * dt) + 0.5 * (k - 1.0) * step, self._velocity)
        wanted = xp.sign(error) * speed
        v = xp.minimum(xp.maximum(wanted, self._v - step), self._v + step)
        q = self._q + v * dt
        return self._average(q, v)

    def _average(self, q: Array, v: Array) -> tuple[Array, Array, Array]:
        oldest_q, oldest_v = self._positions[self._next], self._velocities[self._next]
        self._positions[self._next], self._velocities[self._next] = q, v
        self._q, self._v = q, v
        self._next = (self._next + 1) % self.window
        if self._next == 0 or self.window <= 4:
            # Summed anew now and then, so that rounding does not accumulate.
            self._sum = sum(self._positions[1:], self._positions[0])
        else:
            self._sum = self._sum + (q - oldest_q)
        span = self.window * self.dt
        return self._sum / self.window, (q - oldest_q) / span, (v - oldest_v) / span

    def _clip(self, q: Array) -> Array:
        return self._xp.minimum(self._xp.maximum(q, self._lower), self._upper)
