"""Domain randomization: draws from a task's terms for every environment, and keeps the values.

A task declares a tuple of `RandomizationTerm`; a `Randomizer` draws from them. Samples are always relative to the
nominal value, never to the previous sample, so nothing compounds.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

import torch
from torch import Tensor

from sim.disturbances import bounded_walk, ornstein_uhlenbeck
from sim.randomization_terms import RandomizationTerm, load_terms

__all__ = ["RandomizationTerm", "Randomizer", "load_terms"]

_TABLES = ("process", "slope", "countdown", "lasting", "age")
"""What a `Randomizer` keeps by the number of a term."""


class Randomizer:
    """Current value of every parameter in every environment, and the draws that change them."""

    values: dict[str, Tensor]
    """Parameter name → (num_envs, size of the parameter)."""
    progress: int
    """Control steps of training so far, for schedules; counted by `step`, and free to be set."""

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
        self.progress = 0
        self._started = False
        zeros = torch.zeros(num_envs, device=generator.device)
        numbered = list(enumerate(self.terms))
        self._countdown = {i: zeros for i, term in numbered if term.when == "interval"}
        self._lasting = {i: zeros for i, term in numbered if term.duration > 0.0}
        self._age = {i: zeros + term.frequency for i, term in numbered if term.frequency > 1}
        # State of the correlated terms in units of their standard deviation; of the walks, sample and slope.
        shapes = {i: (num_envs, 1 if term.shared else len(nominal[term.parameter])) for i, term in numbered}
        self._process = {
            i: torch.zeros(shapes[i], device=generator.device) for i, term in numbered if term.when == "step"
        }
        self._slope = {i: torch.zeros_like(self._process[i]) for i, term in numbered if term.max_rate > 0.0}
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
                if term.schedule != "none":
                    self._assign(term, torch.full_like(self.values[term.parameter], term.low), mask)
                continue
            drawn = mask
            if term.when == "step":
                self._begin_process(index, term, mask)
                continue
            if term.when == "interval":
                self._countdown[index] = torch.where(mask, self._next_interval(term), self._countdown[index])
            if index in self._lasting:  # the first push comes after the first interval
                self._lasting[index] = self._lasting[index].masked_fill(mask, 0.0)
                self._restore(term, mask)
                continue
            if index in self._age:
                drawn = mask & (self._age[index] >= term.frequency)
                self._age[index] = self._age[index].masked_fill(drawn, 0.0)
            self._draw(term, drawn, groups)

    def adopt(self, index: Tensor, source: Randomizer, first: int) -> None:
        """Begin episodes in the environments `index` (K) with K samples of `source`, from its row `first` on.

        `source` has the same terms. Drawing many samples at once and handing them out costs a tenth
        of drawing for a few environments at every step. What is drawn at start only stays as it is.
        """
        count = len(index)
        source.progress = self.progress

        def put(mine: Tensor, other: Tensor) -> Tensor:
            return mine.index_copy(0, index, other.narrow(0, first, count))

        for i, term in enumerate(self.terms):
            if term.when == "start":
                continue
            value = put(self.values[term.parameter], source.values[term.parameter])
            if i in self._age:
                due = self._age[i] >= term.frequency
                value = torch.where(due[:, None], value, self.values[term.parameter])
                taken = torch.zeros_like(due).index_fill(0, index, True) & due
                self._age[i] = self._age[i].masked_fill(taken, 0.0)
            self.values[term.parameter] = value
        for name in ("_process", "_slope", "_countdown", "_lasting"):
            mine, other = getattr(self, name), getattr(source, name)
            setattr(self, name, {i: put(value, other[i]) for i, value in mine.items()})

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Everything but the generator, for `load_state`."""
        tables = {name: {str(i): v for i, v in getattr(self, f"_{name}").items()} for name in _TABLES}
        return {"values": dict(self.values), **tables, "progress": {"steps": torch.tensor(self.progress)}}

    def load_state(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Go on from what `state` returned."""
        self.values = dict(state["values"])
        for name in _TABLES:
            setattr(self, f"_{name}", {int(i): value for i, value in state.get(name, {}).items()})
        self.progress = int(state["progress"]["steps"])
        self._started = True

    def step(self, dt: float) -> None:
        """Advance interval and every-step terms by `dt` s."""
        self.progress += 1
        for index, age in self._age.items():
            self._age[index] = age + 1.0
        for index, term in enumerate(self.terms):
            if term.has_zero_range:
                continue
            if index in self._lasting:
                self._lasting[index] = self._lasting[index] - dt
                self._restore(term, self._lasting[index] <= 0.5 * dt)  # half a step: rounding must not lengthen it
            if term.when == "interval":
                self._countdown[index] = self._countdown[index] - dt
                due = self._countdown[index] <= 0.0
                if bool(due.any()):
                    self._draw(term, due, {})
                    self._countdown[index] = torch.where(due, self._next_interval(term), self._countdown[index])
                    if index in self._lasting:
                        self._lasting[index] = self._lasting[index].masked_fill(due, term.duration)
            elif term.when == "step":
                self._step_process(index, term, dt)

    def set_range(self, parameter: str, low: float, high: float) -> None:
        """Change the range of a term for the draws to come, as automatic randomization does."""
        self.terms = tuple(
            dataclasses.replace(term, low=low, high=high) if term.parameter == parameter else term
            for term in self.terms
        )

    def pin(self, parameter: str, mask: Tensor, sample: float) -> None:
        """Give the term's parameter one sample in the environments of `mask` (num_envs,), until it is drawn anew."""
        term = next(term for term in self.terms if term.parameter == parameter)
        self._assign(term, torch.full_like(self.values[parameter], sample), mask)

    def table(self, effects: Mapping[str, str] | None = None) -> list[dict[str, str]]:
        """One row per term, for people: what, from where to where, when, and whether it does anything.

        Args:
            effects: What an engine says of parameters that it cannot vary, or not in all of their range.
        """
        rows = []
        for term in self.terms:
            effect = "varies"
            if term.has_zero_range:
                fixed = "does nothing" if term.does_nothing else f"fixed at {term.low:g}"
                effect = f"zero range: {fixed}"
            elif term.operation == "scale" and not self.nominal[term.parameter].any():
                effect = "scales zero: does nothing"
            elif effects and term.parameter in effects:
                effect = effects[term.parameter]
            rows.append(
                {
                    "parameter": term.parameter,
                    "nominal": _summary(self.nominal[term.parameter].tolist()),
                    "range": f"{term.low:g} … {term.high:g}"
                    if term.distribution != "gaussian"
                    else f"{term.low:g} ± {term.high:g}",
                    "distribution": term.distribution,
                    "operation": term.operation,
                    "when": term.timing,
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
        size = 1 if term.shared else len(self.nominal[term.parameter])
        percentile = self._uniform(self.num_envs, size)
        if term.group is not None:
            if term.group not in groups:
                groups[term.group] = self._uniform(self.num_envs, 1)
            percentile = (1.0 - term.coupling) * percentile + term.coupling * groups[term.group]
        self._assign(term, term.quantile(percentile), mask)

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator, device=self.generator.device)

    def _begin_process(self, index: int, term: RandomizationTerm, mask: Tensor) -> None:
        """Put the correlated term into its stationary distribution."""
        old = self._process[index]
        if index in self._slope:
            fresh = term.quantile(self._uniform(*old.shape))
            slope = term.max_rate * (2.0 * self._uniform(*old.shape) - 1.0)
            self._slope[index] = torch.where(mask[:, None], slope, self._slope[index])
        else:
            fresh = self._normal(old.shape)
        self._process[index] = torch.where(mask[:, None], fresh, old)
        self._apply_process(index, term)

    def _step_process(self, index: int, term: RandomizationTerm, dt: float) -> None:
        old = self._process[index]
        if index in self._slope:
            slope = term.max_rate * (2.0 * self._uniform(*old.shape) - 1.0)
            chance = 1.0 - math.exp(-dt / term.correlation_time) if term.correlation_time > 0.0 else 1.0
            renewed = self._uniform(*old.shape) < chance
            self._process[index], self._slope[index] = bounded_walk(
                old, self._slope[index], slope, renewed, dt, term.low, term.high
            )
        else:
            self._process[index] = ornstein_uhlenbeck(old, self._normal(old.shape), dt, term.correlation_time)
        self._apply_process(index, term)

    def _apply_process(self, index: int, term: RandomizationTerm) -> None:
        state = self._process[index]
        if index in self._slope:
            sample = state
        elif term.correlation_time == 0.0 and term.distribution != "gaussian":  # white: exactly its distribution
            sample = term.quantile(torch.special.ndtr(state))
        else:
            mean, deviation = term.moments()
            sample = mean + deviation * state
        everywhere = torch.ones(self.num_envs, dtype=torch.bool, device=self.generator.device)
        self._assign(term, sample, everywhere)

    def _assign(self, term: RandomizationTerm, sample: Tensor, mask: Tensor) -> None:
        nominal = self.nominal[term.parameter]
        sample = sample.to(nominal.dtype)
        value = {"set": sample + 0.0 * nominal, "scale": nominal * sample, "add": nominal + sample}[term.operation]
        share = term.share(self.progress)
        if share < 1.0:
            value = nominal + share * (value - nominal)
        self.values[term.parameter] = torch.where(mask[:, None], value, self.values[term.parameter])

    def _restore(self, term: RandomizationTerm, mask: Tensor) -> None:
        nominal = self.nominal[term.parameter]
        self.values[term.parameter] = torch.where(mask[:, None], nominal, self.values[term.parameter])


def _summary(values: Sequence[float]) -> str:
    """Numbers for people, few of them."""
    if len(values) > 3 and len(set(values)) == 1:
        return f"{len(values)} × {values[0]:g}"
    return ", ".join(f"{value:g}" for value in values)
