"""The cells of the quadrotor's nodes, of its odometry, and of the policy's commands."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hardware.realtime.seqlock import SlotError, SlotWriter
from robot_rl.bench.faults.arm_cells import SIGNALS
from robot_rl.bench.faults.arm_refusals import may_mount, on_full_disk, spoiled_bundles
from robot_rl.bench.faults.cells import Cell, Stage, WayBack
from robot_rl.bench.faults.quadrotor import BUNDLE, HEIGHT, QuadrotorArena
from robot_rl.planes.quadrotor_records import COMMAND

Cells = list[Cell[QuadrotorArena]]
_PERIOD = 0.01
"""s, of the policy."""
_LANDED = Stage(mode="fault", within=0.5 + HEIGHT / 0.5 + 5.0)
"""It sinks at 0.5 m/s, and may take 5 s more."""
_SILENT = (
    Stage(mode="holding", within=4 * _PERIOD, not_before=1.5 * _PERIOD),
    Stage(mode="descending", within=0.51, not_before=0.45),
    _LANDED,
)
"""Three periods without commands, and the tick that sees it; then 500 ms."""
_OLD = (
    Stage(mode="level", within=0.12, not_before=0.09),
    Stage(mode="descending", within=0.52, not_before=0.49),
    Stage(mode="motors off", within=2.02, not_before=1.99),
)
"""100, 500, 2000 ms after the newest state, which may be one period of 10 ms old, and the tick."""
_WATCHDOG = (
    Stage(mode="vehicle's watchdog: level", within=0.12, not_before=0.09),
    Stage(mode="vehicle's watchdog: descending", within=0.52, not_before=0.49),
)
"""The vehicle's own, which tells changes of itself at once."""


def process_cells() -> Cells:
    """Each node and each of its processes killed, told to end, and frozen."""

    def cell(victim: str, fault: str, stages: tuple[Stage, ...], words: str, way_back: WayBack,
             lasts: float = 0.0) -> Cell[QuadrotorArena]:  # fmt: skip
        number = SIGNALS[fault]
        undo: Callable[[QuadrotorArena], None] = lambda _: None  # noqa: E731
        if number == signal.SIGSTOP:
            undo = lambda arena: arena.signal(victim, signal.SIGCONT)  # noqa: E731
        name = victim if victim.endswith("process") else f"node {victim}"
        return Cell(victim=name, fault=fault, inject=lambda arena: arena.signal(victim, number),
                    undo=undo, stages=stages, words=words, way_back=way_back, lasts=lasts)  # fmt: skip

    ended = [fault for fault, number in SIGNALS.items() if number != signal.SIGSTOP]
    cells: Cells = []
    for fault in SIGNALS:
        cells.append(cell("policy process", fault, _SILENT, "policy output is", "recover, arm"))
    for fault in SIGNALS:
        cells.append(cell("simulation process", fault, _OLD, "state is", "recover, arm"))
    for fault in ended:
        cells.append(cell("control process", fault, _WATCHDOG, "control process", "start anew", lasts=4.0))
    cells.append(cell("control process", "frozen", _WATCHDOG, "has said nothing", "recover, arm", lasts=4.0))

    def nap(arena: QuadrotorArena) -> None:
        arena.signal("control process", signal.SIGSTOP)
        arena.look(arena.begin + 0.8)
        arena.signal("control process", signal.SIGCONT)

    stood_still = (*_WATCHDOG, Stage(mode="descending", within=0.9), Stage(mode="fault", within=8.0))
    cells.append(Cell(victim="control process", fault="frozen for 800 ms", inject=nap, stages=stood_still,
                      words="stood still", way_back="recover, arm"))  # fmt: skip
    for fault in ended:
        cells.append(cell("policy", fault, _SILENT, "policy output is", "recover, arm"))
        cells.append(cell("sim", fault, _OLD, "state is", "recover, arm"))
        cells.append(cell("supervisor", fault, _WATCHDOG, "watchdog", "start anew", lasts=4.0))
    faceless = (Stage(mode="holding", within=0.55, not_before=0.45), Stage(mode="descending", within=1.05), _LANDED)
    cells.append(cell("supervisor", "frozen", faceless, "no sign of life", "recover, arm"))
    for node in ("policy", "sim"):
        cells.append(cell(node, "frozen", (), "", "nothing to recover", lasts=1.5))
    for fault in SIGNALS:
        cells.append(cell("setpoint", fault, (), "", "nothing to recover", lasts=1.5))
    cells.append(cell("recorder", "killed", (), "", "nothing to recover", lasts=0.5))
    cells.append(cell("recorder", "frozen", (), "", "nothing to recover", lasts=1.0))
    return cells


