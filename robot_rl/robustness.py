"""How far a policy carries: its score against each randomized parameter in turn, from half to double its range."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sim.randomization import RandomizationTerm

FACTORS = (0.0, 0.5, 1.0, 1.5, 2.0)
"""Multiples of a parameter's declared range; 0 leaves it at the middle, or at 0 where the range begins there."""


def widened(term: RandomizationTerm, factor: float) -> RandomizationTerm:
    """The term with `factor` times its range about the range's middle; a logarithmic range grows in logarithms."""
    if term.distribution == "gaussian":
        return dataclasses.replace(term, high=term.high * factor)
    if term.distribution == "loguniform":
        middle, half = math.log(term.low * term.high) / 2.0, math.log(term.high / term.low) / 2.0
        return dataclasses.replace(term, low=math.exp(middle - factor * half), high=math.exp(middle + factor * half))
    if term.low == 0.0:
        # A magnitude such as a latency or a noise begins at 0 and cannot become negative.
        return dataclasses.replace(term, high=factor * term.high)
    middle, half = (term.low + term.high) / 2.0, (term.high - term.low) / 2.0
    low = middle - factor * half
    if term.low > 0.0:  # a mass or a strength stays positive
        low = max(low, 0.1 * term.low)
    return dataclasses.replace(term, low=low, high=middle + factor * half)


def robustness_rows(
    terms: tuple[RandomizationTerm, ...], score: Callable[[tuple[RandomizationTerm, ...]], float]
) -> list[dict[str, Any]]:
    """One row per parameter: `score` with its range multiplied by each factor, the others as declared."""
    rows = []
    declared = score(terms) if terms else 0.0  # the same in every row
    for index, term in enumerate(terms):
        row: dict[str, Any] = {"parameter": term.parameter, "low": term.low, "high": term.high}
        for factor in FACTORS:
            changed = (*terms[:index], widened(term, factor), *terms[index + 1 :])
            row[f"x{factor:g}"] = declared if factor == 1.0 else score(changed)
        rows.append(row)
    return rows


def table(rows: list[dict[str, Any]]) -> list[str]:
    """The rows as lines of Markdown."""
    names = [f"x{factor:g}" for factor in FACTORS]
    lines = ["| parameter | declared range | " + " | ".join(names) + " |", "|---" * (2 + len(names)) + "|"]
    for row in rows:
        cells = [f"{row[name]:.1%}" for name in names]
        lines.append(f"| {row['parameter']} | {row['low']:g} … {row['high']:g} | " + " | ".join(cells) + " |")
    return lines


def write_table(path: Path, title: str, rows: list[dict[str, Any]]) -> None:
    """`path`.json and `path`.md."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".json").write_text(json.dumps({"title": title, "rows": rows}, indent=2) + "\n")
    lines = [f"# {title}", "", *table(rows)]
    path.with_suffix(".md").write_text("\n".join(lines) + "\n")
    sys.stdout.write("\n".join(lines) + "\n")
