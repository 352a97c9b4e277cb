"""The node `ros2_control` in a probe's namespace, and the driver that it serves."""

from contextlib import contextmanager

from hardware.realtime.seqlock import SlotFolder
from robot_rl.ros2_control import BridgedArm, BridgedConfig


def start_bridge(processes, namespace, *parameters):
    code = (
        f"import sys; sys.argv += ['-r', '__ns:=/{namespace}']; "
        "from robot_rl.nodes.process import start; sys.exit(start('ros2_control'))"
    )
    processes.start("ros2_control", "robot:=ur5e", "joint_states:=joint_states", *parameters, code=code)


@contextmanager
def bridged(processes, namespace, arm, *parameters):
    """The driver, connected; the node has to end well afterwards."""
    with SlotFolder(f"{namespace}.ur5e") as slots:
        start_bridge(processes, namespace, *parameters)
        with BridgedArm(arm, BridgedConfig(folder=str(slots.path), timeout=60.0)) as driver:
            yield driver
        assert processes.end() == {"ros2_control": 0}
