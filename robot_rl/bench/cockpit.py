"""The cockpit measured in Chromium on this machine: `python -m robot_rl.bench.cockpit`, half a minute.

Picture: from the instant at which the simulation's state was taken to the page's report that its pixels are on the
canvas of a screen frame; the page reads a number back from the pixels. The report's way back is part of the figure.
Command: from a key's event in the page to the device that the robot's loop reads, on the server's clock.
Loop: the simulation's control periods without a page, with one, and with one that hangs.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
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
import tyro

from hardware.teleop.device import DeviceConfig
from policies.writing import write_text
from robot_rl.cockpit.access import Access
from robot_rl.cockpit.arm_session import ArmSession
from robot_rl.cockpit.clock import ClockOffset
from robot_rl.cockpit.config import CockpitConfig
from robot_rl.cockpit.device import PageDevice
from robot_rl.cockpit.messages import Command
from robot_rl.cockpit.pictures import CODE_BITS
from robot_rl.cockpit.server import CockpitServer
from robot_rl.errors import UserError

TOGGLE = """
window.toggles = [];
const key = (type, code) => dispatchEvent(new KeyboardEvent(type, { code }));
key("keydown", "Space");
let down = false;
window.toggling = setInterval(() => {
  window.toggles.push(performance.now() / 1000);
  down = !down;
  key(down ? "keydown" : "keyup", "KeyA");
}, 170 + Math.random() * 40);
"""


@dataclass(frozen=True, kw_only=True)
class CockpitBenchConfig:
    """Measure latencies of the page, and that it does not slow the robot's loop."""

    task: str = "arm-pick-lift"
    """What the arm does meanwhile."""
    seconds: float = 6.0
    """Of each measurement; less than an episode has."""
    picture: tuple[int, int] = (480, 360)
    """Pixels of the camera views."""
    window: tuple[int, int] = (1440, 900)
    """Of the browser."""
    scene: bool = False
    """Draw the 3-D scene, too: without a GPU, that takes the time that the figures are about."""
    out: Path = Path("docs/benchmarks/cockpit.json")
    """Where results are stored."""


def run(config: CockpitBenchConfig) -> dict[str, Any]:
    """Measure."""
    server = CockpitServer(Access(port=0), PageDevice(DeviceConfig()))
    with tempfile.TemporaryDirectory() as folder:
        settings = CockpitConfig(task=config.task, picture=config.picture, stamped=True, out=Path(folder))
        session = ArmSession(settings, server)
        thread = threading.Thread(target=session.run, daemon=True)
        thread.start()
        try:
            with browsing(config) as browser:
                latencies = measure_page(config, session, server, browser)
                loop = measure_loop(config, session, server, browser)
        finally:
            session.controls.close()
            thread.join(10.0)
            session.close()
            server.close()
    return {**latencies, "loop": loop}


def measure_page(
    config: CockpitBenchConfig, session: ArmSession, server: CockpitServer, browser: Any
) -> dict[str, Any]:
    """Glass to glass, and hand to robot."""
    taken: dict[int, tuple[float, int]] = {}
    shown: list[tuple[int, float, bool]] = []
    heard: list[tuple[float, bool, ClockOffset]] = []
    publish, feed = server.publish_picture, server.device.feed

    def publish_and_note(camera: int, at: float, jpeg: bytes) -> None:
        publish(camera, at, jpeg)
        taken[server._sequence] = (at, session.screen.pictures.made % 2**CODE_BITS)

    def feed_and_note(command: Command, received: float, offset: ClockOffset) -> str:
        why = feed(command, received, offset)
        moves = command.motion[1] != 0.0
        if not why and (not heard or heard[-1][1] != moves):
            heard.append((received, moves, offset))
        return why

    def note(message: dict[str, Any], received: float) -> None:
        if message["sequence"] in taken and "code" in message:
            at, code = taken[message["sequence"]]
            shown.append((message["camera"], received - at, message["code"] == code))

    session.screen.pictures._publish = publish_and_note
    server.device.feed = feed_and_note  # type: ignore[method-assign]
    browser.get(server.link)
    _until(lambda: browser.execute_script("return Boolean(window.cockpit?.status.state)"))
    browser.execute_script("window.cockpit.link.send({ type: 'take' })")
    _until(lambda: bool(browser.execute_script("return window.cockpit.driver.seated")))
    time.sleep(1.0)
    # Take over at the beginning of an episode: between two of them there are no pictures.
    _until(lambda: session.rollout.running and session.rollout.statistics.steps == 0)
    browser.execute_script("window.cockpit.driver.press('take_over')")
    _until(lambda: session.rollout.statistics.steps > 3)
    heard.clear()
    server.on_shown = note
    browser.execute_script(TOGGLE)
    began = time.monotonic()
    time.sleep(config.seconds)
    seconds = time.monotonic() - began
    server.on_shown = lambda message, received: None
    browser.execute_script("clearInterval(window.toggling)")
    events = browser.execute_script("return window.toggles")
    server.device.feed = feed  # type: ignore[method-assign]
    pictures = [latency for _, latency, _ in shown]
    commands = [at - offset.ours(event, at) for event, (at, _, offset) in zip(events, heard[1:], strict=False)]
    cameras = {camera for camera, _, _ in shown}
    return {
        "picture": {
            **_spread(pictures),
            "per_second_and_camera": round(len(pictures) / seconds / max(1, len(cameras)), 1),
            "cameras": len(cameras),
            "codes_read_right": round(sum(right for _, _, right in shown) / max(1, len(shown)), 4),
            "size": list(config.picture),
        },
        "command": {
            **_spread(commands),
            "round_trip_ms": round(1e3 * heard[-1][2].round_trip, 2) if heard else None,
            "refused": server.device.counts.stale + server.device.counts.disordered,
        },
        "scene_drawn": config.scene,
    }


