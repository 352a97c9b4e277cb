"""The quadrotor's nodes against pure simulation: how well they follow the figure-eight, in real time."""

from __future__ import annotations

import os
import random
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.bench.faults.launched import Launched
from robot_rl.evaluate import evaluate
from robot_rl.flight import FigureEight, figure_eight_rmse, load_flight, load_timing, measure_phases


@dataclass(frozen=True, kw_only=True)
class FlightConfig:
    """Fly the figure-eight through the nodes."""

    bundle: str = "quadrotor-track"
    """Policy: path or zoo name."""
    flights: int = 5
    """Of about 35 s each."""
    periods: int = 2
    """Figures that count, after the ramp: as in `robot-rl eval`."""
    domain: int = 0
    """ROS domain, 1 to 101; 0: that of the environment, or a random one."""
    timeout: float = 180.0
    """s that a flight may take, with the start of all nodes."""


def run_flight(config: FlightConfig) -> dict[str, Any]:
    """RMSE of each flight beside that of pure simulation, the same vehicle without randomization."""
    pure = evaluate(config.bundle, episodes=1, seed=0, randomization="none")
    flights = [_fly(config) for _ in range(config.flights)]
    flown = [flight["tracking_rmse_m"] for flight in flights]
    mean = float(np.mean(flown))
    results = {
        "bundle": config.bundle,
        "flights": flights,
        "tracking_rmse_m": mean,
        "worst_tracking_rmse_m": float(np.max(flown)),
        "pure_tracking_rmse_m": pure["tracking_rmse_m"],
        "ratio": mean / pure["tracking_rmse_m"],
    }
    print(f"flight: {results}", flush=True)
    return results


def _fly(config: FlightConfig) -> dict[str, Any]:
    domain = config.domain or int(os.environ.get("ROS_DOMAIN_ID") or random.SystemRandom().randint(1, 101))
    with tempfile.TemporaryDirectory() as folder:
        arguments = [f"policy:={config.bundle}", "setpoint:=demo", "auto_arm:=true", "end_when_done:=true"]
        with Launched("quadrotor", domain, *arguments, f"record:={folder}") as launched:
            try:
                status = launched.process.wait(config.timeout)
            except subprocess.TimeoutExpired:
                status = None
            if status != 0:
                raise RuntimeError(f"the flight ended with status {status}:\n{launched.text}")
        flight, timing = load_flight(folder), load_timing(Path(folder))
    eight = next(phase for phase in measure_phases(flight) if phase.name == FigureEight().phase)
    return {
        "tracking_rmse_m": figure_eight_rmse(flight, FigureEight(periods=config.periods)),
        "worst_m": eight.worst,
        "samples": len(flight.time),
        "timing_us": {name: {key: chart[key] for key in ("p50_us", "p99_us")} for name, chart in timing.items()},
    }


def section(part: dict[str, Any]) -> list[str]:
    """Lines of Markdown about stored results."""
    flown = ", ".join(f"{100 * flight['tracking_rmse_m']:.2f}" for flight in part["flights"])
    return [
        f"`{part['bundle']}` flies the figure-eight (1 m, 5.5 s) through the nodes and their processes:",
        f"tracking error {100 * part['tracking_rmse_m']:.2f} cm RMS ({flown} cm in {len(part['flights'])} flights),",
        f"{100 * part['pure_tracking_rmse_m']:.2f} cm in pure simulation: {part['ratio']:.2f} times.",
        "",
    ]
