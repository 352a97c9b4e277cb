"""Checks that a driver keeps its contract: `check_driver` returns what it does wrong, in sentences.

It needs the robot, or a stand-in of it. It moves nothing on purpose: what it writes is to stay where the robot is.
On hardware run it with somebody at the emergency stop, `write=False` first.
"""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Any

import numpy as np

from hardware.descriptions import ArmDescription, QuadrotorDescription
from hardware.drivers.driver import Capabilities, Driver, DriverError
from policies import types

COMMANDS = ("MotorSpeeds", "BodyRatesThrust", "CartesianTwist", "JointPositions", "JointTorques")


def check_driver(
    driver: Driver[Any, Any],
    description: ArmDescription | QuadrotorDescription | None = None,
    *,
    seconds: float = 0.5,
    write: bool = True,
    max_age: float = 0.1,
    min_rate: float = 0.5,
    slack: float = 1.0,
) -> list[str]:
    """What a driver, not connected yet, does against its contract; an empty list if nothing.

    Args:
        driver: The driver; it is connected and closed twice.
        description: The robot it should be; adds checks of names, units and limits.
        seconds: How long to read, and to write each kind of command.
        write: Whether to write commands that keep the robot where it is (arms only).
        max_age: s, oldest sample to accept: CONTRACT's limit of a fresh state.
        min_rate: Share of `Capabilities.rate_hz` at which new samples must come.
        slack: Factor on all limits of time, for a stand-in on a busy machine.
    """
    problems = _check_closed(driver, "before connect", _unknown_command())
    stay: Any = _unknown_command()
    try:
        with driver:
            problems += _check_capabilities(driver.capabilities, description)
            samples, reading = _read_for(driver, seconds, slack * max_age, min_rate / slack, slack)
            problems += reading
            if samples:
                problems += _check_samples(samples, driver.capabilities, description)
            if write and samples and driver.capabilities.kind == "arm":
                problems += _check_writing(driver, seconds, slack)
                stay = _stay(driver.capabilities.commands[0], samples[-1])
            for _ in range(2):
                driver.stop()
            if driver.read() is None:
                problems.append("read gives None after stop; the state must still be seen")
        driver.close()  # once more than needed
    except DriverError as error:
        return [*problems, f"it failed: {error}"]
    problems += _check_closed(driver, "after close", stay)
    return problems + _check_exit(driver, stay)


def _check_closed(driver: Driver[Any, Any], when: str, command: Any) -> list[str]:
    """Stop may be called at any time; a write into nowhere must not pass for sent."""
    problems = []
    try:
        driver.stop()
    except Exception as error:
        problems.append(f"stop {when} raises {error!r}; it may be called at any time")
    try:
        driver.write(command)
    except DriverError:
        pass
    except Exception as error:
        problems.append(f"write {when} raises {error!r}; expected a DriverError")
    else:
        problems.append(f"write {when} passes silently; expected a DriverError")
    return problems


def _check_exit(driver: Driver[Any, Any], command: Any) -> list[str]:
    """Connects again, and leaves by an exception."""
    problems = []
    try:
        with driver:
            if driver.read() is None:
                problems.append("read gives None after the second connect; connect must wait for a sample")
            raise KeyError("on purpose")
    except KeyError:
        pass
    except DriverError as error:
        return [f"it cannot be connected again after close: {error}"]
    else:
        problems.append("the context manager swallows exceptions")
    return problems + _check_closed(driver, "after an exception", command)


def _check_capabilities(
    capabilities: Capabilities, description: ArmDescription | QuadrotorDescription | None
) -> list[str]:
    problems = []
    unknown = [name for name in capabilities.commands if name not in COMMANDS]
    if unknown or not capabilities.commands:
        problems.append(f"commands are {capabilities.commands}; expected some of {', '.join(COMMANDS)}")
    if len(set(capabilities.actuators)) != len(capabilities.actuators) or not capabilities.actuators:
        problems.append(f"actuators are {capabilities.actuators}; expected names, each once")
    if not (math.isfinite(capabilities.rate_hz) and capabilities.rate_hz > 0.0):
        problems.append(f"rate_hz is {capabilities.rate_hz}; expected a positive rate")
    if not capabilities.watchdog_s > 0.0:
        problems.append(f"watchdog_s is {capabilities.watchdog_s}; expected seconds, or inf where there is none")
    if description is not None:
        interface = description.interface
        if capabilities.kind != interface.kind:
            problems.append(f"kind is {capabilities.kind!r}; {interface.name} is an {interface.kind!r}")
        if capabilities.actuators != interface.actuators:
            problems.append(f"actuators are {capabilities.actuators}; {interface.name} has {interface.actuators}")
    return problems


