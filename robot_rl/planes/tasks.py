"""A task's arm in real time: what pure simulation runs, in the robot's own processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import policies
from policies.types import ArmSetpoint
from robot_rl.planes.process_group import PlanesError
from robot_rl.planes.processes import Planes, PlanesConfig
from robot_rl.planes.settings import (
    ControlConfig,
    PolicyConfig,
    SceneConfig,
    SimulationConfig,
    WireConfig,
    arm_controller,
    arm_envelope,
)
from robot_rl.planes.simulated_scene import task_of


@dataclass(frozen=True, kw_only=True)
class Episode:
    """What became of an episode."""

    success: bool
    """Whether the goal was held."""
    failed: bool
    """Whether it was lost before its time was up."""
    seconds: float
    """Simulated, from the first torque on."""
    cause: str
    """Why the arm stopped on the way, in the supervisor's words; empty if it did not."""


def planes_of_task(
    task: str,
    bundle: str = "",
    *,
    name: str = "arm",
    starts: int = 1,
    seed: int = 0,
    randomization: Literal["default", "none"] = "none",
    settings: Mapping[str, float] | None = None,
    wire: WireConfig | None = None,
    native: bool = False,
) -> PlanesConfig:
    """The processes that run a task with the controller's settings that its policies were trained with.

    Args:
        task: An arm task by name.
        bundle: Policy by path or zoo name; empty: none.
        name: Of the robot on this machine.
        starts: How many starts are drawn.
        seed: Of them, of robots and noise; those of `robot-rl eval` with as many episodes.
        randomization: Whether robot and sensors vary as the task declares.
        settings: Of the task.
        wire: Latency, jitter, loss, noise, faults.
        native: Whether the policy runs as compiled C in a thread of its own.

    Raises:
        ValueError: It is no task of one arm, or the bundle's limits protect nothing.
    """
    scene = SceneConfig(task=task, settings=dict(settings or {}), starts=starts, seed=seed, randomization=randomization)
    found = task_of(scene)
    if found is None:
        raise ValueError("name an arm task")
    manifest = policies.load(bundle).manifest if bundle else None
    rate = found.control_rate_hz if manifest is None else manifest.control_rate_hz
    envelope = {} if manifest is None else arm_envelope(manifest)
    controller = found.controller if manifest is None else arm_controller(manifest, found.controller)
    return PlanesConfig(
        name=name,
        control=ControlConfig(robot=found.robot, policy_rate_hz=rate, controller=controller, envelope=envelope),
        simulation=SimulationConfig(scene=scene, wire=wire or WireConfig()),
        policy=PolicyConfig(robot=found.robot, bundle=bundle, native=native) if bundle else None,
    )


def run_episode(planes: Planes, start: int, timeout: float = 60.0) -> Episode:
    """Bring the arm to rest, place everything anew, arm, let the policy act until the episode is over.

    Raises:
        PlanesError: A process does not answer.
    """
    rest(planes)
    goal = planes.begin_episode(start)["goal"]
    planes.send_setpoint(ArmSetpoint(tool_pose=goal))
    _until(planes, 0.05, lambda: False)  # samples of the new place
    planes.activate_policy()
    granted, why = planes.ask("arm")
    if not granted:
        raise PlanesError(f"the arm was not armed: {why}")
    cause = ""

    def done() -> bool:
        nonlocal cause
        status = planes.status()
        if status is not None and status.mode in ("holding", "fault") and not cause:
            cause = status.cause
        return bool(planes.simulation()["over"]) or (status is not None and status.mode == "fault")

    _until(planes, timeout, done)
    found = planes.simulation()
    planes.deactivate_policy()
    return Episode(success=found["success"], failed=found["failed"], seconds=found["time"], cause=cause)


def rest(planes: Planes, timeout: float = 5.0) -> None:
    """Idle, with brakes, whatever was before.

    Raises:
        PlanesError: It does not get there.
    """
    planes.deactivate_policy()
    end = time.monotonic() + timeout
    why = ""
    while time.monotonic() < end:
        status = planes.status()
        if status is not None and status.mode == "idle" and status.follow == "brake":
            if not status.driver_fault:
                return
            _, why = planes.ask("recover")
        elif status is not None and status.mode == "fault":
            _, why = planes.ask("recover")
        elif status is not None and status.mode != "idle":
            _, why = planes.ask("disarm")
        _until(planes, 0.02, lambda: False)
    raise PlanesError(f"the arm does not come to rest within {timeout:g} s: {why}")


def _until(planes: Planes, timeout: float, done: Callable[[], bool]) -> bool:
    """Give signs of life until something is done; returns whether it is."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        planes.beat()
        if done():
            return True
        time.sleep(0.01)
    return False
