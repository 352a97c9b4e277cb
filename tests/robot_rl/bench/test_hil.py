"""The benchmark of human in the loop: its book-keeping, and operators that drive alone."""

import dataclasses
import json

import pytest

from robot_rl.bench import hil
from robot_rl.bench.hil import HilBenchConfig, drive_alone
from robot_rl.errors import UserError
from robot_rl.hil.operators import OperatorConfig


@pytest.fixture
def config(tmp_path):
    return HilBenchConfig(cells=("rlif",), seeds=(0, 1), out=tmp_path / "hil.json", runs=tmp_path)


@pytest.fixture
def runs(monkeypatch):
    """Stands in for the runs, which take minutes: which were asked for, and what they reached."""
    asked = []

    def run_one(name, cell, seed, config):
        asked.append((name, seed))
        return {"success_rate": 0.9 + 0.05 * seed, "cycle_time_s": 2.0 + seed}

    monkeypatch.setattr(hil, "run_one", run_one)
    monkeypatch.setattr(hil, "evaluate", lambda *_, **__: {"success_rate": 1.0, "cycle_time_s": 2.5})
    return asked


def test_every_seed_is_run_once_and_stored_as_it_ends(config, runs):
    hil.run(dataclasses.replace(config, seeds=(1,)), {})
    assert json.loads(config.out.read_text())["cells"]["rlif"]["median_success_rate"] == pytest.approx(0.95)
    hil.run(config, {})
    assert runs == [("rlif", 1), ("rlif", 0)]
    cell = json.loads(config.out.read_text())["cells"]["rlif"]
    assert cell["worst_success_rate"] == pytest.approx(0.9)
    assert cell["mean_cycle_time_s"] == pytest.approx(2.5)


def test_a_cell_that_nobody_knows_is_refused(config, runs):
    with pytest.raises(UserError, match="no-such-cell"):
        hil.run(dataclasses.replace(config, cells=("no-such-cell",)), {})


def test_the_operator_of_a_cell_is_measured_once(config, runs, monkeypatch):
    measured = []
    monkeypatch.setattr(hil, "drive_alone", lambda *asked: measured.append(asked) or {"success_rate": 0.6})
    for _ in range(2):
        hil.run(dataclasses.replace(config, cells=("rlif-two-thirds", "rlif")), {})
    assert [operator.wrong for _, operator, _ in measured] == [pytest.approx(1 / 3, abs=1e-3)]
    assert json.loads(config.out.read_text())["operators_alone"] == {"rlif-two-thirds": {"success_rate": 0.6}}


def test_an_operator_alone_succeeds_as_often_as_it_is_right():
    good = drive_alone("arm-reach", OperatorConfig(), episodes=3)
    assert good["success_rate"] == 1.0 and good["cycle_time_s"] > 0.0
    bad = drive_alone("arm-reach", OperatorConfig(wrong=1.0), episodes=3)
    assert bad == {"episodes": 3, "success_rate": 0.0, "cycle_time_s": None}
