"""`robot-rl up quadrotor` in flight: its launcher and its critical nodes die, and nothing is left behind."""

from __future__ import annotations

import os
import time
from functools import partial

import numpy as np

from robot_rl.bench.faults.arm_cells import SIGNALS
from robot_rl.bench.faults.cells import Finding, Stage, judge, twice
from robot_rl.bench.faults.launched import Launched
from robot_rl.bench.faults.quadrotor import BUNDLE, HEIGHT, ROBOT

_PATIENCE = 90.0
CELLS = (
    ("launcher", "killed", 12.0),
    ("launcher", "told to end (SIGTERM)", 12.0),
    ("sim", "killed", 12.0),
    ("supervisor", "killed", 12.0),
    ("policy", "killed", 22.0),
)
"""Who, what, and s until all has ended: 10 s more where the supervisor is given time to land."""


def run_launch_cells(domain: int, late: float) -> list[Finding]:
    """Each with a launch of its own."""
    findings = []
    for victim, fault, within in CELLS:
        told = victim if victim == "launcher" else f"node {victim} under the launcher"
        finding = Finding(robot="quadrotor, launched", victim=told, fault=fault, way_back="start anew")
        findings.append(twice(partial(_run, domain, victim, within, late, finding), lambda: None, finding))
    return findings


def _run(domain: int, victim: str, within: float, late: float, told: Finding) -> Finding:
    from hardware.descriptions import load_quadrotor
    from robot_rl.nodes.witness import Witness

    finding = Finding(robot=told.robot, victim=told.victim, fault=told.fault, way_back=told.way_back)
    highest = float(load_quadrotor(ROBOT).parameters["max_speed"])
    arguments = (f"policy:={BUNDLE}", "setpoint:=hover", f"height:={HEIGHT}", "auto_arm:=true")
    with Launched("quadrotor", domain, *arguments) as up:
        witness = Witness(domain, up.namespace)
        try:
            witness.watch_vehicle()
            if not witness.wait(lambda: witness.states and witness.states[-1][1].position[2] > 0.9 * HEIGHT, _PATIENCE):
                raise RuntimeError(f"it does not fly: {up.text[-500:]}")
            begin, wall = time.monotonic(), time.time()
            os.kill(up.pid(victim), SIGNALS[finding.fault])
            times = {"ends": time.monotonic() - begin} if up.ends(within + 5.0) else {}
            for status in witness.statuses:
                if status.stamp >= wall:
                    times.setdefault(status.mode, status.stamp - wall)
            sent = [each.values for each in witness.sent]
            said = [line for line in up.text.splitlines() if line.startswith("[up] ") and "process" not in line]
        finally:
            witness.close()
        left = up.left()
    finding.sequence = sorted(times.items(), key=lambda each: each[1])
    finding.commands = len(sent)
    finding.outside = sum(not np.all(np.isfinite(each) & (each >= 0.0) & (each <= highest + 1e-9)) for each in sent)
    finding.cause = said[0] if said else ""
    finding.problems += [f"{finding.outside} commands were outside the limits"] if finding.outside else []
    finding.problems += [f"left behind: {left}"] if left else []
    judge(finding, (Stage(mode="ends", within=within),), times, late)
    return finding
