"""`robot-rl up`: the nodes of `config/<robot>.yaml` as processes, where ROS 2's `launch` is not installed.

Same nodes, same arguments and same ending as the launch file. Each node runs in its own process
group with its output in a log file that is copied to the terminal, so that neither Ctrl-C nor a
stopped terminal reaches a node that flies. Nodes end with this process, however it ends: they ask
the kernel for SIGTERM on its death (`robot_rl.nodes.process.die_with_parent`).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from robot_rl.bringup import (
    EXECUTABLES,
    Bringup,
    BringupError,
    NodeEntry,
    Value,
    load_bringup,
    node_arguments,
    node_parameters,
    parse,
    selected,
    to_text,
)
from robot_rl.nodes.process import (
    PARENT_VARIABLE,
    REFUSED,
    StopRequest,
    die_with_parent,
    ignore_signals,
    stop_request,
)

_POLL = 0.05
"""s between two looks at the nodes."""
_ESCALATION = ((0.0, signal.SIGINT), (4.0, signal.SIGTERM), (6.0, signal.SIGKILL))
"""(s after the end was decided, signal); repeated twice a second."""
_START = (
    "import sys; sys.path[:] = [p for p in sys.path if p]; "
    "from robot_rl.nodes.process import start; sys.exit(start({module!r}))"
)


@dataclass(eq=False)
class Child:
    """A node's process and what it last said."""

    entry: NodeEntry
    """What it is."""
    process: subprocess.Popen
    """Its process, the leader of its own group."""
    log: TextIO
    """Its output, open for reading."""
    last_words: str = ""
    """Its last line."""
    ended: bool = False
    """Its end has been told."""

    def relay(self) -> None:
        """Copy what it has said since the last call to the terminal."""
        for line in self.log.read().splitlines():
            if line.strip():
                self.last_words = line.strip()
                _say(f"[{self.entry.name}] {line}")


def main(argv: Sequence[str]) -> int:
    """`robot-rl up NAME [key:=value …]`; `--list` shows the arguments."""
    words = list(argv)
    showing = [word for word in words if word in {"--list", "--help", "-h"}]
    names = [word for word in words if ":=" not in word and word not in showing]
    try:
        if len(names) != 1:
            raise BringupError(
                "usage: robot-rl up NAME [argument:=value …] [--list]; for example: robot-rl up quadrotor"
            )
        bringup = load_bringup(names[0])
        values = parse(bringup, [word for word in words if ":=" in word])
    except (BringupError, OSError) as error:
        sys.stderr.write(f"robot-rl up: {error}\n")
        return 2
    if showing:
        _say(describe(bringup, names[0]))
        return 0
    return up(bringup, values)


def describe(bringup: Bringup, name: str) -> str:
    """The arguments with their defaults, as `ros2 launch --show-args` lists them."""
    lines = [bringup.description, f"robot-rl up {name} [argument:=value …]", ""]
    for argument in bringup.arguments.values():
        choices = f" One of: {', '.join(argument.choices)}." if argument.choices else ""
        lines.append(f"  {argument.name}:={to_text(argument.default)}\n      {argument.description}{choices}")
    nodes = ", ".join(entry.name for entry in bringup.nodes)
    return "\n".join([*lines, "", f"nodes: {nodes}"])


def up(bringup: Bringup, values: Mapping[str, Value]) -> int:
    """Start the nodes and watch them until they are asked to end, or a critical one does.

    Returns:
        0 after SIGINT, SIGTERM or SIGHUP, or a finished mission; 1 after the end of a critical node; 2 if a node
        cannot be started at all.
    """
    stop = stop_request()
    die_with_parent()
    environment = node_environment()
    entries = [entry for entry in bringup.nodes if selected(entry, values)]
    try:
        commands = [node_command(entry, values, environment) for entry in entries]
    except BringupError as error:
        sys.stderr.write(f"robot-rl up: {error}\n")
        return 2
    folder = _log_folder()
    children: list[Child] = []
    status = 1
    try:
        for entry, command in zip(entries, commands, strict=True):
            if not stop.requested:
                children.append(_spawn(entry, command, folder, environment))
                _say(f"[up] {entry.name}: process {children[-1].process.pid}")
        status = _watch(children, stop)
    finally:
        _end(children)
        ignore_signals()
    return status


def node_environment() -> dict[str, str]:
    """Environment of the nodes' processes."""
    environment = dict(os.environ)
    environment[PARENT_VARIABLE] = str(os.getpid())
    # The nodes find this very package, also where it runs from a checkout.
    package_root = str(Path(__file__).resolve().parents[1])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [package_root, os.environ.get("PYTHONPATH")]))
    environment.setdefault("OMP_NUM_THREADS", "1")
    # ROS 2 from PyPI leaves this unset, and ament's index then finds nothing.
    if "AMENT_PREFIX_PATH" not in environment and (Path(sys.prefix) / "share" / "ament_index").is_dir():
        environment["AMENT_PREFIX_PATH"] = sys.prefix
    return environment