def state_cells() -> Cells:
    """Odometry stops, is no number, jumps, or has wrong stamps."""

    def stop(seconds: float, stages: tuple[Stage, ...], way_back: WayBack) -> Cell[QuadrotorArena]:
        return Cell(victim="odometry", fault=f"stopped for {1e3 * seconds:.0f} ms", stages=stages, way_back=way_back,
                    inject=lambda arena: arena.spoil("sim/fault", f"freeze_state={seconds}"), lasts=seconds + 0.3,
                    words="state is" if stages else "")  # fmt: skip

    def spoiled(text: str, fault: str, words: str, stages: tuple[Stage, ...] = _OLD) -> Cell[QuadrotorArena]:
        return Cell(victim="odometry", fault=fault, stages=stages, words=words, way_back="recover, arm",
                    inject=lambda arena: arena.spoil("sim/fault", text),
                    undo=lambda arena: arena.spoil("sim/fault", ""))  # fmt: skip

    jumped = (Stage(mode="descending", within=0.05), Stage(mode="motors off", within=2.05))
    return [
        stop(0.05, (), "nothing to recover"),
        stop(0.25, _OLD[:1], "by itself"),
        stop(0.6, (*_OLD[:2], _LANDED), "recover, arm"),
        stop(2.1, _OLD, "recover, arm"),
        spoiled("nan_state", "not a number", "non-finite position"),
        spoiled("inf_state", "infinite", "non-finite linear_velocity"),
        spoiled("state_jump=5", "jumps by 5 m", "jumps by", jumped),
        spoiled("stamp_offset=-1", "stamps 1 s old", "old on arrival"),
        spoiled("stamp_offset=1", "stamps 1 s in the future", "in the future"),
    ]


def command_cells(folder: Path) -> Cells:
    """The policy's commands are spoiled, or somebody else commands; bundles that are no good; a full disk."""

    def spoiled(text: str, fault: str, words: str, stages: tuple[Stage, ...] = _SILENT,
                way_back: WayBack = "recover, arm", lasts: float = 0.0) -> Cell[QuadrotorArena]:  # fmt: skip
        return Cell(victim="policy's commands", fault=fault, stages=stages, words=words, way_back=way_back, lasts=lasts,
                    inject=lambda arena: arena.spoil_commands(text),
                    undo=lambda arena: arena.spoil_commands(""))  # fmt: skip

    def another_setpoint(arena: QuadrotorArena) -> None:
        arena.witness.send_setpoints(np.array([2.0, 2.0, 2.0]), 1.0)

    def another_motor_command(arena: QuadrotorArena) -> None:
        arena.witness.command_motors(arena.interface.actuators, np.zeros(4).tolist(), "motor_commands", 1.0)

    def another_writer(arena: QuadrotorArena) -> None:
        assert arena.client is not None
        try:
            SlotWriter(arena.client.folder, "command", COMMAND).close()
        except SlotError as error:
            arena.note = str(error)

    def bundle(path: Path, words: str) -> Callable[[QuadrotorArena], None]:
        def inject(arena: QuadrotorArena) -> None:
            arena.note = arena.try_node(arena.command("policy", f"policy:={path}", node="another_policy"), words)

        return inject

    def full(arena: QuadrotorArena) -> None:
        small = arena.folder / "small"
        command = arena.command("recorder", f"folder:={small}", "recording:=true", node="another_recorder")
        arena.note = arena.try_node(on_full_disk(small, command, small), "No space left")

    cells = [
        spoiled("nan", "not a number", "nan"),
        spoiled("inf", "infinite", "inf"),
        spoiled("beyond", "beyond the rotors' limits", "leaves [0"),
        spoiled("stamp=-1", "stamps 1 s old", "old on arrival"),
        spoiled("stamp=1", "stamps 1 s in the future", "in the future"),
        spoiled("jump", "jump to zero for one period, five times a second", "", (), "nothing to recover", 1.5),
        Cell(
            victim="second publisher",
            fault="set-points elsewhere",
            inject=another_setpoint,
            lasts=1.2,
            words="is a second one",
        ),
        Cell(victim="second publisher", fault="zeros for the motors by topic", inject=another_motor_command, lasts=1.2),
        Cell(
            victim="second process",
            fault="commands in place of the policy",
            inject=another_writer,
            lasts=0.5,
            words="is written by process",
        ),
    ]
    cells.append(Cell(victim="a person", fault="emergency stop by topic", way_back="recover, arm",
                      inject=lambda arena: arena.spoil("estop", True), words="emergency stop",
                      stages=(Stage(mode="fault", within=0.03), Stage(mode="motors off", within=0.03))))  # fmt: skip
    for fault, path, words in spoiled_bundles(folder, BUNDLE, "arm-reach"):
        cells.append(Cell(victim="bundle", fault=f"{fault}, for a node policy", inject=bundle(path, words),
                          words=words))  # fmt: skip
    if may_mount():
        cells.append(Cell(victim="disk", fault="full, for a node recorder", inject=full, words="No space left"))
    return cells
