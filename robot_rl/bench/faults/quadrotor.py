"""The quadrotor's arena: its nodes as processes that a cell can hurt, and a witness of what the motors are sent."""

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

import numpy as np

from hardware.descriptions import load_quadrotor
from robot_rl.bench.faults.cells import Cell, Finding, judge, twice
from robot_rl.nodes.process import PARENT_VARIABLE, is_running
from robot_rl.up import _START, node_environment

if TYPE_CHECKING:
    from robot_rl.nodes.messages import SupervisorStatus
    from robot_rl.nodes.witness import Sent, Witness

BUNDLE = "quadrotor-hover"
ROBOT = "crazyflie"
HEIGHT = 0.8
"""m at which it hovers when a fault comes."""
_BRIEF = 0.1
"""s for which the fallback may fly where nothing should happen: on a busy machine the policy's output comes late."""
NODES: dict[str, tuple[str, ...]] = {
    "simulator": (),
    "supervisor": ("driver:=sim", f"policy:={BUNDLE}"),
    "spoiled_policy": (f"policy:={BUNDLE}",),
    "setpoint": ("mission:=hover", f"height:={HEIGHT}"),
    "recorder": (),
}
"""Modules of `robot_rl.nodes` and their parameters."""


class QuadrotorArena:
    """A simulated quadrotor that hovers."""

    robot = "quadrotor"

    def __init__(self, domain: int, late: float) -> None:
        """Nothing runs yet."""
        self.domain, self.late = domain, late
        self.namespace = f"faults_{os.getpid()}_{random.SystemRandom().randint(0, 99999)}"
        self.interface = load_quadrotor(ROBOT).interface
        self.max_speed = float(load_quadrotor(ROBOT).parameters["max_speed"])
        self.witness: Witness
        self.begin = 0.0
        """s, the system's clock, when the fault came."""
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
        self.witness.close()
        self._folder.cleanup()
        return wrong

    # What cells do

    def command(self, module: str, *parameters: str, node: str = "") -> list[str]:
        """Command line of a node."""
        words = [sys.executable, "-c", _START.format(module=module), "--ros-args", "-r", f"__ns:=/{self.namespace}"]
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
        """Send a signal to a node; that is the fault, unless it wakes it."""
        if number != signal.SIGCONT:
            self.begin = time.time()
        self._processes[name].send_signal(number)

    def spoil(self, topic: str, content: str | float | bool) -> None:
        """Ask for a fault; that is it, unless it is its end."""
        said = self.witness.say(topic, content)
        if content != "":
            self.begin = said

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
    def status(self) -> SupervisorStatus:
        """The newest one."""
        return self.witness.statuses[-1]

    @property
    def height(self) -> float:
        """M."""
        return float(self.witness.states[-1][1].position[2])

    def _revive(self) -> None:
        for name, parameters in NODES.items():
            process = self._processes.get(name)
            if process is None or not is_running(process.pid):
                if name == "recorder":
                    parameters = (f"folder:={self.folder / 'flight'}", "recording:=true")
                node = "policy" if name == "spoiled_policy" else ""
                with (self.folder / f"{name}.log").open("ab") as log:
                    self._processes[name] = subprocess.Popen(
                        self.command(name, *parameters, node=node), env=self.environment(), stdout=log, stderr=log,
                        stdin=subprocess.DEVNULL,
                    )  # fmt: skip

    def make_active(self) -> None:
        """Hovering, whatever was before."""
        self._revive()
        witness = self.witness
        witness.wait(lambda: witness.states and time.time() - witness.states[-1][0] < 0.3, 30.0)
        witness.disarm()
        witness.trigger("simulator/reset")
        if not witness.wait(lambda: self.height < 0.01 and time.time() - witness.states[-1][0] < 0.3, 20.0):
            raise RuntimeError(f"the quadrotor is not back on the ground: {witness.states[-1]}")
        time.sleep(0.3)  # the supervisor has to get used to the new place: it was carried there
        for _ in range(100):
            if self.status.mode == "disarmed":
                break
            witness.trigger("recover")
            time.sleep(0.1)
        if why := witness.arm(60.0):
            raise RuntimeError(f"not armed: {why}")
        if not witness.wait(lambda: abs(self.height - HEIGHT) < 0.05, 15.0):
            raise RuntimeError(f"it does not hover: {witness.states[-1]}, {self.status}")
        time.sleep(0.5)

    # One cell

    def run(self, cell: Cell[QuadrotorArena]) -> Finding:
        """Do it, watch, end it, and find the way back."""
        finding = Finding(robot=self.robot, victim=cell.victim, fault=cell.fault, way_back=cell.way_back)
        self.make_active()
        witness = self.witness
        for records in (witness.sent, witness.states, witness.words):
            del records[:-1]
        first = len(witness.statuses)
        self.begin, self.note = time.time(), ""
        cell.inject(self)
        lasts = max([cell.lasts, *(stage.within + self.late + 0.2 for stage in cell.stages)])
        last = cell.stages[-1].mode if cell.stages else ""
        end = self.begin + lasts
        while time.time() < end and not (last == "fault" and self.status.mode == "fault"):
            time.sleep(0.01)
        cell.undo(self)
        time.sleep(0.7)
        self._write_down(finding, cell, witness.statuses[first:])
        recent = [each for each in self.witness.sent if each.heard > time.time() - 0.2]
        # The motors are the witness of it: a dead supervisor's last word stays.
        moves = self.status.mode == "active" and any(np.any(each.values) for each in recent)
        if cell.way_back in ("nothing to recover", "by itself"):
            if not moves:
                finding.problems.append(f"it is {self.status.mode} and does not fly on by itself: {self.status.cause}")
        else:
            if moves:
                finding.problems.append("it flies again although nobody has asked for it")
            if cell.way_back == "recover, arm" and witness.call_arm()[0]:
                finding.problems.append("it can be armed without recovery")
        return finding  # the next `make_active` takes the way back

    def _write_down(self, finding: Finding, cell: Cell, statuses: Sequence[SupervisorStatus]) -> None:
        times: dict[str, float] = {}
        for status in statuses:
            if status.stamp >= self.begin and (not finding.sequence or finding.sequence[-1][0] != status.mode):
                finding.sequence.append((status.mode, status.stamp - self.begin))
                times.setdefault(status.mode, status.stamp - self.begin)
        own = self.witness.sent[0].source  # of the one before the fault
        sent = [each for each in self.witness.sent if each.heard >= self.begin]
        if finding.victim == "second publisher":
            sent = [each for each in sent if each.source == own]
        off = next((each for each in sent if not np.any(each.values)), None)
        if off is not None and (cell.stages or finding.sequence):
            times["motors off"] = off.stamp - self.begin
        for heard, part, text in self.witness.words:
            for state in ("level", "descending", "locked"):
                if part == "vehicle" and heard >= self.begin and f"watchdog: {state}" in text:
                    times.setdefault(f"vehicle's watchdog: {state}", heard - self.begin)
            if part == "vehicle" and heard >= self.begin and "watchdog: off" in text:
                times.setdefault("motors off", heard - self.begin)  # it has been told so, heard or not
        extra = [(mode, seconds) for mode, seconds in times.items() if mode == "motors off" or "watchdog" in mode]
        finding.sequence = sorted([*finding.sequence, *extra], key=lambda each: each[1])
        said = [status.cause for status in statuses] + [self.note]
        said += [text for _, _, text in self.witness.words] + [
            value for part in self.witness.values.values() for key, value in part.items() if "refus" in key
        ]
        finding.cause = next((words for words in said if words and cell.words in words), "") if cell.words else ""
        if cell.words and not finding.cause:
            finding.problems.append(f"nobody says {cell.words!r}")
        self._check_sent(finding, sent)
        judge(finding, cell.stages, times, self.late)
        if not cell.stages and any(seconds > _BRIEF for seconds in _interruptions(finding.sequence)):
            finding.problems.append("something happened where nothing should")
        if self.witness.values.get("vehicle", {}).get("crashed") == "True" and not any(
            s.mode == "motors off" for s in cell.stages
        ):
            finding.problems.append("the vehicle crashed")

    def _check_sent(self, finding: Finding, sent: Sequence[Sent]) -> None:
        """Every command to the motors by the supervisor, by what was heard on the way."""
        for each in sent:
            values = each.values
            good = sorted(each.names) == sorted(self.interface.actuators) and len(values) == len(each.names)
            if (
                not good
                or not np.all(np.isfinite(values))
                or np.any(values < 0.0)
                or np.any(values > self.max_speed + 1e-9)
            ):
                finding.outside += 1
                finding.problems += [f"motors were sent {values.tolist()}"] if finding.outside <= 2 else []
        finding.commands = len(sent)


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
