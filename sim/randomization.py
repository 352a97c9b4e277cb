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
from typing import Any, Literal, NoReturn

import torch
import yaml
from torch import Tensor

_CHOICES: Mapping[str, tuple[str, ...]] = {
    "distribution": ("uniform", "loguniform", "gaussian"),
    "operation": ("set", "scale", "add"),
    "when": ("start", "reset", "interval", "step"),
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
    correlation_time: float = 0.0
    """Correlation time of a `step` term, s: 0 is white, more is an Ornstein-Uhlenbeck process
    with the term's mean and the standard deviation of its distribution."""
    group: str | None = None
    """Terms of one group share a percentile per environment, weighted by `coupling`."""
    coupling: float = 0.7
    """Weight of the group's percentile against the term's own; 0 is independent, 1 identical."""

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                self._refuse(f"{name} is {getattr(self, name)!r}; expected one of {', '.join(choices)}")
        if not all(map(math.isfinite, (self.low, self.high, *self.interval, self.correlation_time))):
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

    def _refuse(self, problem: str) -> NoReturn:
        raise ValueError(f"randomization of {self.parameter!r}: {problem}")

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
    for key in {"low", "high", "correlation_time", "coupling"} & set(values):
        values[key] = float(values[key])  # YAML reads 1e-3, without a point, as text
    if "interval" in values:
        shortest, longest = values["interval"]
        values["interval"] = (float(shortest), float(longest))
    return RandomizationTerm(**values)


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
            ValueError: A term names a parameter that the task does not have, or two name the same.
        """
        for index, term in enumerate(terms):
            if term.parameter in {other.parameter for other in terms[:index]}:
                raise ValueError(
                    f"randomization of {term.parameter!r} is declared twice; the later one would undo the other"
                )
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
            i: torch.zeros_like(self.values[term.parameter]) for i, term in enumerate(self.terms) if term.when == "step"
        }
        everywhere = torch.ones(num_envs, dtype=torch.bool, device=generator.device)
        for term in self.terms:
            if term.has_zero_range:  # fixed here, without a draw, which would shift the draws of other terms
                self._assign(term, torch.full_like(self.values[term.parameter], term.low), everywhere)

    def reset(self, mask: Tensor) -> None:
        """Draw anew for the environments in `mask` (num_envs,) bool that begin an episode."""
        first = not self._started
        self._started = True
        groups: dict[str, Tensor] = {}
        for index, term in enumerate(self.terms):
            if term.has_zero_range or (term.when == "start" and not first):
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

    def adopt(self, index: Tensor, source: Randomizer, first: int) -> None:
        """Begin episodes in the environments `index` (K) with K samples of `source`, from its row `first` on.

        `source` has the same terms. Drawing many samples at once and handing them out costs a tenth
        of drawing for a few environments at every step. What is drawn at start only stays as it is.
        """
        count = len(index)

        def put(mine: Tensor, other: Tensor) -> Tensor:
            return mine.index_copy(0, index, other.narrow(0, first, count))

        for name in {term.parameter for term in self.terms if term.when != "start"}:
            self.values[name] = put(self.values[name], source.values[name])
        self._process = {i: put(mine, source._process[i]) for i, mine in self._process.items()}
        self._countdown = {i: put(mine, source._countdown[i]) for i, mine in self._countdown.items()}

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Everything but the generator, for `load_state`."""
        return {
            "values": dict(self.values),
            "process": {str(i): value for i, value in self._process.items()},
            "countdown": {str(i): value for i, value in self._countdown.items()},
        }

    def load_state(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Go on from what `state` returned."""
        self.values = dict(state["values"])
        self._process = {int(i): value for i, value in state["process"].items()}
        self._countdown = {int(i): value for i, value in state["countdown"].items()}
        self._started = True

    def step(self, dt: float) -> None:
        """Advance interval and every-step terms by `dt` s."""
        for index, term in enumerate(self.terms):
            if term.has_zero_range:
                continue
            if term.when == "interval":
                self._countdown[index] = self._countdown[index] - dt
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
                fixed = "does nothing" if term.low == identity else f"fixed at {term.low:g}"
                effect = f"zero range: {fixed}"
            elif term.operation == "scale" and not self.nominal[term.parameter].any():
                effect = "scales zero: does nothing"
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
        return low + (high - low) * torch.rand(self.num_envs, generator=self.generator, device=self.generator.device)

    def _draw(self, term: RandomizationTerm, mask: Tensor, groups: dict[str, Tensor]) -> None:
        nominal = self.nominal[term.parameter]
        percentile = torch.rand(self.num_envs, len(nominal), generator=self.generator, device=self.generator.device)
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
