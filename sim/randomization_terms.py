"""A randomization term: which parameter, from which distribution, applied how and when; and lists of them in files.

Samples are always relative to the nominal value, never to the previous sample, so nothing compounds. Terms of one
`group` are drawn jointly: a large, heavy vehicle gets large, slow motors.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, NoReturn

import torch
import yaml
from torch import Tensor

_CHOICES: Mapping[str, tuple[str, ...]] = {
    "distribution": ("uniform", "loguniform", "gaussian"),
    "operation": ("set", "scale", "add"),
    "when": ("start", "reset", "interval", "step"),
    "schedule": ("none", "linear", "constant"),
}


@dataclass(frozen=True, kw_only=True)
class RandomizationTerm:
    """One randomized parameter."""

    parameter: str
    """Name of the parameter; the task lists those that it has, with units."""
    low: float
    """Lower end of the range; the mean for `gaussian`."""
    high: float
    """Upper end of the range; the standard deviation for `gaussian`."""
    distribution: Literal["uniform", "loguniform", "gaussian"] = "uniform"
    """Shape of the distribution."""
    operation: Literal["set", "scale", "add"] = "set"
    """How a sample acts on the nominal value."""
    when: Literal["start", "reset", "interval", "step"] = "reset"
    """Drawn once, at each reset, after a random interval, or at every control step."""
    interval: tuple[float, float] = (1.0, 5.0)
    """Shortest and longest time between draws, s; for `interval`."""
    duration: float = 0.0
    """s for which a draw of an `interval` term lasts, such as a push, nominal before and after; 0: until the next."""
    correlation_time: float = 0.0
    """Correlation time of a `step` term, s: 0 is white, more is an Ornstein-Uhlenbeck process
    with the term's mean and the standard deviation of its distribution."""
    max_rate: float = 0.0
    """Above 0, a `step` term is a walk whose sample stays in [low, high] and changes by no more than this per second:
    it moves at a slope drawn uniformly from [-max_rate, max_rate], is thrown back at the ends, and takes another
    slope at random times, `correlation_time` apart in the mean (0: at every step)."""
    shared: bool = False
    """Whether all elements of the parameter take the same sample, as the three sizes of a cube."""
    frequency: int = 1
    """Control steps since the last draw before a reset draws anew; for `reset`."""
    schedule: Literal["none", "linear", "constant"] = "none"
    """`linear` widens the range in the first `schedule_steps` steps of training, in proportion from the nominal value;
    `constant` leaves it nominal until then."""
    schedule_steps: int = 0
    """Control steps of training; for a schedule."""
    group: str | None = None
    """Terms of one group share a percentile per environment, weighted by `coupling`."""
    coupling: float = 0.7
    """Weight of the group's percentile against the term's own; 0 is independent, 1 identical."""

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                self._refuse(f"{name} is {getattr(self, name)!r}; expected one of {', '.join(choices)}")
        numbers = (self.low, self.high, *self.interval, self.correlation_time, self.duration, self.max_rate)
        if not all(map(math.isfinite, numbers)):
            self._refuse("a number is not finite")
        if self.distribution != "gaussian" and self.high < self.low:
            self._refuse(f"low {self.low} is above high {self.high}")
        if self.distribution == "gaussian" and self.high < 0:
            self._refuse(f"the standard deviation, high, is {self.high}, below 0")
        if self.distribution == "loguniform" and self.low <= 0:
            self._refuse(f"loguniform needs low > 0, got {self.low}")
        if not 0.0 < self.interval[0] <= self.interval[1]:
            self._refuse(f"interval is {self.interval}; expected shortest and longest time, above 0 s")
        if self.correlation_time < 0.0 or not 0.0 <= self.coupling <= 1.0:
            self._refuse(
                f"correlation_time {self.correlation_time} is below 0 or coupling {self.coupling} not in [0, 1]"
            )

        if self.duration < 0.0 or (self.duration > 0.0 and self.when != "interval"):
            self._refuse(f"duration is {self.duration}; it is a time in s of a term with when: interval")
        if self.max_rate < 0.0 or (self.max_rate > 0.0 and (self.when, self.distribution) != ("step", "uniform")):
            self._refuse(f"max_rate is {self.max_rate}; a walk has when: step and distribution: uniform")
        if self.frequency < 1 or (self.frequency > 1 and self.when != "reset"):
            self._refuse(f"frequency is {self.frequency}; it is a number of steps, at least 1, of a term of resets")
        if (self.schedule == "none") != (self.schedule_steps == 0) or self.schedule_steps < 0:
            self._refuse(f"schedule is {self.schedule!r} with schedule_steps {self.schedule_steps}; give both or none")

    def _refuse(self, problem: str) -> NoReturn:
        raise ValueError(f"randomization of {self.parameter!r}: {problem}")

    @property
    def has_zero_range(self) -> bool:
        """Whether every sample is the same."""
        return self.high == 0.0 if self.distribution == "gaussian" else self.high == self.low

    @property
    def does_nothing(self) -> bool:
        """Whether it leaves the nominal value as it is, exactly."""
        identity = {"scale": 1.0, "add": 0.0}.get(self.operation)
        return self.has_zero_range and self.low == identity

    @property
    def timing(self) -> str:
        """When it draws, for people."""
        parts: list[str] = [self.when]
        if self.correlation_time:
            parts.append(f"τ = {self.correlation_time:g} s")
        if self.max_rate:
            parts.append(f"at most {self.max_rate:g}/s")
        if self.duration:
            parts.append(f"for {self.duration:g} s")
        if self.frequency > 1:
            parts.append(f"after {self.frequency} steps")
        if self.schedule != "none":
            parts.append(f"{self.schedule} over {self.schedule_steps} steps")
        return ", ".join(parts)

    def share(self, steps: int) -> float:
        """Share of the range that the schedule allows after so many steps of training."""
        if self.schedule == "none" or steps >= self.schedule_steps:
            return 1.0
        return steps / self.schedule_steps if self.schedule == "linear" else 0.0

    def quantile(self, percentile: Tensor) -> Tensor:
        """Value at a percentile in (0, 1), any shape."""
        if self.distribution == "uniform":
            return self.low + (self.high - self.low) * percentile
        if self.distribution == "loguniform":
            return self.low * torch.exp(math.log(self.high / self.low) * percentile)
        return self.low + self.high * torch.special.ndtri(percentile.clamp(1e-6, 1 - 1e-6))

    def moments(self) -> tuple[float, float]:
        """Mean and standard deviation of the distribution."""
        if self.distribution == "gaussian":
            return self.low, self.high
        if self.distribution == "uniform" or self.has_zero_range:
            return 0.5 * (self.low + self.high), (self.high - self.low) / math.sqrt(12.0)
        span = math.log(self.high / self.low)
        mean = (self.high - self.low) / span
        return mean, math.sqrt((self.high**2 - self.low**2) / (2 * span) - mean**2)

    def spread(self, nominal: Tensor) -> Tensor:
        """Standard deviation of the parameter's values, given the nominal ones, same shape."""
        deviation = self.moments()[1]
        return nominal.abs() * deviation if self.operation == "scale" else torch.full_like(nominal, deviation)


