"""DDS without shared memory: the death of one process must not hold up another.

Fast DDS passes messages on one machine through shared memory, guarded by locks between processes. A
process that is killed while it holds one lets every publisher that sends to it wait in `publish()`:
seen after one kill in about twenty, for 1 to 3 s and once until it was killed itself. For a control
path that is worse than the few microseconds that UDP costs. A user who has chosen a transport or a
profile keeps it.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping

from robot_rl.paths import find_shared

_CHOSEN = ("FASTDDS_BUILTIN_TRANSPORTS", "FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
"""Variables by which a user chooses Fast DDS's transports."""
_OWN = {"FASTDDS_BUILTIN_TRANSPORTS": "UDPv4"}
"""What is set where nobody has chosen."""


def without_shared_memory(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set the variables that Fast DDS and rmw_fastrtps read; call it before rclpy.init."""
    chosen = {name: environment[name] for name in _CHOSEN if environment.get(name)}
    # What this has set itself, in a process that started this one, is no choice against a profile: that process may
    # have another discovery range.
    if chosen not in ({}, _OWN):
        return
    environment.update(_OWN)
    local = (
        environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE") == "LOCALHOST" or environment.get("ROS_LOCALHOST_ONLY") == "1"
    )
    if local and not environment.get("ROS_STATIC_PEERS"):
        # For this range rmw_fastrtps adds shared memory whatever is chosen: ask for the same in a profile.
        environment["FASTDDS_DEFAULT_PROFILES_FILE"] = str(find_shared("config/fastdds_localhost.xml"))
        environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "SYSTEM_DEFAULT"
        environment.pop("ROS_LOCALHOST_ONLY", None)
