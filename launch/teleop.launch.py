"""Let a person drive what runs already: the nodes and arguments of config/teleop.yaml in ROS 2's launch.

ros2 launch robot_rl teleop.launch.py device:=gamepad
ros2 launch robot_rl teleop.launch.py device:=spacemouse kind:=quadrotor
"""

from launch import LaunchDescription
from robot_rl.nodes.launching import describe


def generate_launch_description() -> LaunchDescription:
    """Arguments, then the nodes that they ask for."""
    return describe("teleop")
