"""From the text of a rule to its syntax tree; see `hardware.safety.rules` for the language."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, NoReturn, TypeAlias

_TOKEN = re.compile(r"\s*(?:(\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+)|([A-Za-z_][A-Za-z0-9_]*)|(<=|>=|[-+*/()<>\[\],]))")
_WORDS = frozenset(
    ("always", "eventually", "historically", "once", "until", "since", "not", "and", "or", "implies", "abs")
)
_TEMPORAL = ("always", "eventually", "historically", "once")

Operator: TypeAlias = Literal["not", "and", "or", "always", "eventually", "historically", "once", "until", "since"]


@dataclass(frozen=True)
class Expression:
    """Arithmetic on signals."""

    kind: Literal["number", "signal", "+", "-", "*", "/", "abs"]
    """What it does."""
    value: float = 0.0
    """Of a number."""
    name: str = ""
    """Of a signal."""
    parts: tuple[Expression, ...] = ()
    """Operands."""

    def signals(self) -> frozenset[str]:
        """Names that it reads."""
        own = frozenset((self.name,)) if self.kind == "signal" else frozenset()
        return own.union(*(part.signals() for part in self.parts))


@dataclass(frozen=True)
class Comparison:
    """Holds where `margin` is positive, and by how much."""

    margin: Expression
    """Left minus right of >, the other way round of <."""

    def signals(self) -> frozenset[str]:
        """Names that it reads."""
        return self.margin.signals()


@dataclass(frozen=True)
class Operation:
    """Formulas joined, or seen through a window of time."""

    operator: Operator
    """What joins them."""
    parts: tuple[Formula, ...]
    """Operands."""
    interval: tuple[float, float] | None = None
    """s; None: without end."""

    def signals(self) -> frozenset[str]:
        """Names that it reads."""
        return frozenset().union(*(part.signals() for part in self.parts))


Formula: TypeAlias = Comparison | Operation


def parse(text: str) -> Formula:
    """Read a formula.

    Raises:
        ValueError: Where it cannot be read, and what was expected there.
    """
    parser = _Parser(text)
    formula = parser.implication()
    parser.end()
    return formula


class _Parser:
    """Recursive descent; every method reads what its name says."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[tuple[str, int]] = []
        place = 0
        while text[place:].strip():
            match = _TOKEN.match(text, place)
            if match is None:
                raise ValueError(f"cannot read {text[place:].strip()[:20]!r} in {text!r}")
            self._tokens.append((match.group().strip(), match.end()))
            place = match.end()
        self._next = 0

    def implication(self) -> Formula:
        left = self._conjunction()
        while self._taken("or"):
            left = Operation("or", (left, self._conjunction()))
        if not self._taken("implies"):
            return left
        # Right-associative: a implies b implies c is a implies (b implies c).
        return Operation("or", (Operation("not", (left,)), self.implication()))

    def end(self) -> None:
        if self._next < len(self._tokens):
            self._fail("the end")

    def _conjunction(self) -> Formula:
        left = self._binary()
        while self._taken("and"):
            left = Operation("and", (left, self._binary()))
        return left

    def _binary(self) -> Formula:
        left = self._unary()
        if self._taken("until"):
            interval = self._interval()
            if interval is None:
                self._fail("an interval such as [0,1] after 'until'")
            return Operation("until", (left, self._unary()), interval)
        if self._taken("since"):
            return Operation("since", (left, self._unary()))
        return left

    def _unary(self) -> Formula:
        if self._taken("not"):
            return Operation("not", (self._unary(),))
        for word in _TEMPORAL:
            if self._taken(word):
                interval = self._interval()
                return Operation(word, (self._unary(),), interval)  # type: ignore[arg-type]
        return self._atom()

    def _atom(self) -> Formula:
        # A parenthesis may hold a formula or arithmetic: try the latter, go back if no comparison follows.
        start = self._next
        try:
            return self._comparison()
        except ValueError:
            furthest = self._next
            self._next = start
            if not self._taken("("):
                self._next = furthest
                raise
        formula = self.implication()
        self._expect(")")
        return formula

    def _comparison(self) -> Formula:
        left = self._sum()
        for symbol in ("<=", ">=", "<", ">"):
            if self._taken(symbol):
                right = self._sum()
                parts = (right, left) if symbol.startswith("<") else (left, right)
                return Comparison(Expression("-", parts=parts))
        self._fail("a comparison, < or >")

    def _sum(self) -> Expression:
        left = self._product()
        while symbol := self._one_of("+", "-"):
            left = Expression(symbol, parts=(left, self._product()))  # type: ignore[arg-type]
        return left

    def _product(self) -> Expression:
        left = self._factor()
        while symbol := self._one_of("*", "/"):
            left = Expression(symbol, parts=(left, self._factor()))  # type: ignore[arg-type]
        return left

    def _factor(self) -> Expression:
        if self._taken("-"):
            return Expression("-", parts=(Expression("number"), self._factor()))
        if self._taken("abs"):
            self._expect("(")
            inner = self._sum()
            self._expect(")")
            return Expression("abs", parts=(inner,))
        if self._taken("("):
            inner = self._sum()
            self._expect(")")
            return inner
        token = self._peek()
        if token[:1].isdigit() or token[:1] == ".":
            self._next += 1
            return Expression("number", value=float(token))
        if token and (token[0].isalpha() or token[0] == "_") and token not in _WORDS:
            self._next += 1
            return Expression("signal", name=token)
        self._fail("a signal or a number")

    def _interval(self) -> tuple[float, float] | None:
        if not self._taken("["):
            return None
        start = self._number()
        self._expect(",")
        end = self._number()
        self._expect("]")
        if not 0.0 <= start <= end:
            raise ValueError(
                f"interval [{start:g},{end:g}] s in {self._text!r} must begin at 0 or later and not end before"
            )
        return start, end

    def _number(self) -> float:
        token = self._peek()
        if not (token[:1].isdigit() or token[:1] == "."):
            self._fail("a number of seconds")
        self._next += 1
        return float(token)

    def _peek(self) -> str:
        return self._tokens[self._next][0] if self._next < len(self._tokens) else ""

    def _taken(self, token: str) -> bool:
        if self._peek() != token:
            return False
        self._next += 1
        return True

    def _one_of(self, *tokens: str) -> str:
        token = self._peek()
        if token not in tokens:
            return ""
        self._next += 1
        return token

    def _expect(self, token: str) -> None:
        if not self._taken(token):
            self._fail(repr(token))

    def _fail(self, expected: str) -> NoReturn:
        found = repr(self._peek()) if self._peek() else "the end"
        raise ValueError(f"expected {expected}, found {found} at word {self._next + 1} of {self._text!r}")
