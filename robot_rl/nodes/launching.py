"""The nodes of `config/<robot>.yaml` as actions of ROS 2's launch: what every file in `launch/` does."""

from __future__ import annotations

import contextlib
import os
import signal
from functools import partial
from typing import Any

from launch.actions import (  # type: ignore[import-not-found]
    DeclareLaunchArgument,
    EmitEvent,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
    TimerAction,
)
from launch.event_handlers import OnShutdown  # type: ignore[import-not-found]
from launch.events import Shutdown  # type: ignore[import-not-found]
from launch.events.process import ProcessExited  # type: ignore[import-not-found]
from launch.substitutions import LaunchConfiguration  # type: ignore[import-not-found]
from launch_ros.actions import Node  # type: ignore[import-not-found]

from launch import LaunchContext, LaunchDescription  # type: ignore[attr-defined]
from robot_rl.bringup import (
    Bringup,
    NodeEntry,
    load_bringup,
    node_arguments,
    node_parameters,
    parse,
    selected,
    to_text,
)
from robot_rl.nodes.process import PARENT_VARIABLE, REFUSED


def describe(name: str) -> LaunchDescription:
    """The arguments of `config/<name>.yaml`, then the nodes that they ask for."""
    bringup = load_bringup(name)
    arguments = [
        DeclareLaunchArgument(
            argument.name,
            default_value=to_text(argument.default),
            description=argument.description,
            **({"choices": list(argument.choices)} if argument.choices else {}),
        )
        for argument in bringup.arguments.values()
    ]
    # SIGTERM and SIGKILL of `ros2 launch` would leave the nodes running: they end with it instead.
    parent = SetEnvironmentVariable(PARENT_VARIABLE, str(os.getpid()))
    return LaunchDescription([*arguments, parent, OpaqueFunction(function=partial(start_nodes, bringup))])


def start_nodes(bringup: Bringup, context: LaunchContext) -> list[Any]:
    """One action per selected node, and one that ends them."""
    texts = [f"{name}:={LaunchConfiguration(name).perform(context)}" for name in bringup.arguments]
    values = parse(bringup, texts)
    nodes = [
        Node(
            package=entry.package,
            executable=entry.executable,
            name=entry.name,
            namespace=values["namespace"],
            parameters=[
                node_parameters(entry, values),
                *([values["params_file"]] if values["params_file"] else []),
            ],
            arguments=node_arguments(entry),
            ros_arguments=["--log-level", values["log_level"]],
            output="screen",
            emulate_tty=True,
            on_exit=partial(after_exit, entry),
        )
        for entry in bringup.nodes
        if selected(entry, values)
    ]
    return [*nodes, RegisterEventHandler(OnShutdown(on_shutdown=partial(ask_to_end, nodes)))]


def ask_to_end(nodes: list[Node], _event: Shutdown, _context: LaunchContext) -> None:
    """SIGINT to every node at once.

    After Ctrl-C launch itself waits 5 s before it signals, in the belief that the terminal has done so; but nodes are
    out of the terminal's reach, so that a hasty second Ctrl-C cannot break their clean end.
    """
    for node in nodes:
        if details := node.process_details:
            with contextlib.suppress(ProcessLookupError):
                os.kill(details["pid"], signal.SIGINT)


def after_exit(entry: NodeEntry, event: ProcessExited, context: LaunchContext) -> list[Any]:
    """What the end of a node means for the others."""
    if context.is_shutdown:
        return []
    if event.returncode == 0 and entry.ends_mission:
        return [EmitEvent(event=Shutdown(reason=f"{entry.name} has finished its mission"))]
    reason = f"node {entry.name} ended with status {event.returncode}"
    if not (entry.critical or event.returncode == REFUSED):
        return [LogInfo(msg=reason)]
    shutdown = EmitEvent(event=Shutdown(reason=reason))
    if event.returncode == REFUSED or not entry.grace:
        return [LogInfo(msg=reason), shutdown]
    return [
        LogInfo(msg=f"{reason}; ending in {entry.grace:g} s"),
        TimerAction(period=entry.grace, actions=[shutdown]),
    ]
