"""The cells of the arm's ROS nodes and their launcher: `robot-rl up arm`, a policy that moves it, and a witness."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hardware.realtime.seqlock import SlotFolder
from robot_rl.bench.faults.arm import ROBOT, TASK
from robot_rl.bench.faults.arm_cells import SIGNALS
from robot_rl.bench.faults.cells import Finding, Stage, judge, twice
from robot_rl.bench.faults.launched import Launched
from robot_rl.bench.faults.observed import ArmObserved
from robot_rl.bench.faults.observer import Observer
from robot_rl.planes.client import PlanesClient

if TYPE_CHECKING:
    from robot_rl.nodes.witness import Witness

_PATIENCE = 120.0
_HOLDS = Stage(mode="holding", within=0.402)
"""Its process ends with it, and may still give a command; then three periods of 0.1 s."""
_ENDS = Stage(mode="ends", within=15.0)
_STOPS = Stage(mode="brakes", within=0.1)


@dataclass(frozen=True, kw_only=True)
class NodeCell:
    """A node is hurt."""

    node: str
    """Of config/arm.yaml, or `launcher`."""
    fault: str
    """A key of `SIGNALS`."""
    stages: tuple[Stage, ...] = ()
    """What has to happen; none: nothing may."""
    words: str = ""
    """That diagnostics or the launcher have to say."""
    way_back: str = "nothing to recover"
    """`start anew`, `recover`, or none needed."""


def node_cells() -> list[NodeCell]:
    """Every node frozen, killed and told to end."""
    frozen, killed, told = "frozen", "killed", "told to end (SIGTERM)"
    cells = [NodeCell(node=node, fault=frozen) for node in ("policy", "setpoint", "sim")]
    cells.append(
        NodeCell(node="supervisor", fault=frozen, stages=(Stage(mode="holding", within=0.802, not_before=0.3),),
                 words="no sign of life", way_back="recover")
    )  # fmt: skip
    cells += [NodeCell(node="setpoint", fault=fault) for fault in (told,)]
    for fault in (killed, told):
        said = "SIGKILL" if fault == killed else "ended"
        cells += [
            NodeCell(node="supervisor", fault=fault, stages=(_STOPS, _ENDS), words=said, way_back="start anew"),
            NodeCell(node="policy", fault=fault, stages=(_HOLDS, _ENDS), words=said, way_back="start anew"),
            NodeCell(node="sim", fault=fault, stages=(Stage(mode="brakes", within=2.004), _ENDS), words=said,
                     way_back="start anew"),
            NodeCell(node="launcher", fault=fault, stages=(Stage(mode="brakes", within=0.5), _ENDS),
                     way_back="start anew"),
        ]  # fmt: skip
    return cells


class ArmUp:
    """A launched arm that moves, with everything that looks at it."""

    def __init__(self, domain: int) -> None:
        """Start it and wait until it moves."""
        from robot_rl.nodes.witness import Witness

        self.up = Launched("arm", domain, f"policy:={TASK}", f"task:={TASK}", "arm:=true")
        self._place = tempfile.TemporaryDirectory()
        self.client: PlanesClient | None = None
        self.observer: Observer[ArmObserved] | None = None
        self.witness: Witness = Witness(domain, self.up.namespace)
        try:
            if not self.witness.wait(lambda: any(s.mode == "active" for s in self.witness.statuses), _PATIENCE):
                raise RuntimeError(f"the arm does not move:\n{self.up.text}")
            folder = SlotFolder(f"{self.up.namespace}.{ROBOT}").path
            self.client = PlanesClient(folder, 7)
            self.observer = Observer(folder, ROBOT, Path(self._place.name) / "observed.npz", ArmObserved)
            time.sleep(1.0)  # at full size
            assert self.client.status() is not None
        except BaseException:
            self.close()
            raise

    def run(self, cell: NodeCell, late: float) -> Finding:
        """Hurt a node, watch, wake it again."""
        assert self.client is not None and self.observer is not None
        finding = Finding(robot="arm, nodes", victim=f"node {cell.node}" if cell.node != "launcher" else "launcher",
                          fault=cell.fault, way_back=cell.way_back)  # fmt: skip
        pid, ends = self.up.pid(cell.node), any(stage.mode == "ends" for stage in cell.stages)
        self.observer.take()
        if self._mode() != "active":
            raise RuntimeError(f"the arm is {self._mode()} before the fault: {self.up.text[-300:]}")
        said = len(self.witness.words)
        begin = time.monotonic()
        os.kill(pid, SIGNALS[cell.fault])
        times: dict[str, float] = {}
        if ends:
            if self.up.ends(cell.stages[-1].within + 5.0):
                times["ends"] = time.monotonic() - begin
        else:
            time.sleep(1.5)
        status = self.client.status()
        assert status is not None
        changes = [change for change in status.changes if change.stamp >= begin]
        if SIGNALS[cell.fault] == signal.SIGSTOP:
            os.kill(pid, signal.SIGCONT)
            time.sleep(1.5)
        seen = self.observer.take()
        for change in changes:
            times.setdefault(change.mode, change.stamp - begin)
        if (braked := seen.braked_after(begin)) is not None:
            times["brakes"] = braked
        finding.sequence = sorted(times.items(), key=lambda each: each[1])
        words = [*(change.cause for change in changes), *(text for _, _, text in self.witness.words[said:])]
        words += [line for line in self.up.text.splitlines() if line.startswith("[up] node")]
        finding.cause = next((w for w in words if w and cell.words in w), "") if finding.sequence else ""
        if cell.words and not finding.cause:
            finding.problems.append(f"nobody says {cell.words!r}")
        finding.commands, finding.missed, outside = len(seen.sequence), seen.missed, seen.outside(ROBOT)
        finding.outside = len(outside)
        finding.problems += outside[:3]
        judge(finding, cell.stages, times, late)
        if not cell.stages and finding.sequence:
            finding.problems.append("something happened where nothing should")
        if ends and "ends" not in times:
            finding.problems.append(f"left behind: {self.up.left()}")
        if cell.way_back == "recover":
            granted, why = self.witness.trigger("recover")
            moves = granted and self.witness.wait(lambda: self._mode() == "active", 5.0)
            if not moves:
                finding.problems.append(f"it does not move after recover: {why}")
        return finding

    def _mode(self) -> str:
        status = self.client.status() if self.client is not None else None
        return "" if status is None else status.mode

    def close(self) -> None:
        """End everything."""
        if self.observer is not None:
            self.observer.close()
        if self.client is not None:
            self.client.close()
        self.up.close()
        self.witness.close()


def run_node_cells(domain: int, late: float, cells: list[NodeCell] | None = None) -> list[Finding]:
    """All cells; those after which all has ended get a launch of their own."""
    findings: list[Finding] = []
    launched: ArmUp | None = None

    def end() -> None:
        nonlocal launched
        if launched is not None:
            launched.close()
            launched = None

    def run(cell: NodeCell) -> Finding:
        nonlocal launched
        launched = launched or ArmUp(domain)
        return launched.run(cell, late)

    try:
        for cell in node_cells() if cells is None else cells:
            untold = Finding(robot="arm, nodes", victim=f"node {cell.node}", fault=cell.fault)
            findings.append(twice(partial(run, cell), end, untold))
            if cell.way_back == "start anew":
                end()
    finally:
        end()
    return findings
