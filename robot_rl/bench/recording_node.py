"""The arm's control process while the recorder node records eight streams beside it, as on a robot.

The control process runs at 500 Hz with the simulated arm and a policy; another process publishes the streams all the
time over ROS 2, so that what differs is the recorder alone. The control loop's own counters say how it keeps time, and
what was published is counted against what is in the file.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from robot_rl.bench import planes as timing
from robot_rl.planes.processes import Planes
from robot_rl.recording import load_recording
from robot_rl.up import node_environment

_TOPICS = ("joint_states", "wrench", "tool_pose", "commands", "setpoint", "diagnostics", "*/camera/*")
_RECORDER = "import sys; from robot_rl.nodes.process import start; sys.exit(start('recorder'))"
_LOOP = ("wake_error", "work")
_PATIENCE = 120.0


@dataclass(frozen=True, kw_only=True)
class NodeConfig:
    """Record eight streams with the node, beside the control process."""

    seconds: float = 600.0
    """s that are recorded; the loop without recording is measured for half of that before and half after."""
    folder: Path | None = None
    """Where to record: the disk that is to be measured. A temporary folder if not given."""
    task: str = "arm-reach"
    """What the arm does meanwhile."""
    domain: int = 0
    """ROS domain, 1 to 101; 0: that of the environment, or a random one."""


def run_node(config: NodeConfig) -> dict[str, Any]:
    """The control loop's wake-up and work with and without a recorder, and what of the messages was lost."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(dir=config.folder)))
        environment = _environment(config, folder)
        arm = stack.enter_context(timing.armed_arm(config.task))
        before, _ = _measure(arm, config.seconds / 2.0, environment)
        recorder = stack.enter_context(_Recorder(folder, environment))
        during, published = _measure(arm, config.seconds, environment, recorder)
        recorder.end()
        after, _ = _measure(arm, config.seconds / 2.0, environment)
        status = arm.status()
        assert status is not None
        [path] = folder.glob("episode-*.mcap")
        recording = load_recording(path)
        stored = {topic.split("/", 2)[2]: len(stream) for topic, stream in sorted(recording.streams.items())}
        return {
            "seconds": config.seconds,
            "realtime": status.realtime,
            "mode_at_the_end": status.mode,
            "control_loop": {"without_before": before, "recording": during, "without_after": after},
            "published": published,
            "stored": stored,
            "lost": sum(published.values()) - sum(stored.values()),
            "said_to_be_lost": sum(recording.dropped.values()),
            "megabytes_per_second": round(path.stat().st_size / config.seconds / 1e6, 2),
        }


def _environment(config: NodeConfig, folder: Path) -> dict[str, str]:
    domain = config.domain or int(os.environ.get("ROS_DOMAIN_ID") or random.SystemRandom().randint(1, 101))
    return {
        **node_environment(),
        "ROS_DOMAIN_ID": str(domain),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "ROS_LOG_DIR": str(folder / "log"),
    }


def _names() -> list[str]:
    return ["--ros-args", "-r", f"__ns:=/bench_{os.getpid()}"]


class _Recorder:
    """The node's process; a context manager that leaves none."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        topics = json.dumps(_TOPICS)
        command = [sys.executable, "-c", _RECORDER, *_names(), "-p", f"folder:={folder}", "-p", f"topics:={topics}"]
        self._process = subprocess.Popen(command, env=environment)

    def cpu_seconds(self) -> float:
        """Processor time that it has used, s."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        """End it as a person would."""
        self._process.send_signal(signal.SIGINT)
        status = self._process.wait(30.0)
        if status:
            raise RuntimeError(f"the recorder ended with status {status}")

    def __enter__(self) -> _Recorder:
        return self

    def __exit__(self, *error: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def _measure(
    arm: Planes, seconds: float, environment: Mapping[str, str], recorder: _Recorder | None = None
) -> tuple[dict[str, Any], dict[str, int]]:
    """The loop's figures while the streams are published, and how many messages were."""
    command = [sys.executable, "-m", "robot_rl.nodes.eight_streams", f"{seconds:g}"]
    command += ["--record"] if recorder else []
    path = Path(environment["ROS_LOG_DIR"]).with_name("published.txt")
    with path.open("w") as output:
        robot = subprocess.Popen([*command, *_names()], env=environment, stdout=output)
    try:
        _live_until(arm, robot, path, "publishing")
        begin, first = arm.timing(), arm.histograms()
        cpu = recorder.cpu_seconds() if recorder else 0.0
        timing.live(arm, seconds)
        end, last = arm.timing(), arm.histograms()
        cpu = recorder.cpu_seconds() - cpu if recorder else 0.0
        published: dict[str, int] = json.loads(_live_until(arm, robot, path, "{"))
    finally:
        robot.kill()
        robot.wait()
    ticks, lost = (end[name] - begin[name] for name in ("ticks", "lost_periods"))
    parts = {f"{name}_us": timing.microseconds(timing.between(first[name], last[name])) for name in _LOOP}
    share = {"recorder_share_of_one_core": round(cpu / seconds, 3)} if recorder else {}
    return {"ticks": ticks, "lost_periods": lost, **parts, **share}, published


def _live_until(arm: Planes, robot: subprocess.Popen[bytes], path: Path, beginning: str) -> str:
    """The line that begins so; the arm is told meanwhile that someone is there."""
    end = time.monotonic() + _PATIENCE
    while True:
        ended = robot.poll() is not None  # what it has said by then is all
        said = path.read_text()
        for line in said.splitlines(keepends=True):
            if line.startswith(beginning) and line.endswith("\n"):
                return line
        if ended or time.monotonic() > end:
            raise RuntimeError(f"what publishes the streams said no line that begins with {beginning!r}: {said!r}")
        timing.live(arm, 0.1)
