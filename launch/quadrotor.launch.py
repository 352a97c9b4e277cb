"""Bring a quadrotor up: the nodes and arguments of config/quadrotor.yaml in ROS 2's launch.

ros2 launch robot_rl quadrotor.launch.py policy:=quadrotor-track setpoint:=demo
ros2 launch robot_rl quadrotor.launch.py --show-args
"""

import os
from functools import partial

from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    LogInfo,
    OpaqueFunction,
    SetEnvironmentVariable,
    TimerAction,
)
from launch.events import Shutdown
from launch.events.process import ProcessExited
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription
from robot_rl.bringup import Bringup, NodeEntry, load_bringup, node_parameters, parse, selected, to_text
from robot_rl.nodes.process import PARENT_VARIABLE, REFUSED


def generate_launch_description() -> LaunchDescription:
    """Arguments, then the nodes that they ask for."""
    bringup = load_bringup("quadrotor")
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


def start_nodes(bringup: Bringup, context: LaunchContext) -> list[Node]:
    """One action per selected node."""
    texts = [f"{name}:={LaunchConfiguration(name).perform(context)}" for name in bringup.arguments]
    values = parse(bringup, texts)
    return [
        Node(
            package="robot_rl",
            executable=entry.executable,
            name=entry.name,
            namespace=values["namespace"],
            parameters=[
                node_parameters(entry, values),
                *([values["params_file"]] if values["params_file"] else []),
            ],
            ros_arguments=["--log-level", values["log_level"]],
            output="screen",
            emulate_tty=True,
            on_exit=partial(after_exit, entry),
        )
        for entry in bringup.nodes
        if selected(entry, values)
    ]


def after_exit(entry: NodeEntry, event: ProcessExited, context: LaunchContext) -> list:
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
