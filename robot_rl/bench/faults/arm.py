"""The arm's arena: real processes that a cell can hurt, the observer beside them, and how a cell is judged.

The bench is the face. With a policy process the shipped `arm-reach` moves the arm; without, the bench itself writes
the commands, so that it can spoil them.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np

from hardware.realtime.seqlock import SlotWriter
from policies.types import ArmSetpoint, CartesianTwist
from robot_rl.bench.faults.cells import Cell, Finding, judge, twice
from robot_rl.bench.faults.observed import ArmObserved
from robot_rl.bench.faults.observer import Observer
from robot_rl.nodes.process import is_running
from robot_rl.planes import records
from robot_rl.planes.process_group import Process
from robot_rl.planes.processes import Planes
from robot_rl.planes.settings import WireConfig
from robot_rl.planes.slots_client import Change, Request, Status
from robot_rl.planes.tasks import planes_of_task, rest

TASK = "arm-reach"
ROBOT = "panda"
_SETTLE = 0.6
"""s until commands are followed at full size."""
_STAYS = 0.7
"""s that a fault has to stay after its end without anybody's request."""
Commands: TypeAlias = Callable[[int, float], tuple[records.ArmCommand, float]]
"""From the number and time of a command to the command and its stamp."""


def gentle(number: int, now: float) -> tuple[CartesianTwist, float]:
    """Slowly to and fro."""
    speed = 0.03 if number // 10 % 2 else -0.03
    return CartesianTwist(values=np.array([0.0, speed, 0, 0, 0, 0]), frame="base", gripper=np.asarray(1.0)), now


