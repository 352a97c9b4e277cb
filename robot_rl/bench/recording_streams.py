"""A 500 Hz control loop with and without eight streams being recorded in its process: how late it is, what is lost."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware.descriptions import load_arm
from hardware.kinematics import forward_kinematics
from hardware.realtime.scheduling import RealtimeConfig, become_realtime
from robot_rl.recording import EpisodeWriter, load_recording, messages

RATE = 500.0
"""Hz of the loop and of its streams."""
CAMERAS = ("front", "wrist")
CAMERA_RATE = 30.0
"""Hz."""
NAMES = tuple(f"joint{number}" for number in range(1, 8))
FAST = ("joint_states", "wrench", "tool_pose", "commands")
"""Streams of every tick; set-points come at 50 Hz, diagnostics at 1 Hz, pictures of 640 x 480 at 30 Hz."""


@dataclass(frozen=True, kw_only=True)
class StreamsConfig:
    """Record eight streams beside a control loop."""

    seconds: float = 600.0
    """s that are recorded; the loop without recording is measured for half of that before and half after."""
    folder: Path | None = None
    """Where to record: the disk that is to be measured. A temporary folder if not given."""
    keep: bool = False
    """Leave the recording in the folder."""
    priority: int = 80
    """Real-time priority of the loop, as control processes have it, where the system grants it; 0: normal, as a program
    has it that simulates."""


def run_streams(config: StreamsConfig) -> dict[str, Any]:
    """Lateness and work of the loop's ticks with and without recording, and what of the messages was lost."""
    with ExitStack() as stack:
        folder = config.folder or Path(stack.enter_context(TemporaryDirectory()))
        priority = stack.enter_context(_real_time(config.priority))
        before = _loop(config.seconds / 2.0, None)
        writer = stack.enter_context(EpisodeWriter(folder))
        path = writer.begin({"purpose": "bench"})
        cpu = time.process_time()
        during = _loop(config.seconds, writer)
        cpu = time.process_time() - cpu
        began = time.monotonic()
        summary = writer.end(True, "time")
        ended = time.monotonic() - began
        after = _loop(config.seconds / 2.0, None)
        recording = load_recording(path)
        stored = {topic: len(stream) for topic, stream in sorted(recording.streams.items())}
        result = {
            "seconds": config.seconds,
            "priority": priority,
            "control_loop_us": {
                "without_before": _figures(before),
                "recording": _figures(during),
                "without_after": _figures(after),
            },
            "given": dict(sorted(during.given.items())),
            "stored": stored,
            "lost": sum(during.given.values()) - sum(stored.values()),
            "dropped": sum(summary.dropped.values()),
            "cpu_share_of_one_core": round(cpu / config.seconds, 3),
            "megabytes_per_second": round(path.stat().st_size / config.seconds / 1e6, 2),
            "end_ms": round(1e3 * ended, 1),
        }
        if not config.keep:
            path.unlink()
    return result


@contextmanager
def _real_time(priority: int) -> Iterator[int]:
    """This thread at a real-time priority, where that is granted; which it has."""
    granted = become_realtime(RealtimeConfig(priority=priority, lock_memory=False, collector=True)).priority
    try:
        yield granted
    finally:
        if granted:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@dataclass(frozen=True)
class _Measured:
    lateness: NDArray[np.float64]
    """s from when a tick was due to its begin."""
    work: NDArray[np.float64]
    """s from a tick's begin to its end, with handing messages over."""
    given: dict[str, int]
    """Messages handed over."""


def _loop(seconds: float, writer: EpisodeWriter | None) -> _Measured:
    count = int(seconds * RATE)
    lateness, work = np.zeros(count), np.zeros(count)
    given: dict[str, int] = {}
    stop = threading.Event()
    cameras = [threading.Thread(target=_camera, args=(name, writer, given, stop)) for name in CAMERAS]
    for camera in cameras:
        camera.start()
    tick = _controller(writer, given)
    begin = time.monotonic() + 0.05
    for index in range(count):
        due = begin + index / RATE
        wait = due - time.monotonic()
        if wait > 0.0:
            time.sleep(wait)
        started = time.monotonic()
        tick(index, started)
        lateness[index], work[index] = started - due, time.monotonic() - started
    stop.set()
    for camera in cameras:
        camera.join()
    return _Measured(lateness, work, given)


def _controller(writer: EpisodeWriter | None, given: dict[str, int]) -> Callable[[int, float], None]:
    """What a tick does: kinematics, as a controller needs, and recording where there is a writer."""
    arm = load_arm("panda")
    rest = np.array(arm.home)

    def tick(index: int, now: float) -> None:
        q = rest + 0.1 * np.sin(now)
        found = forward_kinematics(arm, q)
        if writer is None:
            return
        six = np.array([0.1, 0.2, 0.3, 0.01, 0.02, 0.03])
        writer.write("joint_states", messages.joint_state(NAMES, q, q, q), now)
        writer.write("wrench", messages.wrench(six), now)
        writer.write("tool_pose", messages.pose(found.tool_position, found.tool_orientation), now)
        writer.write("commands", messages.twist(six), now)
        for topic in FAST:
            given[topic] = given.get(topic, 0) + 1
        if index % 10 == 0:
            writer.write("setpoint", messages.pose(found.tool_position, found.tool_orientation), now)
            given["setpoint"] = given.get("setpoint", 0) + 1
        if index % 500 == 0:
            writer.write("diagnostics", messages.diagnostics("arm", 0, "ok", {"rate": RATE}), now)
            given["diagnostics"] = given.get("diagnostics", 0) + 1

    return tick


def picture() -> NDArray[np.uint8]:
    """What a camera sees: surfaces and noise. Shape (480, 640, 3)."""
    rows, columns = np.mgrid[0:480, 0:640]
    noise = np.random.default_rng(0).integers(0, 12, (480, 640, 3), dtype=np.uint8)
    return np.stack([rows // 2, columns // 3, (rows + columns) // 5], -1).astype(np.uint8) + noise


def _camera(name: str, writer: EpisodeWriter | None, given: dict[str, int], stop: threading.Event) -> None:
    shown = picture()
    topic = f"camera/{name}/compressed"
    due = time.monotonic()
    while not stop.wait(max(0.0, due - time.monotonic())):
        if writer is not None:
            writer.write(topic, shown, time.monotonic())
            given[topic] = given.get(topic, 0) + 1
        due += 1.0 / CAMERA_RATE


def _figures(measured: _Measured) -> dict[str, float]:
    def of(values: NDArray[np.float64], name: str) -> dict[str, float]:
        shares = {"p50": 50.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}
        return {f"{name}_{key}": round(1e6 * float(np.percentile(values, share)), 1) for key, share in shares.items()}

    late = int((measured.lateness + measured.work > 1.0 / RATE).sum())
    return {**of(measured.lateness, "lateness"), **of(measured.work, "work"), "overruns": late}
