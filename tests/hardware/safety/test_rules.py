"""Rules against the definition of their robustness, evaluated over whole signals."""

import math

import numpy as np
import pytest

from hardware.safety.arm_envelope import Rule
from hardware.safety.rule_parser import Comparison, parse
from hardware.safety.rule_steps import compile_formula
from hardware.safety.rules import RuleMonitor, read_rule

RATE = 10.0
ATOMS = ("a > 0.3", "b < 0.2", "abs(a) - b >= 0.1", "2*a + b/2 <= 0.5", "(a + b) > -0.2")


def evaluate(expression, signals, k):
    if expression.kind == "number":
        return expression.value
    if expression.kind == "signal":
        return signals[expression.name][k]
    parts = [evaluate(part, signals, k) for part in expression.parts]
    if expression.kind == "abs":
        return abs(parts[0])
    return {"+": parts[0] + parts[1], "-": parts[0] - parts[1], "*": parts[0] * parts[1],
            "/": parts[0] / (parts[1] or math.nan)}[expression.kind]  # fmt: skip


def robustness(formula, signals, k):
    """The definition, for sample k of signals that are long enough."""
    if isinstance(formula, Comparison):
        return evaluate(formula.margin, signals, k)
    operator = formula.operator

    def part(index, t):
        return robustness(formula.parts[index], signals, t)

    if operator == "not":
        return -part(0, k)
    if operator in ("and", "or"):
        return (min if operator == "and" else max)(part(0, k), part(1, k))
    if operator == "since":
        return max(min([part(1, t)] + [part(0, u) for u in range(t + 1, k + 1)]) for t in range(k + 1))
    pick = min if operator in ("always", "historically") else max
    if formula.interval is None:
        return pick(part(0, t) for t in range(k + 1))
    start, end = (round(second * RATE) for second in formula.interval)
    if operator == "until":
        return max(min([part(1, t)] + [part(0, u) for u in range(k, t + 1)]) for t in range(k + start, k + end + 1))
    if operator in ("always", "eventually"):
        return pick(part(0, t) for t in range(k + start, k + end + 1))
    empty = math.inf if operator == "historically" else -math.inf
    return pick((part(0, t) for t in range(max(0, k - end), k - start + 1)), default=empty)


def random_formula(rng, depth):
    if depth == 0:
        return str(rng.choice(ATOMS))
    operator = rng.choice(["not", "and", "or", "implies", "since", "until", "always", "eventually", "historically",
                           "once", "historically!", "once!"])  # fmt: skip
    start, end = sorted(rng.integers(0, 5, 2) / RATE)
    first, second = random_formula(rng, depth - 1), random_formula(rng, depth - 1)
    if operator in ("and", "or", "implies", "since"):
        return f"(({first}) {operator} ({second}))"
    if operator == "until":
        return f"(({first}) until[{start:g},{end:g}] ({second}))"
    if operator == "not" or operator.endswith("!"):
        return f"{operator.rstrip('!')} ({first})"
    return f"{operator}[{start:g},{end:g}] ({first})"


@pytest.mark.parametrize("seed", range(8))
def test_monitor_agrees_with_the_definition(seed):
    rng = np.random.default_rng(seed)
    samples, judged = 30, 0
    for _ in range(12):
        formula = parse(f"always ({random_formula(rng, int(rng.integers(0, 4)))})")
        signals = {"a": rng.normal(size=samples), "b": rng.normal(size=samples)}
        step = compile_formula(formula, RATE)
        for k in range(samples):
            value = step.update({"a": signals["a"][k], "b": signals["b"][k]})
            if k < step.delay:
                assert value is None
                continue
            assert value == pytest.approx(robustness(formula.parts[0], signals, k - step.delay), abs=1e-12)
            judged += 1
    assert judged > 100


def test_slow_down_in_time_or_the_rule_is_broken_when_that_is_certain():
    rule = Rule(name="slow down", formula="always (speed > 0.5 implies eventually[0,0.2] speed < 0.5)")
    monitor = RuleMonitor([rule], ["speed"], 100.0)
    speeds = [0.1] * 50 + [0.7] * 15 + [0.1] * 50 + [0.8] * 40
    verdicts = [monitor.update({"speed": speed}) for speed in speeds]
    broken = [k for k, verdict in enumerate(verdicts) if verdict is not None]
    assert broken[0] == 115 + 20  # 0.2 s after the second excess began; the first ended after 0.15 s
    assert "slow down" in verdicts[135].explain and "broken by 0.3" in verdicts[135].explain
    assert verdicts[135].robustness == pytest.approx(-0.3)


def test_a_rule_that_brakes_goes_before_one_that_holds():
    rules = [Rule(name="one", formula="x < 1"), Rule(name="two", formula="x < 2", reaction="brake")]
    monitor = RuleMonitor(rules, ["x"], 10.0)
    assert monitor.update({"x": 0.0}) is None
    assert monitor.update({"x": 1.5}).rule.name == "one"
    assert monitor.update({"x": 3.0}).rule.name == "two"
    assert monitor.robustness == {"one": -2.0, "two": -1.0}


def test_what_is_not_measured_cannot_be_judged():
    monitor = RuleMonitor([Rule(name="soft", formula="always force < 10")], ["force"], 10.0)
    verdict = monitor.update({"force": math.nan})
    assert verdict.robustness == -math.inf
    assert "'soft' cannot be judged: force is nan" in verdict.explain


def test_memory_does_not_grow():
    step = compile_formula(parse("always (eventually[0,1] x > 0 and historically[0,2] x < 3)"), 10.0)
    window = step._second._part if hasattr(step._second, "_part") else step._second
    rng = np.random.default_rng(0)
    longest = 0
    for k in range(5000):
        step.update({"x": float(k if k < 2500 else rng.normal())})
        longest = max(longest, len(window._window._queue), len(step._first._window._queue))
    assert 1 < longest <= 21


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("always (speed > )", "expected a signal or a number, found '\\)'"),
        ("speed", "expected a comparison"),
        ("speed > 1 speed < 2", "expected the end, found 'speed'"),
        ("always eventually speed > 1", "looks ahead without end"),
        ("eventually[2,1] speed > 1", "must begin at 0 or later"),
        ("sped > 1", "unknown signal sped; there are speed"),
        ("speed > 1 & speed < 2", "cannot read '& speed < 2'"),
        ("(speed > 1", "expected"),
        ("speed > 1 until speed > 2", "an interval"),
    ],
)
def test_errors_name_the_rule_and_the_place(formula, message):
    with pytest.raises(ValueError, match=message) as error:
        RuleMonitor([Rule(name="mine", formula=formula)], ["speed"], 10.0)
    assert "rule 'mine'" in str(error.value)


@pytest.mark.parametrize(("text", "reaction"), [
    ("slow: always (speed < 1)", "hold"), ("slow: always (speed < 1) -> brake", "brake"),
    (" slow :always (speed < 1)->hold", "hold"),
])  # fmt: skip
def test_a_rule_is_read_from_one_line(text, reaction):
    assert read_rule(text) == Rule(name="slow", formula="always (speed < 1)", reaction=reaction)


@pytest.mark.parametrize("text", ["always (speed < 1)", "slow:", "slow: -> brake", "slow: always (a < 1) -> land"])
def test_a_line_of_another_form_is_refused(text):
    with pytest.raises(ValueError, match="is not of the form `name: formula` or `name: formula -> brake`"):
        read_rule(text)
