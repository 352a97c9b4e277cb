"""Parallel gripper: from a command in [-1, 1] to a width that moves at the gripper's speed, with a bounded force.

Array API, leading batch axes ``...``; -1 is closed, 1 is open.
"""

from __future__ import annotations

import numpy as np
from array_api_compat import array_namespace, device

from policies.types import Array


def width_from_command(command: Array, max_width: float) -> Array:
    """Width target (...) m of commands (...), clipped to [-1, 1]."""
    xp = array_namespace(command)
    return (0.5 * max_width) * (xp.clip(command, -1.0, 1.0) + 1.0)


def move_width(width: Array, target: Array, max_speed: float, dt: float) -> Array:
    """Width (...) m after `dt` s on the way to `target` (...) m at no more than `max_speed` m/s."""
    xp = array_namespace(width)
    step = max_speed * dt
    return xp.minimum(xp.maximum(target, width - step), width + step)


def hold_force(width_target: Array, width: Array, stiffness: float, max_force: float) -> Array:
    """Force (...) N of each finger, positive opens: a spring to the commanded width, bounded by `max_force`.

    Between the fingers of a closed gripper an object keeps the measured width above the target; what it then feels
    is `stiffness` (N per m of width) times that difference, and at most `max_force`.
    """
    xp = array_namespace(width)
    return xp.clip(stiffness * (width_target - width), -max_force, max_force)


class DiscreteGripper:
    """Gripper that is open or closed: a command opens it, closes it, or between two thresholds lets it stay.

    It counts its real changes, for tasks and critics that charge for them.
    """

    def __init__(self, batch: tuple[int, ...] = (), threshold: float = 0.5, like: Array | None = None) -> None:
        """Start open.

        Args:
            batch: Batch axes.
            threshold: Commands above it open, below its negative close, others leave the gripper as it is.
            like: Any array of the kind and device of the commands; None: numpy.
        """
        if not 0.0 <= threshold < 1.0:
            raise ValueError(f"threshold is {threshold}; commands are in [-1, 1], so it must be in [0, 1)")
        like = np.zeros(()) if like is None else like
        xp = self._xp = array_namespace(like)
        self.threshold = threshold
        self.is_open = xp.ones(batch, dtype=xp.bool, device=device(like))
        """Shape (...), state after the last command."""
        self.toggled = ~self.is_open
        """Shape (...), whether the last command changed it."""
        self.toggles = xp.zeros(batch, dtype=xp.int64, device=device(like))
        """Shape (...), changes since the reset."""

    def reset(self, is_open: bool = True, mask: Array | None = None) -> None:
        """Set the state and forget the changes, where `mask` (...) is true or everywhere."""
        xp = self._xp
        mask = xp.ones_like(self.is_open) if mask is None else mask
        self.is_open = self.is_open | mask if is_open else self.is_open & ~mask
        self.toggled = self.toggled & ~mask
        self.toggles = xp.where(mask, xp.zeros_like(self.toggles), self.toggles)

    def command(self, command: Array) -> Array:
        """Take commands (...) in [-1, 1]; returns 1.0 where the gripper is then open and -1.0 where it is closed.

        A command that is not a number lets the gripper stay.
        """
        xp = self._xp
        is_open = (command > self.threshold) | (self.is_open & ~(command < -self.threshold))
        self.toggled = is_open != self.is_open
        self.toggles = self.toggles + xp.astype(self.toggled, xp.int64)
        self.is_open = is_open
        one = xp.ones_like(command)
        return xp.where(is_open, one, -one)
