"""`robot-rl cockpit`: the page of a simulated or of a real robot, until it is stopped."""

from __future__ import annotations

import signal
from typing import Any, Protocol

from robot_rl.cockpit.config import CockpitConfig, device_config
from robot_rl.cockpit.device import PageDevice
from robot_rl.cockpit.opening import announce, open_server, say
from robot_rl.cockpit.server import CockpitServer
from robot_rl.errors import unknown_name

__all__ = ["CockpitConfig", "run"]


class Session(Protocol):
    """A robot behind the page."""

    def run(self) -> None:
        """Until somebody stops it."""

    def close(self) -> None:
        """Let it go."""


def run(config: CockpitConfig) -> int:
    """Serve until Ctrl-C, SIGTERM, or the end of the terminal."""
    if config.ros:
        from robot_rl.nodes.cockpit import run as run_ros

        return run_ros(config)
    # Whatever tells it to end, the robot is let go and the recording ended. A shell's background jobs ignore SIGINT.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # which `nohup` wants
            signal.signal(number, signal.default_int_handler)
    task = _find_task(config.task)
    server = open_server(config, PageDevice(device_config(config, task_kind(task))))
    try:
        session = _open_session(config, task, server)
        try:
            announce(server)
            session.run()
        except KeyboardInterrupt:
            say("stopped")
        finally:
            session.close()
    finally:
        server.close()
    return 0


def _find_task(name: str) -> Any:
    from sim.tasks import TASKS

    if name not in TASKS:
        raise unknown_name("task", name, TASKS)
    return TASKS[name]


def _open_session(config: CockpitConfig, task: Any, server: CockpitServer) -> Session:
    import torch

    torch.set_num_threads(1)
    if task_kind(task) == "arm":
        from robot_rl.cockpit.arm_session import ArmSession

        return ArmSession(config, server)
    from robot_rl.cockpit.flight_session import FlightSession

    return FlightSession(config, server)


def task_kind(task: Any) -> str:
    """Whether a task moves an arm or a quadrotor."""
    from sim.tasks.arm import ArmTask

    return "arm" if isinstance(task, ArmTask) else "quadrotor"
