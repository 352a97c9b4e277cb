"""Joint positions whose differences keep the limits: velocity, acceleration and jerk, sample by sample.

One joint in discrete time, with v = Δq / dt, a = Δv / dt and |Δa / dt| ≤ jerk, so that what leaves can be checked by
taking differences. A wanted position is taken as it is if it keeps the limits and leaves a way to stop before the
position limits. If not, the joint goes for it as fast as the limits allow (nested time-optimal steps; Han, "From PID
to active disturbance rejection control", 2009), and where even that leaves no way to stop, it brakes. Since a way to
stop is left at every step, the limits hold for any sequence of wanted positions.
"""

from __future__ import annotations

import math

_SHARE = 0.8
"""Of acceleration and jerk with which stopping distances are reckoned: the rest is for the discrete steps."""
_ROUNDING = 1.0 + 1e-6
"""By which differences of a trajectory at its limits exceed them."""


def towards(distance: float, speed_limit: float, step: float, dt: float) -> float:
    """Largest signed speed from which braking in equal steps still ends at `distance`; at most `speed_limit`."""
    size = abs(distance)
    count = max(1.0, math.ceil(0.5 * math.sqrt(1.0 + 8.0 * size / (dt * step)) - 0.5))
    speed = min(size / (count * dt) + 0.5 * (count - 1.0) * step, speed_limit)
    return math.copysign(speed, distance)


def stopping_distance(v: float, a: float, acceleration: float, jerk: float) -> float:
    """How far a joint goes on in the positive direction at velocity `v` and acceleration `a` if it brakes."""
    before = 0.0
    if a > 0.0:
        # First the acceleration is taken back.
        time = a / jerk
        reached = v + 0.5 * a * time
        if reached <= 0.0:
            return 0.0
        before, v, a = max(0.0, v * time + a * time * time / 3.0), reached, 0.0
    elif v <= 0.0:
        return 0.0
    if 2.0 * jerk * v <= a * a:
        # Brakes harder than it needs: it stops while the braking is being taken back.
        time = (-a - math.sqrt(max(0.0, a * a - 2.0 * jerk * v))) / jerk
        return v * time + 0.5 * a * time * time + jerk * time**3 / 6.0
    # As if the braking had begun earlier, from a steady velocity.
    time = -a / jerk
    v += 0.5 * jerk * time * time
    begun = v * time - jerk * time**3 / 6.0
    if v * jerk >= acceleration * acceleration:
        whole = 0.5 * v * (v / acceleration + acceleration / jerk)
    else:
        whole = v * math.sqrt(v / jerk)
    return before + max(0.0, whole - begun)


class JointLimiter:
    """Position, velocity and acceleration of one joint's output, and its limits."""

    def __init__(
        self, lower: float, upper: float, velocity: float, acceleration: float, jerk: float, dt: float
    ) -> None:
        """Prepare; call `reset` before use. Limits in rad, rad/s, rad/s², rad/s³; `dt` s between steps."""
        self.dt = dt
        self.range = (lower, upper)
        self.velocity, self.acceleration, self.jerk = velocity, acceleration, jerk
        self._lower, self._upper = lower, upper
        self.reset(0.5 * (lower + upper))

    def reset(self, q: float) -> None:
        """Rest at `q` rad; beyond a limit the joint may only come back."""
        self.q, self.v, self.a = q, 0.0, 0.0
        self._lower, self._upper = min(self.range[0], q), max(self.range[1], q)

    def step(self, wanted: float) -> str:
        """Go on to `q` for a finite wanted position, rad; returns the limit that changed it, or an empty string."""
        dt = self.dt
        v = (wanted - self.q) / dt
        a = (v - self.v) / dt
        reason = self._broken(wanted, v, a)
        if not reason:
            self._take(wanted, v, a)
            return ""
        if not self._try(self._goal(min(max(wanted, self.range[0]), self.range[1]) - self.q)):
            self._brake()
        return reason

    def stop(self) -> None:
        """Go on to rest, as fast as the limits allow."""
        self._brake()

    def _goal(self, way: float) -> float:
        """Velocity with which to go `way` rad: the least of what acceleration, jerk and the last piece allow."""
        acceleration, jerk, dt = _SHARE * _SHARE * self.acceleration, _SHARE * _SHARE * self.jerk, self.dt
        # The present acceleration is taken back on the way: the steps in velocity do not see that.
        way -= 0.5 * self.v * abs(self.a) / self.jerk
        goal = towards(way, self.velocity, acceleration * dt, dt)
        size, rise = abs(way), acceleration / jerk
        whole = 0.5 * acceleration * (math.sqrt(rise * rise + 8.0 * size / acceleration) - rise)
        short = (size * size * jerk) ** (1.0 / 3.0)
        last = size / max(2.0 * rise, 4.0 * dt)
        return math.copysign(min(abs(goal), max(whole, 0.0) if whole > acceleration * rise else short, last), way)

    def _broken(self, q: float, v: float, a: float) -> str:
        """The first limit that a next state breaks, with room for rounding of differences."""
        if not self._lower <= q <= self._upper:
            return "position"
        if abs(v) > _ROUNDING * self.velocity:
            return "velocity"
        if abs(a) > _ROUNDING * self.acceleration:
            return "acceleration"
        if abs(a - self.a) > _ROUNDING * self.jerk * self.dt:
            return "jerk"
        if abs(v + 0.5 * a * abs(a) / self.jerk) > _ROUNDING * self.velocity:
            return "velocity"
        return "" if self._can_stop(q, v, a) else "position"

    def _can_stop(self, q: float, v: float, a: float) -> bool:
        acceleration, jerk = _SHARE * self.acceleration, _SHARE * self.jerk
        slack = 1.5 * self.dt * v
        return (
            q + max(slack, 0.0) + stopping_distance(v, a, acceleration, jerk) <= self._upper
            and q + min(slack, 0.0) - stopping_distance(-v, -a, acceleration, jerk) >= self._lower
        )

    def _try(self, goal: float) -> bool:
        """Approach a velocity, if a way to stop is left then."""
        a = self._towards_velocity(goal)
        v = self.v + a * self.dt
        q = self.q + v * self.dt
        if not (self._lower <= q <= self._upper and self._can_stop(q, v, a)):
            return False
        self._take(q, v, a)
        return True

    def _brake(self) -> None:
        a = self._towards_velocity(0.0)
        v = self.v + a * self.dt
        self._take(self.q + v * self.dt, v, a)

    def _towards_velocity(self, goal: float) -> float:
        step = self.jerk * self.dt
        a = towards(goal - self.v, self.acceleration, step, self.dt)
        return min(max(a, self.a - step), self.a + step)

    def _take(self, q: float, v: float, a: float) -> None:
        self.q, self.v, self.a = q, v, a
        # Once back within a limit, that limit holds.
        if self._lower < self.range[0]:
            self._lower = min(max(self._lower, q if self.v >= 0.0 else self._lower), self.range[0])
        if self._upper > self.range[1]:
            self._upper = max(min(self._upper, q if self.v <= 0.0 else self._upper), self.range[1])
