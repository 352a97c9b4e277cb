# Metadata is in pyproject.toml; only what ROS 2 expects beside the Python packages is here.
from pathlib import Path

from setuptools import setup

SHARE = "share/robot_rl"


def files(pattern: str) -> list[str]:
    """Files of the checkout, relative as setuptools wants them."""
    root = Path(__file__).resolve().parent
    return sorted(str(path.relative_to(root)) for path in root.glob(pattern))


setup(
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/robot_rl"]),
        (SHARE, ["package.xml"]),
        (f"{SHARE}/launch", files("launch/*.launch.py")),
        (f"{SHARE}/config", files("config/*.yaml")),
        # pip installs no executables into lib/<package>, where ros2 run and ros2 launch look for them.
        ("lib/robot_rl", files("robot_rl/nodes/bin/*")),
    ],
)