def _read_for(
    driver: Driver[Any, Any], seconds: float, max_age: float, min_rate: float, slack: float
) -> tuple[list[Any], list[str]]:
    """New samples of some seconds, and what is wrong with their times."""
    problems = []
    period = 1.0 / driver.capabilities.rate_hz
    samples: list[Any] = []
    durations, ages = [], []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        before = time.monotonic()
        sample = driver.read()
        now = time.monotonic()
        durations.append(now - before)
        if sample is None:
            return samples, ["read gives None after connect; connect must wait for a first sample"]
        ages.append(now - sample.stamp)
        if not samples or sample.stamp != samples[-1].stamp:
            samples.append(sample)
        time.sleep(max(0.0, 0.5 * period - durations[-1]))
    stamps = np.array([sample.stamp for sample in samples])
    if not np.all(np.isfinite(stamps)) or np.any(np.diff(stamps) < 0.0):
        problems.append("stamps go backwards or are not finite")
    if min(ages) < -1e-3:
        problems.append(f"a stamp lies {-1e3 * min(ages):.1f} ms in the future of time.monotonic()")
    if np.median(ages) > max_age:
        problems.append(f"samples are {1e3 * np.median(ages):.0f} ms old, over {1e3 * max_age:.0f} ms")
    if np.median(durations) > slack * period:
        problems.append(f"read takes {1e3 * np.median(durations):.2f} ms, over a period of {1e3 * period:.2f} ms")
    rate = (len(samples) - 1) / max(float(stamps[-1] - stamps[0]), 1e-9)
    if rate < min_rate * driver.capabilities.rate_hz:
        problems.append(f"new samples come at {rate:.1f} Hz; it claims {driver.capabilities.rate_hz:g} Hz")
    return samples, problems


def _check_samples(
    samples: list[Any], capabilities: Capabilities, description: ArmDescription | QuadrotorDescription | None
) -> list[str]:
    sample, problems = samples[-1], []
    names = {field.name for field in dataclasses.fields(sample)}
    if capabilities.kind == "quadrotor":
        names |= {field.name for field in dataclasses.fields(types.QuadrotorState)}
    unknown = [name for name in capabilities.signals if name not in names]
    if unknown:
        problems.append(f"signals {unknown} are no fields of a sample")
    if capabilities.kind != "arm":
        return problems
    optional = [field.name for field in dataclasses.fields(sample) if field.default is None]
    wrong = [name for name in optional if (getattr(sample, name) is not None) != (name in capabilities.signals)]
    if wrong:
        problems.append(f"signals are {capabilities.signals}; a sample says otherwise of {', '.join(wrong)}")
    if sample.fault:
        problems.append(f"the robot takes no commands: {sample.fault}")
    count = len(capabilities.actuators)
    shapes = {"joint_positions": (count,), "joint_velocities": (count,), "joint_torques": (count,), "wrench": (6,)}
    for name, shape in shapes.items():
        value = getattr(sample, name)
        if value is not None and (not isinstance(value, np.ndarray) or value.shape != shape):
            return [*problems, f"{name} is {value!r}; expected an array of shape {shape}"]
        if value is not None and not np.all(np.isfinite(value)):
            return [*problems, f"{name} is {value.tolist()}; it must be finite"]
    if isinstance(description, ArmDescription):
        problems += _check_units(samples, description)
    return problems


