"""How a disturbance moves in time: noise with a memory, and walks whose rate of change is bounded."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def ornstein_uhlenbeck(state: Tensor, fresh: Tensor, dt: float, correlation_time: float) -> Tensor:
    """The next state of a Gaussian process of mean 0 and deviation 1 with a correlation time, s; 0 is white.

    Args:
        state: Of now.
        fresh: Standard normal samples of the same shape.
        dt: s to go on.
        correlation_time: s.
    """
    keep = math.exp(-dt / correlation_time) if correlation_time > 0 else 0.0
    return keep * state + math.sqrt(1.0 - keep * keep) * fresh


def bounded_walk(
    position: Tensor, slope: Tensor, fresh: Tensor, renewed: Tensor, dt: float, low: float, high: float
) -> tuple[Tensor, Tensor]:
    """The next position and slope of a walk that stays in [low, high] and changes at most by |slope| per second.

    It moves straight on, is thrown back at the ends, and takes a new slope now and then. Begun uniformly in the range,
    it is uniform at all times, whatever the slopes are; so a time-constrained disturbance (as in time-constrained
    robust Markov decision processes) visits all of its range, but never jumps.

    Args:
        position: Of now, in [low, high].
        slope: Of now, 1/s.
        fresh: Slopes to take where `renewed`.
        renewed: Where a new slope is taken, bool.
        dt: s to go on.
        low: Lower end.
        high: Upper end, above it.
    """
    slope = torch.where(renewed, fresh, slope)
    width = high - low
    # Unfolded, the range is a road of period 2 width, the second half of which is walked backwards.
    road = torch.remainder(position - low + slope * dt, 2.0 * width)
    back = road > width
    position = torch.clamp(low + torch.where(back, 2.0 * width - road, road), low, high)
    return position, torch.where(back, -slope, slope)
