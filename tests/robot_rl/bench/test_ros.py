"""The benchmark of the processes: its arithmetic, and one short run of each part."""

import dataclasses
import json
import os
import stat

import pytest

from hardware.realtime.histogram import Histogram
from robot_rl.bench import planes
from robot_rl.bench.ros import RosBenchConfig, run


def test_what_lies_between_two_looks_is_counted_alone():
    first = Histogram()
    for value in (5e-3, 1e-5):
        first.record(value)
    last = Histogram.restore(first.counts.copy(), first.sum, first.max)
    for _ in range(10):
        last.record(1e-4)
    between = planes.between(first, last)
    assert between.count == 10 and between.max == pytest.approx(1e-4, rel=0.07)
    assert between.to_dict()["mean"] == pytest.approx(1e-4)


def test_cyclictest_that_is_missing_is_a_sentence(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert planes.cyclictest(500.0, 1.0) == {"skipped": "cyclictest is not installed: apt install rt-tests"}


def test_its_histogram_becomes_percentiles_and_missed_deadlines(monkeypatch, tmp_path):
    histogram = {"5": 9800, "40": 150, "2500": 50}
    report = {"thread": {"0": {"histogram": histogram, "cycles": 10_000, "max": 2500}}}
    fake = tmp_path / "cyclictest"
    fake.write_text(
        "#!/bin/sh\nfor argument; do case $argument in --json=*) "
        f"echo '{json.dumps(report)}' > \"${{argument#--json=}}\";; esac; done\n"
    )
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = planes.cyclictest(500.0, 1.0)
    assert (found["p50_us"], found["p99_us"], found["max_us"]) == (5, 40, 2500)
    assert found["missed"] == 50 and found["missed_per_10000"] == pytest.approx(50.0)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_parts_are_stored_beside_each_other(tmp_path):
    settings = RosBenchConfig(
        out=tmp_path / "ros.json",
        planes=planes.SuccessConfig(tasks=("arm-reach",), starts=2),
        timing=planes.TimingConfig(seconds=2.0),
    )
    run(dataclasses.replace(settings, part="planes"), {"commit": "before"})
    run(dataclasses.replace(settings, part="timing"), {"commit": "none"})
    stored = json.loads(settings.out.read_text())
    row = stored["planes"]["tasks"]["arm-reach"]
    assert 0.0 <= row["success_rate"] <= 1.0 and row["starts"] == 2
    assert stored["timing"]["control"]["ticks"] > 100
    assert stored["timing"]["where"] == {"commit": "none"}
