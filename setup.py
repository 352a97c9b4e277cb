# Metadata is in pyproject.toml; only what ROS 2 expects beside the Python packages is here.
from pathlib import Path
from typing import Any

import setuptools

SHARE = "share/robot_rl"


class Distribution(setuptools.Distribution):
    """colcon reads a package's settings as literals and fails on the version specifier object."""

    def parse_config_files(self, *args: Any, **kwargs: Any) -> None:
        """Read pyproject.toml, then turn that object back into text."""
        super().parse_config_files(*args, **kwargs)
        self.python_requires = self.metadata.python_requires = str(self.python_requires)


def files(pattern: str) -> list[str]:
    """Files of the checkout, relative as setuptools wants them."""
    root = Path(__file__).resolve().parent
    return sorted(str(path.relative_to(root)) for path in root.glob(pattern))


setuptools.setup(
    distclass=Distribution,
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/robot_rl"]),
        # `colcon build --symlink-install` sees of a checkout only the packages and what is listed here.
        (SHARE, ["package.xml", "pyproject.toml", "README.md", "LICENSE"]),
        (f"{SHARE}/launch", files("launch/*.launch.py")),
        (f"{SHARE}/config", files("config/*.*")),
        # pip installs no executables into lib/<package>, where ros2 run and ros2 launch look for them.
        ("lib/robot_rl", files("robot_rl/nodes/bin/*")),
    ],
)
