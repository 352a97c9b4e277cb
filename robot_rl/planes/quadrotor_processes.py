"""The processes of one quadrotor without ROS: for tests, benchmarks, and whoever has a face of another kind."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field

from hardware.drivers.quadrotor import BEHIND_MEMORY
from hardware.realtime.seqlock import SlotFolder
from robot_rl.planes.process_group import ProcessGroup
from robot_rl.planes.quadrotor_client import QuadrotorClient
from robot_rl.planes.quadrotor_settings import (
    QuadrotorControlConfig,
    QuadrotorPolicyConfig,
    QuadrotorSimulationConfig,
)


@dataclass(frozen=True, kw_only=True)
class QuadrotorPlanesConfig:
    """One quadrotor and what flies it."""

    name: str = "quadrotor"
    """Unique on this machine, e.g. the ROS namespace; its shared memory is named by it."""
    control: QuadrotorControlConfig = field(default_factory=QuadrotorControlConfig)
    """Robot, driver, envelope."""
    simulation: QuadrotorSimulationConfig | None = field(default_factory=QuadrotorSimulationConfig)
    """The simulated vehicle behind the driver `sim`; None where there is another."""
    policy: QuadrotorPolicyConfig | None = field(default_factory=QuadrotorPolicyConfig)
    """The policy; None: none."""


class QuadrotorPlanes(QuadrotorClient):
    """A quadrotor's processes and their client; one thread, which must last as long as they do."""

    def __init__(self, config: QuadrotorPlanesConfig) -> None:
        """Prepare; `start`, or `with QuadrotorPlanes(config) as planes:`."""
        self.config = config
        self.slots = SlotFolder(config.name)
        super().__init__(self.slots.path)
        self.group = ProcessGroup(self.slots.path, self.beat)

    def start(self, timeout: float = 120.0) -> None:
        """Start all processes and wait until they are ready; the vehicle is disarmed then.

        Raises:
            SlotError: The robot's name is in use.
            PlanesError: A process did not start; none is left.
        """
        config = self.config
        self.slots.claim()
        try:
            self.beat()
            if config.simulation is not None:
                self.group.spawn("simulation", config.simulation)
                self.group.wait("simulation", lambda: bool(self.simulation()), timeout)
            self.start_control(timeout)
            if config.policy is not None:
                self.start_policy(timeout)
        except BaseException:
            self.stop()
            raise

    def start_control(self, timeout: float = 120.0) -> None:
        """Start the control process, anew if it has ended."""
        control, begin = self.config.control, time.monotonic()
        if control.driver in BEHIND_MEMORY:
            settings = {"folder": str(self.folder), **control.driver_settings}
            control = dataclasses.replace(control, driver_settings=settings)
        self.group.spawn("control", control)
        self.group.wait("control", lambda: (status := self.status()) is not None and status.stamp > begin, timeout)

    def start_policy(self, timeout: float = 120.0) -> None:
        """Start the policy process, in place of the one that runs."""
        self.group.stop_process("policy")
        begin = time.monotonic()
        self.group.spawn("policy", self.config.policy)
        self.group.wait("policy", lambda: self.policy().get("stamp", 0.0) > begin, timeout)

    def stop(self) -> None:
        """End all processes, the policy first and the simulated vehicle last, and free the memory; never raises."""
        self.group.stop()
        self.close()
        self.slots.release()

    def __enter__(self) -> QuadrotorPlanes:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
