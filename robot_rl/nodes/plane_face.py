"""What the nodes of a robot with a control process share: its shared memory, a process of their own, and two clocks.

Shared memory is named by namespace and robot, so that two robots run side by side under two namespaces. The supervisor
makes and removes it; the other nodes attach when it is there, and attach anew when it is another one.
"""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path
from typing import Any, Generic, TypeVar

from hardware.realtime.seqlock import SlotError, SlotFolder, remove_if_abandoned
from policies.types import RobotInterface
from robot_rl.nodes.managed import Managed
from robot_rl.nodes.running import NodeError
from robot_rl.planes.process_group import command_line, environment
from robot_rl.planes.slots_client import SlotsClient

Client = TypeVar("Client", bound=SlotsClient)
_PATIENCE, _LITTLE_PATIENCE = 3.0, 0.5
"""s from SIGTERM to SIGKILL: for one that runs, and for one that still loads and does nothing yet."""


class PlaneProcess:
    """One of the processes in `robot_rl.planes`; it ends with this one, however this one ends."""

    def __init__(self, name: str, config: Any, patience: float = _PATIENCE) -> None:
        """Start it.

        Args:
            name: `control`, `policy` or `simulation`.
            config: Its config, a dataclass with `folder` filled in, and `realtime`.
            patience: s that its end may take once it runs.
        """
        self.name, self._patience = name, patience
        self.runs = False
        """Set by whoever has heard of it: it has loaded."""
        self._process = subprocess.Popen(command_line(name, config), stdin=subprocess.DEVNULL, env=environment())

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
        patience = self._patience if self.runs else _LITTLE_PATIENCE
        for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, None)):
            self._process.send_signal(number)
            self._process.send_signal(signal.SIGCONT)  # a stopped process could not act on it
            try:
                self._process.wait(seconds)
                return
            except subprocess.TimeoutExpired:
                continue


class PlaneFace(Managed, Generic[Client]):
    """A node of a robot with a control process; see the module. Subclasses say which robot: `load` and `attach`."""

    interface: RobotInterface
    """Of the robot's description; set by `load`."""
    outlives_memory: bool = False
    """Whether what this node has started goes on when the supervisor and its memory are gone: a vehicle does."""

    # What subclasses do

    def load(self) -> None:
        """Read the description and set `interface`. Raises one of `REFUSALS` to refuse."""
        raise NotImplementedError

    def attach(self, folder: Path) -> Client:
        """The client of the slots in `folder`."""
        raise NotImplementedError

    # The life cycle

    def configure(self) -> None:
        """Read the description and name the memory."""
        if self.simulated_time:
            raise ValueError("the robot runs in real time, since its control process does: leave use_sim_time false")
        self.load()
        self.hardware_id = self.interface.name
        self.slots = SlotFolder(f"{self.get_namespace().strip('/')}.{self.interface.name}".lstrip("."))
        self.child: PlaneProcess | None = None
        self._client: Client | None = None
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

    # What subclasses use

    @property
    def planes(self) -> Client | None:
        """The robot's processes; None while there is no memory, that is, no supervisor.

        With `outlives_memory` it stays the old memory, which is mapped still, until there is a new one.
        """
        try:
            inode = self.slots.path.stat().st_ino
        except FileNotFoundError:
            inode = 0
        gone = inode == 0 and not self.outlives_memory
        if self._inode and inode != self._inode and (inode or gone):
            self._detach()
            if not self.outlives_memory:
                self.end_child()
        if inode and self._client is None:
            self._client, self._inode = self.attach(self.slots.path), inode
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
        client: Client | None = getattr(self, "_client", None)
        if client is not None:
            client.close()
        self._client, self._inode = None, 0
