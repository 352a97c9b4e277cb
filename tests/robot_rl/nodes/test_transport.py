import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from robot_rl.nodes.transport import without_shared_memory

ROOT = Path(__file__).parents[3]
MAKE_A_NODE = """
import rclpy
from robot_rl.nodes.transport import without_shared_memory
without_shared_memory()
rclpy.init()
node = rclpy.create_node("quiet")
print(sum("/dev/shm/fastdds" in line for line in open("/proc/self/maps")))
"""


@pytest.mark.parametrize("discovery", ["LOCALHOST", "SUBNET"])
def test_a_node_uses_no_shared_memory(discovery):
    """A killed process cannot leave a lock behind that others wait for."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("FASTDDS", "FASTRTPS", "ROS_"))}
    environment = {
        **kept,
        "ROS_AUTOMATIC_DISCOVERY_RANGE": discovery,
        "ROS_DOMAIN_ID": str(1 + os.getpid() % 100),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }
    done = subprocess.run(
        [sys.executable, "-c", MAKE_A_NODE],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout.split() == ["0"]


def test_localhost_gets_its_profile():
    environment = {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    without_shared_memory(environment)
    assert Path(environment["FASTDDS_DEFAULT_PROFILES_FILE"]).is_file()
    assert environment["FASTDDS_BUILTIN_TRANSPORTS"] == "UDPv4"


def test_choice_of_the_user_is_kept():
    chosen = {"FASTDDS_BUILTIN_TRANSPORTS": "DEFAULT", "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    environment = dict(chosen)
    without_shared_memory(environment)
    assert environment == chosen


def test_what_a_parent_has_set_for_itself_does_not_keep_shared_memory():
    """A process without a range of its own that starts one with LOCALHOST: rmw_fastrtps would add shared memory."""
    environment: dict[str, str] = {}
    without_shared_memory(environment)
    environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    without_shared_memory(environment)
    assert Path(environment["FASTDDS_DEFAULT_PROFILES_FILE"]).is_file()
    again = dict(environment)
    without_shared_memory(again)
    assert again == environment
