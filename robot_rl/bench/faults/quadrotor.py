"""The quadrotor's arena: its nodes and processes, which a cell can hurt, and two who look on.

The observer sees what the motors are sent between driver and vehicle; the witness hears what the nodes say.
"""

from __future__ import annotations

import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hardware.descriptions import load_quadrotor
from hardware.realtime.seqlock import SlotFolder
from robot_rl.bench.faults.cells import Cell, Finding, judge, twice
from robot_rl.bench.faults.launched import child_of
from robot_rl.bench.faults.observed import QuadrotorObserved
from robot_rl.bench.faults.observer import Observer
from robot_rl.bench.faults.spoiled_commands import NODE, spoil
from robot_rl.nodes.process import PARENT_VARIABLE, is_running
from robot_rl.planes.quadrotor_client import QuadrotorClient
from robot_rl.planes.slots_client import Change, Status
from robot_rl.up import _START, node_environment

if TYPE_CHECKING:
    from robot_rl.nodes.witness import Witness

BUNDLE = "quadrotor-hover"
ROBOT = "crazyflie"
HEIGHT = 0.7
"""m at which it hovers when a fault comes: what the vehicle's watchdog sinks through before it stops the rotors."""
_BRIEF = 0.1
"""s for which the fallback may fly where nothing should happen: on a busy machine the policy's output comes late."""
NODES: dict[str, tuple[str, ...]] = {
    "supervisor": ("driver:=sim", f"policy:={BUNDLE}"),
    "sim": (),
    "policy": (f"policy:={BUNDLE}",),
    "setpoint": ("mission:=hover", f"height:={HEIGHT}"),
    "recorder": (),
}
"""Nodes and their parameters."""
PROCESSES = {"control process": "supervisor", "policy process": "policy", "simulation process": "sim"}
"""Which node has started each process."""
_MODULES = {"sim": "simulator"}