def node_command(
    entry: NodeEntry, values: Mapping[str, Value], environment: Mapping[str, str] = os.environ
) -> list[str]:
    """Command line of a node's process.

    Raises:
        BringupError: The node is of another package, which is not installed.
    """
    if entry.package == "robot_rl":
        command = [sys.executable, "-c", _START.format(module=EXECUTABLES[entry.executable])]
    else:
        command = [_find_executable(entry, environment)]
    command += [*node_arguments(entry), "--ros-args"]
    command += ["-r", f"__node:={entry.name}", "--log-level", str(values.get("log_level", "info"))]
    if values.get("namespace"):
        command += ["-r", f"__ns:=/{str(values['namespace']).strip('/')}"]
    for name, value in node_parameters(entry, values).items():
        command += ["-p", f"{name}:={_text(value)}"]
    if values.get("params_file"):
        command += ["--params-file", str(values["params_file"])]
    return command


def _find_executable(entry: NodeEntry, environment: Mapping[str, str]) -> str:
    """Where an executable of another package is: `lib/<package>` below a prefix of ament, or on PATH."""
    for prefix in filter(None, environment.get("AMENT_PREFIX_PATH", "").split(os.pathsep)):
        path = Path(prefix) / "lib" / entry.package / entry.executable
        if os.access(path, os.X_OK):
            return str(path)
    if found := shutil.which(entry.executable):
        return found
    raise BringupError(f"node {entry.name} needs the ROS package {entry.package}, which is not installed here")


def _spawn(entry: NodeEntry, command: list[str], folder: Path, environment: dict[str, str]) -> Child:
    path = folder / f"{entry.name}.log"
    with path.open("w") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            preexec_fn=_before_start,
        )
    return Child(entry=entry, process=process, log=path.open())


def _before_start() -> None:
    """In the child: out of reach of the terminal's Ctrl-C, and deaf to SIGINT until the node has its handler.

    Python's own handler would end a node that is still loading with a traceback.
    """
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _watch(children: list[Child], stop: StopRequest) -> int:
    """Wait for a reason to end; its exit status."""
    status = 0
    end_at = float("inf")
    while not stop.requested and time.monotonic() < end_at:
        time.sleep(_POLL)
        for child in children:
            child.relay()
            code = child.process.poll()
            if code is None or child.ended:
                continue
            child.relay()
            child.ended = True
            if code == 0 and child.entry.ends_mission:
                _say(f"[up] {child.entry.name} has finished its mission; ending")
                return status
            text = f"[up] node {child.entry.name} {_how(code)}; its last words: {child.last_words or 'none'}"
            if child.entry.critical or code == REFUSED:
                status = 1
                grace = 0.0 if code == REFUSED else child.entry.grace
                end_at = min(end_at, time.monotonic() + grace)
                text += f"; ending in {grace:g} s" if grace else "; ending"
            _say(text)
        if all(child.ended for child in children):
            break
    if stop.requested:
        _say(f"[up] {stop.reason}: ending")
    return status


def _end(children: list[Child]) -> None:
    """SIGINT, then SIGTERM, then SIGKILL, until every node is gone."""
    begin = time.monotonic()
    next_signal = begin
    while any(child.process.poll() is None for child in children):
        now = time.monotonic()
        number = [number for delay, number in _ESCALATION if now - begin >= delay][-1]
        if now >= next_signal:
            next_signal = now + 0.5
            for child in children:
                _signal(child, number)
        time.sleep(_POLL)
    for child in children:
        child.relay()
        child.log.close()
        code = child.process.returncode
        if code and not child.ended:
            _say(f"[up] node {child.entry.name} {_how(code)}")


def _signal(child: Child, number: signal.Signals) -> None:
    """Signal a node that still runs, and what it may have started; wake it if it is stopped."""
    if child.process.poll() is None:
        try:
            os.killpg(child.process.pid, number)
            os.killpg(child.process.pid, signal.SIGCONT)
        except ProcessLookupError:
            return


def _how(code: int) -> str:
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with status {code}"


def _log_folder() -> Path:
    home = Path(os.environ.get("ROS_HOME") or Path.home() / ".ros")
    base = Path(os.environ.get("ROS_LOG_DIR") or home / "log")
    folder = base / f"robot_rl-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _text(value: Value) -> str:
    """A value as YAML on a command line: strings quoted, so that ROS keeps them strings."""
    return json.dumps(value)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
