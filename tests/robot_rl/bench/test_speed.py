"""The speed benchmark: every figure is there, positive, and consistent with the others."""

from __future__ import annotations

import time

import pytest

from robot_rl.bench import speed

TINY = speed.SpeedConfig(num_envs=4, num_arms=2, steps=2, inferences=5, frames=2, repeats=1)


def test_everything_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    results = speed.run(TINY)
    assert {"environment quadrotor-hover", "environment arm-push", "2 arms", "1 arm"} <= results.keys()
    assert {"policy quadrotor-hover", "policy quadrotor-track"} <= results.keys()
    printed = capsys.readouterr().out
    assert ("cameras" in results) or ("cameras: left out" in printed)
    for name, values in results.items():
        assert all(value > 0.0 for value in values.values()), name
        assert f"{name}: " in printed
    arms = results["2 arms"]
    assert arms["controlled_per_raw"] == pytest.approx(arms["controlled_ms"] / arms["raw_ms"])
    assert arms["environment_steps_per_cpu_s"] == pytest.approx(2e3 / arms["environment_ms"])
    latency = results["policy quadrotor-hover"]
    assert latency["p50_us"] <= latency["p99_us"] <= latency["max_us"]


def test_a_rate_counts_what_was_done_and_not_the_run_before() -> None:
    calls = []

    def work() -> None:
        calls.append(1)
        time.sleep(0.0 if len(calls) > 1 else 0.3)

    rates = speed._rates(work, 10, repeats=3)
    assert len(calls) == 4
    assert rates["best_per_s"] >= rates["median_per_s"] > 0.0
    assert rates["best_per_s"] > 10 / 0.3, "the first run, which is slow, does not count"
