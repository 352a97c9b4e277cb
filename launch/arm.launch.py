"""Bring an arm up: the nodes and arguments of config/arm.yaml in ROS 2's launch.

ros2 launch robot_rl arm.launch.py policy:=arm-reach task:=arm-reach arm:=true
ros2 launch robot_rl arm.launch.py --show-args
"""

from launch import LaunchDescription
from robot_rl.nodes.launching import describe


def generate_launch_description() -> LaunchDescription:
    """Arguments, then the nodes that they ask for."""
    return describe("arm")
