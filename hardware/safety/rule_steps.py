"""The steps that compute a rule's robustness sample by sample; see `hardware.safety.rules`.

A step's value at sample k is that of its formula at sample k - `delay`: what looks ahead answers later. A value is
None as long as there is none yet.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

from hardware.safety.rule_parser import Comparison, Expression, Formula, Operation

Signals: TypeAlias = Mapping[str, float]


class Step(Protocol):
    """One node of a formula."""

    delay: int
    """Samples by which its value comes late."""

    def update(self, signals: Signals) -> float | None:
        """Take the next sample of all signals."""


def compile_formula(formula: Formula, rate_hz: float) -> Step:
    """Steps of a rule; an outermost `always` without an interval is what a monitor does anyway.

    Raises:
        ValueError: Something looks ahead without end.
    """
    if isinstance(formula, Operation) and formula.operator == "always" and formula.interval is None:
        formula = formula.parts[0]
    return _compile(formula, rate_hz)


def _compile(formula: Formula, rate_hz: float) -> Step:
    if isinstance(formula, Comparison):
        return _Predicate(formula.margin)
    parts = [_compile(part, rate_hz) for part in formula.parts]
    operator, interval = formula.operator, formula.interval
    if operator == "not":
        return _Negation(parts[0])
    if operator in ("and", "or"):
        return _Pair(*_aligned(parts), operator == "and")
    if operator == "since":
        return _Since(*_aligned(parts))
    if interval is None:
        if operator in ("always", "eventually"):
            raise ValueError(f"{operator!r} inside a rule looks ahead without end; give an interval: {operator}[0,1]")
        return _Ever(parts[0], operator == "historically")
    start, end = (round(second * rate_hz) for second in interval)
    if operator == "until":
        return _Until(*_aligned(parts), start, end)
    lowest = operator in ("always", "historically")
    if operator in ("always", "eventually"):
        return _Ahead(parts[0], start, end, lowest)
    return _Behind(parts[0], start, end, lowest)


def _aligned(parts: list[Step]) -> tuple[Step, Step]:
    """Both steps with the larger delay."""
    first, second = parts
    latest = max(first.delay, second.delay)
    return _late(first, latest - first.delay), _late(second, latest - second.delay)


def _late(step: Step, samples: int) -> Step:
    return step if samples == 0 else _Late(step, samples)


class _Predicate:
    def __init__(self, margin: Expression) -> None:
        self.delay = 0
        self._evaluate = _evaluator(margin)

    def update(self, signals: Signals) -> float | None:
        return self._evaluate(signals)


class _Negation:
    def __init__(self, part: Step) -> None:
        self.delay, self._part = part.delay, part

    def update(self, signals: Signals) -> float | None:
        value = self._part.update(signals)
        return None if value is None else -value


class _Pair:
    def __init__(self, first: Step, second: Step, lowest: bool) -> None:
        self.delay, self._first, self._second, self._lowest = first.delay, first, second, lowest

    def update(self, signals: Signals) -> float | None:
        first, second = self._first.update(signals), self._second.update(signals)
        if first is None or second is None:
            return None
        return min(first, second) if self._lowest else max(first, second)


class _Late:
    """The part's value some samples ago."""

    def __init__(self, part: Step, samples: int) -> None:
        self.delay, self._part = part.delay + samples, part
        self._line: deque[float | None] = deque([None] * samples, maxlen=samples)

    def update(self, signals: Signals) -> float | None:
        oldest = self._line[0]
        self._line.append(self._part.update(signals))
        return oldest


class _Ever:
    """Minimum or maximum since the start."""

    def __init__(self, part: Step, lowest: bool) -> None:
        self.delay, self._part, self._lowest = part.delay, part, lowest
        self._value: float | None = None

    def update(self, signals: Signals) -> float | None:
        value = self._part.update(signals)
        if value is not None:
            old = self._value
            self._value = value if old is None else min(old, value) if self._lowest else max(old, value)
        return self._value


