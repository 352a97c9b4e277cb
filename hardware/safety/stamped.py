"""What every input of a supervisor shares: the newest believed stamp, and why the newest sample was refused.

A sample that is not believed leaves no trace but a counter and a sentence, so that the age of the last good one
grows until the supervisor acts.

All times are s on one clock. `stamp` is when something was measured or computed, `now` when it arrived.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class StampConfig:
    """What is believed of stamps and sources."""

    clock_tolerance: float = 0.02
    """s by which a stamp may lie in the future: clocks of two machines differ."""
    max_delay: float = 0.5
    """s by which a stamp may lie in the past on arrival; what comes later has waited in a queue."""
    outliers_to_fault: int = 3
    """Jumps in a row after which the state is no longer believed."""
    source_timeout: float = 0.5
    """s of silence after which another publisher of commands may take over."""
    limit_tolerance: float = 1e-3
    """Share of the highest value by which a command may exceed a limit and is clipped, not refused."""


class StampedInput:
    """Newest stamp and the refusals."""

    def __init__(self, name: str, config: StampConfig, *further_counters: str, label: str = "") -> None:
        self.name = name
        self.label = label or name
        self.timing = config
        self.stamp = -math.inf
        """s, stamp of the newest good sample; -inf if there is none."""
        self.refusal = ""
        """Why the newest sample was refused, in words; empty if it was accepted."""
        keys = ("not_finite", "stamp_in_future", "stamp_too_old", "stamp_not_newer", *further_counters)
        self.counters = {f"{name}_{key}": 0 for key in keys}

    def age(self, now: float) -> float:
        """Time in s since the newest good sample, inf if there is none."""
        return max(0.0, now - self.stamp)

    def forget(self) -> None:
        """As if nothing had come yet; counters stay."""
        self.stamp = -math.inf

    def refuse(self, key: str, sentence: str) -> str:
        """Count a refusal and put it into words."""
        self.counters[f"{self.name}_{key}"] += 1
        self.refusal = f"{self.label} {sentence}"
        return self.refusal

    def check_stamp(self, stamp: float, now: float) -> str:
        """Why a stamp is not believed, or an empty string."""
        if not math.isfinite(stamp):
            return self.refuse("not_finite", f"stamp is {stamp}")
        if stamp > now + self.timing.clock_tolerance:
            return self.refuse(
                "stamp_in_future", f"stamp is {1e3 * (stamp - now):.0f} ms in the future: compare the clocks"
            )
        if stamp < now - self.timing.max_delay:
            return self.refuse("stamp_too_old", f"stamp is {1e3 * (now - stamp):.0f} ms old on arrival")
        if stamp <= self.stamp:
            return self.refuse("stamp_not_newer", f"stamp {stamp:.3f} s is not newer than the last, {self.stamp:.3f} s")
        return ""

    def accept(self, stamp: float) -> str:
        """Believe a sample."""
        self.stamp = stamp
        self.refusal = ""
        return ""
