"""The cells of the arm's own processes, of what it measures, and of what commands it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial

import numpy as np

from policies.types import CartesianTwist, JointPositions, JointTorques
from robot_rl.bench.faults.arm import ArmArena, gentle
from robot_rl.bench.faults.cells import Cell, Stage
from robot_rl.planes import records

_PERIOD = 0.1
"""s, of the policy."""
WATCHDOG = 0.022
"""s: 20 ms of the simulated arm after the last torque, which may be one tick younger than the fault."""
_HOLDS = Stage(mode="holding", within=3 * _PERIOD + 0.002, not_before=2 * _PERIOD - 0.005)
"""Three periods after the last command, which is up to one period old at the fault."""
_OLD = (
    Stage(mode="holding", within=0.104, not_before=0.09),
    Stage(mode="fault", within=0.504, not_before=0.49),
    Stage(mode="brakes", within=2.004, not_before=1.99),
)
"""100, 500, 2000 ms after the newest sample, and the tick that sees it."""
SIGNALS = {"killed": signal.SIGKILL, "told to end (SIGTERM)": signal.SIGTERM, "frozen": signal.SIGSTOP}


def process_cells() -> list[Cell[ArmArena]]:
    """Each process killed, told to end, and frozen; the arm follows the policy process."""

    def hurt(name: str, number: signal.Signals) -> Callable[[ArmArena], None]:
        return lambda arena: arena.signal(name, number)  # type: ignore[arg-type]

    def wake(name: str) -> Callable[[ArmArena], None]:
        return hurt(name, signal.SIGCONT)

    def policy_again(arena: ArmArena) -> None:
        assert arena.planes.config.policy is not None
        arena.planes.start_policy(arena.planes.config.policy)
        arena.planes.activate_policy()

    def control_again(arena: ArmArena) -> None:
        process = arena.planes.process("control")
        assert process is not None
        process.wait()
        arena.planes.start_control()

    def nap(arena: ArmArena) -> None:
        arena.signal("policy", signal.SIGSTOP)
        arena.live(0.35)
        arena.signal("policy", signal.SIGCONT)

    def silent(arena: ArmArena) -> None:
        arena.beats = False

    def heard(arena: ArmArena) -> None:
        arena.beats = True

    cells = []
    for fault, number in SIGNALS.items():
        frozen = number == signal.SIGSTOP
        cells.append(
            Cell(victim="policy process", fault=fault, inject=hurt("policy", number),
                 undo=wake("policy") if frozen else policy_again,
                 stages=(_HOLDS,), words="policy output is", lasts=1.0, way_back="recover")
        )  # fmt: skip
    cells.append(Cell(victim="policy process", fault="frozen for 350 ms", inject=nap, words="policy output is",
                      stages=(_HOLDS,), lasts=0.5, way_back="by itself"))  # fmt: skip
    for fault, number in SIGNALS.items():
        frozen, ends = number == signal.SIGSTOP, number == signal.SIGTERM
        stages = (Stage(mode="stopped", within=0.01), Stage(mode="brakes", within=0.01)) if ends else (
            Stage(mode="brakes", within=WATCHDOG),
        )  # fmt: skip
        cells.append(
            Cell(victim="control process", fault=fault, inject=hurt("control", number), lasts=0.5,
                 undo=wake("control") if frozen else control_again, stages=stages,
                 words="SIGTERM" if ends else "watchdog: no torque for 20 ms",
                 way_back="arm" if ends else "recover, arm")
        )  # fmt: skip
    for fault, number in SIGNALS.items():
        cells.append(
            Cell(victim="simulated robot's process", fault=fault, inject=hurt("simulation", number), stages=_OLD,
                 words="state is", way_back="start anew",
                 undo=wake("simulation") if number == signal.SIGSTOP else lambda _: None)
        )  # fmt: skip
    cells.append(
        Cell(victim="face", fault="hung (no sign of life)", inject=silent, undo=heard, words="no sign of life",
             stages=(Stage(mode="holding", within=0.5 + 3 * _PERIOD + 0.002, not_before=0.45),), lasts=1.5,
             way_back="recover")
    )  # fmt: skip
    return cells


def state_cells() -> list[Cell[ArmArena]]:
    """What the arm measures stops, is no number, permuted, jumps, or has wrong stamps; the driver fails."""

    def cell(changes: dict[str, object], fault: str, stages: tuple[Stage, ...], words: str,
             victim: str = "joint states") -> Cell[ArmArena]:  # fmt: skip
        return Cell(victim=victim, fault=fault, inject=lambda arena: arena.wire(**changes), undo=whole, stages=stages,
                    words=words, way_back="recover, arm")  # fmt: skip

    def whole(arena: ArmArena) -> None:
        arena.wire()

    # What is not believed leaves the state as old as it was.
    at_once = (Stage(mode="fault", within=0.02), _OLD[-1])
    fault = (Stage(mode="fault", within=0.02), Stage(mode="brakes", within=0.02))
    cut = (Stage(mode="brakes", within=WATCHDOG), Stage(mode="fault", within=0.05))
    return [
        _stop(0.05, (), "nothing to recover", whole),
        _stop(0.25, _OLD[:1], "by itself", whole),
        _stop(0.6, _OLD[:2], "recover, arm", whole),
        _stop(2.1, _OLD, "recover, arm", whole),
        cell({"nan_state": True}, "not a number", _OLD, "non-finite joint_positions: joint1"),
        cell({"inf_state": True}, "infinite", _OLD, "non-finite joint_velocities: joint1"),
        cell({"permute_state": True}, "permuted", at_once, "are joints permuted?"),
        cell({"state_jump": 0.5}, "jump by 0.5 rad", at_once, "jumps by"),
        cell({"stamp_offset": -1.0}, "stamps 1 s old", _OLD, "old on arrival"),
        cell({"stamp_offset": 1.0}, "stamps 1 s in the future", _OLD, "in the future"),
        cell({"fault": "protective stop: joint 4"}, "the robot says that it has a fault", fault, "protective stop",
             "driver"),
        cell({"command_loss": 1.0}, "nothing that is sent arrives", cut, "watchdog: no torque for 20 ms", "driver"),
    ]  # fmt: skip


def _stop(
    seconds: float, stages: tuple[Stage, ...], way_back: str, whole: Callable[[ArmArena], None]
) -> Cell[ArmArena]:
    """Samples stop for so long: stages whose limit lies beyond must not come."""

    def inject(arena: ArmArena) -> None:
        arena.wire(freeze_state=True)
        arena.live(seconds)
        whole(arena)

    return Cell(victim="joint states", fault=f"stopped for {1e3 * seconds:.0f} ms", inject=inject, stages=stages,
                words="state is" if stages else "", way_back=way_back)  # type: ignore[arg-type]  # fmt: skip


def command_cells() -> list[Cell[ArmArena]]:
    """What commands the arm is no number, too large, permuted, jumps, has wrong stamps; the bench is the policy."""

    def twist(first: float, gripper: float = 1.0) -> CartesianTwist:
        return CartesianTwist(values=np.array([first, 0, 0, 0, 0, 0.0]), frame="base", gripper=np.asarray(gripper))

    def give(command: Callable[[ArmArena], records.ArmCommand], offset: float = 0.0) -> Callable[[ArmArena], None]:
        def inject(arena: ArmArena) -> None:
            made = command(arena)
            arena.commands = lambda _, now: (made, now + offset)

        return inject

    def turned(arena: ArmArena, change: float = 0.0, reverse: bool = False) -> JointPositions:
        state = arena.planes.state()
        assert state is not None
        angles = np.asarray(state.state.joint_positions, float)
        return JointPositions(values=(angles[::-1] if reverse else angles) + change, gripper=np.asarray(1.0))

    def again(arena: ArmArena) -> None:
        arena.commands = gentle

    def jumping(arena: ArmArena) -> None:
        arena.commands = lambda number, now: (twist(1.4 if number % 2 else -1.4), now)

    cells = []
    for fault, command, words in (
        ("not a number", lambda _: twist(np.nan), "nan"),
        ("infinite", lambda _: twist(np.inf), "inf"),
        ("gripper not a number", lambda _: twist(0.0, np.nan), "gripper"),
        ("ten times too large", lambda _: twist(3.0), "is a scale applied twice?"),
        ("torques beyond the limits", lambda _: JointTorques(np.full(7, 500.0), np.asarray(1.0)), "limit"),
        ("joint targets permuted", partial(turned, reverse=True), "are joints permuted?"),
        ("joint targets jump by 1 rad", partial(turned, change=1.0), "rad"),
    ):
        cells.append(Cell(victim="policy's commands", fault=fault, inject=give(command), undo=again,
                          stages=(_HOLDS,), words=words, lasts=0.9, way_back="recover"))  # fmt: skip
    for fault, offset, words in (
        ("stamps 1 s old", -1.0, "old on arrival"),
        ("stamps 1 s in the future", 1.0, "future"),
    ):
        inject = give(lambda _: twist(0.0), offset)
        cells.append(Cell(victim="policy's commands", fault=fault, inject=inject, undo=again, stages=(_HOLDS,),
                          words=words, lasts=0.9, way_back="recover"))  # fmt: skip
    cells.append(Cell(victim="policy's commands", fault="to and fro at 1.4 m/s, within the limits", inject=jumping,
                      undo=again, lasts=1.0))  # fmt: skip
    return cells