class _Since:
    """f since g: s(t) = max(g(t), min(f(t), s(t-1)))."""

    def __init__(self, holds: Step, began: Step) -> None:
        self.delay, self._holds, self._began = holds.delay, holds, began
        self._value = -math.inf

    def update(self, signals: Signals) -> float | None:
        holds, began = self._holds.update(signals), self._began.update(signals)
        if holds is None or began is None:
            return None
        self._value = max(began, min(holds, self._value))
        return self._value


class _Window:
    """Minimum or maximum of the last values, those that can still become it in a queue."""

    def __init__(self, samples: int, lowest: bool) -> None:
        self._samples, self._sign = samples, 1.0 if lowest else -1.0
        self._queue: deque[tuple[int, float]] = deque()
        self.count = 0

    def push(self, value: float) -> float:
        value *= self._sign
        queue = self._queue
        while queue and queue[-1][1] >= value:
            queue.pop()
        queue.append((self.count, value))
        if queue[0][0] <= self.count - self._samples:
            queue.popleft()
        self.count += 1
        return self._sign * queue[0][1]


class _Ahead:
    """Over [t + start, t + end]: known `end` samples later."""

    def __init__(self, part: Step, start: int, end: int, lowest: bool) -> None:
        self.delay, self._part, self._end = part.delay + end, part, end
        self._window = _Window(end - start + 1, lowest)

    def update(self, signals: Signals) -> float | None:
        value = self._part.update(signals)
        if value is None:
            return None
        value = self._window.push(value)
        return value if self._window.count > self._end else None


class _Behind:
    """Over [t - end, t - start], as far as there are samples."""

    def __init__(self, part: Step, start: int, end: int, lowest: bool) -> None:
        self.delay, self._part = part.delay, _late(part, start)
        self._window = _Window(end - start + 1, lowest)
        # Before there is a past, nothing has happened: `once` fails, `historically` holds.
        self._empty = math.inf if lowest else -math.inf
        self._waiting = part.delay

    def update(self, signals: Signals) -> float | None:
        value = self._part.update(signals)
        if value is not None:
            return self._window.push(value)
        if self._waiting > 0:
            self._waiting -= 1
            return None
        return self._empty


class _Until:
    """f until[start,end] g: known `end` samples later."""

    def __init__(self, holds: Step, comes: Step, start: int, end: int) -> None:
        self.delay, self._holds, self._comes, self._start = holds.delay + end, holds, comes, start
        self._pairs: deque[tuple[float, float]] = deque(maxlen=end + 1)

    def update(self, signals: Signals) -> float | None:
        holds, comes = self._holds.update(signals), self._comes.update(signals)
        if holds is None or comes is None:
            return None
        pairs = self._pairs
        pairs.append((holds, comes))
        if len(pairs) < (pairs.maxlen or 1):
            return None
        best, least = -math.inf, math.inf
        for index, (now, then) in enumerate(pairs):
            least = min(least, now)
            if index >= self._start:
                best = max(best, min(least, then))
        return best


def _evaluator(expression: Expression) -> Callable[[Signals], float]:
    """A function that computes an expression."""
    if expression.kind == "number":
        number = expression.value
        return lambda signals: number
    if expression.kind == "signal":
        name = expression.name
        return lambda signals: signals[name]
    parts = [_evaluator(part) for part in expression.parts]
    if expression.kind == "abs":
        inner = parts[0]
        return lambda signals: abs(inner(signals))
    left, right = parts
    if expression.kind == "+":
        return lambda signals: left(signals) + right(signals)
    if expression.kind == "-":
        return lambda signals: left(signals) - right(signals)
    if expression.kind == "*":
        return lambda signals: left(signals) * right(signals)
    return lambda signals: _quotient(left(signals), right(signals))


def _quotient(numerator: float, denominator: float) -> float:
    """Division by zero is no reason to stop judging: it is infinitely far, on the numerator's side."""
    return numerator / denominator if denominator else math.copysign(math.inf, numerator)