def load_terms(path: str | Path) -> tuple[RandomizationTerm, ...]:
    """Read terms from a YAML file: a list of mappings with the fields of `RandomizationTerm`.

    Raises:
        ValueError: An unknown field or a wrong value, naming the entry.
    """
    try:
        entries = yaml.safe_load(Path(path).read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not YAML: {error}") from error
    if not isinstance(entries, list):
        raise ValueError(f"{path}: expected a list of randomization terms, got {type(entries).__name__}")
    terms = []
    for number, entry in enumerate(entries):
        try:
            terms.append(_parse_term(entry))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}, entry {number}: {error}") from error
    return tuple(terms)


def _parse_term(entry: Any) -> RandomizationTerm:
    if not isinstance(entry, Mapping):
        raise ValueError(f"expected a mapping with the fields of a randomization term, got {entry!r}")
    known = {f.name for f in dataclasses.fields(RandomizationTerm)}
    for key in entry:
        if key not in known:
            near = get_close_matches(str(key), known, n=1)
            raise ValueError(f"unknown field {key!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    values = dict(entry)
    for key in {"low", "high", "correlation_time", "coupling", "duration", "max_rate"} & set(values):
        values[key] = float(values[key])  # YAML reads 1e-3, without a point, as text
    if "interval" in values:
        shortest, longest = values["interval"]
        values["interval"] = (float(shortest), float(longest))
    return RandomizationTerm(**values)