class ArmArena:
    """One simulated arm with all its processes."""

    robot = "arm"

    def __init__(self, policy: bool, late: float) -> None:
        """Nothing runs yet.

        Args:
            policy: Whether the policy process commands; else this process does.
            late: s by which a time may be exceeded.
        """
        self.policy, self.late = policy, late
        self.planes: Planes
        self.commands: Commands = gentle
        self.beats = True
        """Whether the face gives signs of life."""
        self.note = ""
        """What a cell has found out itself."""
        self._writer: SlotWriter | None = None
        self._observer: Observer[ArmObserved] | None = None
        self._folder = tempfile.TemporaryDirectory()
        self._due, self._number = 0.0, 0

    # Life cycle

    def start(self, name: str = "", observed: bool = True) -> None:
        """Start everything, the arm at rest."""
        self.planes = Planes(planes_of_task(TASK, TASK if self.policy else "", name=name or f"faults-{os.getpid()}"))
        self.planes.start()
        if observed:
            self._observer = Observer(self.planes.folder, ROBOT, Path(self._folder.name) / "observed.npz", ArmObserved)
        if not self.policy:
            self._writer = SlotWriter(self.planes.folder, "command", records.command_dtype(self.planes.joints))

    def stop(self) -> list[int]:
        """End everything; returns the processes that are left, which there should not be."""
        if self._observer is not None:
            self._observer.close()
            self._observer = None
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        pids = [process.pid for name in self.planes.running() if (process := self.planes.process(name)) is not None]
        self.planes.stop()
        left = [pid for pid in pids if is_running(pid)]
        return left + [-1] * self.planes.folder.exists()

    def restart(self) -> list[int]:
        """All anew; returns what the old ones left behind."""
        left = self.stop()
        self.start()
        return left

    # What cells do

    def live(self, seconds: float, until: Callable[[Status], bool] | None = None) -> bool:
        """Let time go by as a face, and as a policy where there is none; returns whether `until` came true."""
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            if self.beats:
                self.planes.beat()
            if self._writer is not None and now >= self._due:
                self._due = max(self._due + 0.1, now)
                self._number += 1
                command, stamp = self.commands(self._number, now)
                self._writer.write(records.fill_command(records.new(self._writer.dtype), command, stamp, 0.1))
            status = self.planes.status()
            if until is not None and status is not None and until(status):
                return True
            time.sleep(0.001)
        return False

    def signal(self, name: Process, number: signal.Signals) -> None:
        """Send a signal to one of the processes."""
        process = self.planes.process(name)
        assert process is not None
        process.send_signal(number)

    def wire(self, **changes: object) -> None:
        """Spoil the wire between driver and robot; nothing: whole again."""
        self.planes.set_wire(WireConfig(**changes))  # type: ignore[arg-type]

    def ask(self, request: Request) -> tuple[bool, str]:
        """As a living face does."""
        self.planes.beat()
        return self.planes.ask(request)

    def make_active(self) -> None:
        """Armed, following commands at full size."""
        for _ in range(3):  # a busy machine may come in between
            rest(self.planes)
            goal = self.planes.begin_episode(0)["goal"]
            self.planes.send_setpoint(ArmSetpoint(tool_pose=goal))
            self.live(0.05)
            if self.policy:
                self.planes.activate_policy()
            granted, why = self.ask("arm")
            active = granted and self.live(10.0, lambda status: status.mode == "active")
            self.live(_SETTLE)
            status = self.planes.status()
            if active and status is not None and status.mode == "active":
                return
        raise RuntimeError(f"the arm does not get active: {why}; {status}")

    # One cell

    def run(self, cell: Cell[ArmArena]) -> Finding:
        """Do it, watch, end it, and find the way back."""
        finding = Finding(robot=self.robot, victim=cell.victim, fault=cell.fault)
        self.note = ""
        self._take()  # while it may do what it likes
        self.make_active()
        begin = time.monotonic()
        cell.inject(self)
        lasts = max([cell.lasts, *(stage.within + self.late + 0.2 for stage in cell.stages)])
        self.live(lasts - (time.monotonic() - begin))
        changes = self._changes(begin)
        cell.undo(self)
        self.live(_STAYS)
        status = self.planes.status()
        assert status is not None
        # A process that was started anew does not know what the one before has said.
        changes += [change for change in self._changes(begin) if change not in changes]
        self._write_down(finding, cell, self._take(), changes, begin)
        finding.way_back = self._find_way_back(finding, cell, status)
        self.beats, self.commands = True, gentle
        return finding

    def _changes(self, begin: float) -> list[Change]:
        status = self.planes.status()
        return [] if status is None else [change for change in status.changes if change.stamp >= begin]

    def _write_down(self, finding: Finding, cell: Cell, seen: ArmObserved, changes: list[Change], begin: float) -> None:
        times: dict[str, float] = {}
        for change in changes:
            if not finding.sequence or finding.sequence[-1][0] != change.mode:
                finding.sequence.append((change.mode, change.stamp - begin))
            times.setdefault(change.mode, change.stamp - begin)
        if (braked := seen.braked_after(begin)) is not None:
            times["brakes"] = braked
            finding.sequence.append(("brakes", braked))
            finding.sequence.sort(key=lambda each: each[1])
        said = [*(change.cause for change in changes), self.note, str(self.planes.simulation().get("fault", ""))]
        finding.cause = next((words for words in said if words and cell.words in words), "; ".join(filter(None, said)))
        finding.commands, finding.missed = len(seen.sequence), seen.missed
        outside = seen.outside(ROBOT)
        finding.outside = len(outside)
        finding.problems += outside[:3]
        judge(finding, cell.stages, times, self.late)
        if cell.words and cell.words not in finding.cause:
            finding.problems.append(f"no cause has the words {cell.words!r}")
        if not cell.stages and finding.sequence:
            finding.problems.append("something happened where nothing should")
        if (fastest := seen.fastest(ROBOT)) > 1.0:
            finding.problems.append(f"a joint had {fastest:.2f} times its velocity limit")

    def _find_way_back(self, finding: Finding, cell: Cell, status: Status) -> str:
        """Take the way that the cell expects; anything less must not lead on."""
        moves = status.mode == "active"
        if cell.way_back in ("nothing to recover", "by itself"):
            if not moves:
                finding.problems.append(f"it is {status.mode} and does not go on by itself: {status.cause}")
            return cell.way_back
        if moves:
            finding.problems.append("it moves again although nobody has asked for it")
        if cell.way_back == "start anew":
            if left := self.restart():
                finding.problems.append(f"left behind: {left}")
            return cell.way_back
        if cell.way_back == "arm":
            granted, why = self.ask("arm")
            if not granted:
                finding.problems.append(f"arm is refused: {why}")
            return cell.way_back
        if cell.way_back != "recover" and self.ask("arm")[0]:
            finding.problems.append("it can be armed without recovery")
        granted, why = self.ask("recover")
        if not granted and "recover again" in why:
            self.live(0.05)
            granted, why = self.ask("recover")
        if not granted:
            finding.problems.append(f"recover is refused: {why}")
        elif cell.way_back == "recover, arm":
            granted, why = self.ask("arm")
            if not granted:
                finding.problems.append(f"arm is refused after recover: {why}")
        self.commands = gentle
        if granted and not self.live(2.0, lambda status: status.mode == "active"):
            finding.problems.append(f"it does not move after {cell.way_back}: {self.planes.status()}")
        return cell.way_back

    def _take(self) -> ArmObserved:
        assert self._observer is not None
        return self._observer.take(lambda: self.live(0.01))


def run_cells(arena: ArmArena, cells: Iterable[Cell[ArmArena]]) -> list[Finding]:
    """Run cells one after the other in an arena of their own; nothing is left behind."""
    findings = []
    arena.start()
    try:
        for cell in cells:
            untold = Finding(robot=arena.robot, victim=cell.victim, fault=cell.fault)
            findings.append(twice(partial(arena.run, cell), arena.restart, untold))
    finally:
        left = arena.stop()
    if left and findings:
        findings[-1].problems.append(f"left behind: {left}")
    return findings
