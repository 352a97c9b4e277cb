"""The command `robot-rl`: one subcommand per use, each imported only when it is called.

`robot-rl --help` and `robot-rl up` therefore start fast and need neither torch nor a simulator. Exit status:
0 done, 1 a check or a flight failed, 2 the arguments or what they name are wrong, 130 interrupted. What is
the user's to fix is said in one sentence; ROBOT_RL_TRACEBACK=1 shows where it was raised.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from robot_rl.errors import UserError, require_packages

USAGE = 2
"""Exit status: the arguments, or something that they name, are wrong."""
INTERRUPTED = 130
"""Exit status after Ctrl-C."""
_TORCH = ("torch", "gymnasium")


@dataclass(frozen=True, kw_only=True)
class Command:
    """One subcommand."""

    summary: str
    """One line for `robot-rl --help`."""
    module: str
    """Module that is imported when the command is called."""
    config: str
    """Dataclass in that module whose fields are the arguments; empty: `function` gets them as they are."""
    function: str = "run"
    """Function in that module: takes the config or the arguments, returns an exit status, or None for 0."""
    defaults: str = ""
    """Function in that module: from the arguments to the config that the others change; empty: the plain defaults."""
    extra: str = ""
    """Extra of the package that brings `needs`."""
    needs: tuple[str, ...] = ()
    """Optional modules without which the command cannot run."""


COMMANDS = {
    "train": Command(
        summary="train a policy on a task; ends with an evaluation and a bundle",
        module="robot_rl.train",
        config="TrainConfig",
        defaults="defaults",
        extra="train",
        needs=(*_TORCH, "onnx", "safetensors"),
    ),
    "eval": Command(
        summary="fly a bundle in simulation many times and write its metrics",
        module="robot_rl.evaluate",
        config="EvaluateConfig",
        extra="sim",
        needs=_TORCH,
    ),
    "play": Command(
        summary="watch a policy or the scripted expert: window, browser or video",
        module="robot_rl.play",
        config="PlayConfig",
        extra="sim",
        needs=(*_TORCH, "mujoco"),
    ),
    "hil": Command(
        summary="train a policy on a robot that a person corrects; ends with an evaluation and a bundle",
        module="robot_rl.hil.session",
        config="HilConfig",
        defaults="defaults",
        extra="hil",
        needs=(*_TORCH, "mujoco", "onnx", "safetensors", "zmq", "msgpack"),
    ),
    "cockpit": Command(
        summary="watch, drive, correct and record a robot from a page in the browser, on a desktop or a phone",
        module="robot_rl.cockpit.command",
        config="CockpitConfig",
        extra="cockpit",
        needs=("aiohttp", "cv2", "mcap", "msgpack", "mujoco", "rosbags"),
    ),
    "reward": Command(
        summary="label frames of recorded episodes; train and measure rewards from pictures",
        module="robot_rl.rewards.command",
        config="RewardConfig",
        extra="hil",
        needs=("torch", "msgpack"),
    ),
    "demos": Command(
        summary="collect, list, check, cut, convert, replay and score demonstrations",
        module="robot_rl.demos.command",
        config="DemosConfig",
        extra="demos",
        needs=("mcap", "rosbags", "msgpack"),
    ),
    "export": Command(
        summary="write the bundle of a training run's checkpoint",
        module="robot_rl.export",
        config="ExportConfig",
        extra="train",
        needs=(*_TORCH, "onnx", "safetensors"),
    ),
    "calibrate": Command(
        summary="print boards; calibrate a camera and where it is on an arm; ends with numbers and pictures",
        module="robot_rl.calibration.command",
        config="CalibrateConfig",
        extra="perception",
        needs=("cv2", "matplotlib"),
    ),
    "list": Command(
        summary="show tasks, robots, algorithms and bundles",
        module="robot_rl.listing",
        config="ListConfig",
    ),
    "devices": Command(
        summary="show what a person can drive with, and why it cannot be opened; try, map or calibrate one",
        module="robot_rl.devices.command",
        config="DevicesConfig",
    ),
    "up": Command(
        summary="start the ROS 2 nodes of a robot, e.g. robot-rl up quadrotor setpoint:=demo",
        module="robot_rl.up",
        config="",
        function="main",
        extra="ros",
        needs=("rclpy",),
    ),
    "demo": Command(
        summary="train, export, fly over ROS 2 and write a report: what `make demo` runs",
        module="robot_rl.demo",
        config="DemoConfig",
        extra="all",
        needs=(*_TORCH, "onnx", "matplotlib", "PIL", "rclpy"),
    ),
    "report": Command(
        summary="write the HTML report of a recorded flight",
        module="robot_rl.report",
        config="ReportConfig",
        extra="report",
        needs=("matplotlib", "PIL"),
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(arguments)
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has gone (robot-rl list | head): leave without a second error when stdout is flushed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (UserError, ValueError, OSError) as error:
        if os.environ.get("ROBOT_RL_TRACEBACK"):
            raise
        hint = " (ROBOT_RL_TRACEBACK=1 shows where)" if type(error) is ValueError else ""
        _say(f"error: {' '.join(str(error).split())}{hint}")
        return USAGE


def parse(name: str, arguments: Sequence[str]) -> Any:
    """The config of subcommand `name` from its arguments; exits with status 2 where they do not parse."""
    import tyro

    command = COMMANDS[name]
    module = importlib.import_module(command.module)
    config = getattr(module, command.config)
    if command.defaults and (default := getattr(module, command.defaults)(arguments)) is not None:
        return tyro.cli(config, args=list(arguments), prog=f"robot-rl {name}", default=default)
    return tyro.cli(config, args=list(arguments), prog=f"robot-rl {name}")


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in {"-h", "--help"}:
        print(_help())
        return 0 if arguments else USAGE
    if arguments[0] == "--version":
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(f"robot_rl {version('robot_rl')}")
        except PackageNotFoundError:
            print("robot_rl (run from a checkout that is not installed)")
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        near = get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"commands: {', '.join(COMMANDS)}"
        raise UserError(f"unknown command {name!r}; {hint}")
    command = COMMANDS[name]
    require_packages(f"robot-rl {name}", command.extra, command.needs)
    given = parse(name, rest) if command.config else rest
    function: Callable[[Any], Any] = getattr(importlib.import_module(command.module), command.function)
    status = function(given)
    return status if isinstance(status, int) else 0


def _help() -> str:
    width = max(len(name) for name in COMMANDS)
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join([
        "usage: robot-rl COMMAND ...",
        "",
        "From simulation to the robot: train a policy, export it, fly it with ROS 2.",
        "",
        *lines,
        "",
        "robot-rl COMMAND --help shows the arguments of one command.",
    ])  # fmt: skip


def _say(text: str) -> None:
    print(f"robot-rl: {text}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
