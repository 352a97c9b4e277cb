"""Configs survive their JSON; what is no such config is refused by name, unless it is an old one."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from robot_rl.rebuild import from_json, rebuild, to_json


@dataclass(frozen=True, kw_only=True)
class Inner:
    gains: tuple[float, ...] = (1.0, 2.0)
    mode: Literal["soft", "stiff"] = "soft"


@dataclass(frozen=True, kw_only=True)
class Outer:
    rate: float = 10.0
    name: str = ""
    inner: Inner = field(default_factory=Inner)
    other: Inner | None = None
    names: dict[str, str] = field(default_factory=dict)


@pytest.mark.parametrize(
    "config",
    [
        Outer(),
        Outer(rate=5.0, name="a", inner=Inner(gains=(), mode="stiff"), other=Inner(gains=(3.0,)), names={"a": "b"}),
        Outer(rate=float("inf")),
    ],
)
def test_there_and_back(config):
    assert from_json(Outer, to_json(config)) == config


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"speed": 1}, "Outer has no field 'speed'; it has rate, name"),
        ({"inner": {"gain": 1}}, "Inner has no field 'gain'"),
        ({"inner": {"mode": "hard"}}, "Inner.mode is 'hard'; choose one of soft, stiff"),
        ({"inner": {"gains": 3}}, "Inner.gains is 3; expected a list"),
        ({"names": [1]}, r"Outer.names is \[1\]; expected a JSON object"),
        ({"rate": "fast"}, "Outer.rate is 'fast'; expected float"),
        ({"rate": True}, "Outer.rate is True; expected float"),
        ({"name": None}, "Outer.name is None; expected str"),
        ([1], "expected a JSON object"),
    ],
)
def test_what_does_not_fit_is_named(data, words):
    with pytest.raises(ValueError, match=words):
        from_json(Outer, json.dumps(data))


def test_a_config_of_an_old_version_keeps_what_there_still_is():
    old = {"rate": 3, "forgotten": 1, "inner": {"gains": [4.0], "gone": 2}}
    assert rebuild(Outer, old, lenient=True) == Outer(rate=3, inner=Inner(gains=(4.0,)))


def test_paths_are_paths_again():
    @dataclass(frozen=True)
    class Run:
        out: Path
        base: Path | None = None

    assert rebuild(Run, {"out": "runs/a", "base": None}) == Run(Path("runs/a"))
    assert rebuild(Run, {"out": "runs/a", "base": "b"}, lenient=True) == Run(Path("runs/a"), Path("b"))
