"""The processes of one robot: started in the right order, stopped in the right order, none left behind.

The simulated robot comes first, then the control process, then the policy; they end in the reverse order. Each asks the
kernel for SIGTERM at the death of the thread that started it, so that one thread has to start them and stay.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hardware.descriptions import load_arm
from hardware.realtime.seqlock import SlotFolder
from robot_rl.nodes.process import PARENT_VARIABLE, REALTIME_VARIABLE
from robot_rl.planes.client import PlanesClient
from robot_rl.planes.settings import ControlConfig, PolicyConfig, SimulationConfig, to_json

Process = Literal["simulation", "control", "policy"]
ORDER: tuple[Process, ...] = ("simulation", "control", "policy")
_ENDINGS = ((0.0, signal.SIGTERM), (3.0, signal.SIGKILL))
"""(s after the end was asked for, signal)."""


def module_of(name: str, config: Any) -> str:
    """What `python -m robot_rl.planes` calls a process: `native` in place of `policy` where its config says so."""
    return "native" if name == "policy" and config.native else name


class PlanesError(Exception):
    """A process did not start, in one sentence with its own words."""


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
        self._processes: dict[Process, subprocess.Popen[bytes]] = {}
        self._started = False
        super().__init__(self.slots.path, load_arm(config.control.robot).num_joints)

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
                self._spawn("simulation", self.config.simulation)
                self._wait("simulation", lambda: bool(self.simulation()), timeout)
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
        self._spawn("control", self._control)
        self._wait("control", lambda: (status := self.status()) is not None and status.stamp > begin, timeout)

    def start_policy(self, config: PolicyConfig, timeout: float = 120.0) -> None:
        """Start the policy process, in place of the one that runs; it gives no command until `activate_policy`.

        Raises:
            PlanesError: The bundle is refused; the sentence says why.
        """
        self.stop_process("policy")
        begin = time.monotonic()
        self._spawn("policy", config)
        self._wait("policy", lambda: self.policy().get("stamp", 0.0) > begin, timeout)

    def stop(self) -> None:
        """End all processes, the policy first and the simulated robot last, and free the memory; never raises."""
        if not self._started:
            return
        for name in reversed(ORDER):
            self.stop_process(name)
        self.close()
        self.slots.release()
        self._started = False

    def stop_process(self, name: Process) -> int | None:
        """End one of the processes, also a stopped one; returns its exit status, None if it was not started."""
        process = self._processes.pop(name, None)
        if process is None:
            return None
        begin = time.monotonic()
        endings = list(_ENDINGS)
        while process.poll() is None:
            if endings and time.monotonic() - begin >= endings[0][0]:
                process.send_signal(endings.pop(0)[1])
                process.send_signal(signal.SIGCONT)  # a stopped process could not act on it
            time.sleep(0.005)
        return process.returncode

    def process(self, name: Process) -> subprocess.Popen[bytes] | None:
        """One of the processes; None if it was not started."""
        return self._processes.get(name)

    def running(self) -> dict[Process, bool]:
        """Which of the started processes run."""
        return {name: process.poll() is None for name, process in self._processes.items()}

    def last_words(self, name: Process) -> str:
        """The last line that a process has written to its standard error."""
        try:
            lines = self._log(name).read_text(errors="replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1] if lines else ""

    def __enter__(self) -> Planes:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # Inside

    def _spawn(self, name: Process, config: Any) -> None:
        if name in self._processes and self._processes[name].poll() is None:
            raise PlanesError(f"the {name} process runs already")
        config = dataclasses.replace(config, folder=str(self.folder))
        if os.environ.get(REALTIME_VARIABLE) == "0":
            ordinary = dataclasses.replace(config.realtime, priority=0, lock_memory=False)
            config = dataclasses.replace(config, realtime=ordinary)
        environment = {**os.environ, PARENT_VARIABLE: str(os.getpid()), "OMP_NUM_THREADS": "1"}
        with self._log(name).open("wb") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", "robot_rl.planes", module_of(name, config), to_json(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
            )

    def _wait(self, name: Process, ready: Callable[[], bool], timeout: float) -> None:
        end = time.monotonic() + timeout
        process = self._processes[name]
        while not ready():
            self.beat()
            if process.poll() is not None:
                words = self.last_words(name)
                raise PlanesError(f"the {name} process ended with status {process.returncode}: {words or 'no word'}")
            if time.monotonic() > end:
                raise PlanesError(f"the {name} process was not ready within {timeout:g} s: {self.last_words(name)}")
            time.sleep(0.005)

    def _log(self, name: Process) -> Path:
        return self.folder / f"{name}.log"