class QuadrotorArena:
    """A simulated quadrotor that hovers."""

    robot = "quadrotor"

    def __init__(self, domain: int, late: float) -> None:
        """Nothing runs yet."""
        self.domain, self.late = domain, late
        self.namespace = f"faults_{os.getpid()}_{random.SystemRandom().randint(0, 99999)}"
        self.interface = load_quadrotor(ROBOT).interface
        self.witness: Witness
        self.begin = 0.0
        """s, `time.monotonic()`, when the fault came."""
        self.client: QuadrotorClient | None = None
        self._observer: Observer[QuadrotorObserved] | None = None
        self._watchdog: list[tuple[float, str]] = []
        self.note = ""
        """What a cell has found out itself."""
        self._folder = tempfile.TemporaryDirectory()
        self.folder = Path(self._folder.name)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    # Life cycle

    def start(self) -> None:
        """Start all nodes, on the ground."""
        from robot_rl.nodes.witness import Witness

        self.witness = Witness(self.domain, self.namespace)
        self.witness.watch_vehicle()
        self._revive()
        if not self.witness.wait(lambda: self.witness.states and self.witness.statuses, 180.0):
            words = "; ".join(f"{name}: {self.last_words(name)}" for name in NODES)
            self.stop()
            raise RuntimeError(f"the quadrotor's nodes do not start: {words}")

    def stop(self) -> list[str]:
        """SIGINT to all nodes; returns who did not end with status 0."""
        for process in self._processes.values():
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGINT)
        wrong = []
        for name, process in self._processes.items():
            try:
                if status := process.wait(12.0):
                    wrong.append(f"{name} ended with status {status}: {self.last_words(name)}")
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                wrong.append(f"{name} did not end")
        self._processes.clear()
        self._detach()
        self.witness.close()
        self._folder.cleanup()
        return wrong

    # What cells do

    def command(self, module: str, *parameters: str, node: str = "") -> list[str]:
        """Command line of a node."""
        code = NODE if module == "policy" and not node else _START.format(module=_MODULES.get(module, module))
        words = [sys.executable, "-c", code, "--ros-args", "-r", f"__ns:=/{self.namespace}"]
        words += ["-r", f"__node:={node}"] if node else []
        return words + [word for parameter in parameters for word in ("-p", parameter)]

    def environment(self) -> dict[str, str]:
        """Of a node."""
        mine = {"ROS_DOMAIN_ID": str(self.domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
        return {
            **node_environment(),
            **mine,
            PARENT_VARIABLE: str(os.getpid()),
            "ROS_LOG_DIR": str(self.folder / "log"),
        }

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a node, or to one of `PROCESSES`; that is the fault, unless it wakes it."""
        node = self._processes[PROCESSES.get(name, name)]
        pid = child_of(node.pid) if name in PROCESSES else node.pid
        if number != signal.SIGCONT:
            self.begin = time.monotonic()
        os.kill(pid, number)

    def spoil(self, topic: str, content: str | float | bool) -> None:
        """Ask for a fault; that is it, unless it is its end."""
        said = self.witness.say(topic, content)
        if content != "":
            self.begin = said - time.time() + time.monotonic()

    def spoil_commands(self, fault: str) -> None:
        """Spoil the policy's commands, or no longer; see `robot_rl.bench.faults.spoiled_commands`."""
        assert self.client is not None
        if fault:
            self.begin = time.monotonic()
        spoil(self.client.folder, fault)

    def try_node(self, command: Sequence[str], words: str, within: float = 60.0) -> str:
        """Run a node beside the others until it ends or says `words`; the line that has them, or its last one."""
        path, begin = self.folder / "tried.log", time.monotonic()
        with path.open("wb") as log:
            process = subprocess.Popen(
                command, env=self.environment(), stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        lines: list[str] = []
        while time.monotonic() - begin < within:
            ended = process.poll() is not None
            lines = path.read_text(errors="replace").strip().splitlines()
            if ended or any(words in line for line in lines):
                break
            time.sleep(0.05)
        process.kill()
        process.wait()
        return next((line for line in lines if words in line), lines[-1] if lines else "not a word")

    def last_words(self, name: str) -> str:
        """The last line that a node has said."""
        lines = (self.folder / f"{name}.log").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    @property
    def status(self) -> Status:
        """The newest one."""
        assert self.client is not None
        status = self.client.status()
        if status is None:
            raise RuntimeError("the control process has said nothing yet")
        return status

    @property
    def height(self) -> float:
        """M; nan while nothing is measured."""
        sample = None if self.client is None else self.client.sample()
        return math.nan if sample is None or sample.state is None else float(sample.state.position[2])

    def _is_measured(self) -> bool:
        sample = None if self.client is None else self.client.sample()
        return sample is not None and time.monotonic() - sample.stamp < 0.3

    def _revive(self) -> None:
        gone = [name for name in NODES if name not in self._processes or not is_running(self._processes[name].pid)]
        if "supervisor" in gone:
            self._detach()  # its memory has gone with it
        for name in gone:
            parameters = NODES[name]
            if name == "recorder":
                parameters = (f"folder:={self.folder / 'flight'}", "recording:=true")
            with (self.folder / f"{name}.log").open("ab") as log:
                self._processes[name] = subprocess.Popen(
                    self.command(name, *parameters), env=self.environment(), stdout=log, stderr=log,
                    stdin=subprocess.DEVNULL,
                )  # fmt: skip

    def _attach(self) -> None:
        """Look at the memory of the present supervisor."""
        folder = SlotFolder(f"{self.namespace}.{self.interface.name}").path
        if self.client is None and self.witness.wait(folder.exists, 60.0):
            self.client = QuadrotorClient(folder)
            self._observer = Observer(folder, ROBOT, self.folder / "observed.npz", QuadrotorObserved)

    def _detach(self) -> None:
        for each in (self.client, self._observer):
            if each is not None:
                each.close()
        self.client = self._observer = None

    def make_active(self) -> None:
        """Hovering, whatever was before."""
        self._revive()
        self._attach()
        witness = self.witness
        if not witness.wait(self._is_measured, 60.0):
            raise RuntimeError(f"nothing is measured: {self.last_words('sim')}; {self.last_words('supervisor')}")
        witness.disarm()
        why = ""
        for _ in range(20):
            granted, why = witness.trigger("sim/reset")
            if granted:
                break
            time.sleep(0.2)
        if not witness.wait(lambda: self.height < 0.01 and self._is_measured(), 20.0):
            raise RuntimeError(f"the quadrotor is not back on the ground: {why}, {self.height} m")
        time.sleep(0.3)  # the supervisor has to get used to the new place: it was carried there
        for _ in range(100):
            if self.status.mode == "disarmed":
                break
            witness.trigger("recover")
            time.sleep(0.1)
        if why := witness.arm(60.0):
            raise RuntimeError(f"not armed: {why}")
        if not witness.wait(lambda: abs(self.height - HEIGHT) < 0.05, 15.0):
            raise RuntimeError(f"it does not hover: {self.height} m, {self.status}")
        time.sleep(0.5)

    # One cell

    def run(self, cell: Cell[QuadrotorArena]) -> Finding:
        """Do it, watch, end it, and find the way back."""
        finding = Finding(robot=self.robot, victim=cell.victim, fault=cell.fault, way_back=cell.way_back)
        self.make_active()
        witness = self.witness
        assert self._observer is not None
        self._observer.take()
        witness.words.clear()
        first = len(witness.statuses)
        self._watchdog.clear()
        self.begin, self.note = time.monotonic(), ""
        cell.inject(self)
        lasts = max([cell.lasts, *(stage.within + self.late + 0.2 for stage in cell.stages)])
        last = cell.stages[-1].mode if cell.stages else ""
        self.look(self.begin + lasts, until="fault" if last == "fault" else "")
        cell.undo(self)
        self.look(time.monotonic() + 0.7)
        seen = self._observer.take()
        changes = [change for change in self.status.changes if change.stamp >= self.begin]
        causes = [status.cause for status in witness.statuses[first:]]
        self._write_down(finding, cell, changes, causes, seen)
        moves = self.status.mode == "active" and seen.turning_since(time.monotonic() - 0.5)
        if cell.way_back in ("nothing to recover", "by itself"):
            if not moves:
                finding.problems.append(f"it is {self.status.mode} and does not fly on by itself: {self.status.cause}")
        else:
            if moves:
                finding.problems.append("it flies again although nobody has asked for it")
            if cell.way_back == "recover, arm" and witness.call_arm()[0]:
                finding.problems.append("it can be armed without recovery")
        return finding  # the next `make_active` takes the way back

    def look(self, end: float, until: str = "") -> None:
        """Watch the vehicle's own watchdog until `end` s, or a mode of the supervisor."""
        assert self.client is not None
        while time.monotonic() < end and not (until and self.status.mode == until):
            found = self.client.simulation()
            if found and (not self._watchdog or self._watchdog[-1][1] != found["watchdog"]):
                self._watchdog.append((found["stamp"], found["watchdog"]))
            self._crashed = bool(found) and found["crashed"]
            time.sleep(0.002)

    _crashed = False

    def _write_down(
        self, finding: Finding, cell: Cell, changes: Sequence[Change], causes: Sequence[str], seen: QuadrotorObserved
    ) -> None:
        times: dict[str, float] = {}
        for change in changes:
            if not finding.sequence or finding.sequence[-1][0] != change.mode:
                finding.sequence.append((change.mode, change.stamp - self.begin))
                times.setdefault(change.mode, change.stamp - self.begin)
        off = seen.off_after(self.begin)
        if off is not None and (cell.stages or finding.sequence):
            times["motors off"] = off
        for stamp, state in self._watchdog:
            if stamp >= self.begin and state in ("level", "descending", "locked"):
                times.setdefault(f"vehicle's watchdog: {state}", stamp - self.begin)
        extra = [(mode, seconds) for mode, seconds in times.items() if mode == "motors off" or "watchdog" in mode]
        finding.sequence = sorted([*finding.sequence, *extra], key=lambda each: each[1])
        said = [*causes, self.note, *(text for _, _, text in self.witness.words)]
        said += [value for part in self.witness.values.values() for key, value in part.items() if "refus" in key]
        finding.cause = next((words for words in said if words and cell.words in words), "") if cell.words else ""
        if cell.words and not finding.cause:
            finding.problems.append(f"nobody says {cell.words!r}")
        outside = seen.outside(ROBOT)
        finding.commands, finding.missed, finding.outside = len(seen.sequence), seen.missed, len(outside)
        finding.problems += outside[:2]
        judge(finding, cell.stages, times, self.late)
        if not cell.stages and any(seconds > _BRIEF for seconds in _interruptions(finding.sequence)):
            finding.problems.append("something happened where nothing should")
        if self._crashed and not any(stage.mode == "motors off" for stage in cell.stages):
            finding.problems.append("the vehicle crashed")


def _interruptions(sequence: Sequence[tuple[str, float]]) -> list[float]:
    """S that the policy did not fly, each time; inf where it never did again."""
    found, since = [], math.nan
    for mode, seconds in sequence:
        if mode == "active":
            found.append(seconds - since)
            since = math.nan
        elif math.isnan(since) and mode != "motors off":  # zeros that the policy itself has asked for
            since = seconds
    return found if math.isnan(since) else [*found, math.inf]


def run_cells(arena: QuadrotorArena, cells: Iterable[Cell[QuadrotorArena]]) -> list[Finding]:
    """Run cells one after the other; all nodes end in order."""
    findings = []
    arena.start()
    try:
        for cell in cells:
            untold = Finding(robot=arena.robot, victim=cell.victim, fault=cell.fault)
            findings.append(twice(partial(arena.run, cell), lambda: None, untold))
    finally:
        wrong = arena.stop()
    if wrong and findings:
        findings[-1].problems += wrong
    return findings