def _check_units(samples: list[Any], description: ArmDescription) -> list[str]:
    """Degrees for radians, millimetres for metres, another joint order: all leave the limits sooner or later."""
    problems = []
    limits = description.interface.limits
    joints = description.interface.actuators
    last = samples[-1]
    bounds = np.array(limits["position"])
    for joint, angle, (lower, upper) in zip(joints, last.joint_positions, bounds, strict=True):
        if not lower - 0.05 <= angle <= upper + 0.05:
            problems.append(f"{joint} is at {angle:.3f} rad, outside [{lower}, {upper}]: degrees, or another joint?")
    for name, key, share in (("joint_velocities", "velocity", 1.5), ("joint_torques", "torque", 1.5)):
        value = getattr(last, name)
        if value is None:
            continue
        for joint, number, (_, upper) in zip(joints, value, limits[key], strict=True):
            if abs(number) > share * upper:
                problems.append(f"{name} of {joint} is {number:.3f}, over {share} times its limit of {upper}: units?")
    moved = last.joint_positions - samples[0].joint_positions
    told = np.zeros_like(moved)
    for before, after in zip(samples[:-1], samples[1:], strict=True):
        told += 0.5 * (before.joint_velocities + after.joint_velocities) * (after.stamp - before.stamp)
    worst = int(np.argmax(np.abs(moved - told)))
    if abs(moved[worst] - told[worst]) > 0.02 + 0.2 * abs(moved[worst]):
        problems.append(
            f"{joints[worst]} moved by {moved[worst]:.3f} rad, its velocity says {told[worst]:.3f} rad: sign, or units?"
        )
    gripper = description.gripper
    if gripper is not None and not -1e-3 <= last.gripper_width <= 1.1 * gripper.max_width:
        problems.append(f"gripper_width is {last.gripper_width}, outside [0, {gripper.max_width}] m: units?")
    return problems


def _check_writing(driver: Driver[Any, Any], seconds: float, slack: float) -> list[str]:
    """Commands that keep an arm where it is, then such as no driver may take."""
    problems: list[str] = []
    capabilities = driver.capabilities
    count = len(capabilities.actuators)
    period = 1.0 / capabilities.rate_hz
    for name in capabilities.commands:
        if name not in ("JointPositions", "JointTorques"):
            continue
        sample = driver.read()
        assert sample is not None  # it was read before
        start = sample.joint_positions.copy()
        command = _stay(name, sample)
        durations = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            before = time.monotonic()
            driver.write(command)
            durations.append(time.monotonic() - before)
            sample = driver.read()
            if sample is not None and sample.fault:
                return [*problems, f"the robot faults while {name} are written: {sample.fault}"]
            time.sleep(max(0.0, period - (time.monotonic() - before)))
        if np.median(durations) > slack * period:
            problems.append(f"write takes {1e3 * np.median(durations):.2f} ms, over a period of {1e3 * period:.2f} ms")
        if sample is not None and name == "JointPositions":
            moved = float(np.max(np.abs(sample.joint_positions - start)))
            if moved > 0.05:
                problems.append(f"told to stay, it moved by {moved:.3f} rad: joint order, or units?")
        wrong = {
            "of the wrong shape": getattr(types, name)(np.zeros(count + 1), command.gripper),
            "that is not finite": getattr(types, name)(np.full(count, np.nan), command.gripper),
        }
        for what, refused in wrong.items():
            problems += _check_refused(driver, refused, f"{name} {what}")
    return problems + _check_refused(driver, _unknown_command(), "a command of a kind that it does not take")


def _check_refused(driver: Driver[Any, Any], command: Any, what: str) -> list[str]:
    try:
        driver.write(command)
    except DriverError:
        return []
    except Exception as error:
        return [f"write of {what} raises {error!r}; expected a DriverError"]
    return [f"write takes {what}; expected a DriverError"]


def _stay(name: str, sample: Any) -> Any:
    """A command that keeps an arm where it is; of a kind without such a one, something that nobody takes."""
    gripper = np.array(1.0 if sample.gripper_width > 1e-3 else -1.0)
    if name == "JointPositions":
        return types.JointPositions(sample.joint_positions.copy(), gripper)
    if name == "JointTorques":
        return types.JointTorques(np.zeros_like(sample.joint_positions), gripper)
    return _unknown_command()


def _unknown_command() -> Any:
    return object()
