"""Automatic domain randomization: ranges that grow as far as the policy copes, end by end.

As in OpenAI et al., "Solving Rubik's Cube with a Robot Hand" (2019), and DeXtreme (Handa et al., 2023). In every
episode an environment either draws all parameters from the current ranges, or has one of them pinned at one end of its
range and draws the others. The results of pinned episodes gather in a queue of that end. When it is full, its mean
decides: above the upper threshold the end moves outwards, below the lower one inwards; then the queue begins anew.
Ends stay between the initial range and the limits.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

import torch
from torch import Tensor

from sim.randomization import RandomizationTerm, Randomizer

_ENDS = ("low", "high")


@dataclass(frozen=True, kw_only=True)
class AutomaticParameter:
    """How the range of one randomization term grows."""

    parameter: str
    """Of a term that is drawn at every reset; the term's own range is the initial one."""
    limits: tuple[float, float]
    """Lowest lower end and highest upper end."""
    delta: float
    """How far an end moves; with `multiplicative`, a factor above 1."""
    delta_style: Literal["additive", "multiplicative"] = "additive"
    """Whether `delta` is added or multiplied."""

    def __post_init__(self) -> None:
        if self.delta_style not in ("additive", "multiplicative"):
            raise ValueError(
                f"automatic range of {self.parameter!r}: delta_style is {self.delta_style!r}; expected additive or "
                "multiplicative"
            )
        least = 1.0 if self.delta_style == "multiplicative" else 0.0
        if not (math.isfinite(self.delta) and self.delta > least):
            raise ValueError(
                f"automatic range of {self.parameter!r}: delta is {self.delta}; it must be above {least:g}"
            )

    def moved(self, end: int, value: float, outwards: bool, initial: float) -> float:
        """The end after a step outwards or inwards, between its limit and its initial value."""
        up = outwards == (end == 1)
        if self.delta_style == "additive":
            value = value + (self.delta if up else -self.delta)
        else:
            value = value * (self.delta if up == (value >= 0.0) else 1.0 / self.delta)
        lowest, highest = (initial, self.limits[1]) if end == 1 else (self.limits[0], initial)
        return min(max(value, lowest), highest)


