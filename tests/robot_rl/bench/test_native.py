"""The measurement of the native loop gives what it says."""

import sys

import pytest

from robot_rl.bench import native
from robot_rl.export_c.compiled import find_compiler


@pytest.mark.skipif(find_compiler() is None or sys.platform != "linux", reason="needs Linux and a C compiler")
def test_the_parts_measure_and_count(monkeypatch):
    monkeypatch.setattr(native, "cyclictest", lambda *_: "left out")
    results = native.run(native.NativeBenchConfig(seconds=0.5, rate_hz=200.0, priority=0, states=100))
    assert results["largest_error"] <= 1e-5
    for name in ("quiet", "busy machine", "busy interpreter"):
        figures = results[name]
        assert figures["ticks"] + figures["lost_periods"] >= 60 and figures["commands"] == figures["ticks"]
        assert 0.0 < figures["wake_p50_us"] <= figures["wake_p99_us"] <= figures["wake_max_us"]
    assert results["step_us"]["c_from_python"] < results["step_us"]["python"]
