"""The shipped policy in a simulator that shares no code with the one it was trained in."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import policies

sys.path.insert(0, str(Path(__file__).parent))

import independent_quadrotor as other


def _judge(errors: np.ndarray) -> tuple[int, float]:
    crashed = (errors > 10.0).any(0) | (errors[-1] > 1.0) | ~np.isfinite(errors[-1])
    steady = errors[len(errors) // 2 :, ~crashed]
    return int(crashed.sum()), float(np.sqrt((steady**2).mean()))


def test_nominal_vehicle_in_the_other_simulator() -> None:
    policy = policies.load("quadrotor-hover")
    errors = other.fly_hover(policy, other.nominal_vehicles(100), 10.0, np.random.default_rng(0))
    crashes, rmse = _judge(errors)
    assert crashes == 0
    assert rmse <= 0.015


@pytest.mark.slow
def test_drawn_vehicles_in_the_other_simulator() -> None:
    policy = policies.load("quadrotor-hover")
    rng = np.random.default_rng(3)
    errors = other.fly_hover(policy, other.draw_vehicles(1000, rng), 10.0, rng)
    crashes, _ = _judge(errors)
    steady = errors[len(errors) // 2 :]
    assert crashes <= 5
    assert float(np.median(np.sqrt((steady**2).mean(0)))) <= 0.015