@dataclass(frozen=True, kw_only=True)
class AutomaticConfig:
    """Settings of automatic domain randomization."""

    parameters: tuple[AutomaticParameter, ...]
    """Whose ranges grow."""
    boundary_fraction: float = 0.4
    """Share of episodes that have a parameter pinned at an end."""
    queue_length: int = 256
    """Episodes after which an end is judged."""
    threshold_low: float = 0.5
    """Mean objective below which an end moves inwards; the objective is success, 0 or 1, unless the caller has its
    own, such as DeXtreme's consecutive successes (5 and 20)."""
    threshold_high: float = 0.8
    """Mean objective above which an end moves outwards."""
    extended_boundary: bool = False
    """Whether to pin where the end would move next, not where it is."""
    clear_other_queues: bool = False
    """Whether the move of an end makes the results of all others void."""
    performance_memory: float = 0.99
    """Weight of the past in the running mean of episodes without a pin."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.boundary_fraction <= 1.0 or self.queue_length < 1:
            raise ValueError(
                f"boundary_fraction is {self.boundary_fraction}, expected 0 to 1; queue_length is {self.queue_length}, "
                "expected 1 or more"
            )
        names = [parameter.parameter for parameter in self.parameters]
        if len(set(names)) < len(names):
            raise ValueError(f"automatic ranges are of {', '.join(names)}: each parameter has one range")
        if self.threshold_low > self.threshold_high:
            raise ValueError(f"threshold_low {self.threshold_low} is above threshold_high {self.threshold_high}")


class AutomaticRandomization:
    """The ranges of now, which environment tests which end, and how those episodes went.

    Life cycle: `begin` after a `Randomizer` has drawn for new episodes, `report` when they end.
    """

    ranges: dict[str, tuple[float, float]]
    """Parameter → current range."""
    performance: float
    """Running mean of the objective of episodes without a pin; NaN before the first."""

    def __init__(
        self, config: AutomaticConfig, terms: Sequence[RandomizationTerm], num_envs: int, generator: torch.Generator
    ) -> None:
        """Start with the ranges of the terms.

        Raises:
            ValueError: A parameter without a term of resets, or whose initial range is not within its limits.
        """
        self.config, self._generator = config, generator
        self.ranges = {}
        for parameter in config.parameters:
            self.ranges[parameter.parameter] = _initial_range(parameter, terms)
        self._initial = dict(self.ranges)
        self._queues: list[list[float]] = [[] for _ in range(2 * len(config.parameters))]
        self._pinned = torch.full((num_envs,), -1, dtype=torch.int64)
        self.performance = math.nan

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters whose ranges grow."""
        return tuple(self.ranges)

    @property
    def limits(self) -> dict[str, tuple[float, float]]:
        """Parameter → the widest range."""
        return {parameter.parameter: parameter.limits for parameter in self.config.parameters}

    def begin(self, mask: Tensor, randomizer: Randomizer) -> None:
        """Choose what new episodes are for, and pin their parameters; after `randomizer.reset(mask)`.

        Args:
            mask: Where episodes begin (num_envs,) bool.
            randomizer: Whose values to change.
        """
        count = len(mask)
        tests = torch.rand(count, generator=self._generator) < self.config.boundary_fraction
        ends = torch.randint(len(self._queues), (count,), generator=self._generator)
        chosen = torch.where(tests, ends, torch.full_like(ends, -1))
        self._pinned = torch.where(mask.cpu(), chosen, self._pinned)
        for number, parameter in enumerate(self.config.parameters):
            for end in range(2):
                here = mask.cpu() & (self._pinned == 2 * number + end)
                if bool(here.any()):
                    randomizer.pin(parameter.parameter, here.to(mask.device), self._boundary(parameter, end))

    def pinned(self, env: int) -> tuple[str, str] | None:
        """Parameter and end, `low` or `high`, that an environment tests; None where it tests none."""
        number = int(self._pinned[env])
        return None if number < 0 else (self.config.parameters[number // 2].parameter, _ENDS[number % 2])

    def report(self, ended: Tensor, objective: Tensor, randomizer: Randomizer) -> None:
        """Take the results of episodes that ended, and move ends that have enough of them.

        Args:
            ended: Where (num_envs,) bool.
            objective: How it went (num_envs,): success as 0 or 1, or another measure.
            randomizer: Whose ranges follow.
        """
        pinned, values = self._pinned[ended.cpu()].tolist(), objective.cpu()[ended.cpu()].double().tolist()
        for number, value in zip(pinned, values, strict=True):
            if number < 0:
                keep = self.config.performance_memory if math.isfinite(self.performance) else 0.0
                past = self.performance if math.isfinite(self.performance) else 0.0
                self.performance = keep * past + (1.0 - keep) * value
            else:
                self._queues[number].append(value)
        for number, queue in enumerate(self._queues):
            if len(queue) >= self.config.queue_length:
                mean = sum(queue) / len(queue)
                queue.clear()
                self._judge(number, mean, randomizer)

    def table(self) -> list[dict[str, str]]:
        """One row per parameter, for people."""
        rows = []
        for parameter in self.config.parameters:
            low, high = self.ranges[parameter.parameter]
            rows.append(
                {
                    "parameter": parameter.parameter,
                    "range": f"{low:g} … {high:g}",
                    "limits": f"{parameter.limits[0]:g} … {parameter.limits[1]:g}",
                }
            )
        return rows

    def record(self) -> dict[str, Any]:
        """The settings and how far the ranges have come, as JSON takes it."""
        return {
            "config": dataclasses.asdict(self.config),
            "ranges": {name: list(ends) for name, ends in self.ranges.items()},
            "performance": self.performance if math.isfinite(self.performance) else None,
        }

    def restart(self, seed: int) -> None:
        """Begin anew with the terms' own ranges and a generator of that seed."""
        self._generator.manual_seed(seed)
        self.ranges = dict(self._initial)
        self._queues = [[] for _ in self._queues]
        self._pinned = torch.full_like(self._pinned, -1)
        self.performance = math.nan

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that is needed to go on later, bit by bit."""
        exact = torch.float64
        return {
            **{f"ranges.{name}": torch.tensor(ends, dtype=exact) for name, ends in self.ranges.items()},
            **{f"queues.{number}": torch.tensor(queue, dtype=exact) for number, queue in enumerate(self._queues)},
            "pinned": self._pinned.clone(),
            "performance": torch.tensor(self.performance, dtype=exact),
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Tensor], randomizer: Randomizer) -> None:
        """Go on from what `state_dict` returned; the randomizer's ranges follow.

        Raises:
            ValueError: It is of other parameters or another number of environments.
        """
        stored = {name[len("ranges.") :]: ends.tolist() for name, ends in state.items() if name.startswith("ranges.")}
        if set(stored) != set(self.ranges):
            raise ValueError(f"stored automatic ranges are of {sorted(stored)}, not of {sorted(self.ranges)}")
        if state["pinned"].shape != self._pinned.shape:
            raise ValueError(
                f"stored automatic ranges are of {len(state['pinned'])} environments, not {len(self._pinned)}"
            )
        self._queues = [state[f"queues.{number}"].tolist() for number in range(len(self._queues))]
        self._pinned, self.performance = state["pinned"].clone(), float(state["performance"])
        self._generator.set_state(state["generator"].cpu())
        for name, (low, high) in stored.items():
            self.ranges[name] = (low, high)
            randomizer.set_range(name, low, high)

    def _boundary(self, parameter: AutomaticParameter, end: int) -> float:
        name = parameter.parameter
        value = self.ranges[name][end]
        return parameter.moved(end, value, True, self._initial[name][end]) if self.config.extended_boundary else value

    def _judge(self, number: int, mean: float, randomizer: Randomizer) -> None:
        if self.config.threshold_low <= mean <= self.config.threshold_high:
            return
        parameter, end = self.config.parameters[number // 2], number % 2
        name = parameter.parameter
        ends = list(self.ranges[name])
        ends[end] = parameter.moved(end, ends[end], mean > self.config.threshold_high, self._initial[name][end])
        if tuple(ends) == self.ranges[name]:
            return
        self.ranges[name] = (ends[0], ends[1])
        randomizer.set_range(name, *ends)
        if self.config.clear_other_queues:
            for queue in self._queues:
                queue.clear()


def terms_in(
    terms: Sequence[RandomizationTerm], ranges: Mapping[str, tuple[float, float]]
) -> tuple[RandomizationTerm, ...]:
    """The terms with other ranges, such as those that automatic randomization has reached."""
    return tuple(
        dataclasses.replace(term, low=ranges[term.parameter][0], high=ranges[term.parameter][1])
        if term.parameter in ranges
        else term
        for term in terms
    )


def _initial_range(parameter: AutomaticParameter, terms: Sequence[RandomizationTerm]) -> tuple[float, float]:
    name = parameter.parameter
    found = next((term for term in terms if term.parameter == name), None)
    if found is None:
        near = get_close_matches(name, [term.parameter for term in terms], n=1)
        hint = f"did you mean {near[0]!r}?" if near else "give it a term first"
        raise ValueError(f"automatic range of {name!r}: no term randomizes it; {hint}")
    if found.when != "reset" or found.distribution == "gaussian":
        raise ValueError(
            f"automatic range of {name!r}: its term is {found.distribution}, drawn at {found.when}; it must be uniform "
            "or loguniform and drawn at reset"
        )
    low, high = parameter.limits
    if not low <= found.low <= found.high <= high:
        raise ValueError(f"automatic range of {name!r}: its range {found.low} … {found.high} is not in {low} … {high}")
    return found.low, found.high
