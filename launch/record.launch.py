"""Record topics of any robot: the node and arguments of config/record.yaml in ROS 2's launch.

ros2 launch robot_rl record.launch.py folder:=demos topics:=[joint_states,/camera/wrist/*]
ros2 service call /record std_srvs/srv/SetBool "{data: true}"
ros2 service call /record/success std_srvs/srv/Trigger
"""

from launch import LaunchDescription
from robot_rl.nodes.launching import describe


def generate_launch_description() -> LaunchDescription:
    """Arguments, then the nodes that they ask for."""
    return describe("record")
