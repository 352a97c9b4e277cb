"""Domain randomization as data: which parameter, from which distribution, applied how and when.

A task declares a tuple of `RandomizationTerm`; a `Randomizer` draws from them for every environment.
Samples are always relative to the nominal value, never to the previous sample, so nothing compounds.
Terms of one `group` are drawn jointly: a large, heavy vehicle gets large, slow motors.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

import torch
import yaml
from torch import Tensor


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
    correlation_time: float = 0.0
    """Correlation time of a `step` term, s: 0 is white, more is an Ornstein-Uhlenbeck process
    with the term's mean and the standard deviation of its distribution."""
    group: str | None = None
    """Terms of one group share a percentile per environment, weighted by `coupling`."""
    coupling: float = 0.7
    """Weight of the group's percentile against the term's own; 0 is independent, 1 identical."""

    def __post_init__(self) -> None:
        if self.distribution != "gaussian" and self.high < self.low:
            raise ValueError(f"randomization of {self.parameter!r}: low {self.low} is above high {self.high}")
        if self.distribution == "loguniform" and self.low <= 0:
            raise ValueError(f"randomization of {self.parameter!r}: loguniform needs low > 0, got {self.low}")

    @property
    def has_zero_range(self) -> bool:
        """Whether every sample is the same."""
        return self.high == 0.0 if self.distribution == "gaussian" else self.high == self.low

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


def load_terms(path: str | Path) -> tuple[RandomizationTerm, ...]:
    """Read terms from a YAML file: a list of mappings with the fields of `RandomizationTerm`.

    Raises:
        ValueError: An unknown field or a wrong value, naming the entry.
    """
    entries = yaml.safe_load(Path(path).read_text())
    if not isinstance(entries, list):
        raise ValueError(f"{path}: expected a list of randomization terms, got {type(entries).__name__}")
    known = {f.name for f in dataclasses.fields(RandomizationTerm)}
    terms = []
    for number, entry in enumerate(entries):
        for key in entry:
            if key not in known:
                near = get_close_matches(key, known, n=1)
                raise ValueError(
                    f"{path}, entry {number}: unknown field {key!r}" + (f"; did you mean {near[0]!r}?" if near else "")
                )
        if "interval" in entry:
            entry["interval"] = tuple(entry["interval"])
        terms.append(RandomizationTerm(**entry))
    return tuple(terms)


class Randomizer:
    """Current value of every parameter in every environment, and the draws that change them."""

    values: dict[str, Tensor]
    """Parameter name → (num_envs, size of the parameter)."""

    def __init__(
        self,
        nominal: Mapping[str, Tensor],
        terms: Sequence[RandomizationTerm],
        num_envs: int,
        generator: torch.Generator,
    ) -> None:
        """Start with nominal values (size,) by name; `reset` draws the first samples.

        Raises:
            ValueError: A term names a parameter that the task does not have.
        """
        for term in terms:
            if term.parameter not in nominal:
                near = get_close_matches(term.parameter, nominal, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(nominal)}"
                raise ValueError(f"randomization of {term.parameter!r} acts on nothing; {hint}")
        self.terms = tuple(terms)
        self.nominal = dict(nominal)
        self.num_envs = num_envs
        self.generator = generator
        self.values = {name: value.repeat(num_envs, 1) for name, value in nominal.items()}
        self._started = False
        self._countdown = {
            i: torch.zeros(num_envs, device=generator.device)
            for i, term in enumerate(self.terms)
            if term.when == "interval"
        }
        # State of the correlated terms in units of their standard deviation.
        self._process = {
            i: torch.zeros_like(self.values[term.parameter])
            for i, term in enumerate(self.terms)
            if term.when == "step"
        }

    def reset(self, mask: Tensor) -> None:
        """Draw anew for the environments in `mask` (num_envs,) bool that begin an episode."""
        first = not self._started
        self._started = True
        groups: dict[str, Tensor] = {}
        for index, term in enumerate(self.terms):
            if term.when == "start" and not first:
                continue
            if term.when == "step":
                self._process[index] = torch.where(
                    mask[:, None], self._normal(self._process[index].shape), self._process[index]
                )
                self._apply_process(index, term)
                continue
            if term.when == "interval":
                self._countdown[index] = torch.where(mask, self._next_interval(term), self._countdown[index])
            self._draw(term, mask, groups)

    def step(self, dt: float) -> None:
        """Advance interval and every-step terms by `dt` s."""
        for index, term in enumerate(self.terms):
            if term.when == "interval":
                self._countdown[index] -= dt
                due = self._countdown[index] <= 0.0
                if bool(due.any()):
                    self._draw(term, due, {})
                    self._countdown[index] = torch.where(due, self._next_interval(term), self._countdown[index])
            elif term.when == "step":
                keep = math.exp(-dt / term.correlation_time) if term.correlation_time > 0 else 0.0
                fresh = self._normal(self._process[index].shape)
                self._process[index] = keep * self._process[index] + math.sqrt(1.0 - keep * keep) * fresh
                self._apply_process(index, term)

    def table(self) -> list[dict[str, str]]:
        """One row per term, for people: what, from where to where, when, and whether it does anything."""
        rows = []
        for term in self.terms:
            identity = {"set": math.nan, "scale": 1.0, "add": 0.0}[term.operation]
            effect = "varies"
            if term.has_zero_range:
                effect = "zero range: does nothing" if term.low == identity else f"zero range: fixed at {term.low:g}"
            rows.append(
                {
                    "parameter": term.parameter,
                    "nominal": ", ".join(f"{v:g}" for v in self.nominal[term.parameter].tolist()),
                    "range": f"{term.low:g} … {term.high:g}"
                    if term.distribution != "gaussian"
                    else f"{term.low:g} ± {term.high:g}",
                    "distribution": term.distribution,
                    "operation": term.operation,
                    "when": term.when + (f", τ = {term.correlation_time:g} s" if term.correlation_time else ""),
                    "group": f"{term.group} ({term.coupling:g})" if term.group else "",
                    "effect": effect,
                }
            )
        return rows

    def _normal(self, shape: torch.Size) -> Tensor:
        return torch.randn(shape, generator=self.generator, device=self.generator.device)

    def _next_interval(self, term: RandomizationTerm) -> Tensor:
        low, high = term.interval
        return low + (high - low) * torch.rand(
            self.num_envs, generator=self.generator, device=self.generator.device
        )

    def _draw(self, term: RandomizationTerm, mask: Tensor, groups: dict[str, Tensor]) -> None:
        nominal = self.nominal[term.parameter]
        percentile = torch.rand(
            self.num_envs, len(nominal), generator=self.generator, device=self.generator.device
        )
        if term.group is not None:
            if term.group not in groups:
                groups[term.group] = torch.rand(
                    self.num_envs, 1, generator=self.generator, device=self.generator.device
                )
            percentile = (1.0 - term.coupling) * percentile + term.coupling * groups[term.group]
        self._assign(term, term.quantile(percentile), mask)

    def _apply_process(self, index: int, term: RandomizationTerm) -> None:
        mean, deviation = term.moments()
        everywhere = torch.ones(self.num_envs, dtype=torch.bool, device=self.generator.device)
        self._assign(term, mean + deviation * self._process[index], everywhere)

    def _assign(self, term: RandomizationTerm, sample: Tensor, mask: Tensor) -> None:
        nominal = self.nominal[term.parameter]
        sample = sample.to(nominal.dtype)
        value = {"set": sample, "scale": nominal * sample, "add": nominal + sample}[term.operation]
        self.values[term.parameter] = torch.where(mask[:, None], value, self.values[term.parameter])
