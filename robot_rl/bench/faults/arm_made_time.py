"""Cells whose clock or driver no process outside can spoil: the real control loop, in a time that is made here.

CLOCK_MONOTONIC does not jump on a sound machine; a suspended or migrated one can make it, and a driver's own library
can raise whatever it likes. The arm stands still; every command that is sent to it is kept and checked.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hardware.controllers.joint_position import symmetric_limit
from hardware.descriptions import load_arm
from hardware.drivers.driver import ArmSample, Capabilities, DriverError
from hardware.realtime.loop import DeadlineLoop
from hardware.realtime.seqlock import SlotWriter
from policies.types import JointTorques
from robot_rl.bench.faults.arm import ROBOT, gentle
from robot_rl.bench.faults.cells import Cell, Finding, Stage, judge
from robot_rl.planes import records
from robot_rl.planes.client import PlanesClient
from robot_rl.planes.control_process import ControlLoop
from robot_rl.planes.settings import ControlConfig

_ARM = load_arm(ROBOT)
_DT = 0.002


class StillArm:
    """A driver of an arm that stands still whatever it is told."""

    capabilities = Capabilities(
        name="still", kind="arm", actuators=_ARM.interface.actuators, commands=("JointTorques",),
        signals=("joint_positions", "joint_velocities", "gripper_width"), rate_hz=1.0 / _DT, realtime=True,
        simulated=True, watchdog_s=0.02,
    )  # fmt: skip

    def __init__(self) -> None:
        self.now = 0.0
        self.missing = 0
        """Joints that are left out of what is measured."""
        self.problem = ""
        """What `read` and `write` fail with."""
        self.sent: list[np.ndarray] = []
        """Torques; zeros for a stop."""
        self.stops: list[float] = []
        """When it was stopped."""

    def read(self) -> ArmSample:
        """What it measures."""
        self._fail()
        joints = _ARM.num_joints - self.missing
        return ArmSample(
            stamp=self.now, joint_positions=_ARM.home[:joints].copy(), joint_velocities=np.zeros(joints),
            gripper_width=0.04,
        )  # fmt: skip

    def write(self, command: JointTorques) -> None:
        """Keep it."""
        self._fail()
        self.sent.append(np.asarray(command.values, float).copy())

    def stop(self) -> None:
        """Keep that."""
        self.stops.append(self.now)
        self.sent.append(np.zeros(_ARM.num_joints))

    def _fail(self) -> None:
        if self.problem:
            raise DriverError(self.problem)


class MadeTime:
    """A control loop, its driver and its client."""

    def __init__(self, folder: Path) -> None:
        self.driver, self.now = StillArm(), time.monotonic()
        self._loop = DeadlineLoop(1.0 / _DT)
        config = ControlConfig(folder=str(folder), robot=ROBOT, face_timeout=0.0)
        self.control = ControlLoop(config, self.driver, self._loop)  # type: ignore[arg-type]
        self.client = PlanesClient(folder, _ARM.num_joints)
        self._writer = SlotWriter(folder, "command", records.command_dtype(_ARM.num_joints))
        self.due, self.number = 0.0, 0
        self.changes: list[tuple[str, float, str]] = []
        """Mode, s of made time since `begin`, cause."""
        self.elapsed = 0.0

    def live(self, seconds: float) -> None:
        """Let time go by."""
        for _ in range(round(seconds / _DT)):
            self.now += _DT
            self.elapsed += _DT
            self.driver.now = self.now
            self._loop.ticks += 1
            if self.now >= self.due:
                self.due = self.now + 0.1
                self.number += 1
                command, stamp = gentle(self.number, self.now)
                self._writer.write(records.fill_command(records.new(self._writer.dtype), command, stamp, 0.1))
            decision = self.control.tick(self.now)
            if not self.changes or self.changes[-1][0] != decision.mode:
                self.changes.append((decision.mode, self.elapsed, decision.cause))

    def ask(self, request: str) -> tuple[bool, str]:
        """As a face does."""
        number = self.client.request(request)  # type: ignore[arg-type]
        for _ in range(200):
            self.live(_DT)
            status = self.client.status()
            if status is not None and status.request_id == number:
                return status.request_ok, status.request_text
        return False, "no answer"

    def close(self) -> None:
        """Let go of the memory."""
        self.control.close()
        self.client.close()
        self._writer.close()


def made_cells() -> list[Cell[MadeTime]]:
    """Jumps of the clock, a joint that is not told, errors of the driver."""

    def clock(seconds: float) -> Callable[[MadeTime], None]:
        def inject(made: MadeTime) -> None:
            made.now += seconds
            made.due = made.now + 0.1  # who commands wakes up too, and takes its time

        return inject

    def lose(made: MadeTime) -> None:
        made.driver.missing = 1

    def fail(made: MadeTime) -> None:
        made.driver.problem = "the wire is cut"

    def whole(made: MadeTime) -> None:
        made.driver.missing, made.driver.problem = 0, ""

    at_once = (Stage(mode="fault", within=0.004), Stage(mode="brakes", within=0.004))
    old = (Stage(mode="holding", within=0.104, not_before=0.09), Stage(mode="fault", within=0.504, not_before=0.49),
           Stage(mode="brakes", within=2.004, not_before=1.99))  # fmt: skip
    return [
        Cell(victim="clock", fault="jumps back by 5 s", inject=clock(-5.0), stages=at_once, words="the clock went back",
             way_back="recover, arm"),
        Cell(victim="clock", fault="jumps ahead by 5 s (suspended)", inject=clock(5.0),
             stages=(Stage(mode="holding", within=0.004),), words="policy output is", way_back="recover"),
        Cell(victim="joint states", fault="a joint is missing", inject=lose, undo=whole, stages=old,
             words="is a joint missing?", way_back="recover, arm"),
        Cell(victim="driver", fault="raises an error at every call", inject=fail, undo=whole, stages=at_once,
             words="the wire is cut", way_back="recover, arm"),
    ]  # fmt: skip


def run_made_cells(cells: list[Cell[MadeTime]] | None = None) -> list[Finding]:
    """Each cell with a control loop of its own."""
    findings = []
    for cell in made_cells() if cells is None else cells:
        with tempfile.TemporaryDirectory() as folder:
            made = MadeTime(Path(folder))
            try:
                findings.append(_run(made, cell))
            finally:
                made.close()
        print(findings[-1].line(), flush=True)
    return findings


def _run(made: MadeTime, cell: Cell[MadeTime]) -> Finding:
    finding = Finding(robot="arm, made time", victim=cell.victim, fault=cell.fault, way_back=cell.way_back)
    made.live(0.1)
    if not made.ask("arm")[0]:
        raise RuntimeError("the arm cannot be armed")
    made.live(1.0)
    made.changes, made.elapsed, before = made.changes[-1:], 0.0, len(made.driver.stops)
    cell.inject(made)
    begin = made.now
    made.live(max(stage.within for stage in cell.stages) + 0.3)
    changes = made.changes[1:]
    cell.undo(made)
    made.live(0.7)
    finding.sequence = [(mode, seconds) for mode, seconds, _ in changes]
    times = {mode: seconds for mode, seconds in reversed(finding.sequence)}
    if stops := made.driver.stops[before:]:
        times["brakes"] = stops[0] - begin
        finding.sequence = sorted([*finding.sequence, ("brakes", times["brakes"])], key=lambda each: each[1])
    finding.cause = next((cause for _, _, cause in changes if cell.words in cause), "; ".join(c for _, _, c in changes))
    if cell.words not in finding.cause:
        finding.problems.append(f"no cause has the words {cell.words!r}")
    judge(finding, cell.stages, times, late=0.0)
    _check(finding, np.array(made.driver.sent))
    if made.changes[-1][0] == "active":
        finding.problems.append("it moves again although nobody has asked for it")
    for request in cell.way_back.split(", "):
        granted, why = made.ask(request)
        if not granted:
            finding.problems.append(f"{request} is refused: {why}")
    made.live(0.5)
    if made.changes[-1][0] != "active":
        finding.problems.append(f"it does not move after {cell.way_back}")
    return finding


def _check(finding: Finding, sent: np.ndarray) -> None:
    limit, rate = (symmetric_limit(_ARM, name) for name in ("torque", "torque_rate"))
    steps = np.abs(np.diff(sent, axis=0))
    steps[np.all(sent[1:] == 0.0, axis=1)] = 0.0  # brakes
    outside = ~np.isfinite(sent).all(axis=1) | (np.abs(sent) > limit + 1e-9).any(axis=1)
    outside[1:] |= (steps > _DT * rate + 1e-6).any(axis=1)
    finding.commands, finding.outside = len(sent), int(outside.sum())
    if finding.outside:
        finding.problems.append(f"{finding.outside} commands were outside the limits")
