"""The processes of one arm: started in the right order, stopped in the right order, none left behind.

The simulated robot comes first, then the control process, then the policy; they end in the reverse order.
"""

from __future__ import annotations

import dataclasses
import subprocess
import time
from dataclasses import dataclass, field

from hardware.descriptions import load_arm
from hardware.realtime.seqlock import SlotFolder
from robot_rl.planes.client import PlanesClient
from robot_rl.planes.process_group import Process, ProcessGroup
from robot_rl.planes.settings import ControlConfig, PolicyConfig, SimulationConfig


@dataclass(frozen=True, kw_only=True)
class PlanesConfig:
    """One robot and what runs it."""

    name: str = "arm"
    """Unique on this machine, e.g. the ROS namespace; its shared memory is named by it."""
    control: ControlConfig = field(default_factory=ControlConfig)
    """Robot, driver, rate, gains, envelope."""
    simulation: SimulationConfig | None = None
    """The simulated robot behind the driver `sim`; None where there is another."""
    policy: PolicyConfig | None = None
    """The policy; None: none, or a later `start_policy`."""


class Planes(PlanesClient):
    """A robot's processes and their client; one thread, which must last as long as they do."""

    def __init__(self, config: PlanesConfig) -> None:
        """Prepare; `start`, or `with Planes(config) as planes:`."""
        self.config = config
        self.slots = SlotFolder(config.name)
        self._started = False
        super().__init__(self.slots.path, load_arm(config.control.robot).num_joints)
        self._group = ProcessGroup(self.folder, self.beat)

    def start(self, timeout: float = 120.0) -> None:
        """Start all processes and wait until they are ready; the arm is idle then, with brakes.

        Raises:
            SlotError: The robot's name is in use.
            PlanesError: A process did not start; none is left.
        """
        self.slots.claim()
        self._started = True
        try:
            self.beat()
            if self.config.simulation is not None:
                self._group.spawn("simulation", self.config.simulation)
                self._group.wait("simulation", lambda: bool(self.simulation()), timeout)
            control = self.config.control
            if control.driver == "sim":
                settings = {"folder": str(self.folder), **control.driver_settings}
                control = dataclasses.replace(control, driver_settings=settings)
            self.start_control(control, timeout)
            if self.config.policy is not None:
                self.start_policy(self.config.policy, timeout)
        except BaseException:
            self.stop()
            raise

    def start_control(self, config: ControlConfig | None = None, timeout: float = 120.0) -> None:
        """Start the control process, anew if it has ended."""
        if config is not None:
            self._control = config
        begin = time.monotonic()
        self._group.spawn("control", self._control)
        self._group.wait("control", lambda: (status := self.status()) is not None and status.stamp > begin, timeout)

    def start_policy(self, config: PolicyConfig, timeout: float = 120.0) -> None:
        """Start the policy process, in place of the one that runs; it gives no command until `activate_policy`.

        Raises:
            PlanesError: The bundle is refused; the sentence says why.
        """
        self.stop_process("policy")
        begin = time.monotonic()
        self._group.spawn("policy", config)
        self._group.wait("policy", lambda: self.policy().get("stamp", 0.0) > begin, timeout)

    def stop(self) -> None:
        """End all processes, the policy first and the simulated robot last, and free the memory; never raises."""
        if not self._started:
            return
        self._group.stop()
        self.close()
        self.slots.release()
        self._started = False

    def stop_process(self, name: Process) -> int | None:
        """End one of the processes, also a stopped one; returns its exit status, None if it was not started."""
        return self._group.stop_process(name)

    def process(self, name: Process) -> subprocess.Popen[bytes] | None:
        """One of the processes; None if it was not started."""
        return self._group.process(name)

    def running(self) -> dict[Process, bool]:
        """Which of the started processes run."""
        return self._group.running()

    def last_words(self, name: Process) -> str:
        """The last line that a process has written to its standard error."""
        return self._group.last_words(name)

    def __enter__(self) -> Planes:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
