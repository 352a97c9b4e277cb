"""What must not get at a moving arm: bundles that are broken or for another robot, second publishers, a full disk.

And the end of the process that started all the others.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hardware.realtime.seqlock import SlotError, SlotFolder
from policies.bundle import MAX_FILE_BYTES, ZOO
from robot_rl.bench.faults.arm import ROBOT, TASK, ArmArena
from robot_rl.bench.faults.cells import Cell, Finding, Stage, judge
from robot_rl.bench.faults.observed import ArmObserved
from robot_rl.bench.faults.observer import Observer
from robot_rl.nodes.process import PARENT_VARIABLE, is_running
from robot_rl.planes.process_group import module_of
from robot_rl.planes.settings import ControlConfig, PolicyConfig
from robot_rl.rebuild import to_json


def spoiled_bundles(folder: Path, bundle: str = TASK, other: str = "quadrotor-track") -> list[tuple[str, Path, str]]:
    """(what is wrong, path, part of the refusal) of copies of a shipped bundle."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(ZOO / bundle, folder / name))

    corrupt, cut, short, large = (copy(name) for name in ("corrupt", "cut", "short", "large"))
    content = bytearray((corrupt / "policy.onnx").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (corrupt / "policy.onnx").write_bytes(bytes(content))
    text = (cut / "manifest.json").read_text()
    (cut / "manifest.json").write_text(text[: len(text) // 2])
    os.truncate(short / "policy.onnx", (short / "policy.onnx").stat().st_size // 2)
    os.truncate(large / "policy.onnx", MAX_FILE_BYTES + 1)  # takes no room on the disk
    return [
        ("corrupt: one byte of the network", corrupt, "checksum"),
        ("truncated: half of the manifest", cut, "manifest.json"),
        ("truncated: half of the network", short, "checksum"),
        ("for another robot", ZOO / other, "robot"),
        ("oversized: network of over 512 MiB", large, "larger than"),
    ]


def refusal_cells(folder: Path) -> list[Cell[ArmArena]]:
    """Each tries to get in beside what moves the arm; the arm goes on."""

    def policy(bundle: str) -> Callable[[ArmArena], Sequence[str]]:
        return lambda arena: _process("policy", PolicyConfig(bundle=bundle, folder=str(arena.planes.folder)))

    def control(arena: ArmArena) -> Sequence[str]:
        shared = str(arena.planes.folder)
        return _process("control", ControlConfig(folder=shared, driver_settings={"folder": shared}))

    def claim(arena: ArmArena) -> None:
        try:
            SlotFolder(arena.planes.slots.robot).claim()
        except SlotError as error:
            arena.note = str(error)

    def full(arena: ArmArena) -> None:
        with tempfile.TemporaryDirectory() as small:
            arena.note = _words(arena, on_full_disk(Path(small), control(arena), arena.planes.folder))

    cells = [
        Cell(victim="bundle", fault=fault, inject=_trying(policy(str(path))), words=words)
        for fault, path, words in spoiled_bundles(folder)
    ]
    cells += [
        Cell(victim="second publisher", fault="a second policy process", inject=_trying(policy(TASK)),
             words="is written by process"),
        Cell(victim="second publisher", fault="a second control process", inject=_trying(control),
             words="is written by process"),
        Cell(victim="second publisher", fault="a second start of the same robot", inject=claim, words="is in use by"),
    ]  # fmt: skip
    if may_mount():
        cells.append(
            Cell(victim="disk", fault="shared memory is full when a process starts", inject=full, words="No space left")
        )
    return cells


def _trying(command: Callable[[ArmArena], Sequence[str]]) -> Callable[[ArmArena], None]:
    def inject(arena: ArmArena) -> None:
        arena.note = _words(arena, command(arena))

    return inject


def _process(name: str, config: ControlConfig | PolicyConfig) -> list[str]:
    return [sys.executable, "-m", "robot_rl.planes", module_of(name, config), to_json(config)]


def _words(arena: ArmArena, command: Sequence[str], within: float = 60.0) -> str:
    """Run a process beside the arm, which lives on; its last words, or that it was not refused."""
    environment = {**os.environ, PARENT_VARIABLE: str(os.getpid())}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)
        try:
            arena.live(within, lambda _: process.poll() is not None)
            status = process.poll()
        finally:
            process.kill()
            process.wait()
        log.seek(0)
        lines = log.read().decode(errors="replace").strip().splitlines()
    if status is None or status == 0:
        return "not refused"
    return lines[-1] if lines else f"refused with status {status}, without a word"


def may_mount() -> bool:
    """Whether a small file system can be had for a process, which takes root on most machines."""
    done = (
        subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
        if shutil.which("unshare")
        else None
    )
    return done is not None and done.returncode == 0


def on_full_disk(place: Path, command: Sequence[str], folder: Path) -> list[str]:
    """The command, for which `folder` is a disk that has no room left."""
    script = (
        'mount -t tmpfs -o size=4k tmpfs "$0" && (head -c 8192 /dev/zero > "$0/filler" 2>/dev/null; true) && exec "$@"'
    )
    place.mkdir(exist_ok=True)
    return ["unshare", "--mount", "sh", "-c", script, str(folder), *command]


# The end of whoever started all


def own(name: str) -> None:
    """Start an arm, let the policy move it, say who runs, and stay: for `owner_findings`."""
    arena = ArmArena(policy=True, late=0.0)
    arena.start(name, observed=False)
    try:
        arena.make_active()
        pids = [process.pid for each in arena.planes.running() if (process := arena.planes.process(each))]
        print(arena.planes.folder, *pids, flush=True)
        arena.live(600.0)
    finally:
        arena.stop()


def owner_findings(late: float) -> list[Finding]:
    """The process that started all the others is killed, told to end, interrupted: the arm stops, nothing is left."""
    endings = {"killed": signal.SIGKILL, "told to end (SIGTERM)": signal.SIGTERM, "interrupted (SIGINT)": signal.SIGINT}
    findings = []
    for fault, number in endings.items():
        findings.append(_end_owner(fault, number, late))
        print(findings[-1].line(), flush=True)
    return findings


def _end_owner(fault: str, number: signal.Signals, late: float) -> Finding:
    finding = Finding(robot=ArmArena.robot, victim="face's process, which started the others", fault=fault,
                      way_back="start anew")  # fmt: skip
    code = f"from robot_rl.bench.faults.arm_refusals import own; own('faults-owned-{os.getpid()}')"
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert owner.stdout is not None
    words = owner.stdout.readline().split()
    if not words:
        raise RuntimeError("the arm of the owner did not start")
    folder, pids = Path(words[0]), [int(word) for word in words[1:]]
    with tempfile.TemporaryDirectory() as place:
        observer = Observer(folder, ROBOT, Path(place) / "observed.npz", ArmObserved)
        try:
            begin = time.monotonic()
            owner.send_signal(number)
            while time.monotonic() - begin < 20.0 and (folder.exists() or any(map(is_running, pids))):
                time.sleep(0.01)
            ended = time.monotonic() - begin
            seen = observer.take()
        finally:
            observer.close()
            owner.kill()
            owner.wait()
    times = {} if folder.exists() or any(map(is_running, pids)) else {"ends": ended}
    if (braked := seen.braked_after(begin)) is not None:
        times["brakes"] = braked
    finding.sequence = sorted(times.items(), key=lambda each: each[1])
    finding.commands, finding.missed = len(seen.sequence), seen.missed
    outside = seen.outside(ROBOT)
    finding.outside, finding.cause = len(outside), "" if outside else "stopped by the driver's own means"
    finding.problems += outside[:3]
    # Interrupted it ends the others in their order, the policy process first, which waits for its period; killed, the
    # kernel tells the others once it has taken its memory apart. The face's sign of life would be missed after 500 ms.
    stages = (Stage(mode="brakes", within=0.2), Stage(mode="ends", within=10.0))
    judge(finding, stages, times, late)
    return finding
