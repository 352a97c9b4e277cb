"""Bring a quadrotor up: the nodes and arguments of config/quadrotor.yaml in ROS 2's launch.

ros2 launch robot_rl quadrotor.launch.py policy:=quadrotor-track setpoint:=demo
ros2 launch robot_rl quadrotor.launch.py --show-args
"""

from launch import LaunchDescription
from robot_rl.nodes.launching import describe


def generate_launch_description() -> LaunchDescription:
    """Arguments, then the nodes that they ask for."""
    return describe("quadrotor")
