"""The whole matrix, group by group, and what is written about it."""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from robot_rl.bench.faults.arm import ArmArena, run_cells
from robot_rl.bench.faults.arm_cells import command_cells, process_cells, state_cells
from robot_rl.bench.faults.arm_made_time import run_made_cells
from robot_rl.bench.faults.arm_nodes import run_node_cells
from robot_rl.bench.faults.arm_refusals import owner_findings, refusal_cells
from robot_rl.bench.faults.cells import TITLES, Finding
from robot_rl.bench.faults.quadrotor import QuadrotorArena
from robot_rl.bench.faults.quadrotor import run_cells as fly_cells
from robot_rl.bench.faults.quadrotor_cells import command_cells as flight_commands
from robot_rl.bench.faults.quadrotor_cells import process_cells as flight_processes
from robot_rl.bench.faults.quadrotor_cells import state_cells as flight_states
from robot_rl.bench.faults.quadrotor_launch import run_launch_cells

Group = Literal["arm", "arm-nodes", "quadrotor"]


@dataclass(frozen=True, kw_only=True)
class FaultsConfig:
    """Run the matrix of faults."""

    groups: tuple[Group, ...] = ("arm", "arm-nodes", "quadrotor")
    """Which: `arm` takes 4 minutes, `arm-nodes` 3, `quadrotor` 6; the latter two need rclpy."""
    late: float = 0.05
    """s by which a time limit may be exceeded: the system's own lateness, without PREEMPT_RT."""
    domain: int = 0
    """ROS domain, 1 to 101; 0: that of the environment, or a random one."""


def run_faults(config: FaultsConfig) -> dict[str, Any]:
    """All cells of the groups that are asked for, by group."""
    domain = config.domain or int(os.environ.get("ROS_DOMAIN_ID") or random.SystemRandom().randint(1, 101))
    groups: dict[str, Callable[[], list[Finding]]] = {
        "arm": lambda: _arm(config.late),
        "arm-nodes": lambda: run_node_cells(domain, config.late),
        "quadrotor": lambda: _quadrotor(domain, config.late),
    }
    results: dict[str, Any] = {"late": config.late}
    for name in TITLES:
        if name in config.groups:
            begin = time.monotonic()
            findings = groups[name]()
            results[name] = {"seconds": time.monotonic() - begin, "cells": [each.to_dict() for each in findings]}
            failed = [each for each in findings if not each.passed]
            print(f"{name}: {len(findings)} cells, {len(failed)} not as they should be", flush=True)
    return results


def _arm(late: float) -> list[Finding]:
    findings = run_cells(ArmArena(policy=True, late=late), process_cells())
    with tempfile.TemporaryDirectory() as folder:
        cells = [*state_cells(), *command_cells(), *refusal_cells(Path(folder))]
        findings += run_cells(ArmArena(policy=False, late=late), cells)
    return [*findings, *owner_findings(late), *run_made_cells()]


def _quadrotor(domain: int, late: float) -> list[Finding]:
    with tempfile.TemporaryDirectory() as folder:
        cells = [*flight_processes(), *flight_states(), *flight_commands(Path(folder))]
        findings = fly_cells(QuadrotorArena(domain, late), cells)
    return findings + run_launch_cells(domain, late)