def measure_loop(
    config: CockpitBenchConfig, session: ArmSession, server: CockpitServer, browser: Any
) -> dict[str, Any]:
    """Control periods while hands of our own drive, and the page only watches."""
    browser.execute_script("window.cockpit.link.send({ type: 'leave' })")
    time.sleep(0.5)
    hands = threading.Event()
    threading.Thread(target=_hold, args=(server.device, hands), daemon=True).start()
    _until(lambda: session.rollout.statistics.steps > 2)
    chromium = _processes_of(browser.service.process.pid)
    results = {"page": _periods(session, config.seconds)}
    for process in chromium:
        os.kill(process, signal.SIGSTOP)
    results["page_hangs"] = _periods(session, config.seconds)
    for process in chromium:
        os.kill(process, signal.SIGCONT)
    browser.get("about:blank")
    time.sleep(0.5)
    results["no_page"] = _periods(session, config.seconds)
    hands.set()
    return results


def _periods(session: ArmSession, seconds: float) -> dict[str, Any]:
    """How well control steps keep to their rate; between episodes there are none."""
    step, starts = session.rollout.step, []

    def noted(act: Any) -> Any:
        starts.append((session.rollout.statistics.number, time.monotonic()))
        return step(act)

    session.rollout.step = noted  # type: ignore[method-assign]
    time.sleep(seconds)
    session.rollout.step = step  # type: ignore[method-assign]
    pairs = zip(starts[:-1], starts[1:], strict=True)
    errors = [abs(b - a - session.task.period) for (m, a), (n, b) in pairs if m == n and b - a > 0.05]
    return _spread(errors)


def _hold(device: PageDevice, over: threading.Event) -> None:
    """Hands that have taken over and move nothing: the simulation's time goes on, whoever watches."""
    now = time.monotonic()
    offset = ClockOffset()
    offset.answer(now, now, now)
    device.occupy(True)
    sequence = 0
    while not over.wait(0.02):
        sequence += 1
        now = time.monotonic()
        command = Command(
            sequence=sequence,
            at=now,
            motion=(0.0,) * 6,
            dead_man=False,
            clutch=True,
            held=frozenset(),
            pressed=frozenset({"take_over"}) if sequence % 25 == 0 else frozenset(),
        )
        device.feed(command, now, offset)
    device.occupy(False)


@contextmanager
def browsing(config: CockpitBenchConfig) -> Iterator[Any]:
    """A headless Chromium."""
    from selenium import webdriver

    driver = shutil.which("chromedriver")
    found = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )
    if driver is None or found is None:
        raise UserError("the cockpit is measured in Chromium; install chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = found
    flags = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu-compositing"]
    flags += ["--disable-accelerated-2d-canvas", f"--window-size={config.window[0]},{config.window[1]}"]
    flags += ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"] if config.scene else ["--disable-3d-apis"]
    for flag in flags:
        options.add_argument(flag)
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield browser
    finally:
        browser.quit()


def _processes_of(parent: int) -> list[int]:
    """All descendants of a process."""
    found: list[int] = []
    for path in Path(f"/proc/{parent}/task").glob("*/children"):
        for child in map(int, path.read_text().split()):
            found += [child, *_processes_of(child)]
    return found


def _spread(values: list[float]) -> dict[str, Any]:
    """Median, 95th and 99th percentile, worst, ms."""
    if not values:
        raise UserError("nothing was measured: the page showed nothing, or the machine is too busy")
    found = 1e3 * np.array(values)
    at = {"median": 50, "p95": 95, "p99": 99}
    return {
        "count": len(values),
        **{f"{name}_ms": round(float(np.percentile(found, share)), 2) for name, share in at.items()},
        "worst_ms": round(float(found.max()), 2),
    }


def _until(condition: Any, timeout: float = 30.0) -> None:
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise UserError("the page did not answer in time: the machine is too busy to measure anything")
        time.sleep(0.05)


def main(config: CockpitBenchConfig) -> int:
    """Measure and store."""
    import torch

    from robot_rl.bench.__main__ import where

    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    results = {"where": {**where(), "load_average_before": round(load, 2)}, **run(config)}
    config.out.parent.mkdir(parents=True, exist_ok=True)
    write_text(config.out, json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(CockpitBenchConfig, prog="python -m robot_rl.bench.cockpit")))
