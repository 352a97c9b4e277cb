"""Rules in signal temporal logic, monitored while the robot runs: how far from broken each of them is.

    always (speed > 0.5 implies eventually[0,0.2] speed < 0.5)
    always (not (force > 30 and tool_speed > 0.1))
    always (command_age < 0.2 or historically[0,0.5] joint_speed < 0.1)

A formula is made of comparisons of arithmetic (`+ - * /`, `abs(…)`) on signals and numbers, joined by `not`, `and`,
`or`, `implies`, by `always[a,b]` and `eventually[a,b]` over the coming seconds, `historically[a,b]` and `once[a,b]`
over the past ones (without an interval: ever since the start), `f until[a,b] g` and `f since g`. The outermost
`always` has no interval: the rule holds at every sample.

The robustness is that of Donzé and Maler, "Robust satisfaction of temporal logic over real-valued signals" (2010):
a > b has a - b, `and` and `always` take the minimum, `or` and `eventually` the maximum, `not` the negative, and
until[a,b] the maximum over t' in [t+a, t+b] of min(g(t'), min of f over [t, t']). Time is discrete, one step per call
of `update`. What looks ahead by h seconds is known h seconds later, and answered then (Maler and Nickovic, "Monitoring
temporal properties of continuous signals", 2004): no later than the rule can be known to be broken. Minima and maxima
of windows cost O(1) per step on average (Lemire, "Streaming maximum-minimum filter", 2006) and memory of the window.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hardware.safety.arm_envelope import Rule
from hardware.safety.rule_parser import Formula, parse
from hardware.safety.rule_steps import Step, compile_formula


@dataclass(frozen=True, eq=False)
class Verdict:
    """A broken rule."""

    rule: Rule
    """Which."""
    robustness: float
    """Negative: by how much, in the units of its signals."""
    explain: str
    """In words."""


def read_rule(text: str) -> Rule:
    """A rule from `name: formula`, or `name: formula -> brake`.

    Raises:
        ValueError: The text has another form; the formula is not looked at.
    """
    name, colon, rest = text.partition(":")
    formula, arrow, reaction = (part.strip() for part in rest.partition("->"))
    if not colon or not formula or (arrow and reaction not in ("hold", "brake")):
        raise ValueError(f"rule {text!r} is not of the form `name: formula` or `name: formula -> brake`")
    return Rule(name=name.strip(), formula=formula, reaction="brake" if reaction == "brake" else "hold")


class RuleMonitor:
    """Robustness of some rules over the samples given so far. Memory depends on the rules' intervals only."""

    def __init__(self, rules: Iterable[Rule], signals: Iterable[str], rate_hz: float) -> None:
        """Compile.

        Args:
            rules: What has to hold.
            signals: Names that `update` will be given.
            rate_hz: Rate of `update`.

        Raises:
            ValueError: A rule cannot be read, names an unknown signal, or looks ahead without end.
        """
        self.rules = tuple(rules)
        self.rate_hz = rate_hz
        known = frozenset(signals)
        names = [rule.name for rule in self.rules]
        if len(set(names)) != len(names):
            raise ValueError(f"rules share a name: {', '.join(names)}")
        self._formulas: list[Formula] = []
        for rule in self.rules:
            try:
                formula = parse(rule.formula)
                if unknown := formula.signals() - known:
                    raise ValueError(
                        f"unknown signal {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}"
                    )
                compile_formula(formula, rate_hz)
            except ValueError as error:
                raise ValueError(f"rule {rule.name!r}: {error}") from error
            self._formulas.append(formula)
        self._used = [sorted(formula.signals()) for formula in self._formulas]
        self.robustness: dict[str, float] = {}
        """Newest robustness by rule's name; inf while it is not known yet."""
        self._steps: list[Step] = []
        self.reset()

    def reset(self) -> None:
        """Begin anew: what was is forgotten."""
        self._steps = [compile_formula(formula, self.rate_hz) for formula in self._formulas]
        self.robustness = {rule.name: math.inf for rule in self.rules}

    def update(self, signals: Mapping[str, float]) -> Verdict | None:
        """Take the next sample; returns the first rule that is broken, one that brakes before others, or None."""
        worst: Verdict | None = None
        for rule, step, used in zip(self.rules, self._steps, self._used, strict=True):
            explain = ""
            for name in used:
                if not math.isfinite(signals[name]):
                    explain = f"rule {rule.name!r} cannot be judged: {name} is {signals[name]}"
            if explain:
                # Not fed: the windows keep what was known.
                value: float | None = -math.inf
            else:
                value = step.update(signals)
            if value is None:
                continue
            self.robustness[rule.name] = value
            if value < 0.0 and (worst is None or (rule.reaction == "brake" and worst.rule.reaction != "brake")):
                if not explain:
                    now = ", ".join(f"{name} = {signals[name]:.3g}" for name in used)
                    explain = f"rule {rule.name!r} is broken by {-value:.3g}: {rule.formula} ({now})"
                worst = Verdict(rule, value, explain)
        return worst
