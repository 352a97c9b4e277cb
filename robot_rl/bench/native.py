"""How well the native loop keeps time: a policy in C at 1 kHz, beside a quiet and a busy machine, and beside Python.

A wake-up's error says what the system grants, the work what the policy takes. Where `cyclictest` (Debian: rt-tests) is
installed it runs before and after at the same rate and priority: the difference to it is ours, the rest the machine's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import policies
from hardware.realtime.histogram import Histogram
from hardware.realtime.seqlock import SlotWriter
from policies.bundle import read_manifest
from robot_rl.export_c.compiled import CompiledPolicy, compare, compile_library
from robot_rl.export_c.layout import Fields, unflatten
from robot_rl.export_c.samples import random_rows
from robot_rl.export_c.writer import write_c
from robot_rl.native.loop import Input, NativeConfig, NativeLoop, NativeStatistics, Output


@dataclass(frozen=True, kw_only=True)
class NativeBenchConfig:
    """Measure the native loop."""

    bundle: str = "quadrotor-track"
    """Policy: path or zoo name."""
    rate_hz: float = 1000.0
    """Of the thread; the policy steps at every tick."""
    seconds: float = 20.0
    """Of each measurement."""
    priority: int = 80
    """Of SCHED_FIFO where it is permitted; 0: normal."""
    states: int = 10_000
    """Random states over which C is compared with the bundle."""


def record_type(fields: Fields) -> np.dtype:
    """Records of float64 with the members of a structure, and the stamp of the measurement."""
    return np.dtype([("stamp", "f8"), *((name, "f8", count) if count > 1 else (name, "f8") for name, count in fields)])


def run(config: NativeBenchConfig) -> dict[str, Any]:
    """Measure everything."""
    _, manifest = read_manifest(config.bundle)
    with tempfile.TemporaryDirectory() as folder:
        library = compile_library(write_c(config.bundle, Path(folder) / "c"))
        policy = CompiledPolicy(library, manifest)
        results: dict[str, Any] = {
            "bundle": manifest.name,
            "boot_test": policy.boot_test(),
            "largest_error": compare(policy, config.bundle, episodes=config.states // 50, steps=50),
            "step_us": measure_steps(policy, config.bundle),
            "cyclictest_before": cyclictest(config.rate_hz, config.seconds, config.priority),
        }
        for name, load in (("quiet", _no_load), ("busy machine", busy_machine), ("busy interpreter", busy_interpreter)):
            with load():
                results[name] = _figures(measure_loop(policy, config), config.rate_hz)
            print(f"{name}: {results[name]}", flush=True)
        results["cyclictest_after"] = cyclictest(config.rate_hz, config.seconds, config.priority)
    return results


def measure_steps(policy: CompiledPolicy, bundle: str | Path, count: int = 5000) -> dict[str, float]:
    """Median µs of a step from state to command: in Python on onnxruntime, and in C called from Python."""
    states, setpoints = random_rows(policy.layout, count, seed=0)
    python = policies.load(bundle)
    pairs = [
        (unflatten(state, policy.layout, "state"), unflatten(setpoint, policy.layout, "setpoint"))
        for state, setpoint in zip(states, setpoints, strict=True)
    ]
    durations: dict[str, list[float]] = {"python": [], "c_from_python": []}
    for k, (state, setpoint) in enumerate(pairs):
        begin = time.perf_counter()
        python.step(state, setpoint)
        middle = time.perf_counter()
        policy.step_rows(states[k], setpoints[k])
        durations["python"].append(middle - begin)
        durations["c_from_python"].append(time.perf_counter() - middle)
    return {name: round(1e6 * float(np.median(values)), 1) for name, values in durations.items()}


def measure_loop(policy: CompiledPolicy, config: NativeBenchConfig) -> NativeStatistics:
    """Run the loop for a while, with fresh states and set-points at 200 Hz from this process."""
    layout = policy.layout
    state, setpoint, command = (record_type(fields) for fields in (layout.state, layout.setpoint, layout.command))
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as name:
        folder = Path(name)
        writers = SlotWriter(folder, "state", state), SlotWriter(folder, "setpoint", setpoint)
        inputs = [
            Input(name="state", dtype=state, target="state", fields={n: n for n, _ in layout.state}, max_age=10.0),
            Input(name="setpoint", dtype=setpoint, target="setpoint", fields={n: n for n, _ in layout.setpoint},
                  max_age=10.0),
        ]  # fmt: skip
        output = Output(name="command", blank=np.zeros((), command), fields={n: n for n, _ in layout.command})
        settings = NativeConfig(rate_hz=config.rate_hz, priority=config.priority)
        rows = random_rows(layout, 100, seed=1)
        try:
            _write(writers, rows, 0)
            with NativeLoop(policy, folder, inputs, output, settings) as loop:
                end = time.monotonic() + config.seconds
                k = 0
                while time.monotonic() < end:
                    _write(writers, rows, k)
                    k += 1
                    time.sleep(0.005)
                return loop.statistics()
        finally:
            for writer in writers:
                writer.close()


def _write(writers: tuple[SlotWriter, SlotWriter], rows: tuple[np.ndarray, np.ndarray], k: int) -> None:
    for writer, values in zip(writers, rows, strict=True):
        row = np.concatenate([[time.monotonic()], values[k % len(values)].astype(np.float64)])
        writer.write(row.view(writer.dtype)[0])


def _figures(statistics: NativeStatistics, rate_hz: float) -> dict[str, Any]:
    wake, work = statistics.wake_error, statistics.work
    return {
        "rate_hz": rate_hz,
        "granted": statistics.granted,
        "ticks": statistics.ticks,
        "commands": statistics.commands,
        "lost_periods": statistics.lost_periods,
        **{f"wake_{key}_us": _micro(wake, value) for key, value in (("p50", 50.0), ("p99", 99.0), ("p99_9", 99.9))},
        "wake_max_us": round(1e6 * wake.max, 1),
        **{f"work_{key}_us": _micro(work, value) for key, value in (("p50", 50.0), ("p99", 99.0))},
        "work_max_us": round(1e6 * work.max, 1),
    }


def _micro(histogram: Histogram, percent: float) -> float:
    return round(1e6 * histogram.percentile(percent), 1)


def cyclictest(rate_hz: float, seconds: float, priority: int) -> dict[str, float] | str:
    """Latencies of a bare loop of the same rate, by Debian's rt-tests; in words why there are none."""
    if shutil.which("cyclictest") is None:
        return "not installed (Debian: rt-tests)"
    period = round(1e6 / rate_hz)
    command = ["cyclictest", "-q", "-m", f"-p{priority}", f"-i{period}", f"-D{max(1, round(seconds))}", "-h10000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return f"failed: {done.stderr.strip()[:200]}"
    bins = [line.split() for line in done.stdout.splitlines() if line[:1].isdigit()]
    latency, counts = np.array([int(row[0]) for row in bins]), np.array([int(row[1]) for row in bins])
    top = next(int(line.split()[-1]) for line in done.stdout.splitlines() if "Max Latencies" in line)
    done_share = np.cumsum(counts) / max(1, counts.sum())
    return {
        "ticks": int(counts.sum()),
        "wake_p50_us": float(latency[np.searchsorted(done_share, 0.5)]),
        "wake_p99_us": float(latency[np.searchsorted(done_share, 0.99)]),
        "wake_max_us": float(top),
        "lost_periods": int(counts[latency >= period].sum()),
    }


@contextmanager
def _no_load() -> Iterator[None]:
    yield


@contextmanager
def busy_machine() -> Iterator[None]:
    """A busy process of normal priority per core."""
    workers = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


@contextmanager
def busy_interpreter() -> Iterator[None]:
    """A thread of this interpreter that never lets go of it but by force."""
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            sum(range(1000))

    worker = threading.Thread(target=spin, daemon=True)
    worker.start()
    try:
        yield
    finally:
        stop.set()
        worker.join()
