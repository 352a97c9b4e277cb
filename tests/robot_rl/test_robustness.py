"""The robustness table: ranges grow about what is nominal, one parameter at a time, and the table says it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from robot_rl.evaluate import EvaluateConfig, run
from robot_rl.robustness import FACTORS, robustness_rows, widened, write_table
from sim.randomization import RandomizationTerm
from sim.tasks import TASKS

ALL_TERMS = [(name, term) for name, task in sorted(TASKS.items()) for term in task.randomization]


def ends(factor: float, **fields: object) -> tuple[float, float]:
    term = widened(RandomizationTerm(**{"parameter": "x", **fields}), factor)
    return term.low, term.high


@pytest.mark.parametrize(
    ("fields", "at_0", "at_2"),
    [
        ({"low": 0.9, "high": 1.1}, (1.0, 1.0), (0.8, 1.2)),  # a strength, set
        ({"low": 0.9, "high": 1.1, "operation": "scale"}, (1.0, 1.0), (0.8, 1.2)),
        ({"low": -0.2, "high": 0.2}, (0.0, 0.0), (-0.4, 0.4)),  # a bias
        ({"low": 0.0, "high": 0.03}, (0.0, 0.0), (0.0, 0.06)),  # a latency
        ({"low": 0.15, "high": 0.5}, (0.325, 0.325), (0.015, 0.675)),  # a mass, which stays above 0
        ({"low": 0.5, "high": 2.0, "distribution": "loguniform"}, (1.0, 1.0), (0.25, 4.0)),
        ({"low": 0.1, "high": 0.2, "distribution": "gaussian"}, (0.1, 0.0), (0.1, 0.4)),
    ],
)
def test_a_range_grows_about_its_middle_and_stays_physical(
    fields: dict[str, object], at_0: tuple[float, float], at_2: tuple[float, float]
) -> None:
    assert ends(0.0, **fields) == pytest.approx(at_0)
    assert ends(1.0, **fields) == pytest.approx((fields["low"], fields["high"]))
    assert ends(2.0, **fields) == pytest.approx(at_2)


@pytest.mark.parametrize(("name", "term"), ALL_TERMS, ids=[f"{name}:{term.parameter}" for name, term in ALL_TERMS])
def test_every_declared_range_can_be_widened(name: str, term: RandomizationTerm) -> None:
    widths = []
    for factor in FACTORS:
        wide = widened(term, factor)
        low, high = (0.0, wide.high) if term.distribution == "gaussian" else (wide.low, wide.high)
        widths.append(math.log(high / low) if term.distribution == "loguniform" else high - low)
        assert wide.low > 0.0 or term.low <= 0.0
    assert widths[0] == pytest.approx(0.0, abs=1e-9)
    assert all(a < b for a, b in zip(widths, widths[1:], strict=False)) or term.has_zero_range


def test_each_row_varies_one_parameter_and_leaves_the_others_as_declared(tmp_path: Path) -> None:
    terms = tuple(RandomizationTerm(parameter=name, low=-1.0, high=1.0) for name in "ab")
    asked = []

    def score(changed: tuple[RandomizationTerm, ...]) -> float:
        asked.append([term.high for term in changed])
        return changed[0].high / 10.0

    rows = robustness_rows(terms, score)
    others = [factor for factor in FACTORS if factor != 1.0]
    assert asked == [[1.0, 1.0]] + [[factor, 1.0] for factor in others] + [[1.0, factor] for factor in others]
    write_table(tmp_path / "table", "a title", rows)
    stored = json.loads((tmp_path / "table.json").read_text())
    assert stored["title"] == "a title" and stored["rows"] == rows
    page = (tmp_path / "table.md").read_text()
    assert "| a | -1 … 1 | 0.0% | 5.0% | 10.0% | 15.0% | 20.0% |" in page


def test_the_command_writes_the_table_of_an_expert(tmp_path: Path) -> None:
    file = tmp_path / "terms.yaml"
    # A bias of 1 rad makes the goal unreachable; none leaves it easy.
    file.write_text("- {parameter: joint_position_bias, low: -0.5, high: 0.5}\n")
    config = EvaluateConfig(
        bundle="expert", task="arm-reach", episodes=3, randomization=str(file), robustness=tmp_path / "table"
    )
    assert run(config) == 0
    (row,) = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert row["x0"] == 1.0
    assert row["x2"] < 0.5
