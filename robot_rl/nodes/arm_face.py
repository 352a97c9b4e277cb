"""What the nodes of an arm share: its description, its shared memory, its process, and two clocks.

Shared memory is named by namespace and robot, so that two robots run side by side under two namespaces. The supervisor
makes and removes it; the other nodes attach when it is there, and attach anew when it is another one.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

from hardware.descriptions import load_arm
from hardware.descriptions.arm import ArmDescription
from hardware.realtime.seqlock import SlotError, SlotFolder, remove_if_abandoned
from robot_rl.nodes.arm_messages import BASE_FRAME, TOOL_FRAME
from robot_rl.nodes.managed import Managed, ManagedConfig
from robot_rl.nodes.parameters import parameter
from robot_rl.nodes.process import PARENT_VARIABLE, REALTIME_VARIABLE
from robot_rl.nodes.running import NodeError
from robot_rl.planes.client import PlanesClient
from robot_rl.planes.processes import module_of
from robot_rl.planes.settings import to_json

_PATIENCE, _LITTLE_PATIENCE = 3.0, 0.5
"""s from SIGTERM to SIGKILL: for one that runs, and for one that still loads and does nothing yet."""


@dataclass(frozen=True, kw_only=True)
class ArmFaceConfig(ManagedConfig):
    """Parameters that every node of an arm has."""

    robot: str = parameter("panda", "Robot description: a name, or the path of a YAML file.")
    frame_prefix: str = parameter(
        "", "Before the names of frames, e.g. left/, as robot_state_publisher's: two robots in one tree of frames."
    )


class PlaneProcess:
    """One of the processes in `robot_rl.planes`; it ends with this one, however this one ends."""

    def __init__(self, name: str, config: Any) -> None:
        """Start it.

        Args:
            name: `control`, `policy` or `simulation`.
            config: Its config, from `robot_rl.planes.settings`.
        """
        self.name = name
        self.runs = False
        """Set by whoever has heard of it: it has loaded."""
        if os.environ.get(REALTIME_VARIABLE) == "0":
            ordinary = dataclasses.replace(config.realtime, priority=0, lock_memory=False)
            config = dataclasses.replace(config, realtime=ordinary)
        environment = {**os.environ, PARENT_VARIABLE: str(os.getpid()), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "robot_rl.planes", module_of(name, config), to_json(config)],
            stdin=subprocess.DEVNULL,
            env=environment,
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def check(self) -> None:
        """Raises `NodeError` if it has ended by itself."""
        status = self._process.poll()
        if status is not None:
            how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
            raise NodeError(f"the {self.name} process {how}; its own words, if any, are above")

    def end(self) -> None:
        """SIGTERM, then SIGKILL; also for a stopped one."""
        patience = _PATIENCE if self.runs else _LITTLE_PATIENCE
        for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, None)):
            self._process.send_signal(number)
            self._process.send_signal(signal.SIGCONT)  # a stopped process could not act on it
            try:
                self._process.wait(seconds)
                return
            except subprocess.TimeoutExpired:
                continue


class ArmFace(Managed):
    """A node of an arm; see the module."""

    description: ArmDescription

    def configure(self) -> None:
        """Read the description and name the memory."""
        if self.simulated_time:
            raise ValueError("an arm runs in real time, since its control process does: leave use_sim_time false")
        self.description = load_arm(self.settings.robot)
        self.interface = self.description.interface
        self.hardware_id = self.interface.name
        self.slots = SlotFolder(f"{self.get_namespace().strip('/')}.{self.interface.name}".lstrip("."))
        self.base_frame = f"{self.settings.frame_prefix}{BASE_FRAME}"
        self.tool_frame = f"{self.settings.frame_prefix}{TOOL_FRAME}"
        self.child: PlaneProcess | None = None
        self._client: PlanesClient | None = None
        self._inode = 0

    def tick(self) -> None:
        """As `Managed`; memory that another node writes is an error, memory that has just gone is none."""
        try:
            super().tick()
        except SlotError as error:
            if self.slots.path.exists():
                raise NodeError(str(error)) from error
            self._detach()

    def deactivate(self) -> None:
        """End the process."""
        self.end_child()

    def cleanup(self) -> None:
        """Let go of the memory."""
        self._detach()
        if slots := getattr(self, "slots", None):
            remove_if_abandoned(slots.path)

    @property
    def planes(self) -> PlanesClient | None:
        """The arm's processes; None while there is no memory, that is, no supervisor."""
        try:
            inode = self.slots.path.stat().st_ino
        except FileNotFoundError:
            inode = 0
        if inode != self._inode and self._inode:
            self._detach()
            self.end_child()
        if inode and self._client is None:
            self._client, self._inode = PlanesClient(self.slots.path, self.description.num_joints), inode
        return self._client

    def end_child(self) -> None:
        """End the node's process, if there is one."""
        child: PlaneProcess | None = getattr(self, "child", None)
        if child is not None:
            child.end()
            self.child = None

    def to_ros(self, stamp: float) -> float:
        """S of the node's clock at `stamp` s of the monotonic clock, with which the processes measure."""
        return self.now() - (time.monotonic() - stamp)

    def to_monotonic(self, stamp: float) -> float:
        """Back again."""
        return time.monotonic() - (self.now() - stamp)

    def _detach(self) -> None:
        client: PlanesClient | None = getattr(self, "_client", None)
        if client is not None:
            client.close()
        self._client, self._inode = None, 0
